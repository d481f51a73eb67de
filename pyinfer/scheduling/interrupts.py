"""Ctrl-C only where it does no harm.

Python raises KeyboardInterrupt between any two operations of the main thread, also in the middle of moving a request
from one state to another. Within `Interrupts` that waits until the block says that now is a good time.
"""

from __future__ import annotations

# the signal module's functions without its enums, which take ten times as long
import _signal  # type: ignore[import-not-found]
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any


class Interrupts:
    """A block in which SIGINT's handler runs while `allowed` is true and at `deliver`, else when the block ends.

    with Interrupts() as interrupts:
        ...  # is not interrupted
        interrupts.allowed = True
        ...  # may be
    """

    def __init__(self) -> None:
        self.allowed = False
        self._pending = False
        self._handler: Callable[[int, FrameType | None], Any] | None = None

    def __enter__(self) -> Interrupts:
        if threading.get_ident() == threading.main_thread().ident:  # signals reach no other
            handler = _signal.getsignal(_signal.SIGINT)
            if callable(handler):  # not for ignored signals, nor for those that end the process
                self._handler = handler
                _signal.signal(_signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._handler is not None:
            if _signal.getsignal(_signal.SIGINT) == self._note:  # not if someone has set another meanwhile
                _signal.signal(_signal.SIGINT, self._handler)
            if kind is None:
                self.deliver()

    def deliver(self) -> None:
        """Run the handler for a signal that came meanwhile."""
        if self._pending and self._handler is not None:
            self._pending = False
            self._handler(_signal.SIGINT, None)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.allowed and self._handler is not None:
            self._handler(number, frame)
        else:
            self._pending = True
