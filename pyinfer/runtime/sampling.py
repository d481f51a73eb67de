"""From logits to the next token: repetition penalty, top-k, top-p, min-p, temperature, draw, in this order.

The order and the meaning of each step are those of llama.cpp's default chain; so top-p and min-p see probabilities at
temperature 1. Each step is a function without state. Steps that choose candidates look for a cheap threshold first, so
that a vocabulary of 262,144 tokens is never sorted where a few tokens will do.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyinfer.errors import ModelError, ParameterError
from pyinfer.runtime.params import SamplingParams
from pyinfer.tokenizer import Tokenizer

GROUPS = 64  # top_k: columns are maxima of this many logits; fewer leave more to partition, more let more through
ENOUGH_FOR_TOP_P = 256  # likeliest tokens that nearly always hold the probability asked for
BINS_PER_NAT = 64  # top_p: of its histogram, fine enough that few tokens share a bin
N_BINS = 32 * BINS_PER_NAT  # the last bin also takes all that lies farther below
STRETCH = 512  # weights summed together when drawing
LEAST_TEMPERATURE = 1e-6  # smaller ones leave nothing but the largest float32 logit anyway


class Candidates(NamedTuple):
    """Tokens still in the draw, in any order."""

    ids: NDArray[np.int64]  # [n]
    logits: NDArray[np.float32]  # [n]

    def where(self, selection: NDArray[Any]) -> Candidates:
        return Candidates(self.ids[selection], self.logits[selection])


@lru_cache(maxsize=4)
def _all_ids(n_vocab: int) -> NDArray[np.int64]:
    ids = np.arange(n_vocab)
    ids.flags.writeable = False
    return ids


def all_candidates(logits: NDArray[np.float32]) -> Candidates:
    """Every token. logits: float32 [n_vocab]."""
    return Candidates(_all_ids(len(logits)), logits)


def penalize_repetition(
    logits: NDArray[np.float32], recent: Sequence[int] | NDArray[np.int64], penalty: float
) -> NDArray[np.float32]:
    """Logits with those of recent tokens divided (positive) or multiplied (negative) by the penalty, once a token."""
    if penalty == 1.0 or len(recent) == 0:
        return logits
    ids = np.unique(np.asarray(recent, np.int64))
    penalized: NDArray[np.float32] = logits.copy()
    penalized[ids] = np.where(logits[ids] > 0, logits[ids] / penalty, logits[ids] * penalty)
    return penalized


def keep_top_k(candidates: Candidates, k: int) -> Candidates:
    """The k largest logits; among equal ones at the border, any. k = 0: all."""
    n = len(candidates.logits)
    if k == 0 or k >= n:
        return candidates
    columns = n // GROUPS
    if k < columns:
        # k columns have a maximum of at least `threshold`, so at least k logits do
        maxima = candidates.logits[: columns * GROUPS].reshape(GROUPS, columns).max(axis=0)
        threshold = np.partition(maxima, columns - k)[columns - k]
        candidates = candidates.where(np.flatnonzero(candidates.logits >= threshold))
        n = len(candidates.logits)
    return candidates.where(np.argpartition(candidates.logits, n - k)[n - k :]) if k < n else candidates


def keep_top_p(candidates: Candidates, p: float) -> Candidates:
    """The fewest largest logits whose probabilities add up to at least p, at least one. p = 1: all."""
    if p >= 1.0:
        return candidates
    below = candidates.logits.max() - candidates.logits
    weights = np.exp(-below)
    mass = p * float(weights.sum(dtype=np.float64))
    likely = keep_top_k(all_candidates(candidates.logits), ENOUGH_FOR_TOP_P).ids
    if weights[likely].sum(dtype=np.float64) >= mass:
        return candidates.where(_heaviest(likely, weights, mass))
    # a histogram of weight by distance from the largest logit: only the bin where the sum passes p is sorted
    bins = np.minimum(below * BINS_PER_NAT, N_BINS - 1).astype(np.intp)
    mass_to_bin = np.cumsum(np.bincount(bins, weights, N_BINS))
    border = min(int(np.searchsorted(mass_to_bin, mass)), N_BINS - 1)
    mass_before = mass_to_bin[border - 1] if border else 0.0
    at_border = _heaviest(np.flatnonzero(bins == border), weights, mass - mass_before)
    return candidates.where(np.concatenate([np.flatnonzero(bins < border), at_border]))


def _heaviest(indices: NDArray[np.int64], weights: NDArray[np.float32], mass: float) -> NDArray[np.int64]:
    """The fewest of these indices, heaviest first, whose weights add up to mass; at least one."""
    indices = indices[np.argsort(-weights[indices], kind="stable")]
    cumulative = np.cumsum(weights[indices].astype(np.float64))
    return indices[: int(np.searchsorted(cumulative, mass)) + 1]


def keep_min_p(candidates: Candidates, p: float) -> Candidates:
    """Tokens whose probability is at least p times the likeliest one's. p = 0: all."""
    if p == 0.0:
        return candidates
    return candidates.where(np.flatnonzero(candidates.logits >= candidates.logits.max() + np.float32(math.log(p))))


def weigh(candidates: Candidates, temperature: float) -> NDArray[np.float32]:
    """What is proportional to softmax(logits / temperature), the largest 1, float32 [n]. temperature > 0."""
    with np.errstate(over="ignore"):
        below = (candidates.logits - candidates.logits.max()) / max(temperature, LEAST_TEMPERATURE)
    weights: NDArray[np.float32] = np.exp(below)
    return weights


def draw(candidates: Candidates, weights: NDArray[np.float32], uniform: float) -> int:
    """The token where the cumulative weight passes the fraction `uniform`, in [0, 1), of the whole."""
    # first the stretch, then the token in it: a running sum over a whole vocabulary takes milliseconds
    starts = np.arange(0, len(weights), STRETCH)
    stretches = np.cumsum(np.add.reduceat(weights, starts, dtype=np.float64))
    passed = uniform * stretches[-1]
    stretch = min(int(np.searchsorted(stretches, passed, side="right")), len(starts) - 1)
    rest = passed - (stretches[stretch - 1] if stretch else 0.0)
    cumulative = np.cumsum(weights[starts[stretch] : starts[stretch] + STRETCH].astype(np.float64))
    chosen = min(int(np.searchsorted(cumulative, rest, side="right")), len(cumulative) - 1)
    return int(candidates.ids[starts[stretch] + chosen])


class Choice(NamedTuple):
    """A token, its log-probability by the raw logits, and the likeliest tokens with theirs, where asked for."""

    token: int
    logprob: float | None
    top: tuple[tuple[int, float], ...]


def choice_of(logits: NDArray[np.float32], token: int, n_top: int | None) -> Choice:
    """A token with its log-probability and those of the n_top likeliest; None: without."""
    if n_top is None:
        return Choice(token, None, ())
    largest = logits.max()
    log_sum = float(largest) + math.log(float(np.exp(logits - largest).sum(dtype=np.float64)))
    top = np.argsort(-logits, kind="stable")[:n_top].tolist()
    return Choice(token, float(logits[token]) - log_sum, tuple((i, float(logits[i]) - log_sum) for i in top))


class Sampler:
    """Chooses tokens one after the other; remembers the last ones and the state of the random numbers."""

    def __init__(self, params: SamplingParams, prompt: Sequence[int] = (), tokenizer: Tokenizer | None = None) -> None:
        self.params = params
        # Python's generator, as its numbers for a seed stay the same from version to version
        self._random = random.Random(params.seed)
        self._tokens = list(prompt)

    def sample(self, logits: NDArray[np.float32], mask: NDArray[np.uint32] | None = None) -> Choice:
        """The next token after logits float32 [n_vocab], which stay as they are. ModelError if they hold a NaN."""
        params, raw = self.params, logits
        largest = logits[np.argmax(logits)]  # the first NaN, if there is one
        if not np.isfinite(largest):
            raise ModelError(f"the model computed a logit of {largest}: its weights are damaged or overflow float32")
        for process in params.logits_processors:
            logits = process(np.array(self._tokens), logits.copy())
            if not isinstance(logits, np.ndarray) or logits.shape != raw.shape:
                raise ParameterError("a logits processor returned the wrong shape")
        if mask is not None:
            bits = np.unpackbits(mask.view(np.uint8), bitorder="little")[: len(logits)]
            logits = np.where(bits, logits, np.float32(-np.inf))
        recent = self._tokens[-params.repetition_window :] if params.repetition_window else []
        logits = penalize_repetition(logits, recent, params.repetition_penalty)
        token = int(np.argmax(logits)) if params.temperature == 0 else self._draw(logits)
        self._tokens.append(token)
        return choice_of(raw, token, params.logprobs)

    def accept(self, token: int) -> None:
        """Note a token that was not drawn."""
        self._tokens.append(token)

    def _draw(self, logits: NDArray[np.float32]) -> int:
        params = self.params
        candidates = keep_top_k(all_candidates(logits), params.top_k)
        candidates = keep_top_p(candidates, params.top_p)
        candidates = keep_min_p(candidates, params.min_p)
        return draw(candidates, weigh(candidates, params.temperature), self._random.random())
