"""Files and folders: paths as users write them, writes that are whole or do not happen, advice about errors, caches."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

RANDOM_BYTES = 8  # in a temporary file's name, so that two writers at once do not meet


def user_path(path: str | os.PathLike[str]) -> Path:
    """A path in which `~` or `~NAME` at the beginning is the folder of the user, or of the user NAME, if there is one.

    Every path that a user gives goes through this.
    """
    try:
        return Path(path).expanduser()
    except (RuntimeError, ValueError):  # there is no such user: a file may be named so
        return Path(path)


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


# errors of the system that a person can do something about
ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space, or use {}"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "let its owner give you the permission, or use {}"),
}


def advice(error: BaseException, elsewhere: str = "another file or folder") -> str:
    """What to do about an error of the system; empty where that is not known. elsewhere: what to use instead."""
    return ADVICE.get(error.errno or 0, "").format(elsewhere) if isinstance(error, OSError) else ""


def user_cache_dir() -> Path:
    """The folder where programs keep what they can fetch again. Raises RuntimeError where there is no home folder."""
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return Path(local) if local else Path.home() / "AppData" / "Local"
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if xdg.is_absolute():  # the XDG specification says that relative paths are ignored
        return xdg
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
