"""The state of a task in the scheduler: what is computed of it, and in which slot; and the interface of drafters."""

from __future__ import annotations

from collections.abc import Sequence as List
from typing import Any, NamedTuple, Protocol

from pyinfer.errors import ParameterError
from pyinfer.memory.prefix_key import PrefixKey
from pyinfer.memory.spec import PAGE, n_pages_for
from pyinfer.scheduling.task import Item, Task
from pyinfer.scheduling.waiter import Waiter


class Shift(NamedTuple):
    """Items that were dropped from a full context, and where they were."""

    start: int
    items: list[Item]


class Sequence:
    """A task's items and how far they are computed. Only the scheduler writes it; `drafting` is the drafter's.

    - `items`: all certain items, in order; `draft`: draft tokens after them; `key`: compares prefixes of the items.
    - `n_computed`: how many items the memory has.
    - `next_wanted`: the position of the next row for the task.
    - `n_prefill`: the items up to here are prefill, which is computed after the sequences in decode.
    - `n_rows`: rows of the last forward pass; `order`: of arrival; `slot`: in the memory, while it runs.
    - `shifts`: what was dropped from its context, the latest last. While there is any, its pages are not shared, since
      they depend on dropped items.
    - `n_shared`: the length of the prefix that it shares with another sequence's prompt, by that sequence's order.
    """

    def __init__(self, task: Task, waiter: Waiter) -> None:
        self.task = task
        self.waiter = waiter
        self.items: list[Item] = list(task.items)
        self.draft: list[int] = []
        self.key = PrefixKey(self.items, task.adapter)
        self.n_computed = 0
        self.next_wanted = task.first_wanted
        self.n_prefill = len(self.items)
        self.n_rows = 0
        self.order = 0
        self.slot: int | None = None
        self.shifts: list[Shift] = []
        self.has_begun = False
        self.n_shared: dict[int, int] = {}
        self.drafting: Any = None

    def drop(self, start: int, n: int) -> None:
        """Drop n items from a position on from the context."""
        self.shifts.append(Shift(start, self.items[start : start + n]))
        del self.items[start : start + n]
        self.n_computed -= n
        self.next_wanted -= n
        self.n_prefill = max(0, self.n_prefill - n)

    def undo_shifts(self) -> None:
        """Restore all dropped items, so that the sequence can be computed, and shifted, from its beginning."""
        for start, items in reversed(self.shifts):
            self.items[start:start] = items
            self.next_wanted += len(items)
        self.shifts.clear()
        self.key = PrefixKey(self.items, self.task.adapter)
        self.n_shared.clear()
        self.draft = []

    def n_shared_with(self, other: Sequence) -> int:
        """Return the length of the prefix that this sequence may take from another one's prompt."""
        n = self.n_shared.get(other.order)
        if n is None:
            n = self.key.n_shared(other.key, min(self.next_wanted, other.next_wanted))
            self.n_shared[other.order] = n
        return n


class Drafter(Protocol):
    """Where draft tokens come from. The engine thread calls everything but `start`, between two forward passes."""

    def start(self, sequence: Sequence) -> None:
        """Get ready to draft for a sequence, if possible. Any thread calls this, before it submits the sequence."""

    def note(self, sequence: Sequence, tokens: List[int]) -> None:
        """Note tokens that were appended to a sequence."""

    def propose(self, sequences: List[Sequence], most: List[int]) -> list[list[int]]:
        """Return the draft tokens of each sequence that are worth computing, for each at most so many."""

    def drop(self, sequence: Sequence) -> None:
        """Forget a sequence that has ended."""


def check_kept(n_keep: int, n_ctx: int) -> None:
    """Raise ParameterError for more tokens than a context shift can keep: it must drop at least a page."""
    if n_pages_for(n_keep) >= n_ctx // PAGE:
        raise ParameterError(
            f"n_keep is {n_keep} with the beginning of the text; a context of {n_ctx} that shifts by pages of "
            f"{PAGE} can keep {max(0, (n_ctx // PAGE - 1) * PAGE)}"
        )
