"""Which of a repository's files make up a model, and which model a quant means."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# without a quant, the first of these that a repository has is taken, else its first model, as by llama.cpp's -hf
DEFAULT_QUANTS = ("Q4_K_M", "Q8_0")
# Marks of files that are no model, but belong to one: projectors of images, statistics of quantization, draft heads.
# Only in lower case, as in llama.cpp: "Model-MTP-Q4_K_M.gguf" and "Model-Imatrix-Q4_K_M.gguf" are models.
COMPANIONS = ("mmproj", "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-")

_PART = re.compile(r"-(\d{5})-of-(\d{5})$")
_QUANT = re.compile(
    r"(?<![A-Z0-9])(?:UD-)?(?:(?:I?Q|TQ)[1-9](?:_[A-Z0-9]+)*|BF16|F16|F32|MXFP4(?:_[A-Z]+)*|NVFP4)(?![A-Z0-9_])"
)


@dataclass(frozen=True)
class GGUFModel:
    """A model: the paths of its files in the repository, in the order of its parts. quant: that of its name, if any."""

    name: str  # the path without the number of the part and without .gguf
    quant: str | None
    paths: tuple[str, ...]


def models_in(paths: Iterable[str]) -> list[GGUFModel]:
    """The models among a repository's files, ordered by path. A split model counts if all its parts are there."""
    parts: dict[tuple[str, int], dict[int, str]] = {}
    for path in paths:
        if not path.lower().endswith(".gguf") or any(mark in path.rsplit("/")[-1] for mark in COMPANIONS):
            continue
        name = path[: -len(".gguf")]
        part = _PART.search(name)
        index, count = (int(part[1]), int(part[2])) if part else (1, 1)
        parts.setdefault((name[: part.start()] if part else name, count), {})[index] = path
    return [
        GGUFModel(name, quant_of(name), tuple(path for _, path in sorted(found.items())))
        for (name, count), found in sorted(parts.items())
        if sorted(found) == list(range(1, count + 1))
    ]


def exact_choice(models: Sequence[GGUFModel], quant: str | None) -> GGUFModel | None:
    """The model with exactly this path, file name or quant, in any case; quant None: the first default quant."""
    wanted = quant or DEFAULT_QUANTS[0]
    for matches in (_has_path, _has_path_in_any_case, _has_file_name, _has_quant):
        for model in models:
            if matches(model, wanted):
                return model
    return None


def choose(models: Sequence[GGUFModel], quant: str | None) -> GGUFModel | None:
    """The model that is meant: the exact one, else the first whose path has `quant` in it as a word of its own.

    Without a quant: the first of DEFAULT_QUANTS that is there, else the first model.
    """
    if quant is None:
        usual = (choose(models, default) for default in DEFAULT_QUANTS)
        return next((model for model in usual if model), models[0] if models else None)
    exact = exact_choice(models, quant)
    if exact is not None:
        return exact
    between = re.compile(rf"(?<![A-Z0-9]){re.escape(_plain(quant))}(?![A-Z0-9_])")
    return next((model for model in models if between.search(_plain(model.name))), None)


def labels(models: Sequence[GGUFModel]) -> list[str]:
    """The quant by which each model can be named; its path where no quant is known, or several models have it."""
    quants = [model.quant for model in models]
    return [m.quant if m.quant is not None and quants.count(m.quant) == 1 else m.name for m in models]


def quant_of(name: str) -> str | None:
    """The last quant in a file's name (without its ending), else in the names of its folders."""
    for text in (name.rsplit("/")[-1], name):
        found = _QUANT.findall(_plain(text))
        if found:
            return str(found[-1])
    return None


def _plain(text: str) -> str:
    """One spelling for quants: upper case, F16 for FP16."""
    return re.sub(r"(?<![A-Z0-9])FP(?=16|32)", "F", text.upper())


def _has_path(model: GGUFModel, text: str) -> bool:
    return text in (model.name, *model.paths)


def _has_path_in_any_case(model: GGUFModel, text: str) -> bool:
    return text.lower() in [path.lower() for path in (model.name, *model.paths)]


def _has_file_name(model: GGUFModel, text: str) -> bool:
    return text.lower() in [path.rsplit("/")[-1].lower() for path in (model.name, *model.paths)]


def _has_quant(model: GGUFModel, text: str) -> bool:
    return model.quant == _plain(text)
