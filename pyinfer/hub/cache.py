"""The hub's cache on disk: which models it has, and how to remove one.

The layout is that of huggingface_hub, so that other programs find what pyinfer downloaded, and pyinfer what they did:

    models--ORG--REPO/
        blobs/SHA256                  a file's contents; SHA256.incomplete: the part that has arrived
        refs/main                     the newest commit that was downloaded
        snapshots/COMMIT/PATH         a link to the blob; where there are no links, the file itself
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from pyinfer.errors import missing_extra
from pyinfer.hub.choice import GGUFModel, labels, models_in

if TYPE_CHECKING:
    from filelock import FileLock

REVISION = "main"
_INCOMPLETE = re.compile(r"[0-9a-f]{40,64}\.incomplete")


@dataclass(frozen=True)
class CachedModel:
    """A model of the cache with all its parts. files: those of the newest snapshot that has them all."""

    repo: str
    label: str  # repo:label is the name of this model
    model: GGUFModel
    files: tuple[Path, ...]

    @property
    def n_bytes(self) -> int:
        """The size of its files."""
        return sum(file.stat().st_size for file in self.files)

    def remove(self) -> int:
        """Remove its files from every snapshot, and blobs that no link leads to any more; returns the bytes freed."""
        folder = repo_folder(self.repo)
        freed = 0
        blobs: set[Path] = set()
        for snapshot in _snapshots(folder):
            for path in self.model.paths:
                file = snapshot / path
                if file.is_symlink():
                    blobs.add(_target(file))
                freed += _unlink(file)
                _remove_empty(file.parent, folder / "snapshots")
        links = (file for snapshot in _snapshots(folder) for file in snapshot.rglob("*") if file.is_symlink())
        in_use = {_target(link) for link in links}
        # a link may lead anywhere: only blobs of this repository may be removed
        own = (folder / "blobs").resolve()
        freed += sum(_unlink(blob) for blob in blobs - in_use if blob.parent == own)
        _remove_leftovers(folder)
        return freed


@dataclass(frozen=True)
class IncompleteDownloads:
    """What interrupted downloads of a repository have left. The next download continues from there."""

    repo: str
    files: tuple[Path, ...]

    @property
    def n_bytes(self) -> int:
        """The size of its files."""
        return sum(file.stat().st_size for file in self.files)

    def remove(self) -> int:
        """Remove them, but none whose download runs in some process; returns the bytes freed."""
        from filelock import Timeout

        freed = 0
        for file in self.files:
            with suppress(Timeout), blob_lock(self.repo, file.stem).acquire(timeout=0):
                freed += _unlink(file)
        _remove_leftovers(repo_folder(self.repo))
        return freed


def is_installed() -> bool:
    """Whether huggingface_hub can be imported."""
    return find_spec("huggingface_hub") is not None


def hub_library() -> ModuleType:
    """Import huggingface_hub. Raises ParameterError where it is not installed."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise missing_extra("models of the hub need huggingface_hub", "hub") from error
    return huggingface_hub


def hub_cache_dir() -> Path:
    """The folder of the hub's cache, by HF_HOME and the library's other settings."""
    hub_library()
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def repo_folder(repo: str) -> Path:
    """The folder of a repository in the cache."""
    return hub_cache_dir() / "--".join(["models", *repo.split("/")])


def cached_repos() -> list[str]:
    """The model repositories that have a folder in the cache."""
    folders = hub_cache_dir().glob("models--*--*")
    return sorted(folder.name.removeprefix("models--").replace("--", "/") for folder in folders if folder.is_dir())


def cached_models(repo: str) -> list[CachedModel]:
    """The models of a repository that the cache has as a whole, each from the newest snapshot that has it."""
    found: dict[str, tuple[GGUFModel, tuple[Path, ...]]] = {}
    for snapshot in _snapshots(repo_folder(repo)):
        # is_file: a link whose blob is gone does not count
        paths = [path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()]
        for model in models_in(paths):
            found.setdefault(model.name, (model, tuple(snapshot / path for path in model.paths)))
    names = labels([model for model, _ in found.values()])
    return [CachedModel(repo, name, *one) for name, one in zip(names, found.values(), strict=True)]


def incomplete_downloads(repo: str) -> IncompleteDownloads:
    """The interrupted downloads of a repository, if there are any."""
    files = (repo_folder(repo) / "blobs").glob("*.incomplete")
    return IncompleteDownloads(repo, tuple(sorted(file for file in files if _INCOMPLETE.fullmatch(file.name))))


def blob_lock(repo: str, digest: str) -> FileLock:
    """The lock of a blob: a process that downloads the blob holds it, huggingface_hub as well."""
    from filelock import FileLock

    folder = repo_folder(repo)
    path = folder.parent / ".locks" / folder.name / f"{digest}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)


def _snapshots(folder: Path) -> Iterator[Path]:
    """A repository's snapshots: first the one that refs/main names, then the others, the newest first."""
    try:
        main = (folder / "refs" / REVISION).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        main = ""
    snapshots = [path for path in (folder / "snapshots").glob("*") if path.is_dir()]
    yield from sorted(snapshots, key=lambda path: (path.name != main, -path.stat().st_mtime, path.name))


def _target(link: Path) -> Path:
    """Where a link leads, followed once: huggingface_hub may have made the blob a link, too."""
    target = link.parent / link.readlink()
    return target.parent.resolve() / target.name


def _unlink(file: Path) -> int:
    """Remove a file; returns the bytes that this frees, 0 for a link."""
    size = 0 if file.is_symlink() or not file.exists() else file.stat().st_size
    file.unlink(missing_ok=True)
    return size


def _remove_empty(folder: Path, top: Path) -> None:
    """Remove a folder and those above it, below `top`, while they are empty."""
    while folder != top and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _remove_leftovers(folder: Path) -> None:
    """Remove a repository's folder if it has no file of a snapshot, no blob and no interrupted download."""
    kept = (path for name in ("snapshots", "blobs") for path in (folder / name).rglob("*"))
    if folder.is_symlink() or any(path.is_symlink() or not path.is_dir() for path in kept):
        return
    shutil.rmtree(folder, ignore_errors=True)
