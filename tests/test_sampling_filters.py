"""Every filter against its definition, written with a full sort in float64; the draw by its statistics.

Pairs of probabilities before and after a filter are those of llama.cpp's own tests.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_samplers import entropy, follows_the_law, logits_of, random_logits, softmax, surprises

from pyinfer.sampling.filters import (
    Candidates,
    all_candidates,
    draw,
    dynamic_temperature,
    exclude_top_choices,
    keep_likeliest,
    keep_min_p,
    keep_top_k,
    keep_top_n_sigma,
    keep_top_p,
    keep_typical,
    probabilities,
    scale,
)

SIZES = st.sampled_from([1, 2, 3, 31, 32, 33, 511, 512, 513, 1000, 5000, 20_000])  # large sets are marked, not moved
SPREADS = st.sampled_from([0.0, 0.1, 1.0, 4.0, 30.0])
SEEDS = st.integers(0, 99)
CUTS = {
    "top_k": lambda c: keep_top_k(c, 7),
    "top_p": lambda c: keep_top_p(c, 0.8),
    "typical": lambda c: keep_typical(c, 0.7),
    "min_p": lambda c: keep_min_p(c, 0.1),
    "top_n_sigma": lambda c: keep_top_n_sigma(c, 1.2),
    "xtc": lambda c: exclude_top_choices(c, 0.02),
}

pytestmark = pytest.mark.filterwarnings("error")


def kept(candidates: Candidates) -> list[int]:
    """The ids that are still in the draw."""
    return candidates.ids[candidates.logits > -np.inf].tolist()


def after(cut, probabilities_before: list[float]) -> list[float]:
    """Probabilities of all tokens after a cut."""
    candidates = cut(all_candidates(logits_of(probabilities_before)))
    out = np.zeros(len(probabilities_before))
    out[candidates.ids] = softmax(candidates.logits)
    return out


@given(SIZES, SPREADS, SEEDS, st.integers(0, 300))
def test_top_k_keeps_the_k_largest(size, spread, seed, k):
    logits = random_logits(size, spread, seed)
    expected = np.argsort(-logits, kind="stable")[: k or size]
    assert kept(keep_top_k(all_candidates(logits), k)) == sorted(expected.tolist())


def test_top_k_keeps_the_first_of_equal_logits():
    logits = np.zeros(10_000, np.float32)
    logits[5000] = 1
    assert kept(keep_top_k(all_candidates(logits), 4)) == [0, 1, 2, 5000]
    assert kept(keep_top_k(all_candidates(logits), 9000)) == list(range(9000))


def test_top_k_finds_logits_in_any_order_of_size():
    rising = np.arange(100_000, dtype=np.float32)
    assert kept(keep_top_k(all_candidates(rising), 3)) == [99_997, 99_998, 99_999]
    assert kept(keep_top_k(all_candidates(rising[::-1].copy()), 3)) == [0, 1, 2]


def test_top_k_leaves_out_impossible_tokens():
    logits = np.full(100, -np.inf, np.float32)
    logits[[3, 50]] = [-1, 2]
    assert kept(keep_top_k(all_candidates(logits), 10)) == [3, 50]


@settings(deadline=None)
@given(SIZES, SPREADS, SEEDS, st.sampled_from([0.0, 0.01, 0.5, 0.9, 0.95, 0.999, 1 - 1e-12]))
def test_top_p_keeps_the_fewest_likeliest_tokens_of_that_probability(size, spread, seed, p):
    logits = random_logits(size, spread, seed)
    ids = kept(keep_top_p(all_candidates(logits), p))
    assert ids == sorted(np.argsort(-logits, kind="stable")[: len(ids)].tolist())
    share = softmax(logits)
    mass = share[ids].sum()
    assert mass >= p - 1e-6
    assert len(ids) == 1 or mass - share[ids].min() < p + 1e-6


def test_top_p_of_1_keeps_all_and_of_0_one():
    candidates = all_candidates(random_logits(1000, 5.0, 0))
    assert keep_top_p(candidates, 1.0) is candidates
    assert kept(keep_top_p(candidates, 0.0)) == [int(np.argmax(candidates.logits))]


def test_top_p_of_outliers_and_far_tails():
    logits = np.full(30_000, -1e30, np.float32)
    logits[:100] = -np.arange(100)
    logits[29_999] = -np.inf
    assert kept(keep_top_p(all_candidates(logits), 0.99)) == [0, 1, 2, 3, 4]
    logits[:100] = -1e30
    assert len(kept(keep_top_p(all_candidates(logits), 0.5))) == 15_000


@settings(deadline=None)
@given(SIZES, SPREADS, SEEDS, st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.99]))
def test_typical_keeps_the_fewest_tokens_of_usual_surprise(size, spread, seed, p):
    logits = random_logits(size, spread, seed)
    ids = kept(keep_typical(all_candidates(logits), p))
    share = softmax(logits)
    oddness = np.abs(surprises(logits) - entropy(logits))
    others = np.setdiff1d(np.arange(size), ids)
    assert len(others) == 0 or oddness[ids].max() <= oddness[others].min() + 1e-4
    oddest = ids[int(np.argmax(oddness[ids]))]
    assert share[ids].sum() > p - 1e-5
    assert len(ids) == 1 or share[ids].sum() - share[oddest] <= p + 1e-5


def test_typical_needs_more_than_p():
    assert len(kept(keep_typical(all_candidates(np.zeros(4, np.float32)), 0.5))) == 3
    assert len(kept(keep_top_p(all_candidates(np.zeros(4, np.float32)), 0.5))) == 2


@given(SIZES, SPREADS, SEEDS, st.sampled_from([0.01, 0.05, 0.3, 1.0]))
def test_min_p_keeps_tokens_relative_to_the_likeliest(size, spread, seed, p):
    logits = random_logits(size, spread, seed)
    ids = set(kept(keep_min_p(all_candidates(logits), p)))
    ratio = softmax(logits) / softmax(logits).max()
    assert set(np.flatnonzero(ratio >= p * (1 + 1e-4)).tolist()) <= ids
    assert ids <= set(np.flatnonzero(ratio >= p * (1 - 1e-4)).tolist())
    assert int(np.argmax(logits)) in ids


@given(SIZES, SPREADS, SEEDS, st.sampled_from([0.1, 1.0, 2.5]))
def test_top_n_sigma_keeps_logits_within_n_standard_deviations(size, spread, seed, n):
    logits = random_logits(size, spread, seed)
    logits[1::7] = -np.inf  # do not count
    ids = set(kept(keep_top_n_sigma(all_candidates(logits), n)))
    possible = logits[logits > -np.inf].astype(np.float64)
    floor = possible.max() - n * possible.std()
    slack = 1e-5 * max(1.0, abs(floor))
    assert set(np.flatnonzero(logits >= floor + slack).tolist()) <= ids
    assert ids <= set(np.flatnonzero(logits >= floor - slack).tolist())


@given(SIZES, SPREADS, SEEDS, st.sampled_from([0.01, 0.1, 0.3, 0.5]))
def test_xtc_leaves_the_least_likely_of_the_top_choices(size, spread, seed, threshold):
    logits = random_logits(size, spread, seed)
    ids = kept(exclude_top_choices(all_candidates(logits), threshold))
    order = np.argsort(-logits, kind="stable")
    n_over = int(np.count_nonzero(softmax(logits)[order] >= threshold))
    assert ids == sorted(order[max(0, n_over - 1) :].tolist())


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@given(st.permutations(range(60)), SEEDS)
def test_what_is_kept_does_not_depend_on_the_order_of_tokens(cut, order, seed):
    logits = random_logits(60, 2.0, seed)
    shuffled = kept(cut(all_candidates(logits[order])))
    assert sorted(order[i] for i in shuffled) == kept(cut(all_candidates(logits)))


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@given(SIZES, SPREADS, SEEDS)
def test_a_cut_keeps_some_of_the_candidates_in_order_with_their_logits(cut, size, spread, seed):
    logits = random_logits(size, spread, seed)
    candidates = Candidates(np.arange(size, dtype=np.int32) * 2 + 5, logits)
    left = cut(candidates)
    ids = kept(left)
    assert 1 <= len(ids) == len(set(ids)) <= size
    assert ids == sorted(ids)
    possible = left.logits > -np.inf
    assert np.array_equal(left.logits[possible], logits[(left.ids[possible] - 5) // 2])
    assert np.array_equal(logits, random_logits(size, spread, seed))


@pytest.mark.parametrize("name", ["top_k", "min_p"])
@given(SIZES, SPREADS, SEEDS)
def test_a_second_time_changes_nothing(name, size, spread, seed):
    once = CUTS[name](all_candidates(random_logits(size, spread, seed)))
    assert kept(CUTS[name](once)) == kept(once)


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@given(SEEDS, st.integers(-64, 64))
def test_adding_the_same_to_all_logits_changes_nothing(cut, seed, amount):
    logits = np.round(random_logits(500, 3.0, seed) * 1024) / np.float32(1024)  # so that sums are exact
    assert kept(cut(all_candidates(logits + np.float32(amount)))) == kept(cut(all_candidates(logits)))


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_impossible_tokens_stay_out_and_do_not_count(cut):
    logits = random_logits(20_000, 2.0, 3)
    out = np.arange(20_000) % 3 == 1
    marked = np.where(out, np.float32(-np.inf), logits)
    alone = Candidates(np.flatnonzero(~out).astype(np.int32), logits[~out])
    assert kept(cut(all_candidates(marked))) == kept(cut(alone))


@pytest.mark.parametrize(
    ("cut", "before", "expected"),
    [
        (lambda c: keep_top_k(c, 1), [0.1, 0.2, 0.3, 0.4], [0, 0, 0, 1]),
        (lambda c: keep_top_k(c, 3), [0.1, 0.2, 0.3, 0.4], [0, 0.22222, 0.33333, 0.44444]),
        (lambda c: keep_top_k(c, 0), [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4]),
        (lambda c: keep_top_p(c, 0.0), [0.1, 0.2, 0.3, 0.4], [0, 0, 0, 1]),
        (lambda c: keep_top_p(c, 0.8), [0.1, 0.2, 0.3, 0.4], [0, 0.22222, 0.33333, 0.44444]),
        (lambda c: keep_min_p(c, 0.24), [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4]),
        (lambda c: keep_min_p(c, 0.26), [0.1, 0.2, 0.3, 0.4], [0, 0.2 / 0.9, 0.3 / 0.9, 0.4 / 0.9]),
        (lambda c: keep_min_p(c, 0.49), [0.1, 0.2, 0.3, 0.4], [0, 0.2 / 0.9, 0.3 / 0.9, 0.4 / 0.9]),
        (lambda c: keep_min_p(c, 0.51), [0.1, 0.2, 0.3, 0.4], [0, 0, 0.3 / 0.7, 0.4 / 0.7]),
        (lambda c: keep_min_p(c, 0.76), [0.1, 0.2, 0.3, 0.4], [0, 0, 0, 1]),
        (lambda c: exclude_top_choices(c, 0.09), [0.4, 0.3, 0.2, 0.1], [0, 0, 0, 1]),
        (lambda c: exclude_top_choices(c, 0.19), [0.4, 0.3, 0.2, 0.1], [0, 0, 0.2 / 0.3, 0.1 / 0.3]),
        (lambda c: exclude_top_choices(c, 0.29), [0.4, 0.3, 0.2, 0.1], [0, 0.3 / 0.6, 0.2 / 0.6, 0.1 / 0.6]),
        (lambda c: exclude_top_choices(c, 0.39), [0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1]),
        (lambda c: keep_typical(c, 0.5), [0.97, 0.01, 0.01, 0.01], [1, 0, 0, 0]),
        (lambda c: keep_typical(c, 0.5), [0.4, 0.2, 0.2, 0.2], [0, 1 / 3, 1 / 3, 1 / 3]),
        (lambda c: keep_top_n_sigma(c, 1.0), [0.1, 0.2, 0.3, 0.4], [0, 0, 0.428571, 0.571429]),
        (lambda c: keep_top_n_sigma(c, 0.0), [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4]),
        (lambda c: keep_top_n_sigma(c, 3.0), [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4]),
        (lambda c: scale(c, 0.0), [0.1, 0.2, 0.3, 0.4], [0, 0, 0, 1]),
    ],
)
def test_the_figures_of_llama_cpp(cut, before, expected):
    np.testing.assert_allclose(after(cut, before), expected, atol=1e-5)


@given(SIZES, SPREADS, SEEDS)
def test_probabilities_are_the_softmax(size, spread, seed):
    logits = random_logits(size, spread, seed)
    np.testing.assert_allclose(probabilities(all_candidates(logits)), softmax(logits), rtol=1e-5, atol=1e-37)


@pytest.mark.parametrize("temperature", [0.3, 0.8, 1.0, 2.5])
def test_scale_divides_logits(temperature):
    logits = random_logits(500, 3.0, 1)
    np.testing.assert_allclose(scale(all_candidates(logits), temperature).logits, logits / temperature, rtol=1e-6)


@pytest.mark.parametrize("temperature", [0.0, 1e-300, 1e-40, 1e-7])
def test_tiny_temperatures_leave_the_likeliest_token(temperature):
    assert kept(scale(all_candidates(np.array([0.0, 1e38, -1e38], np.float32)), temperature)) == [1]


def test_scaled_logits_do_not_overflow():
    assert np.isfinite(scale(all_candidates(np.array([0.0, 1e38], np.float32)), 1e-5).logits).all()


@given(st.integers(2, 300), SPREADS, SEEDS, st.sampled_from([(0.8, 0.5, 1.0), (1.0, 2.0, 2.0), (0.0, 1.0, 0.5)]))
def test_dynamic_temperature_follows_the_entropy(size, spread, seed, setting):
    temperature, span, exponent = setting
    logits = random_logits(size, spread, seed)
    low, high = max(0.0, temperature - span), temperature + span
    expected = low + (high - low) * (entropy(logits) / math.log(size)) ** exponent
    assert dynamic_temperature(all_candidates(logits), *setting) == pytest.approx(expected, rel=1e-4, abs=1e-4)
    marked = np.append(logits, np.float32(-np.inf))
    assert dynamic_temperature(all_candidates(marked), *setting) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_one_candidate_has_the_plain_temperature():
    assert dynamic_temperature(all_candidates(np.zeros(1, np.float32)), 0.8, 0.5, 1.0) == 0.8


def test_the_likeliest_is_the_first_of_equals():
    assert kept(keep_likeliest(all_candidates(np.array([1, 3, 3], np.float32)))) == [1]


@given(st.integers(1, 3000), SEEDS, st.floats(0, 1, exclude_max=True), st.sampled_from([0.5, 1.0, 3.0]))
def test_draw_inverts_the_cumulative_distribution(size, seed, uniform, temperature):
    logits = random_logits(size, 2.0, seed)
    chosen = draw(all_candidates(logits), uniform, temperature)
    share = np.cumsum(softmax(logits.astype(np.float64) / temperature))
    assert share[chosen] >= uniform - 1e-6
    assert chosen == 0 or share[chosen - 1] <= uniform + 1e-6


@pytest.mark.parametrize("at", [0, 511, 512, 1500, 1999])
def test_draw_never_takes_an_impossible_token(at):
    logits = np.full(2000, -np.inf, np.float32)
    logits[at] = 1
    assert {draw(all_candidates(logits), u) for u in (0.0, 0.5, math.nextafter(1, 0))} == {at}


@pytest.mark.parametrize("n", [5, 1100])
def test_draws_follow_the_probabilities(n):
    logits = np.resize(logits_of([0.4, 0.3, 0.2, 0.1, 0.0]), n)
    rng = np.random.default_rng(0)
    counts = np.bincount([draw(all_candidates(logits), u) for u in rng.random(60_000)], minlength=n)
    assert follows_the_law(counts, softmax(logits))


def test_the_chi_square_test_sees_an_off_by_one():
    rng = np.random.default_rng(0)
    law = np.array([0.3, 0.3, 0.2, 0.1, 0.1])
    counts = np.bincount(rng.choice(5, 20_000, p=law), minlength=5)
    assert follows_the_law(counts, law)
    assert not follows_the_law(np.roll(counts, 1), law)
    assert not follows_the_law(counts, np.array([0.3, 0.3, 0.2, 0.2, 0.0]))
    assert not follows_the_law(counts, np.array([0.32, 0.3, 0.19, 0.1, 0.09]))
