"""The build: what is missing is said in a sentence, and the instruction sets are those that the machine runs."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "csrc"))
from build_checks import MissingError, check_build_tools, chosen_isas
from build_flags import ISA_FLAGS, X86
from build_progress import Progress

CPUINFO = Path("/proc/cpuinfo")
NEEDS = {  # flags of /proc/cpuinfo, as Linux names them
    "avx2": {"avx2", "fma", "bmi2"},
    "avxvnni": {"avx2", "fma", "bmi2", "avx_vnni"},
    "avx512": {"avx2", "fma", "bmi2", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"},
}
COMPILER = ["c++", "-std=c++17"]
HEADERS = f"-I{sysconfig.get_path('include')}"

compiles = pytest.mark.skipif(
    subprocess.run(["sh", "-c", "command -v c++"], capture_output=True).returncode != 0, reason="there is no c++"
)
x86 = pytest.mark.skipif(not X86 or not CPUINFO.exists(), reason="not Linux on x86-64")


def cpu_flags() -> set[str]:
    line = next(line for line in CPUINFO.read_text().splitlines() if line.startswith("flags"))
    return set(line.partition(":")[2].split())


@pytest.mark.parametrize("script", [None, "exit 1", "echo 'cannot execute cc1plus' >&2; exit 1"])
def test_a_missing_compiler_is_said_with_what_to_install(tmp_path, script):
    program = tmp_path / "g++"
    if script:
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    with pytest.raises(MissingError, match=r"^to build pyinfer, install a C\+\+ compiler .*apt install g\+\+\. .*dnf"):
        check_build_tools([str(program)])


@compiles
def test_missing_headers_of_python_are_said_with_what_to_install():
    with pytest.raises(
        MissingError, match=r"install the headers of this Python .*apt install python3-dev.*python3-devel"
    ):
        check_build_tools(COMPILER)
    check_build_tools([*COMPILER, HEADERS, "-fopenmp"])


@compiles
@x86
def test_the_native_instruction_set_is_the_best_that_the_processor_has():
    flags = cpu_flags()
    best = next((isa for isa in ("avx512", "avxvnni", "avx2") if flags >= NEEDS[isa]), "scalar")
    assert chosen_isas("native", COMPILER) == list(dict.fromkeys(["scalar", best]))


@x86
def test_instruction_sets_are_chosen_by_name():
    assert chosen_isas("all", COMPILER) == list(ISA_FLAGS)
    assert chosen_isas("avx512, avx2", COMPILER) == ["scalar", "avx2", "avx512"]
    assert chosen_isas("scalar", COMPILER) == ["scalar"]


def test_an_unknown_instruction_set_is_an_error_that_lists_the_known_ones():
    with pytest.raises(
        MissingError, match="PYINFER_BUILD_ISAS names mmx; expected native, all, or some of scalar, avx2"
    ):
        chosen_isas("avx2,mmx", COMPILER)


@x86
def test_a_compiler_whose_programs_do_not_run_here_builds_all():
    assert chosen_isas("native", ["false"]) == list(ISA_FLAGS)


def test_each_step_is_a_line_with_its_number(capsys):
    progress = Progress(2)
    progress.done("bpe")
    progress.done("avx2 kernels")
    progress.close()
    assert [line.partition(",")[0] for line in capsys.readouterr().out.splitlines()] == [
        "[1/2] bpe",
        "[2/2] avx2 kernels",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_steps_are_shown_on_the_terminal_of_a_parent_that_keeps_the_output_to_itself():
    import pty

    child = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'csrc')!r}); from build_progress import Progress\n"
        "p = Progress(2); p.done('bpe'); p.close()"
    )
    pid, terminal = pty.fork()
    if pid == 0:  # as pip: its output is the terminal, that of the build is kept
        os.environ["TERM"] = "xterm"
        kept = subprocess.run([sys.executable, "-c", child], stdout=subprocess.PIPE, text=True).stdout
        os.write(1, f"kept: {kept}".encode())
        os._exit(0)
    shown = b""
    try:
        while part := os.read(terminal, 4096):
            shown += part
    except OSError:  # the child has ended
        pass
    os.waitpid(pid, 0)
    steps, _, kept = shown.decode().partition("kept: ")
    assert "\x1b7  [1/2] bpe\x1b[K\x1b8" in steps and steps.endswith("\x1b7  \x1b[K\x1b8")
    assert kept.startswith("[1/2] bpe, ")


def test_setup_py_ends_with_the_sentence_before_it_copies_files(tmp_path):
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")
    environment = {**os.environ, "CC": str(tmp_path / "cc"), "CXX": str(tmp_path / "c++")}
    command = [sys.executable, "setup.py", "--quiet", "build", "--build-base", str(tmp_path / "build")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].startswith("error: to build pyinfer, install a C++ compiler")
    assert not list((tmp_path / "build").rglob("*.py"))
