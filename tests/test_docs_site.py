"""The documentation's site: pages made by scripts are true, and the built pages have what readers look for."""

import argparse
import html
import importlib
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

from pyinfer import LLM
from pyinfer.cli.main import build_parser
from pyinfer.gguf import GGUFFile

SCRIPTS = ROOT / "docs" / "scripts"
INTERNAL = {"engine", "scheduler", "job", "generation", "token_ids"}  # of LLM, for pyinfer's own modules
# bits a weight, as the README of llama.cpp's quantize tool has them for Llama 3.1 8B
BITS = {"Q4_K_M": 4.8944, "Q5_K_M": 5.7036, "Q6_K": 6.5633, "Q8_0": 8.5008, "F16": 16.0005}


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module


def test_the_command_line_page_has_all_commands_and_options(script):
    text = script("command_line").commands_as_markdown(build_parser())
    sections = dict(
        zip(re.findall(r"^## pyinfer (\w+)$", text, re.M), re.split(r"^## .*$", text, flags=re.M)[1:], strict=True)
    )
    (commands,) = [a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction)]

    assert set(sections) == set(commands.choices)
    for name, parser in commands.choices.items():
        options = {option for action in parser._actions for option in action.option_strings} - {"-h", "--help"}
        shown = set(re.findall(r"`(-{1,2}[\w-]+)", sections[name]))
        assert options <= shown, f"{name}: {options - shown}"


def test_a_row_of_the_command_line_says_what_an_option_takes_and_does(script):
    parser = argparse.ArgumentParser(prog="x")
    commands = parser.add_subparsers()
    command = commands.add_parser("do", help="do it")
    command.add_argument("model", help="a | b")
    command.add_argument("-n", "--number", metavar="N", default=3, help="how many (default: %(default)s)")
    command.add_argument("--quiet", action="store_true", help="say nothing")
    command.add_argument("--kind", choices=("a", "b"))
    command.add_argument("--secret", help=argparse.SUPPRESS)

    assert script("command_line").commands_as_markdown(parser) == (
        "## pyinfer do\n\nDo it.\n\n```text\n"
        "x do [-h] [-n N] [--quiet] [--kind {a,b}] model\n```\n\n"
        "| argument | |\n| --- | --- |\n"
        "| `model` | a \\| b |\n"
        "| `-n`, `--number N` | how many (default: 3) |\n"
        "| `--quiet` | say nothing |\n"
        "| `--kind {a,b}` |  |\n"
    )


def test_the_hook_changes_no_other_page(script):
    page = argparse.Namespace(file=argparse.Namespace(src_uri="index.md"))
    assert script("command_line").on_page_markdown("<!-- commands -->", page) == "<!-- commands -->"


def test_the_tables_of_the_hardware_page_are_the_computed_ones(script):
    machines = script("machines")
    text = machines.PAGE.read_text("utf-8")
    assert machines.with_tables(text) == text, "python docs/scripts/machines.py --write"
    assert all(row in text for row in machines.memory_table().splitlines()[2:])


def test_sizes_are_those_that_llama_cpp_publishes(script):
    machines = script("machines")
    (shape,) = [shape for shape in machines.SHAPES if shape.name == "Llama 3.1 8B"]
    assert machines.n_parameters(shape) == pytest.approx(8.03e9, rel=1e-3)
    for mixture, bits in BITS.items():
        assert machines.n_bytes(shape, mixture) * 8 / machines.n_parameters(shape) == pytest.approx(bits, rel=2e-3)


@pytest.mark.parametrize(
    "name, shape",
    [
        ("gemma-3-270m-q4_k_m", ("", 18, 640, 4, 1, 256, 2048, 262_144, True)),
        ("qwen2.5-coder-0.5b-q4_k_m", ("", 24, 896, 14, 2, 64, 4864, 151_936, False)),  # stores its output matrix
        ("qwen2.5-coder-1.5b-q4_k_m", ("", 28, 1536, 12, 2, 128, 8960, 151_936, False)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sizes_are_those_of_real_files(script, real_model, name, shape):
    machines = script("machines")
    with GGUFFile(real_model(name)) as file:
        actual = sum(tensor.n_bytes for tensor in file.tensors.values())
    assert machines.n_bytes(machines.Shape(*shape), "Q4_K_M") == pytest.approx(actual, rel=2e-3)


def test_the_speed_follows_from_the_formula(script):
    machines = script("machines")
    (shape,) = [shape for shape in machines.SHAPES if shape.name == "Llama 3.1 8B"]
    embedding = 128_256 * 4096 // 256 * 144  # Q4_K
    kv = 32 * 2 * 8 * 128 * 2 * 1000
    read = machines.n_bytes(shape, "Q4_K_M") - embedding + kv
    assert machines.tokens_per_second(shape, "Q4_K_M", 80) == pytest.approx(0.85 * 80e9 / read)


def test_examples_in_docstrings_become_blocks_of_code(script):
    pytest.importorskip("griffe")
    assert script("reference").with_fences("Do it.\n\n- `a`: b\n\n    x = 1\n\n    y = 2") == (
        "Do it.\n\n- `a`: b\n\n```python\nx = 1\n\ny = 2\n```\n"
    )


def test_the_reference_has_all_methods_of_a_model_but_internal_ones():
    text = (ROOT / "docs" / "reference.md").read_text("utf-8")
    listed = set(re.search(r"::: pyinfer\.LLM\n.*\n +members: \[(.*)\]", text)[1].split(", "))
    assert listed | INTERNAL == {name for name in vars(LLM) if not name.startswith("_")}
    assert not listed & INTERNAL


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site, as CI builds it: a warning is an error."""
    for module in ("material", "mkdocstrings_handlers.python"):
        pytest.importorskip(module, reason="what builds the site is not installed (pip install -e '.[docs]')")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", folder]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return folder


def text_of(page):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", page.read_text("utf-8"))).split())


def test_pages_load_nothing_from_other_sites(site):
    for page in site.rglob("*.html"):
        loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=\"?(https?:)?//", page.read_text("utf-8"))
        assert not loaded, page


@pytest.mark.parametrize(
    "page, shown",
    [
        ("reference", "LLM( path: str | Path, n_ctx: int | None = None, n_threads: int | None = None,"),
        ("reference", "n_draft: int = 31"),
        ("reference", "SamplingParams( temperature: float = 0.8,"),
        ("reference", "max_tokens: int | None = None, n: int = 1,"),
        ("reference", "Completion( text: str, tokens: tuple[int, ...], finish_reason: FinishReason,"),
        ("compat", "Llama( model_path: str | Path,"),
        ("compat", "create_chat_completion("),
        ("command-line", "--max-tokens"),
        ("installation", "PYINFER_BUILD_ISAS"),
        ("hardware", "Llama 3.1 8B"),
    ],
)
def test_a_page_shows_what_readers_look_up(site, page, shown):
    assert shown in text_of(site / page / "index.html")


def test_the_reference_shows_no_internals(site):
    text = text_of(site / "reference" / "index.html")
    assert not re.findall(r"before_fork|__repr__|__init__|visible_tokens=frozenset", text)


def test_code_has_colours_also_in_docstrings(site):
    page = (site / "reference" / "index.html").read_text("utf-8")
    assert re.search(r'<span class="k">with</span>', page)
    assert not re.search(r"<li>\s*<p>[^<]*done = llm\.generate", page)


def test_scripts_are_no_part_of_the_site(site):
    assert not (site / "scripts").exists()
