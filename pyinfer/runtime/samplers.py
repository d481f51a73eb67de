"""The samplers that need no memory: candidates in, candidates out.

Definitions and names are llama.cpp's. Each is a function without state, and what stays keeps its order. Passes over a
whole vocabulary are compiled (csrc/cuts.hpp); those over what a cut has left are NumPy.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyinfer import _sampling

LEAST_TEMPERATURE = 1e-6  # smaller ones leave nothing but the largest float32 logit anyway
LARGEST = float(np.finfo(np.float32).max)


class Candidates(NamedTuple):
    """Tokens still in the draw. A logit of -inf marks one that is not, where that is faster than moving the others."""

    ids: NDArray[np.int32]  # [n], ascending
    logits: NDArray[np.float32]  # [n], at least one of them above -inf, none NaN or +inf


@lru_cache(maxsize=4)
def all_ids(n_vocab: int) -> NDArray[np.int32]:
    """0 to n_vocab - 1."""
    ids = np.arange(n_vocab, dtype=np.int32)
    ids.flags.writeable = False
    return ids


def all_candidates(logits: NDArray[np.float32]) -> Candidates:
    """Every token. logits: float32 [n_vocab]."""
    return Candidates(all_ids(len(logits)), logits)


def probabilities(candidates: Candidates) -> NDArray[np.float32]:
    """softmax(logits), float32 [n]."""
    weights, total = _sampling.weigh(candidates.logits)
    weights /= np.float32(total)
    return weights


def keep_likeliest(candidates: Candidates) -> Candidates:
    """The largest logit, the first of equals."""
    i = int(np.argmax(candidates.logits))
    return Candidates(candidates.ids[i : i + 1], candidates.logits[i : i + 1])


def keep_top_k(candidates: Candidates, k: int) -> Candidates:
    """The k largest logits, the first of equals. k = 0: all."""
    if k == 0 or k >= len(candidates.ids):
        return candidates
    return Candidates(*_sampling.keep_largest(*candidates, k))


def keep_top_p(candidates: Candidates, p: float) -> Candidates:
    """The fewest largest logits whose probabilities add up to at least p, at least one (Holtzman 2019). p = 1: all."""
    return candidates if p >= 1 else Candidates(*_sampling.keep_share(*candidates, p))


def keep_typical(candidates: Candidates, p: float) -> Candidates:
    """The fewest tokens whose probabilities add up to more than p (Meister 2022). p = 1: all.

    First come those whose surprise, -log(probability), lies nearest to its mean, the entropy.
    """
    if p >= 1:
        return candidates
    center = _sampling.mean_below(candidates.logits)
    return Candidates(*_sampling.keep_share(*candidates, math.nextafter(p, 1), center))


def keep_min_p(candidates: Candidates, p: float) -> Candidates:
    """Tokens at least p times as probable as the likeliest (Nguyen 2024). p = 0: all."""
    if p == 0:
        return candidates
    floor = candidates.logits.max() + np.float32(math.log(p))
    return Candidates(*_sampling.keep_at_least(*candidates, float(floor)))


def keep_top_n_sigma(candidates: Candidates, n: float) -> Candidates:
    """Logits at most n standard deviations of all below the largest (Tang 2024). n <= 0: all."""
    if n <= 0:
        return candidates
    floor = float(candidates.logits.max()) - n * _sampling.deviation(candidates.logits)
    return Candidates(*_sampling.keep_at_least(*candidates, float(np.float32(floor))))


def exclude_top_choices(candidates: Candidates, threshold: float) -> Candidates:
    """XTC (Weidmann 2024): of the tokens with at least this probability, only the least likely one stays."""
    over = np.flatnonzero(probabilities(candidates) >= threshold)
    if len(over) < 2:
        return candidates
    least = over[np.lexsort((-over, candidates.logits[over]))[0]]
    logits = candidates.logits.copy()
    logits[over[over != least]] = -np.inf
    return Candidates(candidates.ids, logits)


def scale(candidates: Candidates, temperature: float) -> Candidates:
    """Logits divided by a temperature; below 1e-6 only the largest is left."""
    if temperature < LEAST_TEMPERATURE:
        return keep_likeliest(candidates)
    with np.errstate(over="ignore"):
        scaled = candidates.logits / np.float32(temperature)
    return Candidates(candidates.ids, np.minimum(scaled, np.float32(LARGEST), out=scaled))


def dynamic_temperature(candidates: Candidates, temperature: float, spread: float, exponent: float) -> float:
    """The temperature for these candidates, from temperature - spread to temperature + spread (at least 0).

    It follows (entropy / the largest entropy of so many tokens) ** exponent.
    """
    n = np.count_nonzero(candidates.logits > -np.inf)
    if n < 2:
        return temperature
    low = max(0.0, temperature - spread)
    entropy = _sampling.log_total(candidates.logits) - float(candidates.logits.max())
    entropy += _sampling.mean_below(candidates.logits)
    return low + (temperature + spread - low) * float(min(1.0, entropy / math.log(n)) ** exponent)


def draw(candidates: Candidates, uniform: float, temperature: float = 1.0) -> int:
    """The index of the candidate where the running sum of probabilities passes `uniform`, in [0, 1).

    Probabilities are softmax(logits / temperature), temperature >= 1e-6.
    """
    return _sampling.draw(candidates.logits, 1 / temperature, uniform)
