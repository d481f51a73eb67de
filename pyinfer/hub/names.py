"""What a model's name means: a path, `hf:ORG/REPO[:QUANT]`, `ORG/REPO:QUANT`, or a name of the catalogue.

Where a name could mean a file and something else, it means the file if that exists; `hf:` and `./` make it certain.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from pyinfer.errors import ParameterError
from pyinfer.files import user_path
from pyinfer.hub.catalogue import CATALOGUE
from pyinfer.hub.packaged import PackagedModel
from pyinfer.suggestions import did_you_mean

PREFIX = "hf:"
MODEL_ENDINGS = (".gguf", ".safetensors")
EXPECTED = "a GGUF file, hf:ORG/REPO[:QUANT], ORG/REPO:QUANT, or a name that `pyinfer list` shows"
# the hub's rules for names; a quant may also be a file's path in the repository
_WORD = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_REPO = re.compile(rf"(?!.*(?:--|\.\.)){_WORD}/{_WORD}")
_QUANT = re.compile(rf"(?!.*\.\.){_WORD}(?:/{_WORD})*")
MAX_REPO_CHARACTERS = 96  # the hub's bound


@dataclass(frozen=True)
class HubModel:
    """A model of the Hugging Face hub: the repository, and a quant or a file's name; None: the usual quant."""

    repo: str
    quant: str | None = None

    def __str__(self) -> str:
        return f"{PREFIX}{self.repo}" + (f":{self.quant}" if self.quant else "")


def parse_name(name: str | os.PathLike[str]) -> Path | HubModel | PackagedModel:
    """Parse a model's name. A path need not exist: the error comes when it is opened. Raises ParameterError."""
    if not isinstance(name, str):
        if not isinstance(name, os.PathLike):
            raise ParameterError(f"the model is a {type(name).__name__}; expected {EXPECTED}")
        return user_path(name)
    if name.startswith(PREFIX):
        model = _hub_model(name[len(PREFIX) :])
        if model is None:
            raise ParameterError(f"the model is {name!r}; expected hf:ORG/REPO or hf:ORG/REPO:QUANT")
        return model
    path = user_path(name)
    if name and os.path.exists(path):  # noqa: PTH110, Path.exists raises for names that no system allows
        return path
    entry = CATALOGUE.get(name.lower())
    if entry is not None:
        return entry if isinstance(entry, PackagedModel) else parse_name(entry)
    model = _hub_model(name)
    if model is not None and model.quant is not None:
        return model
    if name.lower().endswith(".gguf") or (model is None and ("/" in name or os.sep in name)):
        return path
    hint = f"; did you mean {model}?" if model is not None else did_you_mean(name, CATALOGUE)
    raise ParameterError(f"the model is {name!r}, which is no file; expected {EXPECTED}{hint}")


def names_a_model(text: str) -> bool:
    """Whether a text is surely a model's name or file, and not a prompt."""
    name = text.lower()
    if name.startswith(PREFIX) or name in CATALOGUE or name.endswith(MODEL_ENDINGS):
        return True
    model = _hub_model(text)
    return (model is not None and model.quant is not None) or (os.sep in text and os.path.exists(text))  # noqa: PTH110


def _hub_model(text: str) -> HubModel | None:
    """ORG/REPO[:QUANT]; None for anything else."""
    repo, colon, quant = text.partition(":")
    if not _REPO.fullmatch(repo) or len(repo) > MAX_REPO_CHARACTERS:
        return None
    if colon and not _QUANT.fullmatch(quant):
        return None
    return HubModel(repo, quant or None)
