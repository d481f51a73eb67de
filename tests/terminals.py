"""Programs on pseudo-terminals."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path

import pyinfer

# what the line editor writes when it begins to read a message, and when it ends: paste is marked between them
READING, READ = "\x1b[?2004h", "\x1b[?2004l"
PACKAGE = Path(pyinfer.__file__).parent.parent


def environment(cache: Path, **more: str) -> dict[str, str]:
    plain = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    return {**plain, "PYTHONPATH": str(PACKAGE), "PYINFER_CACHE": str(cache), "TERM": "xterm", **more}


class Terminal:
    """A program on a pseudo-terminal."""

    def __init__(self, args: list[str], env: dict[str, str]) -> None:
        import pty

        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execve(args[0], args, env)
        self.seen = ""
        self._read = 0

    def send(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def interrupt(self) -> None:
        """Ctrl-C at a prompt, once the line editor has taken the terminal."""
        time.sleep(0.2)
        self.send("\x03")

    def expect(self, text: str, seconds: float = 30) -> str:
        """What is shown up to this text, from where the last one ended."""
        end = time.monotonic() + seconds
        while (at := self.seen.find(text, self._read)) < 0:
            ready, _, _ = select.select([self._fd], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{text!r} does not come after {self.seen[self._read :]!r}"
            try:
                self.seen += os.read(self._fd, 65536).decode(errors="replace")
            except OSError:
                raise AssertionError(f"{text!r} did not come before the end: {self.seen[self._read :]!r}") from None
        shown = self.seen[self._read : at]
        self._read = at + len(text)
        return shown

    def status(self) -> int:
        """The exit status, once all output is read."""
        try:
            while True:
                ready, _, _ = select.select([self._fd], [], [], 20)
                assert ready, f"the program does not end after {self.seen[self._read :]!r}"
                self.seen += os.read(self._fd, 65536).decode(errors="replace")
        except OSError:  # the other side is closed
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self) -> None:
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(self._fd)
