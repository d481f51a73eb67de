"""Log-probabilities against the softmax in float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive_samplers import random_logits

from pyinfer.sampling.logprobs import choice_of


def log_softmax(logits: np.ndarray) -> np.ndarray:
    below = logits.astype(np.float64) - logits.max()
    return below - np.log(np.exp(below).sum())


@given(st.sampled_from([1, 2, 513, 20_000]), st.sampled_from([0.1, 3.0, 30.0]), st.integers(0, 99), st.integers(0, 30))
def test_logprobs_are_the_logarithm_of_the_softmax(size, spread, seed, n_top):
    logits = random_logits(size, spread, seed)
    expected = log_softmax(logits)
    token = seed % size
    choice = choice_of(logits, token, n_top)
    assert choice.token == token
    assert choice.logprob == pytest.approx(expected[token], rel=1e-6, abs=1e-6)
    order = np.argsort(-logits, kind="stable")[:n_top]
    assert [i for i, _ in choice.top] == order.tolist()
    np.testing.assert_allclose([p for _, p in choice.top], expected[order], rtol=1e-6, atol=1e-6)


def test_the_first_of_equals_comes_first():
    logits = np.zeros(5000, np.float32)
    assert [i for i, _ in choice_of(logits, 0, 3).top] == [0, 1, 2]
    assert [i for i, _ in choice_of(np.array([1, 2, 2], np.float32), 0, 3).top] == [1, 2, 0]


def test_none_asks_for_none_and_0_for_the_token_alone():
    logits = np.zeros(4, np.float32)
    assert choice_of(logits, 2, None) == (2, None, ())
    assert choice_of(logits, 2, 0) == (2, pytest.approx(-np.log(4)), ())


def test_impossible_and_huge_logits():
    logits = np.array([-np.inf, 3e38, -3e38], np.float32)
    assert choice_of(logits, 0, 1) == (0, -np.inf, ((1, 0.0),))
    assert choice_of(logits[::-1], 2, 1) == (2, -np.inf, ((1, 0.0),))  # not contiguous
