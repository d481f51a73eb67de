"""Which rooms of pyinfer may import which, as CONTRIBUTING.md has it: every import statement, wherever it stands."""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT

# lowest first; no room imports one above it. Single files are rooms of their own.
ROOMS = (
    ("version", "errors", "location"),
    ("files", "progress", "system", "arguments", "suggestions"),
    ("_kernels", "_bpe", "_special_tokens", "_sampling", "_gguf_index"),  # compiled
    ("gguf",),
    ("quants",),
    ("tokenizer",),
    ("weights",),
    ("guides",),
    ("sampling",),
    ("memory",),
    ("models",),
    ("engine",),
    ("scheduling",),
    ("speculation",),
    ("tasks",),
    ("chat",),
    ("hub",),
    ("api",),
    ("compat",),
    ("cli",),
    ("__main__",),
)
LEVEL = {name: level for level, names in enumerate(ROOMS) for name in names}
# optional packages, of which a user may have none, or which take long to import; and parts of them
LATE = {
    *("huggingface_hub", "filelock", "llguidance", "lm_eval", "openai", "prompt_toolkit", "pydantic"),
    *("resource", "termios", "transformers", "typing_extensions"),
}
FILES = sorted((ROOT / "pyinfer").rglob("*.py"))
LAZY = {"__init__.py", "compat/__init__.py", "cli/main.py"}  # have names that are imported when they are first used


def name_of(path: Path) -> str:
    """A file's path in pyinfer, and a test's name."""
    return path.relative_to(ROOT / "pyinfer").as_posix()


def module_of(path: Path) -> str:
    return ".".join(["pyinfer", *path.relative_to(ROOT / "pyinfer").with_suffix("").parts]).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


@cache
def imports_of(path: Path) -> list[tuple[ast.stmt, str, bool]]:
    """(statement, module, whether it is at the top of the file) of every import; of types only, too."""
    tree = ast.parse(path.read_text("utf-8"))
    top = set(tree.body)
    for node in tree.body:  # an alternative at the top is at the top
        if isinstance(node, ast.Try):
            top |= {*node.body, *node.orelse, *(child for handler in node.handlers for child in handler.body)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node, alias.name, node in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = inner in MODULES or inner.startswith("pyinfer._")
                found.append((node, inner if is_module else str(node.module), node in top))
    return found


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_room_imports_one_above_it(path):
    own = room(module_of(path))
    for node, module, _ in imports_of(path):
        if module.startswith("pyinfer.") and own:
            assert LEVEL[room(module)] <= LEVEL[own], f"{path}:{node.lineno}: {own} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_stand_at_the_top_of_files(path):
    for node, module, at_top in imports_of(path):
        if name_of(path) in LAZY and module.startswith("pyinfer"):
            continue
        package = module.split(".")[0]
        assert at_top or package in LATE, f"{path}:{node.lineno}: {module} is imported late"


def test_no_files_import_each_other_in_a_circle():
    edges = {
        name: {module for _, module, _ in imports_of(path) if module in MODULES and module != name}
        for name, path in MODULES.items()
        if name_of(path) not in LAZY
    }
    done: set[str] = set()
    path: list[str] = []

    def visit(name: str) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in done or name not in edges:
            return
        path.append(name)
        for other in sorted(edges[name]):
            visit(other)
        path.pop()
        done.add(name)

    for name in edges:
        visit(name)


def test_rooms_and_late_packages_are_no_more_than_there_are():
    there = {room(name) for name in MODULES} | {path.name.split(".")[0] for path in (ROOT / "pyinfer").glob("_*.pyi")}
    assert set(LEVEL) <= there | {"_bpe", "_special_tokens", "_sampling", "_gguf_index", "_kernels"}
    used = {module.split(".")[0] for path in FILES for _, module, at_top in imports_of(path) if not at_top}
    assert used >= LATE - {"resource"} - set(sys.builtin_module_names), LATE - used
