"""Mirostat 2, step by step beside its formulas in plain numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive_samplers import counts_of_draws, follows_the_law, logits_of, random_logits, softmax

from pyinfer.sampling.filters import all_candidates
from pyinfer.sampling.mirostat import Mirostat

SPREADS = st.sampled_from([0.1, 1.0, 4.0])


def index_at(probabilities: dict[int, float], uniform: float) -> int:
    total = 0.0
    for token, p in probabilities.items():
        total += p
        if uniform < total:
            return token
    return token


@given(st.integers(1, 40), SPREADS, st.integers(0, 99), st.sampled_from([0.5, 3.0, 5.0]), st.sampled_from([0.1, 0.7]))
def test_mirostat_moves_mu_by_the_surprise_of_what_it_chose(size, spread, seed, tau, eta):
    mirostat, mu = Mirostat(tau, eta), 2 * tau
    for step in range(8):
        logits = random_logits(size, spread, seed + step)
        uniform = float(np.random.default_rng(step).random())
        share = {i: float(p) for i, p in enumerate(softmax(logits))}
        near = any(abs(-math.log2(p) - mu) < 1e-4 for p in share.values())
        left = {i: p for i, p in share.items() if -math.log2(p) <= mu} or {max(share, key=share.get): 1.0}
        left = {i: p / sum(left.values()) for i, p in left.items()}
        expected = index_at(left, uniform)
        chosen = mirostat.choose(all_candidates(logits), uniform)
        if near or chosen != expected:  # a rounding apart
            cumulative = np.cumsum(list(left.values()))
            assert near or np.abs(cumulative - uniform).min() < 1e-5
            return
        mu -= eta * (-math.log2(left[expected]) - tau)
        assert mirostat.mu == pytest.approx(mu, rel=1e-4, abs=1e-4)


def test_mirostat_holds_the_mean_surprise_at_its_target():
    logits = random_logits(2000, 2.0, 0)
    surprises = -np.log2(softmax(logits))
    assert abs(surprises @ softmax(logits) - 6.0) > 1.5  # the model alone misses the target
    mirostat, seen = Mirostat(6.0, 0.1), []
    for uniform in np.random.default_rng(1).random(3000):
        left = softmax(logits)[surprises <= mirostat.mu].sum()
        seen.append(surprises[mirostat.choose(all_candidates(logits), uniform)] + np.log2(left))
    assert np.mean(seen) == pytest.approx(6.0, abs=0.05)


def test_mirostat_draws_from_what_is_left():
    logits = logits_of([0.5, 0.25, 0.125, 0.0625, 0.0625])

    def choose(uniform: float) -> int:
        mirostat = Mirostat(1.25, 0.1)  # mu = 2.5 bits: the first two, of 1 and 2 bits
        return mirostat.choose(all_candidates(logits), uniform)

    assert follows_the_law(counts_of_draws(choose, 5), np.array([2 / 3, 1 / 3, 0, 0, 0]))


def test_mirostat_keeps_the_likeliest_where_everything_surprises():
    assert {Mirostat(0.0, 0.1).choose(all_candidates(logits_of([0.2, 0.5, 0.3])), u) for u in (0.0, 0.5, 0.99)} == {1}
