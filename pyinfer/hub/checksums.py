"""Checksums of downloaded files: sha256, or for small files of the hub git's sha1."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pyinfer.errors import DownloadError

CHUNK = 1 << 20  # bytes read at once
SHA1_DIGITS = 40  # hexadecimal digits


def check_digest(path: Path, expected: str, what: str) -> None:
    """Raise DownloadError, which names the file `what`, unless it has the digest; a digest's length tells its kind."""
    if len(expected) == SHA1_DIGITS:
        kind, digest = "git sha1", hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    else:
        kind, digest = "sha256", hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != expected:
        raise DownloadError(f"{what} has {kind} {digest.hexdigest()}; expected {expected}")
