"""The distribution: its name, which every text uses, and the extras that texts and errors name."""

import re
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from pyinfer.errors import ParameterError, missing_extra
from pyinfer.version import DISTRIBUTION, pip_install

if sys.version_info < (3, 11):
    pytest.skip("needs tomllib", allow_module_level=True)
import tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
FOLDERS = ("pyinfer", "docs", "tests", "benchmarks", "csrc")
TEXTS = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in (".md", ".py", ".pyi")]
TEXTS += [*ROOT.glob("*.md"), ROOT / "setup.py", ROOT / "pyproject.toml"]
# of another project, or with an extra without the quotes that zsh needs
WRONG = re.compile(r"pip install (?:-\S+ )*'?pyinfer(?![\w-])|(?<![\w-])pyinfer\[|install pyinfer-gguf\[|install \.\[")
EXTRA = re.compile(rf"(?:{DISTRIBUTION}|install (?:-e )?'\.)\[([\w,-]+)\]")


def test_the_distribution_is_the_one_of_pyproject():
    assert PROJECT["name"] == DISTRIBUTION == "pyinfer-gguf"


def test_the_command_for_an_extra_works_in_every_shell():
    assert pip_install("hub") == "pip install 'pyinfer-gguf[hub]'"
    error = missing_extra("models of the hub need huggingface_hub", "hub")
    assert isinstance(error, ParameterError)
    assert str(error) == "models of the hub need huggingface_hub: pip install 'pyinfer-gguf[hub]'"


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_text_names_the_distribution_and_extras_that_there_are(path: Path):
    text = path.read_text("utf-8")
    if path != Path(__file__):
        assert not WRONG.search(text), WRONG.search(text)
    for names in EXTRA.findall(text):
        assert set(names.split(",")) <= set(PROJECT["optional-dependencies"]), names


def test_every_extra_that_errors_name_is_there():
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "pyinfer").rglob("*.py"))
    named = set(re.findall(r'missing_extra\(\s*"[^"]+", "([\w-]+)"', sources))
    assert {"hub", "plot", "lm-eval"} <= named <= set(PROJECT["optional-dependencies"])


def test_structured_output_needs_no_extra():
    assert any(line.startswith("llguidance") for line in PROJECT["dependencies"])
