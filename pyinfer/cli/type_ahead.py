"""Collects what is typed on a terminal while a program is busy, without showing it."""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
from collections.abc import Iterator

if sys.platform != "win32":
    import termios

ESCAPE_SEQUENCES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|.)?", re.DOTALL)  # keys such as the arrows
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
ERASING = {"\x7f", "\x08"}


class TypeAhead:
    """Text that was typed too early: kept to be edited, and never run."""

    def __init__(self) -> None:
        self._bytes = b""

    def take(self) -> str:
        """Return the text, and forget it."""
        typed, self._bytes = self._bytes, b""
        return plain_text(typed.decode("utf-8", errors="replace"))

    @contextlib.contextmanager
    def collected(self) -> Iterator[None]:
        """Show nothing of what is typed during a block, and collect it. Ctrl-C works as always."""
        if sys.platform == "win32":
            yield
            return
        fd = sys.stdin.fileno()
        before = termios.tcgetattr(fd)
        silent = [*before]
        silent[3] = before[3] & ~(termios.ECHO | termios.ICANON)
        termios.tcsetattr(fd, termios.TCSANOW, silent)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                while select.select([fd], [], [], 0)[0] and (part := os.read(fd, 4096)):
                    self._bytes += part
            termios.tcsetattr(fd, termios.TCSANOW, before)


def plain_text(typed: str) -> str:
    """What a line editor would show of these keys: without escape sequences, and with Backspace having erased.

    Line breaks stay, since they may be those of a pasted text; but not at the end, where Enter would have sent it.
    """
    text: list[str] = []
    for key in ESCAPE_SEQUENCES.sub("", typed).replace("\r\n", "\n").replace("\r", "\n"):
        if key in ERASING:
            del text[-1:]
        else:
            text.append(key)
    return CONTROLS.sub("", "".join(text)).rstrip("\n")
