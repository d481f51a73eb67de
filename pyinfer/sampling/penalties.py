"""Samplers that lower the logits of what was there before: repetition, frequency and presence penalties, and DRY."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from pyinfer import _sampling
from pyinfer.sampling.filters import LARGEST, Candidates

MOST_TAIL = 20  # tokens of a breaker after its first one
LOG_LARGEST = math.log(LARGEST)
KEPT_BREAKERS = 8  # sets of texts whose breakers a tokenizer remembers


def places(candidates: Candidates, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(indices int64 [m], selection bool [len(ids)]): where those of the ids that are candidates stand."""
    wanted = ids.astype(np.int32)
    at = np.minimum(np.searchsorted(candidates.ids, wanted), len(candidates.ids) - 1)
    found = candidates.ids[at] == wanted
    return at[found], found


def penalize(
    candidates: Candidates, recent: NDArray[np.int64], repetition: float, frequency: float, presence: float
) -> Candidates:
    """Lower the logits of recent tokens.

    Logits above 0 are divided by `repetition`, others multiplied (Keskar 2019, mended for negative ones). Then
    `presence`, and `frequency` times how often the token is among recent ones, are taken away.
    """
    if len(recent) == 0:
        return candidates
    ids, counts = np.unique(recent, return_counts=True)
    at, found = places(candidates, ids)
    before = candidates.logits[at]
    with np.errstate(over="ignore"):
        after = np.where(before > 0, before / np.float32(repetition), before * np.float32(repetition))
    logits = candidates.logits.copy()
    logits[at] = after - (counts[found] * frequency + presence).astype(np.float32)
    return Candidates(candidates.ids, logits)


class Vocabulary(Protocol):
    """What breakers are looked for in: a Tokenizer."""

    n_vocab: int

    def token_bytes(self, token: int) -> bytes: ...
    def encode(self, text: str, add_special: bool = True, parse_special: bool = False) -> list[int]: ...


@dataclass(frozen=True)
class Breakers:
    """Sequences of tokens that a repetition does not reach across."""

    is_head: NDArray[np.bool_]  # [n_vocab + 1], whether a breaker begins with the token; the last is for unknown ones
    is_alone: NDArray[np.bool_]  # [n_vocab + 1], whether the token alone is one
    tails: Mapping[int, tuple[tuple[int, ...], ...]]  # of heads, what has to follow, longest first

    @classmethod
    def none(cls, n_vocab: int) -> Breakers:
        return cls(np.zeros(n_vocab + 1, np.bool_), np.zeros(n_vocab + 1, np.bool_), {})

    @classmethod
    def of_texts(cls, vocabulary: Vocabulary, texts: Sequence[str]) -> Breakers:
        """Tokens that contain one of the texts, and tokens that end with its beginning where its rest follows."""
        tails: dict[int, set[tuple[int, ...]]] = {}
        whole = [text.encode() for text in texts]
        # beginning: what has to follow, for every place where a text may be cut
        parts = [
            {
                text[:i].encode(): tuple(vocabulary.encode(text[i:], add_special=False)[:MOST_TAIL])
                for i in range(1, len(text))
            }
            for text in texts
        ]
        for token in range(vocabulary.n_vocab):
            piece = vocabulary.token_bytes(token)
            for text, rests in zip(whole, parts, strict=True):
                if text in piece:
                    tails.setdefault(token, set()).add(())
                    continue
                for beginning, rest in rests.items():
                    if piece.endswith(beginning):
                        tails.setdefault(token, set()).add(rest)
        breakers = cls.none(vocabulary.n_vocab)
        breakers.is_head[list(tails)] = True
        breakers.is_alone[[token for token, rests in tails.items() if () in rests]] = True
        ordered = {token: tuple(sorted(rests, key=len, reverse=True)) for token, rests in tails.items()}
        return cls(breakers.is_head, breakers.is_alone, ordered)

    def tokens_since(self, tokens: NDArray[np.int64]) -> int:
        """How many tokens come after the last breaker: the one whose head is last; all if there is none."""
        n = len(tokens)
        heads: list[int] = np.flatnonzero(self.is_head.take(tokens, mode="clip")).tolist()
        for head in reversed(heads):
            after = tokens[head + 1 : head + 1 + MOST_TAIL].tolist()
            for tail in self.tails[int(tokens[head])]:
                if tuple(after[: len(tail)]) == tail:
                    return n - 1 - head - len(tail)
        return n


_known_breakers: WeakKeyDictionary[Vocabulary, dict[tuple[str, ...], Breakers]] = WeakKeyDictionary()


def find_breakers(vocabulary: Vocabulary, texts: tuple[str, ...]) -> Breakers:
    """Breakers.of_texts, looked for once: that takes a tenth of a second for a large vocabulary."""
    known = _known_breakers.setdefault(vocabulary, {})
    breakers = known.get(texts)
    if breakers is None:
        breakers = known[texts] = Breakers.of_texts(vocabulary, texts)
        while len(known) > KEPT_BREAKERS:
            known.pop(next(iter(known)), None)
    return breakers


def penalize_repeats(
    candidates: Candidates,
    tokens: NDArray[np.int64],
    breakers: Breakers,
    multiplier: float,
    base: float,
    allowed_length: int,
) -> Candidates:
    """DRY (Weidmann 2024): lower what would make the last tokens repeat a longer stretch of the text.

    Where the last n >= allowed_length tokens have been there before, the token that followed then loses
    multiplier * base ** (n - allowed_length). A repetition does not reach across breakers; they are never lowered.
    """
    if len(tokens) <= allowed_length:
        return candidates
    limit = breakers.tokens_since(tokens)
    if limit < allowed_length:
        return candidates
    ids, lengths = _sampling.repeats(tokens, limit, allowed_length)
    lowered = ~breakers.is_alone.take(ids, mode="clip")
    ids, lengths = ids[lowered], lengths[lowered]
    if len(ids) == 0:
        return candidates
    at, found = places(candidates, ids)
    exponents = np.minimum((lengths[found] - allowed_length) * math.log(base), LOG_LARGEST)
    penalties = np.minimum(multiplier * np.exp(exponents), LARGEST / 2)
    logits = candidates.logits.copy()
    logits[at] -= penalties.astype(np.float32)
    return Candidates(candidates.ids, logits)
