"""The fewest candidates of a total probability, of awkward logits: against a full sort in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyinfer import _sampling

# a sample of large sets is the first 16 of every 512
KINDS = {
    "flat": lambda rng, i, spread: rng.standard_normal(len(i)) * spread,
    "ranked": lambda rng, i, spread: rng.permutation(-spread * np.log1p(i)),
    "equal": lambda rng, i, spread: np.full(len(i), spread),
    "two values": lambda rng, i, spread: rng.integers(0, 2, len(i)) * spread,
    "steps": lambda rng, i, spread: np.round(rng.standard_normal(len(i)) * 4) / 4 * spread,
    "falling": lambda rng, i, spread: -10 * spread * i / len(i),
    "one peak": lambda rng, i, spread: rng.standard_normal(len(i)) / 100 + (i == len(i) // 2) * 5 * spread,
    "few possible": lambda rng, i, spread: np.where(i % 97 == 5, rng.standard_normal(len(i)) * spread, -np.inf),
    "far tail": lambda rng, i, spread: np.where(i % 7 == 5, rng.standard_normal(len(i)) * spread, -3e38),
    "sample too low": lambda rng, i, spread: rng.standard_normal(len(i)) - (i % 512 < 16) * spread,
    "sample too high": lambda rng, i, spread: rng.standard_normal(len(i)) + (i % 512 < 16) * spread,
    "sample impossible": lambda rng, i, spread: np.where(i % 512 < 16, -np.inf, rng.standard_normal(len(i))),
    "sample possible": lambda rng, i, spread: np.where(i % 512 < 16, rng.standard_normal(len(i)), -np.inf),
}
SIZES = st.sampled_from([1, 2, 15, 513, 5000, 16_383, 16_384, 40_001])
SHARES = st.sampled_from([1e-7, 0.001, 0.05, 0.5, 0.95, 0.999, 1 - 1e-7])


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=30)
@given(size=SIZES, spread=st.sampled_from([0.1, 1.0, 4.0]), p=SHARES, typical=st.booleans(), seed=st.integers(0, 99))
def test_a_share_is_that_of_the_fewest_that_come_first(kind, size, spread, p, typical, seed):
    logits = KINDS[kind](np.random.default_rng(seed), np.arange(size), spread).astype(np.float32)
    logits[-1] = max(logits[-1], -spread)  # one at least is possible
    center = np.float32(_sampling.mean_below(logits) if typical else 0)

    ids, left = _sampling.keep_share(np.arange(size, dtype=np.int32), logits, p, center)

    ids = ids[left > -np.inf]
    distance = np.abs(logits.max() - logits - center)
    order = np.argsort(distance, kind="stable") if center else np.argsort(-logits, kind="stable")
    weights = np.exp(logits[order].astype(np.float64) - logits.max())
    sums = np.cumsum(weights) / weights.sum()
    at_least, at_most = np.searchsorted(sums, [p - 1e-6, p + 1e-6]) + 1
    assert at_least <= len(ids) <= at_most
    assert ids.tolist() == sorted(order[: len(ids)].tolist())
