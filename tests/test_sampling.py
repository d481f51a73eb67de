"""Every step of sampling against its definition, written with a full sort in float64; the draw by its statistics."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyinfer.errors import ModelError, ParameterError
from pyinfer.runtime import sampling
from pyinfer.runtime.sampling import (
    Candidates,
    Sampler,
    SamplingParams,
    all_candidates,
    draw,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalize_repetition,
    weigh,
)

SIZES = st.sampled_from([1, 2, 3, 63, 64, 65, 1000, 5000, 20_000])
SPREADS = st.sampled_from([0.0, 0.1, 1.0, 4.0, 30.0])


def random_logits(size: int, spread: float, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(size) * spread).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return weights / weights.sum()


@given(SIZES, SPREADS, st.integers(0, 99), st.integers(0, 300))
def test_top_k_keeps_the_k_largest(size, spread, seed, k):
    logits = random_logits(size, spread, seed)
    kept = keep_top_k(all_candidates(logits), k)
    expected = size if k == 0 else min(k, size)
    assert len(set(kept.ids.tolist())) == expected
    assert np.array_equal(kept.logits, logits[kept.ids])
    assert np.array_equal(np.sort(kept.logits), np.sort(logits)[size - expected :])


def test_top_k_keeps_k_of_many_equal_logits():
    kept = keep_top_k(all_candidates(np.zeros(10_000, np.float32)), 40)
    assert len(set(kept.ids.tolist())) == 40


def test_top_k_finds_logits_after_the_last_full_column():
    logits = np.zeros(64 * 100 + 5, np.float32)
    logits[-3:] = 1
    assert sorted(keep_top_k(all_candidates(logits), 3).ids.tolist()) == [6402, 6403, 6404]


@settings(deadline=None)
@given(SIZES, SPREADS, st.integers(0, 99), st.sampled_from([0.0, 0.01, 0.5, 0.9, 0.95, 0.999]))
def test_top_p_keeps_the_fewest_likeliest_tokens_of_that_probability(size, spread, seed, p):
    logits = random_logits(size, spread, seed)
    kept = keep_top_p(all_candidates(logits), p)
    assert len(set(kept.ids.tolist())) == len(kept.ids) >= 1
    assert np.array_equal(np.sort(kept.logits), np.sort(logits)[size - len(kept.ids) :])
    probability = softmax(logits)
    mass = probability[kept.ids].sum()
    assert mass >= p - 1e-6
    assert len(kept.ids) == 1 or mass - probability[kept.ids].min() < p + 1e-6


def test_top_p_of_1_keeps_all_and_of_0_one():
    candidates = all_candidates(random_logits(1000, 5.0, 0))
    assert keep_top_p(candidates, 1.0) is candidates
    assert keep_top_p(candidates, 0.0).ids.tolist() == [int(np.argmax(candidates.logits))]


@given(SIZES, SPREADS, st.integers(0, 99), st.sampled_from([0.01, 0.05, 0.3, 1.0]))
def test_min_p_keeps_tokens_relative_to_the_likeliest(size, spread, seed, p):
    logits = random_logits(size, spread, seed)
    kept = set(keep_min_p(all_candidates(logits), p).ids.tolist())
    ratio = softmax(logits) / softmax(logits).max()
    assert set(np.flatnonzero(ratio >= p * (1 + 1e-4)).tolist()) <= kept
    assert kept <= set(np.flatnonzero(ratio >= p * (1 - 1e-4)).tolist())
    assert int(np.argmax(logits)) in kept


def test_min_p_of_0_keeps_all():
    candidates = all_candidates(random_logits(100, 5.0, 0))
    assert keep_min_p(candidates, 0.0) is candidates


def test_penalty_divides_positive_and_multiplies_negative_logits_once_a_token():
    logits = np.array([2.0, -2.0, 3.0, 0.0], np.float32)
    assert penalize_repetition(logits, [0, 1, 1, 0, 3], 2.0).tolist() == [1.0, -4.0, 3.0, 0.0]
    assert logits.tolist() == [2.0, -2.0, 3.0, 0.0]


@pytest.mark.parametrize("temperature", [0.3, 0.8, 1.0, 2.5])
def test_weights_are_the_softmax_at_a_temperature(temperature):
    logits = random_logits(500, 3.0, 1)
    weights = weigh(all_candidates(logits), temperature)
    np.testing.assert_allclose(weights / weights.sum(), softmax(logits.astype(np.float64) / temperature), rtol=2e-5)


@pytest.mark.parametrize("temperature", [1e-300, 1e-40, 1e-7])
def test_tiny_temperatures_leave_the_likeliest_token(temperature):
    weights = weigh(all_candidates(np.array([0.0, 1e38, -1e38], np.float32)), temperature)
    assert weights.tolist() == [0.0, 1.0, 0.0]


@given(st.integers(1, 3000), st.integers(0, 99), st.floats(0, 1, exclude_max=True))
def test_draw_inverts_the_cumulative_distribution(size, seed, uniform):
    weights = np.random.default_rng(seed).random(size).astype(np.float32)
    ids = np.arange(size) + 7
    chosen = draw(Candidates(ids, weights), weights, uniform) - 7
    cumulative = np.cumsum(weights.astype(np.float64))
    share = cumulative / cumulative[-1]
    assert share[chosen] >= uniform - 1e-9
    assert chosen == 0 or share[chosen - 1] <= uniform + 1e-9


def test_draw_never_takes_a_token_of_weight_0():
    weights = np.zeros(2000, np.float32)
    weights[1500] = 1
    assert {draw(Candidates(np.arange(2000), weights), weights, u) for u in (0.0, 0.5, math.nextafter(1, 0))} == {1500}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (SamplingParams(temperature=1, top_k=0, top_p=1, min_p=0, seed=5), [0.4, 0.3, 0.2, 0.1]),
        (SamplingParams(temperature=1, top_k=2, top_p=1, min_p=0, seed=5), [4 / 7, 3 / 7, 0, 0]),
        (SamplingParams(temperature=1, top_k=0, top_p=0.69, min_p=0, seed=5), [4 / 7, 3 / 7, 0, 0]),
        (SamplingParams(temperature=1, top_k=0, top_p=1, min_p=0.45, seed=5), [4 / 9, 3 / 9, 2 / 9, 0]),
        (SamplingParams(temperature=0.5, top_k=0, top_p=1, min_p=0, seed=5), [16 / 30, 9 / 30, 4 / 30, 1 / 30]),
        # top-p sees what top-k left: 4/9 + 3/9 < 0.8; at temperature 2 but for the cut at temperature 1
        (SamplingParams(temperature=1, top_k=3, top_p=0.8, min_p=0, seed=5), [4 / 9, 3 / 9, 2 / 9, 0]),
    ],
)
def test_frequencies_of_drawn_tokens_are_the_probabilities(params, expected):
    logits = np.log(np.array([0.4, 0.3, 0.2, 0.1])).astype(np.float32)
    sampler, n = Sampler(params), 40_000
    counts = np.bincount([sampler.sample(logits).token for _ in range(n)], minlength=4)
    for count, p in zip(counts, expected, strict=True):
        assert abs(count - n * p) <= 5 * math.sqrt(n * p * (1 - p))  # 5 standard deviations; none where p is 0


def test_temperature_comes_after_the_cuts():
    logits = np.log(np.array([0.4, 0.3, 0.2, 0.1])).astype(np.float32)
    # at temperature 10 nearly uniform: top-p 0.69 would need three tokens, at temperature 1 it needs two
    sampler = Sampler(SamplingParams(temperature=10, top_k=0, top_p=0.69, min_p=0, seed=1))
    assert {sampler.sample(logits).token for _ in range(300)} == {0, 1}


def test_temperature_0_takes_the_likeliest_token_after_the_penalty():
    logits = np.array([1.0, 4.0, 3.0], np.float32)
    assert Sampler(SamplingParams(temperature=0)).sample(logits).token == 1
    assert Sampler(SamplingParams(temperature=0, repetition_penalty=2.0), prompt=[1]).sample(logits).token == 2


def test_the_penalty_forgets_tokens_outside_the_window():
    sampler = Sampler(SamplingParams(temperature=0, repetition_penalty=10.0, repetition_window=2))
    logits = np.array([4.0, 3.0, 2.0], np.float32)
    assert [sampler.sample(logits).token for _ in range(6)] == [0, 1, 2, 0, 1, 2]
    off = Sampler(SamplingParams(temperature=0, repetition_penalty=10.0, repetition_window=0), prompt=[0])
    assert off.sample(logits).token == 0


def test_a_seed_gives_the_same_tokens_and_another_seed_others():
    logits = random_logits(1000, 1.0, 0)

    def tokens(seed):
        sampler = Sampler(SamplingParams(seed=seed, temperature=1.5))
        return [sampler.sample(logits).token for _ in range(20)]

    assert tokens(1) == tokens(1) != tokens(2)
    assert tokens(None) != tokens(None)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_logit_that_is_not_a_number_is_an_error(bad):
    logits = np.zeros(300, np.float32)
    logits[123] = bad
    with pytest.raises(ModelError, match=str(bad)):
        Sampler(SamplingParams()).sample(logits)


def test_impossible_tokens_are_never_drawn():
    logits = np.full(1000, -np.inf, np.float32)
    logits[[3, 4]] = 0.0
    for params in (
        SamplingParams(seed=1),
        SamplingParams(top_k=0, top_p=0.99, seed=1),
        SamplingParams(top_k=0, top_p=1),
    ):
        sampler = Sampler(params)
        assert {sampler.sample(logits).token for _ in range(100)} == {3, 4}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("temperature", v) for v in (-0.1, math.nan, math.inf, "1", None, True)),
        *(("top_k", v) for v in (-1, 1.5, None, True)),
        *(("top_p", v) for v in (-0.01, 1.01, math.nan)),
        *(("min_p", v) for v in (-0.01, 1.01)),
        *(("repetition_penalty", v) for v in (0, -1, math.inf)),
        ("repetition_window", -1),
        *(("seed", v) for v in (-1, 2**64, 1.0)),
        *(("max_tokens", v) for v in (0, -1, 2.0)),
        *(("stop", v) for v in ("", [""], [1], 5, None)),
    ],
)
def test_a_parameter_out_of_range_is_named_with_its_value(name, value):
    with pytest.raises(ParameterError) as caught:
        SamplingParams(**{name: value})
    message = str(caught.value)
    assert message.startswith(f"{name} is {value!r}; expected ")


def test_numbers_of_numpy_and_one_stop_text_are_taken():
    params = SamplingParams(temperature=np.float32(0.5), top_k=np.int64(3), stop="end")
    assert params.stop == ("end",)
    assert SamplingParams(stop=["a", "b"]).stop == ("a", "b")


def test_a_flat_distribution_takes_the_histogram_path_with_the_same_law(monkeypatch):
    monkeypatch.setattr(sampling, "ENOUGH_FOR_TOP_P", 1)
    logits = random_logits(3000, 2.0, 4)
    kept = keep_top_p(all_candidates(logits), 0.9)
    order = np.argsort(-logits, kind="stable")
    n = int(np.searchsorted(np.cumsum(softmax(logits)[order]), 0.9)) + 1
    assert sorted(kept.ids.tolist()) == sorted(order[:n].tolist())
