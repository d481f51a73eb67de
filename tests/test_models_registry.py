"""Names of architectures lead to their files, which are imported when they are asked for."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from pyinfer import models
from pyinfer.models.registry import FILES, find_architecture

FOLDER = Path(models.__file__).parent


@pytest.mark.parametrize("name", FILES)
def test_every_name_has_an_architecture(name):
    architecture = find_architecture(name)
    assert all(callable(part) for part in (architecture.read, architecture.memory, architecture.record))


def test_every_architecture_has_a_name():
    found = {}
    for path in FOLDER.glob("*.py"):
        module = import_module(f"pyinfer.models.{path.stem}") if path.stem != "__init__" else models
        found |= dict.fromkeys(getattr(module, "ARCHITECTURES", ()), path.stem)
    assert found == FILES


def test_an_architecture_is_imported_when_it_is_asked_for():
    code = (
        "import sys; from pyinfer.models.registry import FILES, find_architecture\n"
        "def loaded(): return {f for f in FILES.values() if f'pyinfer.models.{f}' in sys.modules}\n"
        "before = loaded(); find_architecture('nomic-bert'); print(before, loaded())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set() {'bert'}"
