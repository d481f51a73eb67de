"""How callers wait: for tasks, and for a function that the engine thread calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from pyinfer.progress import progress_bar
from pyinfer.scheduling.task import Task
from pyinfer.scheduling.waiter import Waiter

T = TypeVar("T")


class Preempting(Protocol):
    def preempt_all(self) -> None: ...


class Call(Generic[T]):
    """A command that calls a function. With `preempt`, it preempts all sequences first."""

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
        """Wait; return what the function returned, or raise what it raised.

        If Ctrl-C ends the wait before the function is called, it is not called.
        """
        try:
            self._waiter.wait_for(1)
        except BaseException:
            self._left = True
            raise
        if self._error is not None:
            raise self._error
        return self._values[0]


class Running(Protocol):
    def submit(self, tasks: Sequence[Task], waiter: Waiter) -> None: ...
    def cancel(self, tasks: Sequence[Task]) -> None: ...


def run_tasks(scheduler: Running, tasks: Sequence[Task], label: str | None) -> None:
    """Submit tasks and wait until they have ended; see Scheduler.run."""
    bar = progress_bar(label, "", 1) if label is not None else None
    waiter = Waiter(len(tasks))
    try:
        scheduler.submit(tasks, waiter)
        if bar is not None:
            for done in range(len(tasks)):
                bar(done, len(tasks))
                waiter.wait_for(done + 1)
        waiter.wait_for(len(tasks))
    except BaseException:
        scheduler.cancel(tasks)
        raise
    finally:
        if bar is not None:
            bar(1, 1)
    for task in tasks:
        if task.error is not None:
            scheduler.cancel(tasks)
            raise task.error
