"""What a request is for: the seam between the scheduler and everything that needs forward passes.

A task is a list of items (token ids, or rows of embedded content) and what shall become of the model's results at some
of them. The scheduler has the items computed, hands over the rows that the task wants, and appends the tokens that it
gets back. So a kind of request is a class, and the scheduler knows none of them.

Each field has one writer. A Task's own fields are the task's; `cancelled` is its caller's; what the scheduler needs to
know of it (slot, position, pages) is in a Sequence, which the task never sees.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyinfer.guides.matcher import GuideMatcher
from pyinfer.memory.prefix_key import EmbeddedRow
from pyinfer.sampling.sampler import Sampler

Item = int | EmbeddedRow


class Next(NamedTuple):
    """How a task goes on: the tokens that certainly come next, which will be computed; or that it is done."""

    tokens: Sequence[int] = ()
    done: bool = False


class Drawing(NamedTuple):
    """How a task draws its tokens, for drafters that shall draw the same ones. They leave both as they are."""

    sampler: Sampler
    matcher: GuideMatcher | None


class Task(ABC):
    """What is asked of a model about one sequence.

    items: the prompt. first_wanted: the position from which on rows are wanted; at most the items before it come out of
    the prefix cache. end_wanted: where that ends within the prompt; None: rows of all that follows are wanted.
    adapter: its name; "": none. output: the rows are logits, float32 [n_vocab], or hidden states after the last norm,
    float32 [n_embd]. publish: whether other sequences may share the pages.
    finished, error: how it stands, for whoever waits; the error is what ended it. cancelled: set by its caller.
    """

    adapter: str = ""
    output: Literal["logits", "hidden"] = "logits"
    publish: bool = True

    def __init__(self, items: Sequence[Item], first_wanted: int, end_wanted: int | None = None) -> None:
        self.items = list(items)
        self.has_embedded = any(isinstance(item, EmbeddedRow) for item in self.items)
        self.first_wanted = first_wanted
        self.end_wanted = end_wanted
        self.finished = False
        self.error: BaseException | None = None
        self.cancelled = False

    def begin(self, n_cached: int) -> None:  # noqa: B027  (most have nothing to note)
        """Note that the sequence is computed from now on; its first n_cached items came out of the prefix cache."""

    @abstractmethod
    def process(self, rows: NDArray[np.float32], draft: Sequence[int]) -> Next:
        """Use the rows of the next wanted positions, which were just computed; they are valid during this call.

        draft: tokens that were guessed to follow and computed as well, to which the last len(draft) rows belong. The
        row before them says what really comes; a draft token's row counts if all draft tokens up to it are right.
        What this raises ends the task, and no other.
        """

    def finish(self, error: BaseException | None) -> None:
        """Note the end; called once, as the last, with what went wrong."""
        self.error = error
        self.finished = True

    @property
    def paused(self) -> bool:
        """Whether it should not go on now, as nobody took what it made so far."""
        return False

    @property
    def drawing(self) -> Drawing | None:
        """How it draws tokens; None: it can't use draft tokens."""
        return None

    @property
    def max_draft(self) -> int:
        """Draft tokens that it could use now."""
        return 0
