"""A task on its way through the scheduler: what is computed of it, and where; and who drafts for it."""

from __future__ import annotations

from collections.abc import Sequence as List
from typing import Any, NamedTuple, Protocol

from pyinfer.errors import ParameterError
from pyinfer.memory.prefix_key import PrefixKey
from pyinfer.memory.spec import PAGE, n_pages_for
from pyinfer.scheduling.task import Item, Task
from pyinfer.scheduling.waiter import Waiter


class Shift(NamedTuple):
    """Items that left a full context."""

    start: int
    items: list[Item]


class Sequence:
    """A task's items and where they stand. All is the scheduler's to write, but for `drafting`, which is a drafter's.

    items: all that is certain, in order. draft: tokens guessed to follow. key: of the items, as prefixes are compared.
    n_computed: items that the memory has. next_wanted: the position of the next row for the task. n_prefill: items up
    to which this is a prompt, which is computed after the running texts. n_rows: rows that the last pass gave. order:
    of arrival. slot: its place in the memory while it runs. shifts: what left its context, the last one last; while
    there are any its pages say nothing about the items before them, and nobody shares them. n_shared: items that it
    shares with the prompt of another sequence, by that one's order.
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
        """n items from a position on leave the context."""
        self.shifts.append(Shift(start, self.items[start : start + n]))
        del self.items[start : start + n]
        self.n_computed -= n
        self.next_wanted -= n
        self.n_prefill = max(0, self.n_prefill - n)

    def undo_shifts(self) -> None:
        """Have all items that left the context again, so that it can be computed, and shifted, from the beginning."""
        for start, items in reversed(self.shifts):
            self.items[start:start] = items
            self.next_wanted += len(items)
        self.shifts.clear()
        self.key = PrefixKey(self.items, self.task.adapter)
        self.n_shared.clear()
        self.draft = []

    def n_shared_with(self, other: Sequence) -> int:
        """Items that may come out of the prefix cache and that are the same in another sequence's prompt."""
        n = self.n_shared.get(other.order)
        if n is None:
            n = self.key.n_shared(other.key, min(self.next_wanted, other.next_wanted))
            self.n_shared[other.order] = n
        return n


class Drafter(Protocol):
    """Where draft tokens come from. All but `start` is called by the engine thread, between two passes."""

    def start(self, sequence: Sequence) -> None:
        """Get ready to draft for a sequence, if that can be; called before it is submitted, by any thread."""

    def note(self, sequence: Sequence, tokens: List[int]) -> None:
        """The tokens that certainly follow."""

    def propose(self, sequences: List[Sequence], most: List[int]) -> list[list[int]]:
        """Tokens that may follow each of these and are worth computing; of each at most so many."""

    def drop(self, sequence: Sequence) -> None:
        """Forget a sequence that has ended."""


def check_kept(n_keep: int, n_ctx: int) -> None:
    """ParameterError for more tokens than a shift of a context can keep, as a page at least must leave it."""
    if n_pages_for(n_keep) >= n_ctx // PAGE:
        raise ParameterError(
            f"n_keep is {n_keep} with the beginning of the text; a context of {n_ctx} that shifts by pages of "
            f"{PAGE} can keep {max(0, (n_ctx // PAGE - 1) * PAGE)}"
        )
