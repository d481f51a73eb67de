"""Which packages of pyinfer may import which, as CONTRIBUTING.md has it."""

import ast
from pathlib import Path

import pytest
from conftest import ROOT

LAYERS = ("gguf", "tokenizer", "grammar", "models", "runtime", "chat", "hub", "compat", "cli")
ABOVE = {name: set(LAYERS[i + 1 :]) for i, name in enumerate(LAYERS)}


def imported_at_once(path: Path) -> set[str]:
    """pyinfer's packages that a module imports while it is imported itself: not for types, nor within functions."""
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        names = [node.module] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found |= {name.split(".")[1] for name in names if name and name.startswith("pyinfer.")}
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_a_package_imports_none_of_those_above_it(layer):
    for path in (ROOT / "pyinfer" / layer).glob("*.py"):
        assert not imported_at_once(path) & ABOVE[layer], path


def test_what_all_share_imports_no_layer_but_the_file_format():
    for path in set((ROOT / "pyinfer").glob("*.py")) - {ROOT / "pyinfer" / "__main__.py"}:
        assert imported_at_once(path) & set(LAYERS) <= {"gguf"}, path
