"""Files and folders: a write that is whole or does not happen, and the folder where the user's caches are."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

RANDOM_BYTES = 8  # in a temporary file's name, so that two writers at once do not meet


@contextlib.contextmanager
def atomic_write(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Open a new file that takes the name `path` when the block ends.

    If the block raises, `path` is as it was. mode: the file's permissions, before the process's umask is applied.
    Raises OSError.
    """
    new = path.with_name(f".{path.name}.{secrets.token_hex(RANDOM_BYTES)}")
    try:
        with open(new, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
        new.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise


def user_cache_dir() -> Path:
    """The folder where programs keep what they can fetch again. Raises RuntimeError where there is no home folder."""
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return Path(local) if local else Path.home() / "AppData" / "Local"
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if xdg.is_absolute():  # the XDG specification says that relative paths are ignored
        return xdg
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
