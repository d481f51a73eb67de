"""Adaptive-p, step by step beside its formula in plain numbers."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from naive_samplers import counts_of_draws, follows_the_law, logits_of, random_logits, softmax

from pyinfer.sampling.adaptive_p import AdaptiveP
from pyinfer.sampling.filters import all_candidates

SPREADS = st.sampled_from([0.1, 1.0, 4.0])


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
    counts = counts_of_draws(lambda u: AdaptiveP(0.3, 0.9).choose(all_candidates(logits_of(p)), u), 5)
    assert follows_the_law(counts, adapted(p, 0.3))
    assert counts.argmax() == 1


def test_adaptive_p_never_draws_an_impossible_token():
    logits = logits_of([0.0, 0.5, 0.0, 0.5])
    assert {AdaptiveP(0.0, 0.5).choose(all_candidates(logits), u) for u in (0.0, 0.3, 0.7, 0.999)} == {1, 3}
