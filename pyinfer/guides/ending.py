"""The end of a text under a guide: a short completion, so that a text that has to stop can still be whole.

A beam search finds a completion. From each node some tokens are tried, a short and a long one of those with the same
first character, and the grammar's fixed texts; it goes on from a few nodes where different tokens may follow, first
from where signs that close or fixed texts have led. `Closing` watches one text: near its limit it knows a completion,
and as long as there are just enough tokens for it, each drawn token must leave one; where one would not, the text takes
the completion that is known. Where there is none that short, the text is cut as any other.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pyinfer.guides.masks import has_ids

if TYPE_CHECKING:
    from llguidance import LLMatcher

# First characters of tokens, by how near they bring a text to its end.
COSTS = {'"': 0, **dict.fromkeys("'`)]}>", 1), **dict.fromkeys(",:;=", 2), **dict.fromkeys("@\n", 3), "0": 4}
COST_OF_OTHERS = 5
COST_OF_TEXTS = -1  # of the grammar's fixed texts, where they change what may follow
MOST_IN_WAYS = 16  # texts, of which three in their order are tried
TRIED_AGAIN = 8  # tokens after which they are, as a text may have to be longer than it was
SIGNS = string.punctuation.encode()
MOST_ALIKE = 64  # tokens looked at of those that begin alike
MOST_TRIED = 40  # at each place
MOST_LOOKED_AT = 6  # places with the same number of tokens, many of which are alike
WIDTH = 4  # places with the same number of tokens from which the search goes on
WATCHED = (
    128  # tokens before the limit, beside those of the shortest text, from which on ways to the end are looked for
)
TIGHT = 40  # tokens more than the way takes: with fewer, each drawn token is tried first


class Place(NamedTuple):
    """Where tokens lead to: how little the last one closes, and the step there from the matcher of the place before."""

    cost: int
    tokens: list[int]
    before: LLMatcher
    step: list[int]


class Step(NamedTuple):
    """Tokens that may be next. unchanged: the mask before; a fixed text that leaves it so is like any other text."""

    cost: int
    tokens: list[int]
    unchanged: bytes | None = None


class ClosingTokens:
    """The tokens of a vocabulary that may bring a text to its end, grouped by what they begin with."""

    def __init__(self, tokens: list[bytes], ends: frozenset[int]) -> None:
        groups: dict[bytes, list[int]] = {}
        for token, text in enumerate(tokens):
            if token in ends or not text:
                continue
            first = b"0" if text[:1].isdigit() else text[:1]
            # signs followed by others open something, such as a quote and a word
            if first not in SIGNS or not text.strip(SIGNS):
                groups.setdefault(first, []).append(token)
        for group in groups.values():
            group.sort(key=lambda token: (len(tokens[token]), token))
            del group[MOST_ALIKE // 2 : -MOST_ALIKE // 2]
        self._costs = np.array([COSTS.get(first.decode("latin-1"), COST_OF_OTHERS) for first in groups])
        self._tokens = np.array([token for group in groups.values() for token in group], np.int64)
        self._groups = np.repeat(np.arange(len(groups)), [len(group) for group in groups.values()])

    def allowed(self, mask: NDArray[np.uint32]) -> list[tuple[int, int]]:
        """(cost, token) of the shortest and the longest token of each group that may follow, the cheapest first."""
        found = np.flatnonzero(has_ids(mask, self._tokens))
        groups = self._groups[found]
        borders = np.flatnonzero(np.diff(groups)) + 1
        ends = np.concatenate([[0], borders, borders - 1, [len(found) - 1]]) if len(found) else found
        chosen = found[np.unique(ends)]
        costs = self._costs[self._groups[chosen]]
        order = np.argsort(costs, kind="stable")[:MOST_TRIED]
        costs = costs[order]
        # tokens of one cost mostly lead to like places: the first of each cost come before all second ones
        nth = np.arange(len(costs)) - np.searchsorted(costs, costs)
        costs = (COST_OF_OTHERS + 1) * nth + costs - costs.min(initial=COST_OF_OTHERS)  # what must be, is not dear
        return list(zip(costs.tolist(), self._tokens[chosen[order]].tolist(), strict=True))


def usable_rest(matcher: LLMatcher, known: Sequence[int], most: int) -> list[int] | None:
    """The longest end of a known way, of at most `most` tokens, that leads to an end from here, too."""
    walker = matcher.deep_copy()
    forced = walker.compute_ff_tokens() if known else []
    walker.consume_tokens(forced)
    for start in range(max(0, len(known) + len(forced) - most), len(known)):
        rest = list(known[start:])
        taken = walker.try_consume_tokens(rest)
        if taken == len(rest) and walker.is_accepting():
            return [*forced, *rest]
        walker.rollback(taken)
    return None


def way_of_texts(here: LLMatcher, texts: Sequence[list[int]], most: int, n_texts: int = 3) -> list[int] | None:
    """At most n_texts of the texts, in their order, after which the text may end: where masks show nothing of a way."""
    for i, text in enumerate(texts):
        if len(text) > most or here.is_error():
            continue
        taken = here.try_consume_tokens(text)
        if taken == len(text):
            if here.is_accepting():
                return text
            rest = way_of_texts(here, texts[i + 1 :], most - len(text), n_texts - 1) if n_texts > 1 else None
            if rest is not None:
                return text + rest
        here.rollback(taken)
    return None


def find_ending(
    matcher: LLMatcher,
    closing: ClosingTokens,
    most: int,
    n_words: int,
    known: Sequence[int] = (),
    texts: Sequence[list[int]] = (),
) -> list[int] | None:
    """At most `most` tokens after which the text may end; None if no such way was found. The matcher stays as it is.

    known: a way from nearby, such as before the last token, the rest of which may lead from here as well. texts: the
    tokens of the grammar's fixed texts.
    """
    if matcher.is_accepting():
        return []
    if (rest := usable_rest(matcher, known, most)) is not None:
        return rest
    mask = np.empty(n_words, np.uint32)
    places: list[list[Place]] = [[] for _ in range(most + 1)]  # by the number of tokens there
    places[0].append(Place(0, [], matcher, []))
    tried: set[bytes] = set()  # masks of places from which the texts were tried
    for length in range(most):
        seen: set[bytes] = set()  # of two places where the same may follow, one is enough
        n_forced = 0
        for place in sorted(places[length], key=lambda place: place.cost)[:MOST_LOOKED_AT]:
            if len(seen) + n_forced == WIDTH:
                break
            here = place.before.deep_copy()
            here.consume_tokens(place.step)
            if forced := here.compute_ff_tokens():
                steps = [Step(place.cost, forced)]
                n_forced += 1
            else:
                here.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
                if (key := mask.tobytes()) in seen:
                    continue
                seen.add(key)
                steps = [Step(cost, [token]) for cost, token in closing.allowed(mask)]
                if key not in tried or length % TRIED_AGAIN == 0:
                    tried.add(key)
                    steps += [Step(COST_OF_TEXTS, text, key) for text in texts]
            for cost, step, unchanged in steps:
                if length + len(step) > most or here.is_error():
                    continue
                taken = here.try_consume_tokens(step)
                if taken == len(step):
                    tokens = [*place.tokens, *step]
                    if here.is_accepting():
                        return tokens
                    if unchanged is not None:
                        here.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
                    if mask.tobytes() != unchanged:
                        places[len(tokens)].append(Place(cost, tokens, here, step))
                here.rollback(taken)
        places[length].clear()
    return way_of_texts(matcher.deep_copy(), texts[:MOST_IN_WAYS], most)


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
