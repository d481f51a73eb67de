"""Reads the texts of commands, from a file or standard input."""

from __future__ import annotations

import io
import select
import sys

from pyinfer.files import user_path

STDIN = "-"  # in the place of a file or a text


def read_text(file: str) -> str:
    """Return a file's text; "-" means standard input. Bytes that are not UTF-8 become U+FFFD."""
    if file != STDIN:
        return user_path(file).read_text(encoding="utf-8", errors="replace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    return sys.stdin.read()


def read_stdin() -> str:
    """Return standard input to its end, without its last line break, as shells take a command's output."""
    try:
        return read_text(STDIN).removesuffix("\n")
    except (OSError, ValueError):  # it is closed, or may not be read
        return ""


def has_piped_text() -> bool:
    """Whether standard input is a pipe or a file with something to read now.

    A pipe that nobody writes to, as a program's child may have it, is not waited for.
    """
    try:
        return not sys.stdin.isatty() and bool(select.select([sys.stdin], [], [], 0)[0])
    except (OSError, ValueError):  # Windows can't ask; or it is closed
        return False
