"""Every Python example of README.md, docs/ and public docstrings runs, page by page, as a reader would type them.

Names and files of models mean SmolLM2, except those in VOCABULARIES. An example that changes what its process imports
has a line `<!-- run alone: needs MODULE -->` above it, and runs where that module is installed. `await` may stand
outside of functions, as in a notebook.

A block of `text` below an example is what it prints, as is what follows `# prints ` in one of its lines; an ellipsis
stands for what differs from run to run.
"""

import ast
import asyncio
import contextlib
import importlib.util
import inspect
import io
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest
from chats import source_of
from conftest import ROOT
from tiny_vocabularies import CONTROL, bpe_metadata

import pyinfer.hub
from pyinfer.engine import engine
from pyinfer.gguf import GGUFWriter
from pyinfer.hub.names import parse_name

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLE = re.compile(
    r"(?:^<!-- run alone: needs (?P<needs>\w+) -->\n+)?^```python\n(?P<code>.*?)^```$"
    r"(?:\n+^```text\n(?P<output>.*?)^```$)?",
    re.DOTALL | re.MULTILINE,
)
PRINTS = re.compile(r"# prints (.*)")
N_CTX = 512  # where an example says nothing: texts that end by themselves may be long
VOCABULARIES = {"qwen3-0.6b.gguf": "qwen3-0.6b"}  # a file without weights, with the template of this name


class Example(NamedTuple):
    code: str  # after as many empty lines as the page has lines before it
    needs: str | None = None  # the module, of an example that has a process of its own
    output: str | None = None  # the block below it


def examples_of(text):
    found = []
    for match in EXAMPLE.finditer(text):
        line = text.count("\n", 0, match.start("code"))
        found.append(Example("\n" * line + match["code"], match["needs"], match["output"]))
    return found


def as_pattern(shown):
    """A pattern of what is shown: an ellipsis stands for anything in its line, and as a line for any lines."""
    lines = (".*".join(map(re.escape, line.split("…"))) + r"\n" for line in shown.removesuffix("\n").split("\n"))
    return "".join(r"(?:.*\n)*" if line == r".*\n" else line for line in lines)


def check_output(example, printed):
    """Compare what an example printed with what the page shows."""
    if example.output is not None:
        assert re.fullmatch(as_pattern(example.output), printed.removesuffix("\n") + "\n"), (
            f"the page shows:\n{example.output}\nthe example prints:\n{printed}"
        )
    lines = iter(printed.splitlines())
    for shown in PRINTS.findall(example.code):
        assert any(re.fullmatch(as_pattern(shown), f"{line}\n") for line in lines), (
            f"the page says that it prints {shown!r}; the example prints:\n{printed}"
        )


def compiled(code, name):
    return compile(code, str(name), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


WITH_EXAMPLES = [page for page in PAGES if any(not e.needs for e in examples_of(page.read_text("utf-8")))]
ALONE = [example for page in PAGES for example in examples_of(page.read_text("utf-8")) if example.needs]


@pytest.fixture
def folder(tmp_path, monkeypatch, real_model):
    """The working directory of a reader, where each model's name means a small one that is there."""
    model = real_model("smollm2-135m-q4_1")

    def resolve(name, progress=None):
        parse_name(name)  # refuses what is no name
        return tmp_path / name if (tmp_path / name).exists() else model

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(engine, "DEFAULT_N_CTX", N_CTX)
    for name in ("hub.resolve_model", "hub.pull_model", "api.llm.resolve_model", "compat.model.resolve_model"):
        monkeypatch.setattr(f"pyinfer.{name}", resolve)
    for page in PAGES:
        for name in re.findall(r"\"([\w.-]+\.gguf)\"", page.read_text("utf-8")):
            if name not in VOCABULARIES and not (tmp_path / name).exists():
                (tmp_path / name).symlink_to(model)
    for name, template in VOCABULARIES.items():
        metadata = bpe_metadata(["a b"], special={"<|im_end|>": CONTROL})
        metadata |= {"general.architecture": "llama", "tokenizer.chat_template": source_of(template)}
        GGUFWriter(tmp_path / name, metadata).write()
    (tmp_path / "book.txt").write_text((ROOT / "LICENSE").read_text("utf-8")[:4000], "utf-8")
    return tmp_path


def run(examples, names, page):
    """Runs examples one after the other."""
    loop = asyncio.new_event_loop()
    try:
        for example in examples:
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                result = eval(compiled(example.code, page), names)
                if inspect.iscoroutine(result):
                    loop.run_until_complete(result)
            check_output(example, printed.getvalue())
    finally:
        loop.close()
        for value in names.values():
            if isinstance(value, pyinfer.LLM | pyinfer.AsyncLLM):
                value.close()


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: page.stem)
def test_the_examples_of_a_page_run(page, folder):
    examples = [example for example in examples_of(page.read_text("utf-8")) if not example.needs]
    run(examples, {"__name__": "__main__"}, page)


@pytest.mark.parametrize("example", ALONE, ids=lambda example: example.needs)
def test_an_example_runs_in_a_process_of_its_own(example, folder):
    if importlib.util.find_spec(example.needs) is None:
        pytest.skip(f"{example.needs} is not installed")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", example.code]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout.strip(), done.stderr
    check_output(example, done.stdout)


@pytest.mark.parametrize("name", [name for name in pyinfer.__all__ if not name.startswith("_")])
def test_the_examples_in_docstrings_run(name, request):
    public = getattr(pyinfer, name)
    members = (
        [value for key, value in vars(public).items() if not key.startswith("_")] if inspect.isclass(public) else []
    )
    for documented in (public, *members):
        doc = inspect.getdoc(documented) or ""
        for block in re.findall(r"(?<=\n\n)(?: {4}.*(?:\n+(?= {4}))?)+", doc):
            request.getfixturevalue("folder")
            names = {key: getattr(pyinfer, key) for key in pyinfer.__all__} | {"Path": Path}
            names["llm"] = pyinfer.LLM("model.gguf")
            run([Example(textwrap.dedent(block))], names, f"{name}: {block}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_all_examples_are_python(page):
    for example in examples_of(page.read_text("utf-8")):
        compiled(example.code, page)


def test_a_page_is_taken_apart():
    page = "A\n\n```python\nx = 1\n```\n\n```text\n1\n```\n\n<!-- run alone: needs json -->\n```python\nawait y\n```\n"
    one, other = examples_of(page)
    assert one == Example("\n\n\nx = 1\n", None, "1\n")
    assert (other.needs, other.output) == ("json", None)
    assert compiled(other.code, "page.md")


@pytest.mark.parametrize(
    "code, output, printed, same",
    [
        ("", "a\nb\n", "a\nb\n", True),
        ("", "a\nb\n", "a\nc\n", False),
        ("", "a … s\n", "a 1.23 s\n", True),
        ("", "a … s\n", "a\n s\n", False),
        ("", "a\n…\nd\n", "a\nb\nc\nd\n", True),
        ("", "…\nd\n", "a\nb\n", False),
        ("print(1)  # prints 1\nprint(2)  # prints 2\n", None, "1\n2\n", True),
        ("print(1)  # prints 1\nprint(2)  # prints 2\n", None, "2\n1\n", False),
        ("print(x)  # prints 0.…\n", None, "0.25\n", True),
    ],
)
def test_an_output_is_compared_with_what_is_shown(code, output, printed, same):
    with contextlib.nullcontext() if same else pytest.raises(AssertionError):
        check_output(Example(code, None, output), printed)


def test_the_reference_has_all_public_names():
    named = re.findall(r"^::: pyinfer\.(\w+)$", (ROOT / "docs" / "reference.md").read_text("utf-8"), re.MULTILINE)
    assert sorted([*named, "__version__"]) == sorted(pyinfer.__all__)


def test_the_sites_navigation_has_all_pages():
    named = re.findall(r"([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))
