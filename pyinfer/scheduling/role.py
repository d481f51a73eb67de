"""Who runs the steps: one of the threads that wait for what steps bring about.

A waiting thread becomes the driver if there is none, and runs steps until what it waits for is there. The others sleep;
the driver wakes those whose time has come, and one of the others when it leaves. So a program with one thread never
switches threads, and one with many loses none of them to waiting.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from pyinfer.engine import forks
from pyinfer.errors import ParameterError, PyinferError
from pyinfer.scheduling.interrupts import Interrupts


class Sleeper(NamedTuple):
    """A thread that waits while another one drives."""

    ready: Callable[[], bool]
    bed: threading.Lock  # held while it sleeps


class Claim(NamedTuple):
    """A thread that needs the role itself, and gets it next."""

    thread: int
    bed: threading.Lock


class Role:
    """The driver's role. step(interrupts) runs a step and says whether there was anything to do.

    tidy() does what must not wait for another step; a driver that leaves calls it, with the mutex held.
    mutex: guards who has the role, and what callers share with the driver.
    """

    def __init__(self, step: Callable[[Interrupts], bool], tidy: Callable[[], None]) -> None:
        self._step = step
        self._tidy = tidy
        self.mutex = threading.Lock()
        self._driver: int | None = None  # a thread
        self._sleepers: list[Sleeper] = []
        self._claims: list[Claim] = []
        self._forking = False  # whether the role is held for a fork
        self.torn = False  # in a child that was forked in the middle of a step

    def check(self) -> None:
        """PyinferError if torn."""
        if self.torn:
            raise PyinferError(forks.TORN)

    def wait(self, ready: Callable[[], bool]) -> None:
        """Return once ready(), which steps must bring about; meanwhile run them, or let another thread do it.

        ParameterError from within a step, which can't wait for the next one.
        """
        with Interrupts() as interrupts:
            slept = False
            while not ready():
                sleeper = self._take(ready)
                if sleeper is None:
                    try:
                        self._drive(ready, interrupts)
                    finally:
                        self._leave()
                    continue
                try:
                    interrupts.allowed = True
                    sleeper.bed.acquire()
                except BaseException:
                    interrupts.allowed = False
                    self._get_up(sleeper)
                    raise
                interrupts.allowed, slept = False, True
            if slept:
                self._pass_on()

    @contextmanager
    def held(self) -> Iterator[Interrupts]:
        """Have the role while no step is under way; yields the interrupts, which are not allowed at first."""
        with Interrupts() as interrupts:
            claim = self._claim()
            if claim is not None:
                try:
                    interrupts.allowed = True
                    claim.bed.acquire()
                    interrupts.allowed = False
                except BaseException:
                    interrupts.allowed = False
                    self._withdraw(claim)
                    raise
            try:
                yield interrupts
            finally:
                interrupts.allowed = False
                self._leave()

    def tidy_soon(self) -> None:
        """See that tidy() is called: now, where nobody drives, else by the driver at the latest when it leaves."""
        with Interrupts(), self.mutex:
            if self._driver is None and not self.torn:
                self._tidy()

    def before_fork(self) -> None:
        """Have the role, unless the thread forks within a step or another one's takes too long."""
        if self.torn or self._driver == threading.get_ident():
            return
        claim = self._claim()
        if claim is None or claim.bed.acquire(timeout=forks.PATIENCE):
            self._forking = True
        else:
            self._withdraw(claim)

    def after_fork(self, in_child: bool) -> bool:
        """Give the role back; in a child make new locks. Whether this is a child, and no step is under way."""
        forking, self._forking = self._forking, False
        if not in_child:
            if forking:
                self._leave()
            return False
        self.torn = self.torn or self.mutex.locked() or self._driver not in (None, threading.get_ident())
        self.mutex = threading.Lock()
        self._sleepers, self._claims = [], []
        if forking:
            self._driver = None
        return not self.torn and self._driver is None

    def _take(self, ready: Callable[[], bool]) -> Sleeper | None:
        """Become the driver if there is none, else a sleeper, awake if what it waits for has come meanwhile."""
        with self.mutex:
            self.check()
            if self._driver is None:
                self._driver = threading.get_ident()
                return None
            self._refuse_within_step()
            sleeper = Sleeper(ready, threading.Lock())
            if not ready():
                sleeper.bed.acquire()
                self._sleepers.append(sleeper)
            return sleeper

    def _claim(self) -> Claim | None:
        """Have the role now, or the claim to have it next."""
        me = threading.get_ident()
        with self.mutex:
            self.check()
            if self._driver is None:
                self._driver = me
                return None
            self._refuse_within_step()
            claim = Claim(me, threading.Lock())
            claim.bed.acquire()
            self._claims.append(claim)
            return claim

    def _withdraw(self, claim: Claim) -> None:
        with self.mutex:
            if claim in self._claims:
                self._claims.remove(claim)
                return
        self._leave()  # it was given the role meanwhile

    def _refuse_within_step(self) -> None:
        if self._driver == threading.get_ident():
            raise ParameterError("the model was called from within one of its steps, such as by a logits processor")

    def _drive(self, ready: Callable[[], bool], interrupts: Interrupts) -> None:
        while not ready() and not self._claims:
            if not self._step(interrupts) and not ready():
                raise PyinferError("no request can go on, which is an error in pyinfer")
            if self._sleepers:
                self._wake_ready()
            interrupts.deliver()

    def _wake_ready(self) -> None:
        with self.mutex:
            for sleeper in [sleeper for sleeper in self._sleepers if sleeper.ready()]:
                self._sleepers.remove(sleeper)
                sleeper.bed.release()

    def _leave(self) -> None:
        with self.mutex:
            self._tidy()
            if self._claims:
                claim = self._claims.pop(0)
                self._driver = claim.thread
                claim.bed.release()
            else:
                self._driver = None
                self._wake_one()

    def _get_up(self, sleeper: Sleeper) -> None:
        with self.mutex:
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)
        self._pass_on()

    def _pass_on(self) -> None:
        """Who was woken to drive, and does not, has another one do it."""
        with self.mutex:
            if self._driver is None:
                self._wake_one()

    def _wake_one(self) -> None:
        if self._sleepers:
            self._sleepers.pop(0).bed.release()
