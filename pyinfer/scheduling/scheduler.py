"""Continuous batching: requests join and leave between steps, each step one pass over tokens of several of them.

A step passes at most n_batch tokens: of each running text first, then chunks of prompts in the order of arrival. A
request holds a slot of the cache while it runs. Where pages run out, the request that came last gives back its own and
is computed again later; so the oldest always goes on, and every request's turn comes. Who waits because a running
prompt begins alike waits no longer than that prompt takes.

There is no thread of its own: of the callers that wait, one runs the steps for all (see role.py). A request whose
consumer is behind is paused, and gives up its slot when someone needs it.

The scheduler knows no kinds of requests: what to pass and what becomes of the logits is in subclasses of Request (see
request.py), of which it reads and writes the attributes there.
"""

from __future__ import annotations

import time
from bisect import insort
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyinfer.engine import forks
from pyinfer.engine.costs import PassCosts
from pyinfer.engine.engine import Engine
from pyinfer.engine.inputs import Pass
from pyinfer.errors import ParameterError, PyinferError
from pyinfer.memory.prefix_key import PrefixKey
from pyinfer.memory.spec import PAGE, n_pages_for
from pyinfer.scheduling.interrupts import Interrupts
from pyinfer.scheduling.request import Caller, Request
from pyinfer.scheduling.role import Role

MAX_ROWS = 64  # of logits in a step, but one a sequence at least: rows that were once used stay resident
WORTH_WAITING = 16  # tokens: who could share so many more with a prompt that is being passed waits for it


class Part(NamedTuple):
    """A request's share of a step."""

    request: Request
    n_tokens: int
    n_rows: int  # of logits


class Scheduler:
    """Runs requests on an engine, whose cache is the scheduler's alone.

    prefix_cache: whether sequences share what they begin alike with. n_keep: where a context is full, all but its
    first n_keep tokens (rounded up to pages) may be dropped; None: it ends.
    """

    def __init__(self, engine: Engine, prefix_cache: bool = True, n_keep: int | None = None) -> None:
        self.engine = engine
        self.n_ctx = engine.cache.n_ctx  # positions that a request may have
        self.costs = PassCosts()
        self.shifts = n_keep is not None
        if n_keep is not None and n_pages_for(n_keep) >= self.n_ctx // PAGE:
            raise ParameterError(
                f"n_keep is {n_keep} with the beginning of the text; a context of {self.n_ctx} that shifts by pages of "
                f"{PAGE} can keep {max(0, (self.n_ctx // PAGE - 1) * PAGE)}"
            )
        if self.shifts and not engine.can_shift:
            raise ParameterError("on_overflow is 'shift', which models without rotary positions do not allow")
        self._cache = engine.cache
        self._prefix_cache = prefix_cache
        self._n_keep = n_keep
        self._role = Role(self._step, self._drop_now)
        self._arrived: list[Request] = []  # these three under the role's mutex
        self._n_arrived = 0
        self._closing = False
        # and these are the driver's:
        self._waiting: list[Request] = []  # in the order of arrival, as the next
        self._running: list[Request] = []
        self._slots = list(range(engine.n_seqs - 1, -1, -1))
        self._any_cancelled = False
        self._tokens, self._positions, self._sequences, self._rows = np.zeros((4, engine.n_batch), np.int32)
        forks.watch(self)

    @property
    def n_waiting(self) -> int:
        """Requests without a slot."""
        return len(self._arrived) + len(self._waiting)

    @property
    def n_running(self) -> int:
        """Requests with a slot."""
        return len(self._running)

    def submit(self, requests: Iterable[Request], caller: Caller) -> None:
        """Take requests in, in this order. PyinferError once closed."""
        with self._role.mutex:
            self._check_open()
            for request in requests:
                request.caller = caller
                request.order = self._n_arrived
                self._n_arrived += 1
                self._arrived.append(request)

    def cancel(self, requests: Iterable[Request]) -> None:
        """End requests before the next step, which is at once where none is under way."""
        for request in requests:
            self.cancel_later(request)
        self._role.tidy_soon()

    def cancel_later(self, request: Request) -> None:
        """End a request when someone next runs a step; takes no lock, so that finalizers may call it."""
        request.cancelled = True
        self._any_cancelled = True

    def wait(self, ready: Callable[[], bool]) -> None:
        """Return once ready(), which steps must bring about; see Role.wait."""
        self._role.wait(ready)

    @contextmanager
    def between_steps(self) -> Iterator[Interrupts]:
        """A block while no step is under way, which Ctrl-C waits for unless allowed. PyinferError once closed."""
        self._check_open()
        with self._role.held() as interrupts:
            self._check_open()
            yield interrupts

    @contextmanager
    def alone(self) -> Iterator[Interrupts]:
        """As between_steps, and all slots of the engine are free; requests that ran begin again from their tokens."""
        with self.between_steps() as interrupts:
            for request in list(self._running):
                self._preempt(request)
            yield interrupts

    def close(self) -> None:
        """End all requests with an error, after the step under way. ParameterError from within a step."""
        with self._role.mutex:
            self._closing = True
        if not self._role.torn:
            with self._role.held():
                self._end_all("the model is closed")

    def before_fork(self) -> None:
        """Come to rest between two steps."""
        self._role.before_fork()

    def after_fork(self, in_child: bool) -> None:
        """Go on; in a child, without the requests under way, whose callers are gone."""
        if self._role.after_fork(in_child):
            self._end_all("the process was forked while this request was under way")

    def _check_open(self) -> None:
        self._role.check()
        if self._closing:
            raise PyinferError("the model is closed")

    def _step(self, interrupts: Interrupts) -> bool:
        """Pass one share of each request; whether there was anything to pass."""
        if self._arrived:
            with self._role.mutex:
                self._take_arrived()
        if self._any_cancelled:
            self._drop_cancelled()
        if self._waiting and (self._slots or self._youngest_paused() is not None):
            self._admit()
        parts = self._shares()
        if parts:
            self._run(parts, interrupts)
        return bool(parts)

    def _shares(self) -> list[Part]:
        """Who passes how many tokens: texts first, then prompts; for which there are pages."""
        running = [request for request in self._running if not request.paused]
        if self.shifts:
            for request in running:
                if request.slot is not None and request.n_passed == self.n_ctx:
                    self._shift(request)
            running = [request for request in running if request.slot is not None]
        budget, n_rows, n_left = self.engine.n_batch, max(MAX_ROWS, self.engine.n_seqs), len(running)
        parts = []
        for request in running:  # each text at least one, as n_batch is at least n_seqs
            if request.n_passed >= request.n_prefill:
                n_left -= 1
                parts.append(self._share(request, budget - n_left, n_rows - n_left))
                budget -= parts[-1].n_tokens
                n_rows -= parts[-1].n_rows
        if n_left:
            for request in running:
                if request.n_passed < request.n_prefill and budget > 0 and n_rows > 0:
                    parts.append(self._share(request, budget, n_rows))
                    budget -= parts[-1].n_tokens
                    n_rows -= parts[-1].n_rows
            parts.sort(key=lambda part: part.request.order)
        return [part for part in parts if self._reserve(part)]

    def _share(self, request: Request, budget: int, max_rows: int) -> Part:
        start = request.n_passed
        stop = min(len(request.tokens), start + budget, self.n_ctx)
        first = max(start, request.first_wanted)
        stop = min(stop, first + max_rows)
        return Part(request, stop - start, max(0, stop - first))

    def _reserve(self, part: Part) -> bool:
        """See that the pages of a share are there; the youngest give theirs, if need be. Oldest shares come first."""
        request = part.request
        while request.slot is not None and part.n_tokens:
            if self._cache.reserve(request.slot, request.n_passed, request.n_passed + part.n_tokens):
                return True
            self._preempt(self._youngest_paused() or self._running[-1])
        return False

    def _run(self, parts: list[Part], interrupts: Interrupts) -> None:
        n_rows = self._lay_out(parts)
        n = sum([part.n_tokens for part in parts])
        try:
            interrupts.allowed = True
            started = time.perf_counter()
            forward = Pass(self._tokens[:n], self._positions[:n], self._sequences[:n], self._rows[:n_rows])
            rows = self.engine.run(forward).logits
        except Exception as error:
            for part in parts:
                part.request.fail(error)
                self._end(part.request)
            return
        finally:  # a pass that was interrupted is run again
            interrupts.allowed = False
        self.costs.note(n, sum([part.n_rows > 0 for part in parts]), time.perf_counter() - started)
        first = 0
        for part in parts:
            self._advance(part, rows[first : first + part.n_rows])
            first += part.n_rows

    def _lay_out(self, parts: list[Part]) -> int:
        """Write down the tokens of a pass; how many rows of logits it gives."""
        row = n_rows = 0
        for request, n, n_wanted in parts:
            assert request.slot is not None
            start, end = request.n_passed, row + n
            if n == 1:
                self._tokens[row] = request.tokens[start]
                self._positions[row] = start
            else:
                self._tokens[row:end] = request.tokens[start : start + n]
                self._positions[row:end] = np.arange(start, start + n)
            self._sequences[row:end] = request.slot
            self._rows[n_rows : n_rows + n_wanted] = np.arange(end - n_wanted, end) if n_wanted != 1 else end - 1
            row = end
            n_rows += n_wanted
        return n_rows

    def _advance(self, part: Part, rows: NDArray[np.float32]) -> None:
        """Note that a share has been passed, and hand over its logits."""
        request = part.request
        start = request.n_passed
        passed = request.n_passed = start + part.n_tokens
        if part.n_rows:
            try:
                request.take(rows)
            except BaseException as error:
                request.fail(error)
            if request.n_passed < passed:
                assert request.slot is not None
                self._cache.rewind(request.slot, request.n_passed)
                request.n_prefill = min(request.n_prefill, request.n_passed)
            if request.finished:
                self._end(request)
                return
            if request.on_news is not None:
                request.on_news()
        if request.n_passed // PAGE > start // PAGE or start < request.n_prefill <= request.n_passed:
            self._publish(request)

    def _publish(self, request: Request) -> None:
        if self._prefix_cache and not request.shifted:
            assert request.slot is not None
            self._cache.publish(request.slot, PrefixKey(request.tokens), request.n_passed)

    def _take_arrived(self) -> None:
        """Have those that arrived wait; the mutex is held, or nobody else is there."""
        arrived, self._arrived = self._arrived, []
        for request in arrived:
            request.prefix = PrefixKey(request.tokens[: request.first_wanted])
        self._waiting += arrived
        self._waiting.sort(key=lambda request: request.order)

    def _admit(self) -> None:
        """Give slots to those that wait, in the order of arrival."""
        for request in list(self._waiting):
            if request.paused or (self._prefix_cache and self._should_wait(request)):
                continue
            while not self._slots or not self._fits(request):
                paused = self._youngest_paused()
                if paused is None and self._running:
                    return
                if paused is None:
                    break  # alone, it fits once the cache is emptied
                self._preempt(paused)
            self._begin(request)

    def _fits(self, request: Request) -> bool:
        """Whether there are pages for a request, and one more for each that runs, which would soon take it back."""
        n_positions = min(len(request.tokens) + 1, self.n_ctx)
        return self._cache.fits(request.prefix, len(request.prefix), n_positions, len(self._running))

    def _should_wait(self, request: Request) -> bool:
        """Whether a prompt that is being passed will soon have cached much that this one begins with."""
        for other in self._running:
            if other.n_passed < other.n_prefill:
                shared = request.prefix.n_shared(other.prefix, len(request.prefix))
                assert other.slot is not None
                worth = max(self._cache.n_published(other.slot), WORTH_WAITING - 1)
                if shared > worth and shared >= self._cache.match(request.prefix, len(request.prefix)) + WORTH_WAITING:
                    return True
        return False

    def _begin(self, request: Request) -> None:
        self._waiting.remove(request)
        insort(self._running, request, key=lambda other: other.order)
        slot = request.slot = self._slots.pop()
        request.n_passed = self._cache.begin(slot, request.prefix, len(request.prefix)) if self._prefix_cache else 0
        request.n_prefill = len(request.tokens)
        if request.n_cached is None:
            request.n_cached = request.n_passed
            request.began_at = time.perf_counter()

    def _preempt(self, request: Request) -> None:
        """Take a request's slot and pages; it will begin again from its tokens."""
        self._give_back(request)
        request.n_passed, request.shifted = 0, False
        request.prefix = PrefixKey(request.tokens[: request.first_wanted])
        insort(self._waiting, request, key=lambda other: other.order)

    def _youngest_paused(self) -> Request | None:
        return next((request for request in reversed(self._running) if request.paused), None)

    def _give_back(self, request: Request) -> None:
        assert request.slot is not None
        self._publish(request)
        self._cache.release(request.slot)
        self._slots.append(request.slot)
        request.slot = None
        self._running.remove(request)

    def _end(self, request: Request) -> None:
        """Of a request that is finished."""
        if request.slot is not None:
            self._give_back(request)
        else:
            self._waiting.remove(request)
        if request.caller is not None:
            request.caller.n_finished += 1
            request.caller.n_failed += request.error is not None
        if request.on_news is not None:
            request.on_news()

    def _end_all(self, why: str) -> None:
        """Of requests that wait or run; none arrives any more."""
        self._take_arrived()
        for request in [*self._waiting, *self._running]:
            request.fail(PyinferError(why))
            self._end(request)

    def _drop_now(self) -> None:
        """As _drop_cancelled, with the mutex held."""
        if self._any_cancelled:
            self._take_arrived()
            self._drop_cancelled()

    def _drop_cancelled(self) -> None:
        self._any_cancelled = False
        for request in [request for request in [*self._waiting, *self._running] if request.cancelled]:
            request.fail(PyinferError("the request was cancelled"))
            self._end(request)

    def _shift(self, request: Request) -> None:
        """Drop the older half of what follows the kept tokens, in whole pages, from a context that is full."""
        assert request.slot is not None and self._n_keep is not None
        first = n_pages_for(self._n_keep)
        n = max(1, (self.n_ctx // PAGE - first) // 2)
        while request.slot is not None:
            if self.engine.drop_pages(request.slot, first, n):
                request.shift(first * PAGE, n * PAGE)
                request.shifted = True
                return
            self._preempt(self._youngest_paused() or self._running[-1])
