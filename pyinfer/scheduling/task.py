"""Tasks: the interface between the scheduler and everything that needs forward passes.

A task has items (token ids, or rows of embedded content), and code that uses the model's results at some of them. The
scheduler has the items computed, gives the task the rows that it wants, and appends the tokens that the task returns.
So a kind of request is a class, and the scheduler needs to know none of them.

Each field has one writer: the task writes its own fields, and its caller writes `cancelled`. The scheduler keeps what
it needs (slot, position, pages) in a Sequence, which the task never sees.
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
    """How a task goes on: with these tokens, which are appended and computed; or not, if it is done."""

    tokens: Sequence[int] = ()
    done: bool = False


class Drawing(NamedTuple):
    """How a task samples its tokens, for drafters that try to sample the same ones. They must leave both unchanged."""

    sampler: Sampler
    matcher: GuideMatcher | None


class Task(ABC):
    """What is asked of a model about one sequence.

    - `items`: the prompt.
    - `first_wanted`: the first position whose row is wanted. Only items before it can come from the prefix cache.
    - `end_wanted` (None): the position after the last wanted one; None: the rows of all later positions are wanted.
    - `adapter`: its name; "": none.
    - `output`: the rows are "logits", float32 [n_vocab], or "hidden" states after the last norm, float32 [n_embd].
    - `publish`: other sequences may share the pages.
    - `finished`, `error`: whether it has ended, and the error that ended it; for those that wait.
    - `cancelled`: set by its caller.
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
        """Note that computing begins; the first n_cached items came from the prefix cache."""

    @abstractmethod
    def process(self, rows: NDArray[np.float32], draft: Sequence[int]) -> Next:
        """Use the rows of the next wanted positions, which were just computed. They are valid during this call.

        The last len(draft) rows are those of the draft tokens. From the row before each draft token the task samples
        the token that really follows; a draft token's row counts only if that token and all earlier ones are accepted.
        An error that this raises ends this task, and no other.
        """

    def finish(self, error: BaseException | None) -> None:
        """Note the end, and the error that caused it, if any. This is the last call, and it comes once."""
        self.error = error
        self.finished = True

    @property
    def paused(self) -> bool:
        """Whether it should not go on now, since nobody has taken what it made so far."""
        return False

    @property
    def drawing(self) -> Drawing | None:
        """How it samples tokens; None: it can't use draft tokens."""
        return None

    @property
    def max_draft(self) -> int:
        """How many draft tokens it could use now."""
        return 0
