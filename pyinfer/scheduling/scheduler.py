"""Continuous batching: tasks join and leave between steps, each step one forward pass over tokens of several of them.

A step computes at most n_batch tokens: of each running text first, then chunks of prompts in the order of arrival. A
task's sequence holds a slot of the memory while it runs. Where pages run out, the sequence that came last gives back
its own and is computed again later; so the oldest always goes on, and every task's turn comes. A prompt that could
share a prefix with one that is being computed waits for it, and no longer than that takes. A task whose consumer is
behind is paused, and gives up its slot when someone needs it.

The scheduler belongs to the engine thread (see loop.py): `submit`, `cancel`, `call`, `run` and `close` may be called by
any thread, everything else is called by that one. What tasks are for it does not know (see task.py).
"""

from __future__ import annotations

import time
from bisect import insort
from collections.abc import Callable, Iterable
from collections.abc import Sequence as List
from contextlib import suppress
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pyinfer.engine import forks
from pyinfer.engine.costs import PassCosts
from pyinfer.engine.engine import Engine
from pyinfer.errors import ParameterError, PassStopped, PyinferError
from pyinfer.memory.spec import PAGE, n_pages_for
from pyinfer.scheduling.batch import Batch, Part, rows_of, share, without_draft
from pyinfer.scheduling.call import Call, run_tasks
from pyinfer.scheduling.loop import Loop
from pyinfer.scheduling.sequence import Drafter, Sequence, check_kept
from pyinfer.scheduling.task import Task
from pyinfer.scheduling.waiter import Waiter

MAX_ROWS = 64  # of logits in a step, but one a sequence at least: rows that were once used stay resident
MIN_SHARED = 16  # tokens: who could share so many more with a prompt that is being computed waits for it

T = TypeVar("T")


class Scheduler:
    """Runs tasks on an engine, whose memory is the scheduler's alone.

    prefix_cache: whether sequences share prefixes. n_keep: where a context is full, all but its first n_keep tokens
    (rounded up to pages) may be dropped; None: it ends. n_ctx: positions that a sequence may have. drafter: where draft
    tokens come from.
    """

    def __init__(self, engine: Engine, prefix_cache: bool = True, n_keep: int | None = None) -> None:
        self.engine = engine
        self.memory = engine.memory
        self.n_ctx = self.memory.n_ctx
        self.costs = PassCosts()
        self.drafter: Drafter | None = None
        self.shifts = n_keep is not None
        if n_keep is not None:
            check_kept(n_keep, self.n_ctx)
        if self.shifts and not engine.can_shift:
            raise ParameterError("on_overflow is 'shift', which models without rotary positions do not allow")
        self._causal = engine.config.causal
        self._cut = partial(share, n_ctx=self.n_ctx, stops=self.memory.stop if self._causal else None)
        self._prefix_cache = prefix_cache and self._causal
        self._n_keep = n_keep
        self._open: dict[Task, Sequence] = {}
        self._n_accepted = 0
        self._waiting: list[Sequence] = []  # in the order of arrival, as the next
        self._running: list[Sequence] = []
        self._slots = list(range(engine.n_seqs - 1, -1, -1))
        self._batch = Batch(engine.n_batch)
        self._in_pass: tuple[Task, ...] = ()  # that the pass under way is for
        self._loop = Loop(self)
        forks.register(self)

    @property
    def n_running(self) -> int:
        """Tasks with a slot that were not cancelled."""
        return sum(not sequence.task.cancelled for sequence in list(self._running))

    @property
    def n_waiting(self) -> int:
        """Tasks without a slot that were not cancelled."""
        return sum(not task.cancelled for task in list(self._open)) - self.n_running

    def submit(self, tasks: List[Task], waiter: Waiter) -> None:
        """Take tasks in, in this order, and tell the waiter how they go. PyinferError once closed."""
        sequences = [Sequence(task, waiter) for task in tasks]
        if self.drafter is not None:
            for sequence in sequences:
                self.drafter.start(sequence)
        self._loop.put(lambda scheduler: scheduler._accept(sequences))

    def cancel(self, tasks: Iterable[Task]) -> None:
        """End tasks before the next step, and the pass under way if it is for no others.

        Takes no lock and waits for nothing, so that finalizers may call it; but whatever comes to this scheduler after
        it finds their places free.
        """
        cancelled = [task for task in tasks if not task.finished]
        for task in cancelled:
            task.cancelled = True
        if cancelled:
            self._loop.put_late(lambda scheduler: scheduler._drop_cancelled(cancelled))
            in_pass = self._in_pass
            if in_pass and all(task.cancelled for task in in_pass):
                self.stop()

    def resume(self) -> None:
        """Go on with tasks that were paused."""
        self._loop.put_late(lambda scheduler: None)

    def check_waiting(self) -> None:
        """ParameterError within a step, PyinferError after a fork in the middle of one: nobody can wait there."""
        self._loop.refuse_within_step()
        self._loop.check_fork()

    def run(self, tasks: List[Task], label: str | None = None) -> None:
        """Run tasks to their end, with a bar of this label on standard error, if one is given.

        Raises the first error of a task, and cancels the others, as Ctrl-C does.
        """
        self._loop.check()
        self.check_waiting()
        run_tasks(self, tasks, label)

    def call(self, function: Callable[[], T], preempt: bool = False) -> T:
        """What a function returns that the engine thread calls between two steps, or raise what it raises.

        preempt: all slots are free meanwhile; what ran begins again. PyinferError once closed.
        """
        self.check_waiting()
        call = Call(function, preempt)
        self._loop.put(call)
        return call.result()

    def close(self) -> None:
        """End all tasks with an error, stop the pass under way, and let go of the engine's memory.

        ParameterError from within a step.
        """
        self._loop.close()
        self.__dict__.pop("memory", None)
        self.__dict__.pop("_cut", None)

    def before_fork(self) -> None:
        """Come to rest between two steps."""
        self._loop.before_fork()

    def after_fork(self, in_child: bool) -> None:
        """Go on; in a child, without the tasks under way, whose callers are gone."""
        if self._loop.after_fork(in_child):
            self._end_all("the process was forked while this request was under way")

    def stop(self) -> None:
        """End the pass under way; unless a command changes that, it is run again."""
        self.engine.stop()

    def end(self) -> None:
        """End all tasks, as the loop ends."""
        self._end_all("the model is closed")

    def recover(self, error: BaseException) -> None:
        """End the tasks under way with an error that is none of a task, and free their slots."""
        under_way = [sequence for sequence in self._open.values() if sequence not in self._waiting]
        for slot in range(self.engine.n_seqs):
            with suppress(Exception):
                self.memory.release(slot)
        self._slots = list(range(self.engine.n_seqs - 1, -1, -1))
        self._running.clear()
        for sequence in under_way or list(self._waiting):
            sequence.slot = None
            with suppress(Exception):
                self._end(sequence, error)

    def step(self) -> bool:
        """Compute one share of each sequence; whether there was anything to compute."""
        if self._waiting and (self._slots or self._youngest_paused() is not None):
            self._admit()
        parts = self._shares()
        if parts:
            self._run(parts)
        elif any(not task.paused for task in self._open):
            raise PyinferError("no request can go on, which is an error in pyinfer")
        return bool(parts)

    def _accept(self, sequences: List[Sequence]) -> None:
        for sequence in sequences:
            sequence.order = self._n_accepted
            self._n_accepted += 1
            self._open[sequence.task] = sequence
            self._waiting.append(sequence)
        self._drop_cancelled([sequence.task for sequence in sequences if sequence.task.cancelled])

    def _drop_cancelled(self, tasks: List[Task]) -> None:
        for task in tasks:
            if task in self._open:
                self._end(self._open[task], PyinferError("the request was cancelled"))

    def _admit(self) -> None:
        """Give slots to those that wait, in the order of arrival."""
        for sequence in list(self._waiting):
            if sequence.task.paused or (self._prefix_cache and self._should_wait(sequence)):
                continue
            while not self._slots or not self._fits(sequence):
                paused = self._youngest_paused()
                if paused is None and self._running:
                    return
                if paused is None:
                    break  # alone, it fits once the cache is emptied
                self._preempt(paused)
            self._begin(sequence)

    def _fits(self, sequence: Sequence) -> bool:
        """Whether there are pages for a sequence, and one more for each that runs, which would soon take it back."""
        n_positions = min(len(sequence.items) + 1, self.n_ctx)
        return self.memory.fits(sequence.key, sequence.next_wanted, n_positions, len(self._running))

    def _should_wait(self, sequence: Sequence) -> bool:
        """Whether a prompt that is being computed will soon have published much of what this one begins with."""
        for other in self._running:
            if other.n_computed < other.n_prefill and other.task.publish and not (other.shifts or other.task.paused):
                n_shared = sequence.n_shared_with(other)
                assert other.slot is not None
                if n_shared < max(self.memory.n_published(other.slot) + 1, MIN_SHARED):
                    continue
                if n_shared >= self.memory.match(sequence.key, sequence.next_wanted) + MIN_SHARED:
                    return True
        return False

    def _begin(self, sequence: Sequence) -> None:
        self._waiting.remove(sequence)
        insort(self._running, sequence, key=lambda other: other.order)
        sequence.slot = self._slots.pop()
        self._start(sequence)
        if not sequence.has_begun:
            sequence.has_begun = True
            sequence.task.begin(sequence.n_computed)

    def _start(self, sequence: Sequence) -> None:
        """Begin in a slot that is empty, as a prompt of all items."""
        assert sequence.slot is not None
        n = min(sequence.next_wanted, self.n_ctx)
        sequence.n_computed = self.memory.begin(sequence.slot, sequence.key, n) if self._prefix_cache else 0
        sequence.n_prefill = len(sequence.items)

    def _shares(self) -> list[Part]:
        """Who computes how many tokens: texts first, then prompts; for which there are pages."""
        running = [sequence for sequence in self._running if not sequence.task.paused]
        if self.shifts:
            for sequence in running:
                if sequence.slot is not None and sequence.n_computed == self.n_ctx:
                    self._shift(sequence)
            running = [sequence for sequence in running if sequence.slot is not None]
        budget, n_rows, n_left = self.engine.n_batch, max(MAX_ROWS, self.engine.n_seqs), len(running)
        parts = []
        for sequence in running:  # each text at least one, as n_batch is at least n_seqs
            if sequence.n_computed >= sequence.n_prefill:
                n_left -= 1
                parts.append(self._cut(sequence, budget - n_left, n_rows - n_left))
                budget -= parts[-1].n_tokens
                n_rows -= parts[-1].n_rows
        if n_left:
            for sequence in running:
                if sequence.n_computed < sequence.n_prefill and budget > 0 and n_rows > 0:
                    part = self._cut(sequence, budget, n_rows)
                    if not self._causal and part.n_tokens < len(sequence.items):
                        continue  # a text is computed whole, in a pass that has room for it
                    parts.append(part)
                    budget -= part.n_tokens
                    n_rows -= part.n_rows if sequence.task.output == "logits" else 0
            parts.sort(key=lambda part: part.sequence.order)
        return [reserved for part in parts if (reserved := self._reserve(part)) is not None]

    def _reserve(self, part: Part) -> Part | None:
        """See that the pages of a share are there; the youngest give theirs, if need be. Oldest shares come first."""
        sequence = part.sequence
        while sequence.slot is not None and part.n_tokens:
            if part.n_draft and not self.memory.mark(sequence.slot, sequence.n_computed):
                part = without_draft(part)
            if self.memory.reserve(sequence.slot, sequence.n_computed, sequence.n_computed + part.n_tokens):
                return part
            self._preempt(self._youngest_paused() or self._running[-1])
        return None

    def _run(self, parts: list[Part]) -> None:
        forward = self._batch.lay_out(parts)
        started = time.perf_counter()
        self._in_pass = tuple([part.sequence.task for part in parts])
        try:
            rows = self.engine.run(forward)
        except PassStopped:  # commands have come, or else it is run again
            for part in parts:
                self._rewind(part.sequence, part.sequence.n_computed)
            return
        finally:
            self._in_pass = ()
        seconds = time.perf_counter() - started
        self.costs.note(len(forward.tokens), sum([part.n_rows > 0 for part in parts]), seconds)
        for part, own in zip(parts, rows_of(parts, rows), strict=True):
            self._advance(part, own)
        if self.drafter is not None:
            self._draft(self.drafter, parts)

    def _advance(self, part: Part, rows: NDArray[np.float32]) -> None:
        """Note that a share has been computed, and hand over its rows."""
        sequence = part.sequence
        start = sequence.n_computed
        sequence.n_computed = start + part.n_tokens
        done = False
        if part.n_rows:
            draft, sequence.draft = sequence.draft[: part.n_draft], []
            sequence.n_rows = part.n_rows
            try:
                tokens, done = sequence.task.process(rows, draft)
            except BaseException as error:
                self._rewind(sequence, min(sequence.n_computed, len(sequence.items)))
                self._end(sequence, error)
                return
            self._go_on(sequence, tokens, draft, start + part.first_row + part.n_rows)
        if done:
            self._end(sequence, None)
            return
        if sequence.n_computed // PAGE > start // PAGE or start < sequence.n_prefill <= sequence.n_computed:
            self._publish(sequence)
        if part.n_rows:
            sequence.waiter.stepped()

    def _go_on(self, sequence: Sequence, tokens: List[int], draft: List[int], next_wanted: int) -> None:
        """Append certain tokens, and go back to the last draft token that was right."""
        n_before = len(sequence.items)
        sequence.items += tokens
        n_accepted = 0
        while n_accepted < min(len(tokens), len(draft)) and tokens[n_accepted] == draft[n_accepted]:
            n_accepted += 1
        if sequence.n_computed > n_before + n_accepted:
            self._rewind(sequence, n_before + n_accepted)
        sequence.next_wanted = len(sequence.items) - 1 if tokens else next_wanted
        if self.drafter is not None and tokens:
            self.drafter.note(sequence, tokens)

    def _rewind(self, sequence: Sequence, n: int) -> None:
        """Go back to the first n positions, or to fewer where the memory can't: those are computed again."""
        assert sequence.slot is not None
        was_text = sequence.n_computed >= sequence.n_prefill
        sequence.n_computed = self.memory.rewind(sequence.slot, n)
        if sequence.shifts and sequence.n_computed == 0:  # what is left of its items is not how they were computed
            sequence.undo_shifts()
            self._start(sequence)
        elif was_text:  # and goes on as one
            sequence.n_prefill = min(sequence.n_prefill, sequence.n_computed)

    def _draft(self, drafter: Drafter, parts: List[Part]) -> None:
        """Have draft tokens for all texts of this step, at once."""
        texts = [part.sequence for part in parts if part.n_rows and part.sequence.slot is not None]
        texts = [sequence for sequence in texts if sequence.drafting is not None and not sequence.task.paused]
        if texts:
            proposed = drafter.propose(texts, [sequence.task.max_draft for sequence in texts])
            for sequence, draft in zip(texts, proposed, strict=True):
                sequence.draft = draft

    def _publish(self, sequence: Sequence) -> None:
        if self._prefix_cache and sequence.task.publish and not sequence.shifts:
            assert sequence.slot is not None
            self.memory.publish(sequence.slot, sequence.key, sequence.n_computed)

    def _preempt(self, sequence: Sequence) -> None:
        """Take a sequence's slot and pages; it will begin again from its items."""
        self._release(sequence)
        sequence.undo_shifts()
        sequence.n_computed = 0
        insort(self._waiting, sequence, key=lambda other: other.order)

    def _youngest_paused(self) -> Sequence | None:
        return next((sequence for sequence in reversed(self._running) if sequence.task.paused), None)

    def _release(self, sequence: Sequence) -> None:
        assert sequence.slot is not None
        self._publish(sequence)
        self.memory.release(sequence.slot)
        self._slots.append(sequence.slot)
        sequence.slot = None
        self._running.remove(sequence)

    def _end(self, sequence: Sequence, error: BaseException | None) -> None:
        """End a task, and tell its waiter last, when all it had is free."""
        try:
            if sequence.slot is not None:
                self._release(sequence)
            elif sequence in self._waiting:
                self._waiting.remove(sequence)
            if self.drafter is not None:
                self.drafter.drop(sequence)
        finally:
            del self._open[sequence.task]
            sequence.task.finish(error)
            sequence.waiter.ended(error is not None)

    def _end_all(self, why: str) -> None:
        for sequence in list(self._open.values()):
            self._end(sequence, PyinferError(why))

    def preempt_all(self) -> None:
        """Free all slots; what ran begins again with the next step."""
        for sequence in list(self._running):
            self._preempt(sequence)

    def _shift(self, sequence: Sequence) -> None:
        """Drop the older half of what follows the kept tokens, in whole pages, from a context that is full."""
        assert sequence.slot is not None and self._n_keep is not None
        first = n_pages_for(self._n_keep)
        n = max(1, (self.n_ctx // PAGE - first) // 2)
        while sequence.slot is not None:
            if self.engine.drop_pages(sequence.slot, first, n):
                sequence.drop(first * PAGE, n * PAGE)
                return
            self._preempt(self._youngest_paused() or self._running[-1])
