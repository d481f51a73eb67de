"""Whether a file is what its source says: sha256, or git's sha1 of small files of the hub."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pyinfer.errors import DownloadError

CHUNK = 1 << 20
SHA1_DIGITS = 40


def check_digest(path: Path, expected: str, what: str) -> None:
    """Raise DownloadError unless the file's digest, of the kind that `expected` is by its length, is that one."""
    if len(expected) == SHA1_DIGITS:
        kind, digest = "git sha1", hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    else:
        kind, digest = "sha256", hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != expected:
        raise DownloadError(f"{what} has {kind} {digest.hexdigest()}; expected {expected}")
