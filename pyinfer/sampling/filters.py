"""Logits filters: samplers without state, which take candidates and return those that stay in the draw.

Definitions and names are llama.cpp's. Candidates that stay keep their order. Loops over a whole vocabulary are compiled
(csrc/cuts.hpp); loops over what a filter has left are NumPy's.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyinfer import _sampling

MIN_TEMPERATURE = 1e-6  # with a smaller one, only the largest float32 logit would have a probability above 0
MAX_LOGIT = float(np.finfo(np.float32).max)


class Candidates(NamedTuple):
    """Tokens that are still in the draw. To remove one, a filter may set its logit to -inf, where that is faster."""

    ids: NDArray[np.int32]  # [n], ascending
    logits: NDArray[np.float32]  # [n], at least one of them above -inf, none NaN or +inf


@lru_cache(maxsize=4)
def all_ids(n_vocab: int) -> NDArray[np.int32]:
    """The ids from 0 to n_vocab - 1: int32 [n_vocab], read-only."""
    ids = np.arange(n_vocab, dtype=np.int32)
    ids.flags.writeable = False
    return ids


def all_candidates(logits: NDArray[np.float32]) -> Candidates:
    """All tokens as candidates. logits: float32 [n_vocab]."""
    return Candidates(all_ids(len(logits)), logits)


def probabilities(candidates: Candidates) -> NDArray[np.float32]:
    """The candidates' probabilities, softmax(logits): float32 [n]."""
    weights, total = _sampling.weigh(candidates.logits)
    weights /= np.float32(total)
    return weights


def keep_likeliest(candidates: Candidates) -> Candidates:
    """Keep the token with the largest logit; of equal ones, the first."""
    i = int(np.argmax(candidates.logits))
    return Candidates(candidates.ids[i : i + 1], candidates.logits[i : i + 1])


def keep_top_k(candidates: Candidates, k: int) -> Candidates:
    """Top-k: keep the k largest logits; of equal ones, the first. k = 0: all."""
    if k == 0 or k >= len(candidates.ids):
        return candidates
    return Candidates(*_sampling.keep_largest(*candidates, k))


def keep_top_p(candidates: Candidates, p: float) -> Candidates:
    """Top-p (Holtzman 2019): keep the fewest likeliest tokens of a total probability of at least p. p = 1: all."""
    return candidates if p >= 1 else Candidates(*_sampling.keep_share(*candidates, p))


def keep_typical(candidates: Candidates, p: float) -> Candidates:
    """Typical sampling (Meister 2022): keep the fewest tokens of a total probability above p. p = 1: all.

    Tokens whose surprise, -log(probability), is nearest to the mean surprise, the entropy, are kept first.
    """
    if p >= 1:
        return candidates
    center = _sampling.mean_below(candidates.logits)
    return Candidates(*_sampling.keep_share(*candidates, math.nextafter(p, 1), center))


def keep_min_p(candidates: Candidates, p: float) -> Candidates:
    """Min-p (Nguyen 2024): keep tokens that are at least p times as probable as the likeliest. p = 0: all."""
    if p == 0:
        return candidates
    floor = candidates.logits.max() + np.float32(math.log(p))
    return Candidates(*_sampling.keep_at_least(*candidates, float(floor)))


def keep_top_n_sigma(candidates: Candidates, n: float) -> Candidates:
    """Top-n-sigma (Tang 2024): keep logits at most n standard deviations of all below the largest. n <= 0: all."""
    if n <= 0:
        return candidates
    floor = float(candidates.logits.max()) - n * _sampling.deviation(candidates.logits)
    return Candidates(*_sampling.keep_at_least(*candidates, float(np.float32(floor))))


def exclude_top_choices(candidates: Candidates, threshold: float) -> Candidates:
    """XTC (Weidmann 2024): of the tokens with at least this probability, keep the least likely one only."""
    over = np.flatnonzero(probabilities(candidates) >= threshold)
    if len(over) < 2:
        return candidates
    least = over[np.lexsort((-over, candidates.logits[over]))[0]]
    logits = candidates.logits.copy()
    logits[over[over != least]] = -np.inf
    return Candidates(candidates.ids, logits)


def scale(candidates: Candidates, temperature: float) -> Candidates:
    """Divide logits by a temperature; below MIN_TEMPERATURE, keep the likeliest token."""
    if temperature < MIN_TEMPERATURE:
        return keep_likeliest(candidates)
    with np.errstate(over="ignore"):
        scaled = candidates.logits / np.float32(temperature)
    return Candidates(candidates.ids, np.minimum(scaled, np.float32(MAX_LOGIT), out=scaled))


def dynamic_temperature(candidates: Candidates, temperature: float, spread: float, exponent: float) -> float:
    """The temperature for these candidates, from temperature - spread (at least 0) to temperature + spread.

    It grows with (their entropy / the largest entropy that so many candidates can have) ** exponent.
    """
    n = np.count_nonzero(candidates.logits > -np.inf)
    if n < 2:
        return temperature
    low = max(0.0, temperature - spread)
    entropy = _sampling.log_total(candidates.logits) - float(candidates.logits.max())
    entropy += _sampling.mean_below(candidates.logits)
    return low + (temperature + spread - low) * float(min(1.0, entropy / math.log(n)) ** exponent)


def draw(candidates: Candidates, uniform: float, temperature: float = 1.0) -> int:
    """Draw a candidate: the index where the running sum of probabilities exceeds `uniform`, a number in [0, 1).

    Probabilities are softmax(logits / temperature); temperature is at least MIN_TEMPERATURE.
    """
    return _sampling.draw(candidates.logits, 1 / temperature, uniform)
