"""Reads the texts of commands, from a file or standard input."""

from __future__ import annotations

import io
import sys
from pathlib import Path


def read_text(file: str) -> str:
    """Return a file's text; "-" means standard input. Bytes that are not UTF-8 become U+FFFD."""
    if file != "-":
        return Path(file).read_text(encoding="utf-8", errors="replace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    return sys.stdin.read()
