"""Mirostat 2 and adaptive-p, step by step beside the formulas written with plain numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive_samplers import follows_the_law, logits_of, random_logits, softmax

from pyinfer.sampling.filters import all_candidates
from pyinfer.sampling.mirostat import AdaptiveP, Mirostat

SPREADS = st.sampled_from([0.1, 1.0, 4.0])


def index_at(probabilities: dict[int, float], uniform: float) -> int:
    passed = 0.0
    for token, p in probabilities.items():
        passed += p
        if uniform < passed:
            return token
    return token


def law_of(choose, n_vocab: int, n: int = 20_000) -> np.ndarray:
    return np.bincount([choose(u) for u in np.random.default_rng(0).random(n)], minlength=n_vocab)


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
    assert abs(surprises @ softmax(logits) - 6.0) > 1.5  # the model alone is elsewhere
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

    assert follows_the_law(law_of(choose, 5), np.array([2 / 3, 1 / 3, 0, 0, 0]))


def test_mirostat_keeps_the_likeliest_where_everything_surprises():
    assert {Mirostat(0.0, 0.1).choose(all_candidates(logits_of([0.2, 0.5, 0.3])), u) for u in (0.0, 0.5, 0.99)} == {1}


def adapted(probabilities: np.ndarray, target: float) -> np.ndarray:
    distance = np.abs(probabilities - target) / 0.3
    return softmax(5 - 10 * distance**2 / (1 + distance))


@given(st.integers(1, 40), SPREADS, st.integers(0, 99), st.sampled_from([0.0, 0.3, 1.0]), st.sampled_from([0.0, 0.9]))
def test_adaptive_p_aims_at_the_target_mirrored_at_the_mean(size, spread, seed, target, decay):
    sampler, chosen_before = AdaptiveP(target, decay), []
    for step in range(8):
        logits = random_logits(size, spread, seed + step)
        uniform = float(np.random.default_rng(step).random())
        # as if the target had been met for ever, and then what was chosen
        history = [p * decay**n for n, p in enumerate(reversed(chosen_before))]
        rest = decay ** len(chosen_before) / (1 - decay)
        mean = (sum(history) + target * rest) / (sum(decay**n for n in range(len(history))) + rest)
        law = adapted(softmax(logits), min(max(2 * target - mean, 0), 1))
        chosen = sampler.choose(all_candidates(logits), uniform)
        cumulative = np.cumsum(law)
        assert cumulative[chosen] >= uniform - 1e-4
        assert chosen == 0 or cumulative[chosen - 1] <= uniform + 1e-4
        chosen_before.append(softmax(logits)[chosen])


def test_adaptive_p_draws_tokens_near_its_target():
    p = np.array([0.45, 0.3, 0.15, 0.07, 0.03])
    counts = law_of(lambda u: AdaptiveP(0.3, 0.9).choose(all_candidates(logits_of(p)), u), 5)
    assert follows_the_law(counts, adapted(p, 0.3))
    assert counts.argmax() == 1


def test_adaptive_p_never_draws_an_impossible_token():
    logits = logits_of([0.0, 0.5, 0.0, 0.5])
    assert {AdaptiveP(0.0, 0.5).choose(all_candidates(logits), u) for u in (0.0, 0.3, 0.7, 0.999)} == {1, 3}
