"""What a model's name means: a path, `hf:ORG/REPO[:QUANT]`, `ORG/REPO:QUANT`, or a name of the catalogue.

A name that means two things is the file that exists; `hf:` and `./` say which is meant.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from pyinfer.errors import ParameterError
from pyinfer.hub.catalogue import CATALOGUE
from pyinfer.hub.packaged import PackagedModel

PREFIX = "hf:"
EXPECTED = "a GGUF file, hf:ORG/REPO[:QUANT], ORG/REPO:QUANT, or a name that `pyinfer list` shows"
# the hub's own rules for names; a quant may be a file's name, with its folders
_WORD = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_REPO = re.compile(rf"(?!.*(?:--|\.\.)){_WORD}/{_WORD}")
_QUANT = re.compile(rf"(?!.*\.\.){_WORD}(?:/{_WORD})*")
MAX_REPO_CHARACTERS = 96


@dataclass(frozen=True)
class HubModel:
    """A repository of the Hugging Face hub and which of its models: a quant or a file's name; None: the usual one."""

    repo: str
    quant: str | None = None

    def __str__(self) -> str:
        return f"{PREFIX}{self.repo}" + (f":{self.quant}" if self.quant else "")


def parse_name(name: str | os.PathLike[str]) -> Path | HubModel | PackagedModel:
    """The model that a name means. A path need not exist: opening it says what is wrong. Raises ParameterError."""
    if not isinstance(name, str):
        if not isinstance(name, os.PathLike):
            raise ParameterError(f"the model is a {type(name).__name__}; expected {EXPECTED}")
        return Path(name)
    if name.startswith(PREFIX):
        model = _hub_model(name[len(PREFIX) :])
        if model is None:
            raise ParameterError(f"the model is {name!r}; expected hf:ORG/REPO or hf:ORG/REPO:QUANT")
        return model
    if os.path.exists(name):  # noqa: PTH110, Path.exists raises for what no system takes as a name
        return Path(name)
    entry = CATALOGUE.get(name.lower())
    if entry is not None:
        return entry if isinstance(entry, PackagedModel) else parse_name(entry)
    model = _hub_model(name)
    if model is not None and model.quant is not None:
        return model
    if name.lower().endswith(".gguf") or (model is None and ("/" in name or os.sep in name)):
        return Path(name)
    hint = f" (did you mean {model}?)" if model is not None else ""
    raise ParameterError(f"the model is {name!r}, which is no file; expected {EXPECTED}{hint}")


def _hub_model(text: str) -> HubModel | None:
    repo, colon, quant = text.partition(":")
    if not _REPO.fullmatch(repo) or len(repo) > MAX_REPO_CHARACTERS:
        return None
    if colon and not _QUANT.fullmatch(quant):
        return None
    return HubModel(repo, quant or None)
