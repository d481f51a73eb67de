"""Masks of tokens: their bits against the definition."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from pyinfer.errors import ParameterError
from pyinfer.guides.masks import allowed_ids, apply_mask, mask_words


def is_allowed(mask, token):
    return token // 32 < len(mask) and bool(mask[token // 32] >> np.uint32(token % 32) & np.uint32(1))


@settings(max_examples=60, deadline=None)
@given(
    mask=st.integers(1, 40).flatmap(lambda n: arrays(np.uint32, n)),
    n_vocab=st.integers(1, 1400),
)
def test_logits_of_tokens_outside_the_mask_become_minus_infinity(mask, n_vocab):
    logits = np.random.default_rng(0).standard_normal(n_vocab).astype(np.float32)
    expected = [value if is_allowed(mask, token) else -np.inf for token, value in enumerate(logits)]

    apply_mask(logits, mask)

    np.testing.assert_array_equal(logits, np.array(expected, np.float32))


@settings(max_examples=60, deadline=None)
@given(
    mask=st.integers(1, 40).flatmap(lambda n: arrays(np.uint32, n, elements=st.sampled_from([0, 1, 2**31, 2**32 - 1]))),
    n_vocab=st.none() | st.integers(0, 1400),
)
def test_allowed_ids_are_those_of_the_bits(mask, n_vocab):
    n = 32 * len(mask) if n_vocab is None else n_vocab

    assert allowed_ids(mask, n_vocab).tolist() == [token for token in range(n) if is_allowed(mask, token)]


@pytest.mark.parametrize("n_vocab", [32_000, 151_936, 262_144])
def test_masks_of_large_vocabularies(n_vocab):
    rng = np.random.default_rng(1)
    kept = np.sort(rng.choice(n_vocab, 1000, replace=False))
    bits = np.zeros(32 * mask_words(n_vocab), np.uint8)
    bits[kept] = 1
    mask = np.packbits(bits, bitorder="little").view(np.uint32)
    logits = rng.standard_normal(n_vocab).astype(np.float32)
    before = logits.copy()

    apply_mask(logits, mask)

    np.testing.assert_array_equal(allowed_ids(mask), kept)
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(logits)), kept)
    np.testing.assert_array_equal(logits[kept], before[kept])


@pytest.mark.parametrize("n", [3, 35])  # a part of a word, and a whole one
def test_a_logit_that_is_no_number_stays_to_be_found(n):
    logits = np.array([*np.zeros(n - 3), np.nan, 1, np.inf], np.float32)

    apply_mask(logits, np.array([1 << (n - 2) % 32] * mask_words(n), np.uint32))

    np.testing.assert_array_equal(logits[-3:], np.array([np.nan, 1, -np.inf], np.float32))


def test_logits_that_lie_apart_are_masked_in_place():
    rows = np.zeros((40, 2), np.float32)

    apply_mask(rows[:, 0], np.array([0b101, 0b10], np.uint32))

    assert np.flatnonzero(rows[:, 0] == 0).tolist() == [0, 2, 33]
    assert not rows[:, 1].any()


@pytest.mark.parametrize(
    ("logits", "mask", "says"),
    [
        (np.zeros((1, 32), np.float32), np.zeros(1, np.uint32), r"logits are float32 \[1, 32\]; expected float32"),
        (np.zeros(32), np.zeros(1, np.uint32), "logits are float64"),
        (np.zeros(32, np.float32), np.zeros(1, np.int32), r"the mask is int32 \[1\]; expected uint32 \[n_words\]"),
        (np.zeros(32, np.float32), np.zeros((1, 1), np.uint32), r"the mask is uint32 \[1, 1\]"),
    ],
)
def test_other_shapes_and_types_are_refused(logits, mask, says):
    with pytest.raises(ParameterError, match=says):
        apply_mask(logits, mask)
