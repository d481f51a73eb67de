"""Reads messages: on a terminal with prompt_toolkit's line editor and a history, from a pipe line by line."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from pyinfer.cli.type_ahead import TypeAhead

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import History

MAX_HISTORY = 1000  # messages
QUOTES = '"""'


class LineInput:
    """Reads messages. A message is a line, several lines joined by backslashes at their ends, or text in triple quotes.

    On a terminal, a text that is pasted is one message, whatever lines it has, once Enter is pressed. What is typed
    while no message is read (in a block of `quiet`) is not run: it stands in the next line, to be edited.

    - `history`: the file of the history, which only its owner can read.
    - `complete`: a function that returns what a line may be completed to.
    """

    def __init__(self, history: Path, complete: Callable[[str], Sequence[str]]) -> None:
        self.interactive = sys.stdin.isatty() and sys.stdout.isatty()
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="replace")
        self._session = _session(history, complete) if self.interactive else None
        self._typed = TypeAhead() if self.interactive else None

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

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """While an answer comes: what is typed is not shown, and only the first Ctrl-C raises KeyboardInterrupt.

        For a pipe it does nothing.
        """
        if self._typed is None:
            yield
            return
        with self._typed.collected(), one_interrupt():
            yield

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
        if self._session is not None and self._typed is not None:
            return self._session.prompt(prompt, default=self._typed.take())
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.removesuffix("\n").removesuffix("\r")


def _session(path: Path, complete: Callable[[str], Sequence[str]]) -> PromptSession[str]:
    """A line editor with a history in the file `path`; Tab completes as in a shell."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document
    from prompt_toolkit.output import create_output
    from prompt_toolkit.output.vt100 import Vt100_Output
    from prompt_toolkit.shortcuts import CompleteStyle
    from prompt_toolkit.utils import is_dumb_terminal

    class Commands(Completer):
        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
            line = document.text_before_cursor
            for option in complete(line):
                yield Completion(option, start_position=-len(line))

    # None: prompt_toolkit chooses one by itself, which for a dumb terminal only adds text
    output = None if is_dumb_terminal() else create_output()
    if isinstance(output, Vt100_Output):
        output.enable_cpr = False  # the terminal's answer could come when nobody reads it, and no menu needs it
    return PromptSession(
        history=_history(path),
        completer=Commands(),
        complete_while_typing=False,
        complete_style=CompleteStyle.READLINE_LIKE,
        reserve_space_for_menu=0,
        output=output,
    )


def _history(path: Path) -> History:
    """The history in a file, at most its newest MAX_HISTORY messages; in memory where the file can't be written."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        path.chmod(0o600)
        history = FileHistory(str(path))
        messages = list(history.load_history_strings())  # the newest first
        if len(messages) > MAX_HISTORY:
            path.write_bytes(b"")
            for message in reversed(messages[:MAX_HISTORY]):
                history.store_string(message)
    except OSError:
        return InMemoryHistory()
    return history


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
