"""The engine thread: the one thread of a model that computes.

Callers put commands into its inbox and wait; it carries them out between two steps, in their order. So scheduler and
engine belong to one thread and need no locks, there is one OpenMP team and not one a caller, and Ctrl-C reaches the
main thread while it waits in Python.

The thread starts with the first command. While it is idle it holds its worker by a weak reference only, so that a model
that is dropped is freed as any other object, and its thread ends with it. It is a daemon thread that ends before the
interpreter does: a forward pass must not see the interpreter go.
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
        """Do a share of the work; whether there was any."""

    def recover(self, error: BaseException) -> None:
        """Go on after an error that was nobody's in particular."""

    def stop(self) -> None:
        """End the step under way early, if that can be; called by any thread."""

    def end(self) -> None:
        """End what is under way; no step follows."""


W = TypeVar("W", bound=Worker)
Command = Callable[[Any], None]  # of a worker


class Rest:
    """A command to come to rest until someone says go on."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Lock(), threading.Lock()
        self.reached.acquire()
        self.go_on.acquire()

    def __call__(self, worker: Worker) -> None:
        self.reached.release()
        self.go_on.acquire()


class Loop(Generic[W]):
    """The thread that runs a worker's steps, and its inbox.

    closed: it takes no more commands. broken_by_fork: this process is a child that was forked in the middle of a step.
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
        weakref.finalize(worker, end_thread, self)  # when it is collected, or else when the interpreter ends

    @property
    def is_own_thread(self) -> bool:
        """Whether this is called by the engine thread, that is, within a step."""
        return self._ident == threading.get_ident()

    def check(self) -> None:
        """PyinferError if no command can be carried out any more."""
        self.check_fork()
        if self.closed:
            raise PyinferError("the model is closed")

    def check_fork(self) -> None:
        """PyinferError in a child that was forked in the middle of a step."""
        if self.broken_by_fork:
            raise PyinferError(forks.BROKEN_BY_FORK)

    def refuse_within_step(self) -> None:
        """ParameterError from within a step, which can't wait for the next one."""
        if self.is_own_thread:
            raise ParameterError("the model was called from within one of its steps, such as by a logits processor")

    def put(self, command: Command) -> None:
        """Have the thread carry out a command before its next step. Raises as check."""
        with self._lock:
            self.check()
            self._inbox.put(command)
            if not self._serving.locked():
                threading.Thread(target=self._serve, name="pyinfer", daemon=True).start()

    def put_late(self, command: Command) -> None:
        """As put, but without a lock and an error, for finalizers, which run anywhere; nothing happens once closed."""
        self._inbox.put(command)

    def close(self) -> None:
        """End the step under way, the work and the thread. ParameterError from within a step."""
        self.refuse_within_step()
        with self._lock:
            self.closed = True
            self._inbox.put(END)
        worker = self._worker()
        if self.broken_by_fork or worker is None:
            return
        worker.stop()
        while not self._serving.acquire(timeout=STOP_AGAIN_S):
            worker.stop()  # the pass may have begun only now
        try:
            while not self._inbox.empty():  # where no thread has ever been needed, or it had just begun
                command = self._inbox.get()
                if command is not END:
                    command(worker)
            worker.end()
        finally:
            self._serving.release()

    def before_fork(self) -> None:
        """Come to rest between two steps; give up after a while."""
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
        """Go on; in a child with a new inbox and without a thread. Whether this is a child that may go on."""
        rest, self._rest = self._rest, None
        if not in_child:
            if rest is not None:
                rest.go_on.release()
            if self._forking:
                self._lock.release()
            return False
        self._lock = threading.Lock()
        if self.is_own_thread:  # a step that has forked, and goes on in both processes
            return False
        self.broken_by_fork = self.broken_by_fork or not self._at_rest
        self._inbox, self._serving, self._ident = SimpleQueue(), threading.Lock(), None
        return not self.broken_by_fork

    def _serve(self) -> None:
        """Run steps as long as there is work, then wait for the next command without holding the worker."""
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
    """Carry out commands and run steps until there is nothing to do; False: the thread shall end."""
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
        except BaseException as error:  # whatever it is, it must not end the thread, for which others wait
            worker.recover(error)
        command = waiting_command(inbox)
        busy = busy or command is not None
    return True


def waiting_command(inbox: SimpleQueue[Command]) -> Command | None:
    return None if inbox.empty() else inbox.get()  # no other thread takes any


def END(worker: Worker) -> None:
    """The command to end the work and the thread, which is known by its identity."""


def LEAVE(worker: Worker) -> None:
    """The command to end the thread and leave the work as it is: nobody is told of it, as the interpreter ends."""


def end_thread(loop: Loop[Any]) -> None:
    """End a worker's thread: the worker is being freed, or the interpreter ends."""
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
