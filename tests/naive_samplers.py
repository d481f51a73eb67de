"""The definitions of samplers: float64, full sorts, one token after the other. And the statistics of draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np


def random_logits(size: int, spread: float, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(size) * spread).astype(np.float32)


def logits_of(probabilities: Sequence[float]) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.array(probabilities)).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return weights / weights.sum()


def surprises(logits: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return -np.log(softmax(logits))


def entropy(logits: np.ndarray) -> float:
    p = softmax(logits)
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())


def follows_the_law(counts: np.ndarray, probabilities: np.ndarray, chance: float = 1e-6) -> bool:
    """Pearson's chi-square test: whether draws by these probabilities are as uneven as these with more than `chance`.

    Tokens of probability 0 must not have been drawn at all.
    """
    possible = probabilities > 0
    if counts[~possible].any():
        return False
    counts, expected = counts[possible], probabilities[possible] * counts.sum()
    assert expected.min() >= 5, "too few draws for the test"
    degrees = len(expected) - 1
    statistic = float(((counts - expected) ** 2 / expected).sum())
    # Wilson & Hilferty 1931
    z = {1e-6: 4.7534}[chance]
    limit = degrees * (1 - 2 / (9 * degrees) + z * math.sqrt(2 / (9 * degrees))) ** 3 if degrees else 1e-9
    return statistic <= limit


def counts_of_draws(choose: Callable[[float], int], n_vocab: int, n: int = 20_000) -> np.ndarray:
    """How often each token is chosen by n uniform numbers: int64 [n_vocab]."""
    return np.bincount([choose(u) for u in np.random.default_rng(0).random(n)], minlength=n_vocab)


def penalized(logits: np.ndarray, recent: Sequence[int], repetition: float, frequency: float, presence: float):
    out = logits.astype(np.float64)
    for token in set(recent):
        if token < len(out):
            out[token] = out[token] / repetition if out[token] > 0 else out[token] * repetition
            out[token] -= list(recent).count(token) * frequency + presence
    return out


def repeat_lengths(tokens: Sequence[int], limit: int, shortest: int) -> dict[int, int]:
    """For each token of the text: the longest end of the text that also stands before an earlier occurrence of it."""
    longest: dict[int, int] = {}
    for at in range(1, len(tokens)):  # if tokens[at] came next, it would be repeated
        length = 0
        while length < min(at, limit) and tokens[at - 1 - length] == tokens[-1 - length]:
            length += 1
        if length >= shortest:
            longest[tokens[at]] = max(longest.get(tokens[at], 0), length)
    return longest
