"""A command that calls a function on the engine thread, and whoever waits for what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from pyinfer.scheduling.waiter import Waiter

T = TypeVar("T")


class Preempting(Protocol):
    def preempt_all(self) -> None: ...


class Call(Generic[T]):
    """preempt: all slots are free when the function is called."""

    def __init__(self, function: Callable[[], T], preempt: bool) -> None:
        self._function = function
        self._preempt = preempt
        self._waiter = Waiter(1)
        self._values: list[T] = []
        self._error: BaseException | None = None
        self._left = False

    def __call__(self, scheduler: Preempting) -> None:
        try:
            if not self._left:
                if self._preempt:
                    scheduler.preempt_all()
                self._values.append(self._function())
        except BaseException as error:
            self._error = error
        self._waiter.ended(self._error is not None)

    def result(self) -> T:
        """What the function returned, or raise what it raised. Left by Ctrl-C before it began, it is not called."""
        try:
            self._waiter.wait_for(1)
        except BaseException:
            self._left = True
            raise
        if self._error is not None:
            raise self._error
        return self._values[0]
