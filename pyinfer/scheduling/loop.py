"""The engine thread: the one thread of a model that computes.

Callers put commands into its inbox and wait; the thread carries them out between two steps, in their order. So the
scheduler and the engine belong to one thread and need no locks, there is one OpenMP team (not one for each caller), and
Ctrl-C reaches the main thread while it waits in Python.

The thread starts with the first command. While it is idle, it has only a weak reference to its worker, so that a model
without references is freed like any other object, and its thread ends with it. It is a daemon thread, but it ends
before the interpreter does, since a forward pass needs the interpreter.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

from pyinfer.engine import forks
from pyinfer.errors import ParameterError, PyinferError

STOP_AGAIN_S = 0.05
END_TIMEOUT_S = 5.0  # seconds that the interpreter's end waits for a step, such as a logits processor that hangs


class Worker(Protocol):
    def step(self) -> bool:
        """Do a part of the work. Return whether there was any."""

    def recover(self, error: BaseException) -> None:
        """Get ready for the next step after an error that no task has caused."""

    def stop(self) -> None:
        """End the step under way early, if possible. Any thread may call this."""

    def end(self) -> None:
        """End all work; no step follows."""


W = TypeVar("W", bound=Worker)
Command = Callable[[Any], None]  # a function of the worker


class Rest:
    """A command to rest: the thread releases `reached`, then waits until another thread releases `go_on`."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Lock(), threading.Lock()
        self.reached.acquire()
        self.go_on.acquire()

    def __call__(self, worker: Worker) -> None:
        self.reached.release()
        self.go_on.acquire()


class Loop(Generic[W]):
    """The thread that runs a worker's steps, and its inbox.

    `closed`: it accepts no more commands. `broken_by_fork`: this process is a child that was forked during a step.
    """

    def __init__(self, worker: W) -> None:
        self._worker = weakref.ref(worker)
        self._inbox: SimpleQueue[Command] = SimpleQueue()
        self._lock = threading.Lock()  # guards the order of commands, the thread's start and the loop's end
        self._serving = threading.Lock()  # held by the thread as long as it lives
        self._ident: int | None = None  # of the thread
        self._rest: Rest | None = None
        self._at_rest = self._forking = False
        self.closed = self.broken_by_fork = False
        weakref.finalize(worker, end_thread, self)  # called when the worker is freed, or when the interpreter ends

    @property
    def is_own_thread(self) -> bool:
        """Whether this is called by the engine thread, that is, within a step."""
        return self._ident == threading.get_ident()

    def check(self) -> None:
        """Raise PyinferError if no command can be carried out any more."""
        self.check_fork()
        if self.closed:
            raise PyinferError("the model is closed")

    def check_fork(self) -> None:
        """Raise PyinferError in a child process that was forked during a step."""
        if self.broken_by_fork:
            raise PyinferError(forks.BROKEN_BY_FORK)

    def refuse_within_step(self) -> None:
        """Raise ParameterError within a step, which can't wait for the next one."""
        if self.is_own_thread:
            raise ParameterError("the model was called from within one of its steps, such as by a logits processor")

    def put(self, command: Command) -> None:
        """Have the thread carry out a command before its next step. Raises what `check` raises."""
        with self._lock:
            self.check()
            self._inbox.put(command)
            if not self._serving.locked():
                threading.Thread(target=self._serve, name="pyinfer", daemon=True).start()

    def put_late(self, command: Command) -> None:
        """Put a command without a lock and without errors, for finalizers. Once closed, it is not carried out."""
        self._inbox.put(command)

    def close(self) -> None:
        """Stop the step under way, and end the work and the thread. Raises ParameterError within a step."""
        self.refuse_within_step()
        with self._lock:
            self.closed = True
            self._inbox.put(END)
        worker = self._worker()
        if self.broken_by_fork or worker is None:
            return
        worker.stop()
        while not self._serving.acquire(timeout=STOP_AGAIN_S):
            worker.stop()  # the forward pass may have begun after the last stop()
        try:
            while not self._inbox.empty():  # no thread has carried these commands out
                command = self._inbox.get()
                if command is not END:
                    command(worker)
            worker.end()
        finally:
            self._serving.release()

    def before_fork(self) -> None:
        """Have the thread rest between two steps, if it gets there within FORK_TIMEOUT_S."""
        self._at_rest, self._rest, self._forking = self.is_own_thread, None, False
        if self._at_rest or self.broken_by_fork:
            return
        self._forking = self._lock.acquire(timeout=forks.FORK_TIMEOUT_S)
        if not self._forking:
            return
        self._at_rest = not self._serving.locked()
        if not self._at_rest:
            self._rest = Rest()
            self._inbox.put(self._rest)
            self._at_rest = self._rest.reached.acquire(timeout=forks.FORK_TIMEOUT_S)

    def after_fork(self, in_child: bool) -> bool:
        """Let the thread go on; in a child process, begin with a new inbox and without a thread.

        Returns whether this is a child process in which no step was under way.
        """
        rest, self._rest = self._rest, None
        if not in_child:
            if rest is not None:
                rest.go_on.release()
            if self._forking:
                self._lock.release()
            return False
        self._lock = threading.Lock()
        if self.is_own_thread:  # the step itself has forked; it goes on in both processes
            return False
        self.broken_by_fork = self.broken_by_fork or not self._at_rest
        self._inbox, self._serving, self._ident = SimpleQueue(), threading.Lock(), None
        return not self.broken_by_fork

    def _serve(self) -> None:
        """Run steps while there is work, then wait for the next command, with only a weak reference to the worker."""
        if not self._serving.acquire(blocking=False):
            return  # another thread was started by an interrupted `put`
        try:
            self._ident = threading.get_ident()
            while True:
                command = self._inbox.get()
                worker = self._worker()
                if worker is None or not work(worker, command, self._inbox):
                    return
                del command, worker
        finally:
            self._ident = None
            self._serving.release()


def work(worker: Worker, first: Command, inbox: SimpleQueue[Command]) -> bool:
    """Carry out commands and run steps until there is nothing to do. Return False if the thread shall end."""
    command: Command | None = first
    busy = True
    while busy:
        try:
            while command is not None:
                if command in (END, LEAVE):
                    if command is END:
                        worker.end()
                    return False
                command(worker)
                command = waiting_command(inbox)
            busy = worker.step()
        except BaseException as error:  # no error may end the thread, since callers wait for it
            worker.recover(error)
        command = waiting_command(inbox)
        busy = busy or command is not None
    return True


def waiting_command(inbox: SimpleQueue[Command]) -> Command | None:
    return None if inbox.empty() else inbox.get()  # never waits: only this thread gets commands


def END(worker: Worker) -> None:
    """The command to end the work and the thread. The loop recognises it by its identity and never calls it."""


def LEAVE(worker: Worker) -> None:
    """The command to end the thread but not the work: the interpreter ends, and no waiter is notified."""


def end_thread(loop: Loop[Any]) -> None:
    """End a worker's thread when the worker is freed or the interpreter ends."""
    loop.closed = True
    if not loop._serving.locked():
        return
    loop._inbox.put(LEAVE)
    worker = loop._worker()
    if worker is not None:
        worker.stop()
        del worker
    if not loop.is_own_thread and loop._serving.acquire(timeout=END_TIMEOUT_S):
        loop._serving.release()
