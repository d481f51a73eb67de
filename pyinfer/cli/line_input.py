"""Reads messages from a pipe, or from a terminal with line editing and a history where there is readline."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType, ModuleType

MAX_HISTORY = 1000  # lines
QUOTES = '"""'


class LineInput:
    """Reads messages. A message is a line, several lines joined by backslashes at their ends, or text in triple quotes.

    A pipe is read without prompts and without readline.

    - `history`: the file of the history, which `close` writes and only its owner can read.
    - `complete`: a function that returns what a line may be completed to.
    """

    def __init__(self, history: Path, complete: Callable[[str], Sequence[str]]) -> None:
        self.interactive = sys.stdin.isatty() and sys.stdout.isatty()
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="replace")
        self._history = history
        self._readline = _readline() if self.interactive else None
        if self._readline is not None:
            with contextlib.suppress(OSError):  # there is no history yet
                self._readline.read_history_file(history)
            self._readline.set_history_length(MAX_HISTORY)
            self._readline.set_completer_delims("")
            self._readline.set_completer(lambda text, i: next(iter(complete(text)[i : i + 1]), None))
            editline = "libedit" in (self._readline.__doc__ or "")
            self._readline.parse_and_bind("bind ^I rl_complete" if editline else "tab: complete")

    def message(self, prompt: str = "> ", more: str = ". ") -> str:
        """Read the next message. Raises EOFError at the end of the input, KeyboardInterrupt for Ctrl-C."""
        line = self._line(prompt)
        if line.lstrip().startswith(QUOTES):
            return self._quoted(line.lstrip()[len(QUOTES) :], more)
        lines = [line]
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            try:
                lines.append(self._line(more))
            except EOFError:
                break
        return "\n".join(lines)

    def close(self) -> None:
        """Write the history. If that fails, nothing is reported."""
        if self._readline is None:
            return
        with contextlib.suppress(OSError):
            self._history.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._history, os.O_CREAT | os.O_WRONLY, 0o600))
            self._readline.write_history_file(self._history)
            self._history.chmod(0o600)

    def _quoted(self, line: str, more: str) -> str:
        lines = []
        while QUOTES not in line:
            lines.append(line)
            try:
                line = self._line(more)
            except EOFError:
                return "\n".join(lines).strip("\n")
        return "\n".join([*lines, line.partition(QUOTES)[0]]).strip("\n")

    def _line(self, prompt: str) -> str:
        if self.interactive:
            return input(prompt)
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.removesuffix("\n").removesuffix("\r")


def _readline() -> ModuleType | None:
    try:
        import readline
    except ImportError:  # Windows has none
        return None
    return readline


@contextlib.contextmanager
def one_interrupt() -> Iterator[None]:
    """Let only the first Ctrl-C raise KeyboardInterrupt in a block, so that a second one does not end the program."""
    came = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if not came:
            came = True
            raise KeyboardInterrupt

    previous = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
