"""Maps names of architectures to the files that define them. A file is imported when it is first needed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from pyinfer.errors import ModelError
from pyinfer.models.keys import MAX_SHOWN, Keys, ModelFile
from pyinfer.models.model import Architecture, Model

FILES: Mapping[str, str] = {  # general.architecture: the module of this package that has it in its ARCHITECTURES
    "bert": "bert",
    "gemma3": "gemma3",
    "llama": "llama",
    "nomic-bert": "bert",
    "qwen2": "llama",
}


def find_architecture(name: str) -> Architecture:
    """Return the architecture of a name in FILES."""
    architectures: Mapping[str, Architecture] = import_module(f"{__package__}.{FILES[name]}").ARCHITECTURES
    return architectures[name]


def read_model(file: ModelFile) -> Model:
    """Read a file's hyper-parameters, and return its model.

    Raises ModelError for an unknown architecture and for values that are missing, absurd or contradictory.
    """
    if "general.architecture" not in file.metadata:
        raise ModelError(f"{file.path}: the key general.architecture is missing")
    name = file.get_str("general.architecture")
    if name not in FILES:
        known = ", ".join(sorted(FILES))
        raise ModelError(f"{file.path}: general.architecture is {name[:MAX_SHOWN]!r}, expected one of {known}")
    architecture = find_architecture(name)
    config = architecture.read(Keys(file, name))
    return Model(config, tuple(architecture.memory(config)), architecture)
