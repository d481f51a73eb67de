"""Downloads a model from the Hugging Face hub into the hub's cache.

huggingface_hub gives the settings (HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE), the list of files with their sizes and
checksums, and the connection. The transfer is done here, since the library's own begins anew after an interruption:
bytes are appended to `blobs/SHA256.incomplete`, the next call continues there, and when its checksum is right, the file
gets its final name.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from pyinfer.errors import DownloadError
from pyinfer.files import advice, atomic_write
from pyinfer.hub.cache import REVISION, blob_lock, hub_library, repo_folder
from pyinfer.hub.checksums import check_digest
from pyinfer.hub.choice import choose, labels, models_in
from pyinfer.hub.names import HubModel
from pyinfer.hub.progress import Counter, Progress
from pyinfer.version import __version__

CHUNK = 1 << 16  # bytes
MAX_ATTEMPTS = 5  # in a row in which no byte arrives
FIRST_WAIT = 0.5  # seconds after such an attempt, doubled after each further one
RETRIED = {408, 429, 500, 502, 503, 504}  # HTTP statuses that may be gone a moment later
ELSEWHERE = "a folder on another disk (HF_HOME)"
OFFLINE_ADVICE = (
    "check the connection and the proxy (HTTPS_PROXY), or give the path of a GGUF file that is on this machine"
)
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class HubUnreachableError(DownloadError):
    """The hub does not answer, or may not be asked."""


@dataclass(frozen=True)
class RemoteFile:
    """A file that the hub lists. digest: sha256 for files in large-file storage, as models are; else git's sha1."""

    path: str
    n_bytes: int
    digest: str


def fetch_from_hub(model: HubModel, progress: Progress | None = None) -> Path:
    """Download the files of a model's newest version that the cache does not have; returns the first part's path.

    Raises DownloadError if there is no connection, no such repository or quant, no permission, a wrong checksum or a
    full disk; ParameterError without huggingface_hub.
    """
    with _as_download_errors(model.repo):
        commit, listed = _list_files(model.repo)
        found = models_in(listed)
        chosen = choose(found, model.quant)
        if chosen is None:
            search = f"https://huggingface.co/models?library=gguf&search={model.repo.partition('/')[2]}"
            there = ", ".join(labels(found)) or f"no GGUF model; {search} may show one of others"
            raise DownloadError(f"{model.repo} has no model {model.quant or 'at all'}; it has {there}")
        files = [listed[path] for path in chosen.paths]
        folder = repo_folder(model.repo)
        snapshot = folder / "snapshots" / commit
        counter = Counter(sum(file.n_bytes for file in files), progress)
        for file in files:
            if not (snapshot / file.path).is_file():
                _fetch_file(model.repo, commit, file, counter)
            counter.finish(file.n_bytes)
        # comes last, so that a reference only ever leads to whole models
        reference = folder / "refs" / REVISION
        reference.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(reference) as output:
            output.write(commit.encode())
        return snapshot / files[0].path


def _list_files(repo: str) -> tuple[str, dict[str, RemoteFile]]:
    """Ask the hub for the newest commit of a repository, and for its files by path."""
    hub = hub_library()
    try:
        api = hub.HfApi(_endpoint(), library_name="pyinfer", library_version=__version__)
        info = api.model_info(repo, revision=REVISION, files_metadata=True, timeout=_timeout())
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # the answer does not describe a model
        raise DownloadError(f"{repo}: no list of files from {_endpoint()}: {type(error).__name__}: {error}") from error
    files = {
        file.rfilename: RemoteFile(file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else file.blob_id or "")
        for file in info.siblings or []
    }
    if not _COMMIT.fullmatch(info.sha or ""):
        raise DownloadError(f"{repo}: the hub names commit {info.sha!r}; expected 40 hexadecimal digits")
    for file in files.values():
        # path and digest become names of files in the cache
        if {"", ".", ".."} & set(file.path.split("/")) or "\\" in file.path or not _DIGEST.fullmatch(file.digest):
            raise DownloadError(f"{repo}: the hub lists a file {file.path!r} with checksum {file.digest!r}")
    return info.sha, files


def _fetch_file(repo: str, commit: str, file: RemoteFile, counter: Counter) -> None:
    """Put a file into the cache: its blob, unless that is there, and the snapshot's link to it."""
    blob = repo_folder(repo) / "blobs" / file.digest
    blob.parent.mkdir(parents=True, exist_ok=True)
    with blob_lock(repo, file.digest):
        if not blob.exists():
            partial = blob.with_name(f"{file.digest}.incomplete")
            _check_space(partial, file)
            _download(repo, commit, file, partial, counter)
            try:
                check_digest(partial, file.digest, f"{repo}: {file.path}")
            except DownloadError:
                partial.unlink()
                raise
            partial.replace(blob)
        _link(blob, repo_folder(repo) / "snapshots" / commit / file.path)


def _check_space(partial: Path, file: RemoteFile) -> None:
    """Raise DownloadError if the rest of a file does not fit the disk."""
    needed = file.n_bytes - _size(partial)
    free = shutil.disk_usage(partial.parent).free
    if free < needed:
        raise DownloadError(
            f"{file.path} needs {needed / 1e6:.0f} MB more in {partial.parent}, where {free / 1e6:.0f} MB are free; "
            f"free some space, or use {ELSEWHERE}"
        )


def _download(repo: str, commit: str, file: RemoteFile, partial: Path, counter: Counter) -> None:
    """Append to `partial` until it is as long as the file; after a broken connection, a new one continues."""
    hub = hub_library()
    url = hub.hf_hub_url(repo, file.path, revision=commit, endpoint=_endpoint())
    failures = 0
    while (before := _size(partial)) < file.n_bytes:
        counter.show(before)
        try:
            _append(url, file, partial, counter)
            error: BaseException | None = None
        except _http_errors() as caught:
            if _is_of_a_file(caught) or _status(caught) not in {None, *RETRIED}:
                raise
            error = caught
        failures = failures + 1 if _size(partial) <= before else 0
        if failures == MAX_ATTEMPTS:
            raise HubUnreachableError(
                f"{repo}: the download of {file.path} stopped at {before / 1e6:.0f} of {file.n_bytes / 1e6:.0f} MB "
                f"({error or 'no more data'}); the next one goes on from there"
            ) from error
        if failures:
            time.sleep(FIRST_WAIT * 2 ** (failures - 1))
    if not partial.exists():  # a file of no bytes
        partial.touch()


def _append(url: str, file: RemoteFile, partial: Path, counter: Counter) -> None:
    """Request the bytes that are missing, and append them as they arrive."""
    have = _size(partial)
    with _get(url, have) as (is_rest, chunks), partial.open("ab" if is_rest else "wb") as output:
        have = output.tell()
        for chunk in chunks:
            have += len(chunk)
            if have > file.n_bytes:
                raise DownloadError(f"{file.path}: more than the {file.n_bytes} bytes came that the hub lists")
            try:
                output.write(chunk)
                output.flush()
            except OSError as error:
                raise _write_error(partial, error) from error
            counter.show(have)


@contextmanager
def _get(url: str, start: int) -> Iterator[tuple[bool, Iterator[bytes]]]:
    """Request a file from byte `start` on. Gives True and the rest; False and all bytes if the server has no ranges."""
    utils = import_module("huggingface_hub.utils")
    headers: dict[str, str] = utils.build_hf_headers(library_name="pyinfer", library_version=__version__)
    headers["Accept-Encoding"] = "identity"  # so that positions in the answer are those in the file
    if start:
        headers["Range"] = f"bytes={start}-"
    session = utils.get_session()
    if callable(getattr(session, "stream", None)):  # httpx; before its version 1.0 the library uses requests
        with session.stream("GET", url, headers=headers, follow_redirects=True, timeout=_timeout()) as response:
            if response.status_code >= 400:
                response.read()  # so that the error has its text
            utils.hf_raise_for_status(response)
            yield response.status_code == 206, response.iter_bytes()
    else:
        with session.get(url, headers=headers, stream=True, timeout=_timeout()) as response:
            utils.hf_raise_for_status(response)
            yield response.status_code == 206, response.iter_content(CHUNK)


def _link(blob: Path, pointer: Path) -> None:
    """Make the snapshot's link to a blob; where the system has no links, move the blob there."""
    if pointer.exists():
        return
    pointer.parent.mkdir(parents=True, exist_ok=True)
    pointer.unlink(missing_ok=True)  # it may be a link to a blob that was removed
    try:
        pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    except OSError:
        blob.replace(pointer)


def _size(path: Path) -> int:
    """Bytes of a file; 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def _endpoint() -> str:
    """The hub's address."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def _timeout() -> float:
    """Seconds to wait for an answer: HF_HUB_DOWNLOAD_TIMEOUT, or the library's default."""
    from huggingface_hub import constants

    return float(constants.HF_HUB_DOWNLOAD_TIMEOUT)


def _http_errors() -> tuple[type[BaseException], ...]:
    """Base classes of what httpx or requests raises: HfHubHTTPError has the base class of the one that is used."""
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, *HfHubHTTPError.__bases__)


def _status(error: BaseException) -> int | None:
    """The HTTP status of the server's answer; None if there was none."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _is_of_a_file(error: BaseException) -> bool:
    """Whether an error is one of the disk; the network errors of requests are OSErrors as well."""
    return isinstance(error, OSError) and error.filename is not None


def _write_error(path: Path, error: OSError) -> DownloadError:
    """The error for a partial file that can't be written."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = advice(error, ELSEWHERE)
    return DownloadError(
        f"{path.parent}: {'the disk is full' if full else error}; what came so far is kept{hint and '; '}{hint}"
    )


@contextmanager
def _as_download_errors(repo: str) -> Iterator[None]:
    """Turn errors of huggingface_hub and of its HTTP library into DownloadErrors that say what to do."""
    hub_library()
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise DownloadError(
            f"{repo} is gated: ask for access at {_endpoint()}/{repo}, then log in with `hf auth login` or set HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise DownloadError(
            f"{_endpoint()} has no model repository {repo}, or it is private: then log in with `hf auth login` "
            f"or set HF_TOKEN"
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise HubUnreachableError(f"{repo} is not in the cache, and HF_HUB_OFFLINE is set") from error
    except errors.HfHubHTTPError as error:
        kind = HubUnreachableError if _status(error) in RETRIED else DownloadError
        raise kind(f"{repo}: {_endpoint()} answers {error}") from error
    except _http_errors() as error:
        if _is_of_a_file(error):
            hint = advice(error, ELSEWHERE)
            raise DownloadError(f"{repo} cannot be kept in the cache: {error}{hint and '; '}{hint}") from error
        raise HubUnreachableError(f"{_endpoint()} cannot be reached: {error}; {OFFLINE_ADVICE}") from error
