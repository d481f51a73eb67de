"""Sees to it that a guided text is whole when its tokens run out.

Near the limit it knows a short way to the end, and as long as there are just enough tokens for it, each drawn token
must leave one; where one would not, the text goes the way that is known. Where there is no way that short, the text is
cut as any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

WATCHED = (
    128  # tokens before the limit, beside those of the shortest text, from which on ways to the end are looked for
)
TIGHT = 40  # tokens more than the way takes: with fewer, each drawn token is tried first


class Endable(Protocol):
    """What is asked of a guide's matcher."""

    @property
    def shortest(self) -> int: ...
    def accept(self, token: int) -> None: ...
    def ending(self, most: int, known: Sequence[int] = ()) -> list[int] | None: ...
    def rollback(self, n: int) -> None: ...


class Closing:
    """The end of one text."""

    def __init__(self, matcher: Endable) -> None:
        self._matcher = matcher
        self.leads = False  # only the way that is known may be gone
        self._way: list[int] | None = None  # from here to the end, if one is known
        self._way_behind: list[int] | None = None  # the token that was tried
        self._look_at: float | None = None  # tokens left at which to look for a way the next time

    @property
    def complete(self) -> bool:
        """Whether the text is known to be complete as it stands."""
        return self._way is not None and not self._way

    def bound(self, mask: NDArray[np.uint32], n_left: float) -> NDArray[np.uint32]:
        """The mask of the next token, of which n_left may come; of the only one, if the end is led to."""
        if self.leads and self._way is None:  # tokens that were forced are others than those of the way
            self._way = self._matcher.ending(int(n_left))
            self.leads = bool(self._way)
        if self.leads:
            return self.lead(mask)
        if self._look_at is None:
            self._look_at = WATCHED + (self._matcher.shortest if WATCHED < n_left < np.inf else 0)
        if self._way is None and n_left <= self._look_at:
            n = int(n_left)
            self._way = self._matcher.ending(n)
            if self._way is None:
                self._look_at = n * 0.75
            elif n - len(self._way) > TIGHT:
                self._look_at = n - 1 - (n - len(self._way) - TIGHT) // 8
                self._way = None
        return mask

    def allows(self, token: int, n_left: float) -> bool:
        """Whether a drawn token leaves a way to the end with the n_left that may follow it, if that is watched yet."""
        if self._way is None or self.leads:
            return True
        self._matcher.accept(token)
        self._way_behind = self._matcher.ending(int(n_left), self._way)
        self._matcher.rollback(1)
        return self._way_behind is not None

    def lead(self, mask: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """From here on the known way is gone: the mask of its next token."""
        self.leads = True
        assert self._way
        only = np.zeros_like(mask)
        only[self._way[0] // 32] = 1 << self._way[0] % 32
        return only

    def note(self, token: int) -> None:
        """A token was added to the text."""
        if self._way_behind is not None:
            self._way, self._way_behind = self._way_behind, None
        elif self._way:
            self._way = self._way[1:] if self._way[0] == token else None
