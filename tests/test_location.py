"""A clone whose folder shadows the installed package: `import pyinfer` works, or says what to run."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import pyinfer
from pyinfer.location import is_built

BUILT = Path(pyinfer.__file__).parent  # of this test run
SHOW = "import pyinfer.api.llm, pyinfer; print(pyinfer.__file__); print(pyinfer.api.llm.__file__)"


@pytest.fixture
def clone(tmp_path) -> Path:
    """A source tree that is not built."""
    ignored = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__")
    shutil.copytree(BUILT, tmp_path / "clone" / "pyinfer", ignore=ignored)
    (tmp_path / "clone" / "csrc").mkdir()
    (tmp_path / "clone" / "setup.py").touch()
    return tmp_path / "clone"


def python(clone: Path, code: str, *options: str, path: Path = BUILT.parent) -> subprocess.CompletedProcess[str]:
    """Run Python in the clone, where its folder comes first on sys.path."""
    command = [sys.executable, *options, "-c", code]
    return subprocess.run(command, cwd=clone, env={"PYTHONPATH": str(path)}, capture_output=True, text=True)


def test_the_installed_package_is_used_as_a_whole(clone):
    done = python(clone, SHOW)
    assert done.stdout.splitlines() == [str(BUILT / "__init__.py"), str(BUILT / "api" / "llm.py")]
    assert done.stderr == ""


def test_python_m_runs_the_installed_package(clone):
    done = subprocess.run(
        [sys.executable, "-m", "pyinfer", "--version"],
        cwd=clone,
        env={"PYTHONPATH": str(BUILT.parent)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == (f"pyinfer {pyinfer.__version__}\n", "")


def test_other_python_files_than_the_installed_ones_are_not_used_without_a_word(clone):
    (clone / "pyinfer" / "api" / "llm.py").write_text("changed = True\n")
    done = python(clone, SHOW)
    assert done.stdout.splitlines()[1] == str(BUILT / "api" / "llm.py")
    assert f"{clone / 'pyinfer'} is not built, and differs from" in done.stderr
    assert f"-m pip install -e {clone}" in done.stderr


def test_where_nothing_is_built_the_error_says_what_to_run(clone):
    done = python(clone, "import pyinfer", "-S", path=clone)
    assert done.returncode == 1
    python_of_tests = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    assert f"is source code that is not built for {python_of_tests}" in done.stderr
    assert done.stderr.strip().endswith(f"Run: {sys.executable} -m pip install {clone}")


def test_another_project_of_this_name_is_passed_over(clone, tmp_path):
    (tmp_path / "other" / "pyinfer").mkdir(parents=True)
    (tmp_path / "other" / "pyinfer" / "__init__.py").touch()
    done = python(clone, "import pyinfer", "-S", path=tmp_path / "other")
    assert "ImportError" in done.stderr and "Run: " in done.stderr


def test_a_folder_is_built_with_every_compiled_module_and_for_this_python(tmp_path):
    assert is_built(str(BUILT)) and is_built(str(tmp_path / "archive.zip" / "pyinfer"))
    (tmp_path / "_one.pyi").touch()
    assert not is_built(str(tmp_path))
    (tmp_path / "_one.cpython-27-x86_64-linux-gnu.so").touch()
    assert not is_built(str(tmp_path))
    for module in BUILT.glob("_kernels.*"):
        (tmp_path / module.name.replace("_kernels", "_one")).touch()
    assert is_built(str(tmp_path))


def test_the_tests_use_the_tree_that_they_are_in():
    assert BUILT == ROOT / "pyinfer" or "site-packages" in BUILT.parts
