"""Shows how far a build is: lines on its output, and the newest also beside pip's own line on the terminal.

pip keeps a build's output to itself (`pip install -v` shows it). So that a minute of compiling is not silent, each step
is also written to the terminal of the program that started this one, if its output is a terminal: behind the cursor,
which stays where pip has put it.
"""

import os
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

BEHIND_CURSOR = "\x1b7  {}\x1b[K\x1b8"  # save the cursor's place, write, clear the rest of the line, go back
WIDTH = 24  # characters, which fit a line of 80 behind pip's text


def terminal_of_parent() -> TextIO | None:
    """The terminal that the parent process writes to; None if it has none, or if this process writes to it as well."""
    if sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return None
    try:
        path = Path(f"/proc/{os.getppid()}/fd/1").readlink()  # Linux only
        if not str(path).startswith(("/dev/pts/", "/dev/tty")):
            return None
        return path.open("w", encoding="utf-8")
    except OSError:
        return None


class Progress:
    """Counts steps. Called from several threads."""

    def __init__(self, n_steps: int) -> None:
        self._n_steps = n_steps
        self._n_done = 0
        self._start = time.monotonic()
        self._lock = threading.Lock()
        self._terminal = terminal_of_parent()
        self._on_terminal(f"[0/{n_steps}]")

    def done(self, step: str) -> None:
        """Report that a step is done."""
        with self._lock:
            self._n_done += 1
            counted = f"[{self._n_done}/{self._n_steps}] {step}"
            print(f"{counted}, {time.monotonic() - self._start:.0f} s", flush=True)
            self._on_terminal(counted)

    def close(self) -> None:
        """Remove what stands on the terminal."""
        self._on_terminal("")
        if self._terminal is not None:
            self._terminal.close()
            self._terminal = None

    def _on_terminal(self, text: str) -> None:
        if self._terminal is None:
            return
        try:
            self._terminal.write(BEHIND_CURSOR.format(text[:WIDTH]))
            self._terminal.flush()
        except OSError:  # the terminal is gone
            self._terminal = None
