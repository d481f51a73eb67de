"""Penalties against loops over all tokens; DRY against a search for each earlier copy of the text's end."""

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive_samplers import logits_of, penalized, random_logits, repeat_lengths, softmax
from tiny_vocabularies import ListedTokens, bpe_metadata

from pyinfer import _sampling
from pyinfer.sampling.filters import Candidates, all_candidates
from pyinfer.sampling.penalties import MAX_BREAKERS, Breakers, find_breakers, penalize, penalize_repeats
from pyinfer.tokenizer import tokenizer_from_metadata

TOKENS = st.lists(st.integers(0, 3), max_size=40)  # few different ones, so that much is repeated


def ids(tokens) -> np.ndarray:
    return np.array(tokens, np.int64)


def breakers_of(n_vocab: int, *sequences: tuple[int, ...]) -> Breakers:
    texts = [chr(ord("a") + i) for i in range(n_vocab)]
    return Breakers.of_texts(ListedTokens(texts), ["".join(texts[i] for i in s) for s in sequences])


@given(
    st.lists(st.integers(0, 60), max_size=80),
    st.sampled_from([1.0, 1.3, 0.7]),
    st.sampled_from([0.0, 0.25, -0.5]),
    st.sampled_from([0.0, 1.5]),
    st.integers(0, 99),
)
def test_penalties_are_what_they_are_defined_as(recent, repetition, frequency, presence, seed):
    logits = random_logits(50, 3.0, seed)  # not all recent tokens are candidates
    candidates = all_candidates(logits)
    out = penalize(candidates, ids(recent), repetition, frequency, presence)
    expected = penalized(logits, recent, repetition, frequency, presence)
    np.testing.assert_allclose(out.logits, expected, rtol=1e-5, atol=1e-5)
    assert np.array_equal(out.ids, candidates.ids)
    assert np.array_equal(logits, random_logits(50, 3.0, seed))


def test_penalties_find_tokens_among_what_a_cut_left():
    candidates = Candidates(np.array([3, 7, 9], np.int32), np.array([2.0, -2.0, 1.0], np.float32))
    out = penalize(candidates, ids([7, 3, 8, 3, 1000]), 2.0, 0.25, 0.0)
    assert out.logits.tolist() == [0.5, -4.25, 1.0]


def test_an_impossible_token_stays_impossible():
    candidates = all_candidates(np.array([-np.inf, 1.0], np.float32))
    assert penalize(candidates, ids([0]), 0.5, -1.0, -1.0).logits.tolist() == [-np.inf, 1.0]


@pytest.mark.parametrize(
    ("recent", "expected", "setting"),
    [
        ([0], [0.0, 0.25, 0.25, 0.25, 0.25], (50.0, 0.0, 0.0)),
        ([0, 1, 2, 0, 0], [0.0, 0.0, 0.0, 0.5, 0.5], (50.0, 0.0, 0.0)),
        ([0], [0.000011, 0.249997, 0.249997, 0.249997, 0.249997], (1.0, 5.0, 5.0)),
        ([0, 1, 2], [0.000023, 0.000023, 0.000023, 0.499966, 0.499966], (1.0, 5.0, 5.0)),
        ([0, 1, 2, 0, 0], [0.000000, 0.000023, 0.000023, 0.499977, 0.499977], (1.0, 5.0, 5.0)),
    ],
)
def test_the_penalties_of_llama_cpp(recent, expected, setting):
    out = penalize(all_candidates(logits_of([0.2] * 5)), ids(recent), *setting)
    np.testing.assert_allclose(softmax(out.logits), expected, atol=1e-5)


@given(TOKENS, st.integers(0, 12), st.integers(0, 4))
def test_repeats_are_the_longest_earlier_copies(tokens, limit, shortest):
    found = dict(zip(*(a.tolist() for a in _sampling.repeats(ids([9, *tokens]), limit, shortest)), strict=True))
    assert found == repeat_lengths([9, *tokens], limit, shortest)


@given(TOKENS, st.integers(0, 4), st.sampled_from([1.0, 1.75, 3.0]))
def test_dry_lowers_what_would_continue_a_repetition(tokens, allowed_length, base):
    logits = random_logits(4, 1.0, len(tokens))
    out = penalize_repeats(all_candidates(logits), ids(tokens), Breakers.none(4), 0.8, base, allowed_length)
    expected = logits.astype(np.float64)
    if len(tokens) > allowed_length:
        for token, length in repeat_lengths(tokens, len(tokens), allowed_length).items():
            expected[token] -= 0.8 * base ** (length - allowed_length)
    np.testing.assert_allclose(out.logits, expected, rtol=1e-5)


@given(TOKENS, st.integers(0, 3))
def test_dry_does_not_reach_across_breakers_nor_lower_them(tokens, allowed_length):
    breakers = breakers_of(4, (3,))
    logits = random_logits(4, 1.0, len(tokens))
    out = penalize_repeats(all_candidates(logits), ids(tokens), breakers, 1.0, 2.0, allowed_length)
    expected = logits.astype(np.float64)
    limit = tokens[::-1].index(3) if 3 in tokens else len(tokens)
    if len(tokens) > allowed_length and limit >= allowed_length:
        for token, length in repeat_lengths(tokens, limit, allowed_length).items():
            expected[token] -= 0 if token == 3 else 2.0 ** (length - allowed_length)
    np.testing.assert_allclose(out.logits, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("n", "tokens", "expected", "multiplier", "allowed_length", "breakers"),
    [
        (4, [0, 1], [0.25] * 4, 1.0, 2, []),
        (4, [0, 1, 2, 0, 1], [0.296923, 0.296923, 0.109232, 0.296923], 1.0, 2, []),
        (5, [0, 1, 3, 4, 0, 1], [0.2] * 5, 1.0, 2, [(3,)]),
        (5, [0, 1, 2, 0, 1], [0.241818, 0.241818, 0.032727, 0.241818, 0.241818], 2.0, 2, []),
        (5, [0, 1, 2, 3, 4, 0, 1], [0.2] * 5, 1.0, 4, []),
    ],
)
def test_the_dry_of_llama_cpp(n, tokens, expected, multiplier, allowed_length, breakers):
    candidates = all_candidates(logits_of([1 / n] * n))
    out = penalize_repeats(candidates, ids(tokens), breakers_of(n, *breakers), multiplier, 1.1, allowed_length)
    np.testing.assert_allclose(softmax(out.logits), expected, atol=1e-5)


def test_tokens_beyond_the_vocabulary_break_nothing():
    candidates = all_candidates(np.zeros(10, np.float32))
    out = penalize_repeats(candidates, ids([8, 9, 8, 9]), breakers_of(4, (3,)), 1.0, 2.0, 1)
    assert np.flatnonzero(out.logits).tolist() == [8]


def test_long_repetitions_of_a_large_base_stay_numbers():
    out = penalize_repeats(all_candidates(np.zeros(2, np.float32)), ids([0] * 5000), Breakers.none(2), 5.0, 1e6, 2)
    assert np.isfinite(out.logits).all()
    assert out.logits[0] < -1e37


def test_breakers_are_tokens_with_the_text_in_them_and_beginnings_of_it_that_its_rest_follows():
    texts = ["x", "a", "b", "xa", "abx", "ab", "c", "bc"]
    breakers = Breakers.of_texts(ListedTokens(texts), ["ab", "c"])
    assert np.flatnonzero(breakers.is_alone).tolist() == [4, 5, 6, 7]
    assert breakers.tails[1] == breakers.tails[3] == ((2,),)  # "a" or "xa", and then "b"
    assert np.flatnonzero(breakers.is_head).tolist() == [1, 3, 4, 5, 6, 7]


@given(st.lists(st.integers(0, 4), max_size=12))
def test_tokens_since_a_breaker_are_counted_from_the_end_of_the_last_one(tokens):
    sequences = [(4,), (0, 1), (0, 2, 3)]
    breakers = breakers_of(5, *sequences)
    since = len(tokens)
    for head in range(len(tokens)):
        ends = [head + len(s) for s in sequences if tuple(tokens[head : head + len(s)]) == s]
        since = len(tokens) - max(ends) if ends else since
    assert breakers.tokens_since(ids(tokens)) == since


def test_breakers_of_a_real_tokenizer():
    tokenizer = tokenizer_from_metadata(bpe_metadata([": Ċ", "Ċ Ċ", "o k"]))
    breakers = find_breakers(tokenizer, ("\n", ":"))
    alone = [tokenizer.token_bytes(i) for i in np.flatnonzero(breakers.is_alone)]
    assert sorted(alone) == [b"\n", b"\n\n", b":", b":\n"]


def test_breakers_are_looked_for_once_and_forgotten_with_the_tokenizer(monkeypatch):
    calls = []
    look = Breakers.of_texts
    monkeypatch.setattr(Breakers, "of_texts", lambda *a: calls.append(a[1]) or look(*a))
    vocabulary = ListedTokens(["a", "b"])
    assert find_breakers(vocabulary, ("a",)) is find_breakers(vocabulary, ("a",))
    assert len(calls) == 1
    sets = [("a" * (i + 1),) for i in range(20)]
    found = [weakref.ref(find_breakers(vocabulary, texts)) for texts in sets]
    gc.collect()
    assert [breakers() is not None for breakers in found] == [False] * (20 - MAX_BREAKERS) + [True] * MAX_BREAKERS
    del vocabulary
    gc.collect()
    assert not any(breakers() for breakers in found)
