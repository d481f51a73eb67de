"""Samplers that lower the logits of earlier tokens: repetition, frequency and presence penalties, and DRY."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from pyinfer import _sampling
from pyinfer.sampling.filters import MAX_LOGIT, Candidates

MAX_TAIL = 20  # tokens of a breaker after its first one; llama.cpp's bound
LOG_MAX_LOGIT = math.log(MAX_LOGIT)
MAX_BREAKERS = 8  # sets of texts whose breakers are kept for a tokenizer: each takes two bytes a token


def find_candidates(candidates: Candidates, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(indices int64 [m], found bool [len(ids)]): which ids are candidates, and the indices of those that are."""
    wanted = ids.astype(np.int32)
    at = np.minimum(np.searchsorted(candidates.ids, wanted), len(candidates.ids) - 1)
    found = candidates.ids[at] == wanted
    return at[found], found


def penalize(
    candidates: Candidates, recent: NDArray[np.int64], repetition: float, frequency: float, presence: float
) -> Candidates:
    """Lower the logits of recent tokens.

    A logit above 0 is divided by `repetition`, another one multiplied (Keskar 2019, corrected for negative logits).
    Then `presence` is subtracted, and `frequency` once for each time that the token is among the recent ones.
    """
    if len(recent) == 0:
        return candidates
    ids, counts = np.unique(recent, return_counts=True)
    at, found = find_candidates(candidates, ids)
    before = candidates.logits[at]
    with np.errstate(over="ignore"):
        after = np.where(before > 0, before / np.float32(repetition), before * np.float32(repetition))
    logits = candidates.logits.copy()
    logits[at] = after - (counts[found] * frequency + presence).astype(np.float32)
    return Candidates(candidates.ids, logits)


class Vocabulary(Protocol):
    """What the search for breakers asks of a Tokenizer."""

    n_vocab: int

    def token_bytes(self, token: int) -> bytes: ...
    def encode(self, text: str, add_special: bool = True, parse_special: bool = False) -> list[int]: ...


@dataclass(frozen=True)
class Breakers:
    """Sequence breakers of DRY: sequences of tokens that a repetition does not extend across."""

    is_head: NDArray[
        np.bool_
    ]  # [n_vocab + 1], whether a breaker begins with the token; the last entry is for ids out of range
    is_alone: NDArray[np.bool_]  # [n_vocab + 1], whether the token alone is a breaker
    tails: Mapping[int, tuple[tuple[int, ...], ...]]  # of a head: the tokens that must follow it, the longest first

    @classmethod
    def none(cls, n_vocab: int) -> Breakers:
        """No breakers."""
        return cls(np.zeros(n_vocab + 1, np.bool_), np.zeros(n_vocab + 1, np.bool_), {})

    @classmethod
    def of_texts(cls, vocabulary: Vocabulary, texts: Sequence[str]) -> Breakers:
        """Find tokens that contain a text, and tokens that end with a text's beginning, where its rest follows."""
        tails: dict[int, set[tuple[int, ...]]] = {}
        whole = [text.encode() for text in texts]
        # for each text and each position where it may be cut: the beginning, and the tokens of the rest
        parts = [
            {
                text[:i].encode(): tuple(vocabulary.encode(text[i:], add_special=False)[:MAX_TAIL])
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
        """The number of tokens after the last breaker, the one whose head is last; all if there is none."""
        n = len(tokens)
        heads: list[int] = np.flatnonzero(self.is_head.take(tokens, mode="clip")).tolist()
        for head in reversed(heads):
            after = tokens[head + 1 : head + 1 + MAX_TAIL].tolist()
            for tail in self.tails[int(tokens[head])]:
                if tuple(after[: len(tail)]) == tail:
                    return n - 1 - head - len(tail)
        return n


_breakers: WeakKeyDictionary[Vocabulary, dict[tuple[str, ...], Breakers]] = WeakKeyDictionary()


def find_breakers(vocabulary: Vocabulary, texts: tuple[str, ...]) -> Breakers:
    """Breakers.of_texts, computed once for a vocabulary: for a large one, it takes a tenth of a second."""
    known = _breakers.setdefault(vocabulary, {})
    breakers = known.get(texts)
    if breakers is None:
        breakers = known[texts] = Breakers.of_texts(vocabulary, texts)
        while len(known) > MAX_BREAKERS:
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
    """DRY (Weidmann 2024): lower the logits of tokens that would extend a repetition of earlier tokens.

    Where the last n >= allowed_length tokens occurred before, the token that followed them there loses
    multiplier * base ** (n - allowed_length). A repetition does not extend across breakers, and the logits of tokens
    that are breakers are never lowered.
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
    at, found = find_candidates(candidates, ids)
    exponents = np.minimum((lengths[found] - allowed_length) * math.log(base), LOG_MAX_LOGIT)
    penalties = np.minimum(multiplier * np.exp(exponents), MAX_LOGIT / 2)
    logits = candidates.logits.copy()
    logits[at] -= penalties.astype(np.float32)
    return Candidates(candidates.ids, logits)
