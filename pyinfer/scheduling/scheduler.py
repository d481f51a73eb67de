"""Continuous batching: tasks join and leave between steps, and a step is a forward pass over tokens of several tasks.

A step computes at most n_batch tokens: first those of each sequence in decode, then chunks of prompts in the order of
arrival. A sequence has a slot of the memory while it runs. When pages run out, the sequence that arrived last is
preempted: it releases its pages and is computed again later. So the oldest always goes on, and every task has its turn.
A prompt that could share a prefix with one in prefill waits for that, and no longer. A task whose reader is too slow is
paused, and preempted when another task needs its slot.

The scheduler belongs to the engine thread (see loop.py): `submit`, `cancel`, `call`, `run` and `close` may be called by
any thread, everything else is called by the engine thread. It does not know what tasks are for (see task.py).
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

MAX_ROWS = 64  # rows of logits in a step, but at least one a sequence: memory of rows stays resident once it was used
MIN_SHARED = 16  # tokens: a prompt waits for another one in prefill if it could share so many more with it

T = TypeVar("T")


class Scheduler:
    """Runs tasks on an engine. Nothing else uses the engine's memory.

    - `prefix_cache` (True): sequences share prefixes.
    - `n_keep` (None): when a context is full, all but its first n_keep tokens (rounded up to pages) may be dropped;
      None: the text ends there.
    - `n_ctx`: positions that a sequence may have; `drafter`: where draft tokens come from.
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
        self._waiting: list[Sequence] = []  # in the order of arrival
        self._running: list[Sequence] = []  # in the order of arrival
        self._slots = list(range(engine.n_seqs - 1, -1, -1))
        self._batch = Batch(engine.n_batch)
        self._in_pass: tuple[Task, ...] = ()  # the tasks of the forward pass under way
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
        """Accept tasks, in this order, and notify the waiter of their progress. Raises PyinferError once closed."""
        sequences = [Sequence(task, waiter) for task in tasks]
        if self.drafter is not None:
            for sequence in sequences:
                self.drafter.start(sequence)
        self._loop.put(lambda scheduler: scheduler._accept(sequences))

    def cancel(self, tasks: Iterable[Task]) -> None:
        """End tasks before the next step, and stop the forward pass under way if it is for no others.

        It takes no lock and does not wait, so that finalizers may call it. Later commands are carried out after it.
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
        """Raise an error where nobody can wait: ParameterError within a step, PyinferError after a fork during one."""
        self._loop.refuse_within_step()
        self._loop.check_fork()

    def run(self, tasks: List[Task], label: str | None = None) -> None:
        """Run tasks to their end. With a label, show a progress bar on standard error.

        The first error of a task, and Ctrl-C, is raised and cancels the other tasks.
        """
        self._loop.check()
        self.check_waiting()
        run_tasks(self, tasks, label)

    def call(self, function: Callable[[], T], preempt: bool = False) -> T:
        """Have the engine thread call a function between two steps. Return what it returns, or raise what it raises.

        `preempt` (False): preempt all sequences first. Raises PyinferError once closed.
        """
        self.check_waiting()
        call = Call(function, preempt)
        self._loop.put(call)
        return call.result()

    def close(self) -> None:
        """End all tasks with an error, stop the forward pass under way, and release the engine's memory.

        Raises ParameterError within a step.
        """
        self._loop.close()
        self.__dict__.pop("memory", None)
        self.__dict__.pop("_cut", None)

    def before_fork(self) -> None:
        """Rest between two steps until `after_fork`."""
        self._loop.before_fork()

    def after_fork(self, in_child: bool) -> None:
        """Go on. In a child process, end the tasks under way, whose callers do not exist there."""
        if self._loop.after_fork(in_child):
            self._end_all("the process was forked while this request was under way")

    def stop(self) -> None:
        """Stop the forward pass under way. It is run again, unless a command ends its tasks."""
        self.engine.stop()

    def end(self) -> None:
        """End all tasks, when the loop ends."""
        self._end_all("the model is closed")

    def recover(self, error: BaseException) -> None:
        """End the tasks under way with an error that no task has caused, and release their slots."""
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
        """Compute a share of each sequence in one forward pass. Return whether there was anything to compute."""
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
        """Give slots to waiting sequences, in the order of arrival."""
        for sequence in list(self._waiting):
            if sequence.task.paused or (self._prefix_cache and self._should_wait(sequence)):
                continue
            while not self._slots or not self._fits(sequence):
                paused = self._youngest_paused()
                if paused is None and self._running:
                    return
                if paused is None:
                    break  # it is alone: it fits once published pages are evicted
                self._preempt(paused)
            self._begin(sequence)

    def _fits(self, sequence: Sequence) -> bool:
        """Whether there are pages for a sequence, and one more for each running sequence, which may soon need it."""
        n_positions = min(len(sequence.items) + 1, self.n_ctx)
        return self.memory.fits(sequence.key, sequence.next_wanted, n_positions, len(self._running))

    def _should_wait(self, sequence: Sequence) -> bool:
        """Whether a prompt in prefill will soon publish a prefix that is much longer than what is shared now."""
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
        """Divide a step among the running sequences: first decode, then prefill. Reserve pages for each share."""
        running = [sequence for sequence in self._running if not sequence.task.paused]
        if self.shifts:
            for sequence in running:
                if sequence.slot is not None and sequence.n_computed == self.n_ctx:
                    self._shift(sequence)
            running = [sequence for sequence in running if sequence.slot is not None]
        budget, n_rows, n_left = self.engine.n_batch, max(MAX_ROWS, self.engine.n_seqs), len(running)
        parts = []
        for sequence in running:  # in decode, each has at least one token, since n_batch is at least n_seqs
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
                        continue  # without causal attention a text needs a forward pass that has room for all of it
                    parts.append(part)
                    budget -= part.n_tokens
                    n_rows -= part.n_rows if sequence.task.output == "logits" else 0
            parts.sort(key=lambda part: part.sequence.order)
        return [reserved for part in parts if (reserved := self._reserve(part)) is not None]

    def _reserve(self, part: Part) -> Part | None:
        """Reserve pages for a share, if need be by preempting the youngest sequences; None: also the share's own."""
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
        except PassStopped:  # to carry out commands; what they leave of it is run again
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
        """Note that a share has been computed, and give its rows to the task."""
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
        """Append the tokens of a step, and rewind to the last accepted draft token."""
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
        """Go back to the first n positions, or to fewer where the memory can't; the rest is computed again."""
        assert sequence.slot is not None
        was_text = sequence.n_computed >= sequence.n_prefill
        sequence.n_computed = self.memory.rewind(sequence.slot, n)
        if sequence.shifts and sequence.n_computed == 0:  # what is left of its items is not how they were computed
            sequence.undo_shifts()
            self._start(sequence)
        elif was_text:  # and goes on as one
            sequence.n_prefill = min(sequence.n_prefill, sequence.n_computed)

    def _draft(self, drafter: Drafter, parts: List[Part]) -> None:
        """Get draft tokens for all sequences of this step, by one call."""
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
        """Release a sequence's slot and pages; it will begin again from its items."""
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
        """End a task: release all that its sequence has, then notify its waiter."""
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
        """Preempt all sequences; they begin again with the next step."""
        for sequence in list(self._running):
            self._preempt(sequence)

    def _shift(self, sequence: Sequence) -> None:
        """Drop, from a full context, the older half of what follows the kept tokens, in whole pages."""
        assert sequence.slot is not None and self._n_keep is not None
        first = n_pages_for(self._n_keep)
        n = max(1, (self.n_ctx // PAGE - first) // 2)
        while sequence.slot is not None:
            if self.engine.drop_pages(sequence.slot, first, n):
                sequence.drop(first * PAGE, n * PAGE)
                return
            self._preempt(self._youngest_paused() or self._running[-1])
