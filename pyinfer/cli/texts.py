"""Texts that commands read."""

from __future__ import annotations

import io
import sys
from pathlib import Path


def read_text(file: str) -> str:
    """A file's text, or that of standard input for "-"; bytes that are not UTF-8 become U+FFFD."""
    if file != "-":
        return Path(file).read_text(encoding="utf-8", errors="replace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    return sys.stdin.read()
