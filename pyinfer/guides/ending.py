"""The end of a text under a guide: a short completion, so that a text whose tokens run out can still be whole.

A completion is a list of tokens after which the text may end. A beam search finds one. From each node it tries some
tokens, of those with the same first character a short and a long one, and the grammar's fixed texts; it goes on from a
few nodes where different tokens may follow, and prefers those that a closing sign or a fixed text has led to.

`Closing` watches one text. Near the text's limit it knows a completion. From there on, while there are just enough
tokens left for it, a drawn token is kept only if a completion fits after it; else the text takes the completion that is
known. Where none is short enough, the text is cut as any other.
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

# First characters of tokens: the lower the cost, the nearer they bring a text to its end.
COSTS = {'"': 0, **dict.fromkeys("'`)]}>", 1), **dict.fromkeys(",:;=", 2), **dict.fromkeys("@\n", 3), "0": 4}
COST_OF_OTHERS = 5
COST_OF_FIXED_TEXTS = -1  # where they change what may follow: they are meant to, and so come first
SIGNS = string.punctuation.encode()

# Bounds of the search, which is to take about a millisecond.
BEAM_WIDTH = 4  # nodes with the same number of tokens from which the search goes on
MAX_VISITED = 6  # nodes with the same number of tokens that are visited; many of them allow the same tokens
MAX_TRIED = 40  # tokens tried at a node
MAX_GROUP = 64  # tokens kept of those with the same first character
RETRY_FIXED_TEXTS = 8  # tokens after which they are tried again where the same may follow: some texts need a length
MAX_FIXED_TEXTS = 16  # fixed texts of which sequences are tried
MAX_SEQUENCE = 3  # fixed texts in such a sequence

# When a text is watched.
WATCH_TOKENS = 128  # tokens before the limit, and those of the guide's shortest text, from which on it is
MAX_SLACK = 40  # tokens left beyond a completion's own; with fewer, each drawn token is checked


class Node(NamedTuple):
    """A state of the search.

    cost: of the last step. tokens: from the search's start to here. parent, step: the matcher of the node before, and
    the tokens from there to here, which are consumed only if the search goes on from this node.
    """

    cost: int
    tokens: list[int]
    parent: LLMatcher
    step: list[int]


class Step(NamedTuple):
    """Tokens that may come next.

    mask_before: of a fixed text, the mask of the node that it is tried at. Where the text leaves the mask so, it was
    taken as any other text would have been, and leads nowhere.
    """

    cost: int
    tokens: list[int]
    mask_before: bytes | None = None


class ClosingTokens:
    """The tokens of a vocabulary that may bring a text to its end, in groups by their first character."""

    def __init__(self, tokens: list[bytes], ends: frozenset[int]) -> None:
        """tokens: the bytes of each. ends: tokens that end a text, which are in no group."""
        groups: dict[bytes, list[int]] = {}
        for token, text in enumerate(tokens):
            if token in ends or not text:
                continue
            first = b"0" if text[:1].isdigit() else text[:1]
            # a sign and then other characters open something, such as a quote and a word
            if first not in SIGNS or not text.strip(SIGNS):
                groups.setdefault(first, []).append(token)
        for group in groups.values():
            group.sort(key=lambda token: (len(tokens[token]), token))
            del group[MAX_GROUP // 2 : -MAX_GROUP // 2]
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
        order = np.argsort(costs, kind="stable")[:MAX_TRIED]
        costs = costs[order]
        # tokens of one cost mostly lead to similar nodes: the first token of each cost comes before all second ones
        nth = np.arange(len(costs)) - np.searchsorted(costs, costs)
        # costs begin at 0: a token is not expensive where all others cost more
        costs = (COST_OF_OTHERS + 1) * nth + costs - costs.min(initial=COST_OF_OTHERS)
        return list(zip(costs.tolist(), self._tokens[chosen[order]].tolist(), strict=True))


def reuse_completion(matcher: LLMatcher, known: Sequence[int], max_tokens: int) -> list[int] | None:
    """The longest end of a known completion that is one from here, too, of at most max_tokens; None: there is none."""
    walker = matcher.deep_copy()
    forced = walker.compute_ff_tokens() if known else []
    walker.consume_tokens(forced)
    for start in range(max(0, len(known) + len(forced) - max_tokens), len(known)):
        rest = list(known[start:])
        taken = walker.try_consume_tokens(rest)
        if taken == len(rest) and walker.is_accepting():
            return [*forced, *rest]
        walker.rollback(taken)
    return None


def complete_with_texts(
    matcher: LLMatcher, texts: Sequence[list[int]], max_tokens: int, n_texts: int = MAX_SEQUENCE
) -> list[int] | None:
    """At most n_texts of the texts, in their order, after which the text may end: for where masks show no completion.

    The matcher stays as it is, unless there is one.
    """
    for i, text in enumerate(texts):
        if len(text) > max_tokens or matcher.is_error():
            continue
        taken = matcher.try_consume_tokens(text)
        if taken == len(text):
            if matcher.is_accepting():
                return text
            others = texts[i + 1 :]
            rest = complete_with_texts(matcher, others, max_tokens - len(text), n_texts - 1) if n_texts > 1 else None
            if rest is not None:
                return text + rest
        matcher.rollback(taken)
    return None


def find_completion(
    matcher: LLMatcher,
    closing: ClosingTokens,
    max_tokens: int,
    n_words: int,
    known: Sequence[int] = (),
    texts: Sequence[list[int]] = (),
) -> list[int] | None:
    """At most max_tokens after which the text may end; None if no such completion was found.

    The matcher stays as it is. n_words: uint32 words of a mask. known: a completion from nearby, such as from before
    the last token; its rest may be one from here. texts: the tokens of the grammar's fixed texts.
    """
    if matcher.is_accepting():
        return []
    if (rest := reuse_completion(matcher, known, max_tokens)) is not None:
        return rest
    mask = np.empty(n_words, np.uint32)
    nodes: list[list[Node]] = [[] for _ in range(max_tokens + 1)]  # by their number of tokens
    nodes[0].append(Node(0, [], matcher, []))
    tried: set[bytes] = set()  # masks of nodes at which the fixed texts were tried
    for length in range(max_tokens):
        seen: set[bytes] = set()  # of nodes where the same may follow, one is enough
        n_forced = 0
        for node in sorted(nodes[length], key=lambda node: node.cost)[:MAX_VISITED]:
            if len(seen) + n_forced == BEAM_WIDTH:
                break
            here = node.parent.deep_copy()
            here.consume_tokens(node.step)
            if forced := here.compute_ff_tokens():
                steps = [Step(node.cost, forced)]
                n_forced += 1
            else:
                here.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
                if (key := mask.tobytes()) in seen:
                    continue
                seen.add(key)
                steps = [Step(cost, [token]) for cost, token in closing.allowed(mask)]
                if key not in tried or length % RETRY_FIXED_TEXTS == 0:
                    tried.add(key)
                    steps += [Step(COST_OF_FIXED_TEXTS, text, key) for text in texts]
            for cost, step, mask_before in steps:
                if length + len(step) > max_tokens or here.is_error():
                    continue
                taken = here.try_consume_tokens(step)
                if taken == len(step):
                    tokens = [*node.tokens, *step]
                    if here.is_accepting():
                        return tokens
                    if mask_before is not None:
                        here.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
                    if mask.tobytes() != mask_before:
                        nodes[len(tokens)].append(Node(cost, tokens, here, step))
                here.rollback(taken)
        nodes[length].clear()
    return complete_with_texts(matcher.deep_copy(), texts[:MAX_FIXED_TEXTS], max_tokens)


class Endable(Protocol):
    """What `Closing` asks of a guide's matcher."""

    @property
    def shortest(self) -> int: ...
    def accept(self, token: int) -> None: ...
    def ending(self, max_tokens: int, known: Sequence[int] = ()) -> list[int] | None: ...
    def rollback(self, n: int) -> None: ...


class Closing:
    """Brings one text to its end before its tokens run out.

    For each token the caller asks `bound` for the mask, draws, and asks whether the token `allows` a completion; if it
    does not, the mask of `lead` takes its place. It tells `note` of each token that is added.
    """

    def __init__(self, matcher: Endable) -> None:
        self._matcher = matcher
        self.leads = False  # from now on the text takes the known completion
        self._completion: list[int] | None = None  # from here, if one is known
        self._next_completion: list[int] | None = None  # from after the drawn token that was checked
        self._look_at: float | None = None  # tokens left at which to look for a completion the next time

    @property
    def complete(self) -> bool:
        """Whether the text is known to be complete as it stands."""
        return self._completion is not None and not self._completion

    def bound(self, mask: NDArray[np.uint32], n_left: float) -> NDArray[np.uint32]:
        """The mask of the next token, of n_left that may come: of one token only, if the text takes the completion."""
        if self.leads and self._completion is None:  # other tokens were forced than those of the completion
            self._completion = self._matcher.ending(int(n_left))
            self.leads = bool(self._completion)
        if self.leads:
            return self.lead(mask)
        if self._look_at is None:
            self._look_at = WATCH_TOKENS + (self._matcher.shortest if WATCH_TOKENS < n_left < np.inf else 0)
        if self._completion is None and n_left <= self._look_at:
            n = int(n_left)
            self._completion = self._matcher.ending(n)
            if self._completion is None:
                self._look_at = n * 0.75
            elif n - len(self._completion) > MAX_SLACK:
                self._look_at = n - 1 - (n - len(self._completion) - MAX_SLACK) // 8
                self._completion = None
        return mask

    def allows(self, token: int, n_left: float) -> bool:
        """Whether a completion of at most n_left tokens fits after a drawn token; True while nothing is watched yet."""
        if self._completion is None or self.leads:
            return True
        self._matcher.accept(token)
        self._next_completion = self._matcher.ending(int(n_left), self._completion)
        self._matcher.rollback(1)
        return self._next_completion is not None

    def lead(self, mask: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Take the known completion from here on; returns the mask of its next token."""
        self.leads = True
        assert self._completion
        only = np.zeros_like(mask)
        only[self._completion[0] // 32] = 1 << self._completion[0] % 32
        return only

    def note(self, token: int) -> None:
        """Follow the text, to which a token was added."""
        if self._next_completion is not None:
            self._completion, self._next_completion = self._next_completion, None
        elif self._completion:
            self._completion = self._completion[1:] if self._completion[0] == token else None
