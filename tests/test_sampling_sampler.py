"""The sampler of a text: the order of its steps, banned tokens, processors, seeds, forks and log-probabilities."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive_samplers import follows_the_law, logits_of, penalized, random_logits, softmax
from tiny_vocabularies import ListedTokens

from pyinfer.errors import ModelError, ParameterError
from pyinfer.sampling.params import SAMPLERS, SamplingParams
from pyinfer.sampling.sampler import Sampler, derived_seed

ABCD = logits_of([0.4, 0.3, 0.2, 0.1])
PLAIN = {"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0, "seed": 5}


def sampler_of(params: SamplingParams, prompt=(), n_vocab=20_000, eog_ids=()) -> Sampler:
    return Sampler(params, prompt, ListedTokens([str(i) for i in range(n_vocab)], eog_ids))


def tokens_of(sampler: Sampler, logits: np.ndarray, n: int, **limits) -> list[int]:
    return [sampler.sample(logits, **limits).token for _ in range(n)]


def mask_of(ids, n: int) -> np.ndarray:
    bits = np.zeros((n + 31) // 32 * 32, np.uint8)
    bits[list(ids)] = 1
    return np.packbits(bits, bitorder="little").view(np.uint32)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [0.4, 0.3, 0.2, 0.1]),
        ({"top_k": 2}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_p": 0.69}, [4 / 7, 3 / 7, 0, 0]),
        ({"min_p": 0.45}, [4 / 9, 3 / 9, 2 / 9, 0]),
        ({"typical_p": 0.4}, [0, 3 / 5, 2 / 5, 0]),  # surprises .92 1.20 1.61 2.30, entropy 1.28
        ({"top_n_sigma": 1.0}, [4 / 7, 3 / 7, 0, 0]),  # deviation .52
        ({"temperature": 0.5}, [16 / 30, 9 / 30, 4 / 30, 1 / 30]),
        # top-p sees what top-k left: 4/9 + 3/9 < 0.8; and that at temperature 1
        ({"top_k": 3, "top_p": 0.8}, [4 / 9, 3 / 9, 2 / 9, 0]),
        ({"xtc_probability": 1.0, "xtc_threshold": 0.15}, [0, 0, 2 / 3, 1 / 3]),
        ({"xtc_probability": 0.25, "xtc_threshold": 0.15}, [0.3, 0.225, 0.15 + 1 / 6, 0.075 + 1 / 12]),
        ({"xtc_probability": 1.0, "xtc_threshold": 0.51}, [0.4, 0.3, 0.2, 0.1]),
        ({"logit_bias": {3: math.log(2), 0: -math.inf}}, [0, 3 / 7, 2 / 7, 2 / 7]),
        ({"banned_tokens": [1]}, [4 / 7, 0, 2 / 7, 1 / 7]),
        ({"allowed_tokens": [1, 3]}, [0, 3 / 4, 0, 1 / 4]),
        ({"samplers": ["top_k"], "temperature": 0.1}, [0.4, 0.3, 0.2, 0.1]),  # what is not listed does not act
        ({"samplers": [], "top_k": 1}, [0.4, 0.3, 0.2, 0.1]),
    ],
)
def test_frequencies_of_drawn_tokens_are_the_probabilities(changes, expected):
    tokens = tokens_of(sampler_of(SamplingParams(**{**PLAIN, **changes}), n_vocab=4), ABCD, 20_000)
    assert follows_the_law(np.bincount(tokens, minlength=4), np.array(expected))


def test_dynamic_temperature_follows_the_entropy_of_what_the_cuts_left():
    params = SamplingParams(**{**PLAIN, "temperature": 0.8, "dynatemp_range": 0.5, "top_k": 3})
    tokens = tokens_of(sampler_of(params, n_vocab=4), ABCD, 20_000)
    p = np.array([4, 3, 2]) / 9
    temperature = 0.3 + 1.0 * -(p * np.log(p)).sum() / math.log(3)
    law = np.append(softmax(np.log(p) / temperature), 0)
    assert follows_the_law(np.bincount(tokens, minlength=4), law)


def test_a_flat_vocabulary_is_drawn_from_evenly():
    n = 4200  # so many that those left out are marked, not moved
    params = SamplingParams(**{**PLAIN, "top_p": 0.5})
    counts = np.bincount(tokens_of(sampler_of(params), np.zeros(n, np.float32), 20_000), minlength=n)
    assert follows_the_law(counts, np.array([1 / 2100] * 2100 + [0] * 2100))


def test_temperature_comes_after_the_cuts_by_default_and_where_it_is_put():
    # at temperature 10 nearly uniform: top-p 0.69 needs three tokens, at temperature 1 it needs two
    params = {**PLAIN, "temperature": 10, "top_p": 0.69}
    assert set(tokens_of(sampler_of(SamplingParams(**params)), ABCD, 300)) == {0, 1}
    early = SamplingParams(**params, samplers=["temperature", "top_p"])
    assert set(tokens_of(sampler_of(early), ABCD, 300)) == {0, 1, 2}


def test_penalties_come_first_by_default_and_where_they_are_put():
    params = {"temperature": 0, "presence_penalty": 2.0, "top_k": 1}
    assert sampler_of(SamplingParams(**params), prompt=[0]).sample(ABCD).token == 1
    late = SamplingParams(**params, samplers=["top_k", "penalties", "temperature"])
    assert sampler_of(late, prompt=[0]).sample(ABCD).token == 0


@given(st.permutations([s for s in SAMPLERS if s != "adaptive_p"]), st.integers(0, 99))
def test_temperature_0_takes_the_likeliest_of_what_the_steps_before_it_leave(order, seed):
    settings = {"temperature": 0, "typical_p": 0.5, "top_k": 9, "min_p": 0.01, "top_n_sigma": 2.0, "seed": 1}
    settings |= {"xtc_probability": 1.0, "xtc_threshold": 0.05, "repetition_penalty": 1.5}
    logits = random_logits(100, 2.0, seed)
    before = order[: order.index("temperature")]
    greedy = sampler_of(SamplingParams(**settings, samplers=order), prompt=[3, 5])
    # the same at a temperature that leaves nothing else, in a chain that ends there
    cold = {**settings, "temperature": 1e-5}
    drawn = sampler_of(SamplingParams(**cold, samplers=[*before, "temperature"]), prompt=[3, 5])
    assert greedy.sample(logits).token == drawn.sample(logits).token


def test_temperature_0_takes_the_likeliest_token_after_the_penalty():
    logits = np.array([1.0, 4.0, 3.0], np.float32)
    assert sampler_of(SamplingParams(temperature=0)).sample(logits).token == 1
    assert sampler_of(SamplingParams(temperature=0, repetition_penalty=2.0), prompt=[1]).sample(logits).token == 2


def test_a_dynamic_temperature_around_0_is_not_greedy():
    params = SamplingParams(**{**PLAIN, "temperature": 0, "dynatemp_range": 2.0})
    assert set(tokens_of(sampler_of(params), ABCD, 100)) == {0, 1, 2, 3}


@pytest.mark.parametrize("window", [0, 1, 2, 50, -1])
def test_penalties_see_prompt_and_text_within_the_window(window):
    prompt = [3, 3, 1]
    params = SamplingParams(
        temperature=0, repetition_penalty=1.5, frequency_penalty=0.3, presence_penalty=0.2, repetition_window=window
    )
    sampler, tokens = sampler_of(params, prompt), list(prompt)
    logits = np.array([2.0, 1.9, 1.8, 1.7, -1.0], np.float32)
    for _ in range(12):
        recent = tokens[len(tokens) - window :] if 0 <= window < len(tokens) else tokens
        expected = int(np.argmax(penalized(logits, recent, 1.5, 0.3, 0.2)))
        assert sampler.sample(logits).token == expected
        tokens.append(expected)
    assert sampler.tokens.tolist() == tokens


def test_dry_ends_a_repetition_within_its_window():
    text = [0, 1, 2, 3, 0, 1]
    logits = np.array([0.0, 0.0, 1.0, 0.9], np.float32)
    params = {"temperature": 0, "dry_multiplier": 0.5, "dry_sequence_breakers": ()}
    assert sampler_of(SamplingParams(**params), text).sample(logits).token == 3
    assert sampler_of(SamplingParams(**params, dry_window=6), text).sample(logits).token == 3
    assert sampler_of(SamplingParams(**params, dry_window=5), text).sample(logits).token == 2
    assert sampler_of(SamplingParams(**params, dry_window=0), text).sample(logits).token == 2
    assert sampler_of(SamplingParams(**params, dry_allowed_length=3), text).sample(logits).token == 2
    broken = {**params, "dry_sequence_breakers": ["0"]}
    assert sampler_of(SamplingParams(**broken), text).sample(logits).token == 2


def test_adaptive_p_draws_last_and_mirostat_alone():
    adaptive = SamplingParams(**{**PLAIN, "adaptive_target": 0.2, "top_k": 3, "samplers": ("adaptive_p", "top_k")})
    assert set(tokens_of(sampler_of(adaptive), ABCD, 200)) == {0, 1, 2}
    without = SamplingParams(**{**PLAIN, "adaptive_target": 0.2, "samplers": ()})
    assert tokens_of(sampler_of(without), ABCD, 50) == tokens_of(sampler_of(SamplingParams(**PLAIN)), ABCD, 50)
    mirostat = SamplingParams(**{**PLAIN, "mirostat": True, "top_k": 1, "mirostat_tau": 5.0})
    assert set(tokens_of(sampler_of(mirostat), ABCD, 200)) == {0, 1, 2, 3}
    cold = SamplingParams(**{**PLAIN, "mirostat": True, "temperature": 0})
    assert set(tokens_of(sampler_of(cold), ABCD, 20)) == {0}


def test_adaptive_p_sees_the_temperature():
    params = SamplingParams(**{**PLAIN, "temperature": 0.5, "adaptive_target": 0.3, "adaptive_decay": 0.0})
    sampler, law = sampler_of(params), np.zeros(4)
    counts, mean = np.zeros(4), 0.3
    p = np.array([16, 9, 4, 1]) / 30
    for _ in range(20_000):
        distance = np.abs(p - np.clip(0.6 - mean, 0, 1)) / 0.3
        law += softmax(5 - 10 * distance**2 / (1 + distance))
        token = sampler.sample(ABCD).token
        counts[token] += 1
        mean = p[token]
    assert follows_the_law(counts, law / law.sum())


def test_mirostat_with_room_for_every_token_draws_at_the_temperature():
    params = SamplingParams(**{**PLAIN, "temperature": 0.5, "mirostat": True, "mirostat_tau": 20.0, "mirostat_eta": 0})
    counts = np.bincount(tokens_of(sampler_of(params), ABCD, 20_000), minlength=4)
    assert follows_the_law(counts, np.array([16, 9, 4, 1]) / 30)


LIMITS = st.sets(st.integers(0, 69), min_size=1)


@given(LIMITS, LIMITS, LIMITS, LIMITS, st.integers(0, 99), st.booleans())
def test_only_what_every_limit_allows_is_drawn(allowed, in_mask, banned, banned_now, seed, limited):
    possible = in_mask - banned - banned_now - {7}
    possible = possible & allowed if limited else possible
    params = {"ignore_eos": True, "banned_tokens": banned - allowed, "seed": seed, "temperature": 5.0}
    possible |= in_mask & allowed & banned - banned_now - {7}  # what is allowed is not banned here
    params |= {"allowed_tokens": allowed} if limited else {}
    sampler = sampler_of(SamplingParams(**params), n_vocab=70, eog_ids=[7])
    logits = random_logits(70, 1.0, seed)
    if not possible:
        with pytest.raises(ParameterError, match="no token is left"):
            sampler.sample(logits, mask_of(in_mask, 70), banned_now)
        return
    drawn = set(tokens_of(sampler, logits, 20, mask=mask_of(in_mask, 70), banned=banned_now))
    assert drawn <= possible
    greedy = SamplingParams(**{**params, "temperature": 0})
    best = sampler_of(greedy, n_vocab=70, eog_ids=[7]).sample(logits, mask_of(in_mask, 70), banned_now).token
    assert best == max(possible, key=lambda i: logits[i])


def test_a_mask_may_have_bits_for_fewer_or_more_tokens_than_there_are():
    logits = np.zeros(100, np.float32)
    few, many = mask_of([3], 32), mask_of([3, 150], 200)
    for params in (SamplingParams(seed=1), SamplingParams(seed=1, allowed_tokens=[3, 99])):
        assert set(tokens_of(sampler_of(params), logits, 10, mask=few)) == {3}
        assert set(tokens_of(sampler_of(params), logits, 10, mask=many)) == {3}


@pytest.mark.parametrize("mask", [np.zeros(4, np.uint8), np.zeros((2, 2), np.uint32), [1, 2]])
def test_a_mask_of_another_kind_is_refused(mask):
    with pytest.raises(ParameterError, match=r"(?s)mask is .*; expected uint32"):
        sampler_of(SamplingParams()).sample(np.zeros(64, np.float32), mask)


def test_a_large_mask_that_leaves_most_tokens_leaves_just_those():
    n = 20_000
    out = np.arange(n) % 5 == 2
    counts = np.bincount(
        tokens_of(
            sampler_of(SamplingParams(**PLAIN)),
            np.zeros(n, np.float32),
            3000,
            mask=mask_of(np.flatnonzero(~out), n),
        ),
        minlength=n,
    )
    assert not counts[out].any()
    assert counts[-1:].any() or counts[~out].max() < 10


@pytest.mark.parametrize(
    "params",
    [{"logit_bias": {64: 1.0}}, {"banned_tokens": [64]}, {"allowed_tokens": [3, 64]}, {"stop_token_ids": [64]}],
)
def test_token_ids_that_the_vocabulary_does_not_have_are_refused_at_the_start(params):
    with pytest.raises(ParameterError, match=f"{next(iter(params))} has the token id 64; the vocabulary has 0 to 63"):
        sampler_of(SamplingParams(**params), n_vocab=64)


def test_a_processor_sees_all_tokens_and_a_copy_of_the_logits_and_comes_before_all_else():
    seen = []

    def only_the_third(tokens, logits):
        seen.append(tokens.tolist())
        assert tokens.dtype == np.int64
        logits[:] = -np.inf
        logits[3] = 0
        return logits

    def and_the_second(tokens, logits):
        return np.where(np.arange(len(logits)) == 2, np.float32(1), logits)

    params = SamplingParams(temperature=0, logits_processors=[only_the_third, and_the_second], banned_tokens=[2])
    sampler = sampler_of(params, prompt=[8, 9], n_vocab=100)
    logits = random_logits(100, 1.0, 0)
    assert tokens_of(sampler, logits, 2) == [3, 3]
    assert seen == [[8, 9], [8, 9, 3]]
    assert np.array_equal(logits, random_logits(100, 1.0, 0))


def raises(tokens, logits):
    raise KeyError("gone")


@pytest.mark.parametrize(
    ("process", "message"),
    [
        (raises, r"logits_processors\[0\] \(raises\) raised KeyError: 'gone'"),
        (lambda t, x: x[:5], r"returned float32 \[5\]; expected float32 \[50\]"),
        (lambda t, x: x.astype(np.float64), r"returned float64 \[50\]; expected float32 \[50\]"),
        (lambda t, x: x.tolist(), r"returned \[0.0.*; expected float32 \[50\]"),
        (lambda t, x: None, r"returned None; expected float32 \[50\]"),
        (lambda t, x: x * np.float32(np.nan), "returned a logit of nan"),
        (lambda t, x: x + np.float32(np.inf), "returned a logit of inf"),
        (lambda t, x: x - np.float32(np.inf), "no token is left"),
    ],
)
def test_a_processor_that_fails_is_named(process, message):
    sampler = sampler_of(SamplingParams(logits_processors=[process]), prompt=[1])
    with pytest.raises(ParameterError, match=message) as caught:
        sampler.sample(np.zeros(50, np.float32))
    assert sampler.tokens.tolist() == [1]
    if process is raises:
        assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_logit_that_is_not_a_number_is_an_error_of_the_model(bad):
    logits = np.zeros(300, np.float32)
    logits[123] = bad
    with pytest.raises(ModelError, match=str(bad)):
        sampler_of(SamplingParams()).sample(logits)


def test_impossible_tokens_are_never_drawn():
    logits = np.full(1000, -np.inf, np.float32)
    logits[[3, 4]] = 0.0
    for changes in ({}, {"top_k": 0}, {"top_k": 0, "top_p": 1, "min_p": 0}, {"mirostat": True}, {"typical_p": 0.9}):
        assert set(tokens_of(sampler_of(SamplingParams(seed=1, **changes)), logits, 100)) == {3, 4}


EVERYTHING = {
    "plain": {},
    "flat": {"top_k": 0, "top_p": 0.9, "min_p": 0, "temperature": 1.5},
    "xtc": {"xtc_probability": 0.5},
    "mirostat": {"mirostat": True},
    "adaptive": {"adaptive_target": 0.4},
    "penalties": {"frequency_penalty": 0.4, "dry_multiplier": 0.8},
}


@pytest.mark.parametrize("changes", EVERYTHING.values(), ids=EVERYTHING)
def test_a_seed_gives_the_same_tokens_and_another_seed_others(changes):
    logits = random_logits(1000, 1.0, 0)

    def tokens(seed):
        return tokens_of(sampler_of(SamplingParams(seed=seed, **changes), [1, 2]), logits, 20)

    assert tokens(1) == tokens(1) != tokens(2)
    assert tokens(None) != tokens(None)


def test_a_seed_gives_these_tokens_on_every_machine():
    rank = np.arange(30_000) * 7919 % 30_000
    logits = (-(rank % 1024) / 64).astype(np.float32)  # exact
    assert tokens_of(sampler_of(SamplingParams(seed=42)), logits, 6) == [16144, 0, 4047, 3375, 19776, 16480]
    flat = SamplingParams(seed=42, top_k=0, min_p=0, temperature=3.0)
    assert tokens_of(sampler_of(flat), logits, 6) == [19150, 734, 8230, 6671, 22069, 20280]
    third = replace(flat, seed=derived_seed(42, 3))
    assert tokens_of(sampler_of(third), logits, 6) == [5044, 3209, 5012, 7598, 28675, 22536]


@pytest.mark.parametrize("changes", EVERYTHING.values(), ids=EVERYTHING)
def test_a_fork_goes_on_as_the_original_would_and_leaves_it_alone(changes):
    logits = random_logits(1000, 1.0, 0)
    sampler = sampler_of(SamplingParams(seed=3, **changes), [1, 2])
    begun = tokens_of(sampler, logits, 5)
    forks = [sampler.fork(), sampler.fork()]
    rest = [tokens_of(fork, logits, 30) for fork in forks]
    assert rest[0] == rest[1] == tokens_of(sampler, logits, 30)
    assert [fork.tokens.tolist() for fork in forks] == [[1, 2, *begun, *r] for r in rest]


def test_a_token_that_is_taken_back_leaves_nothing():
    sampler = sampler_of(SamplingParams(temperature=0, repetition_penalty=2.0), [7])
    logits = np.zeros(20_000, np.float32)
    logits[[3, 4]] = 1.0, 0.9

    assert sampler.sample(logits).token == 3
    sampler.take_back()

    assert sampler.tokens.tolist() == [7]
    assert sampler.sample(logits).token == 3


def test_accepted_tokens_count_as_drawn_ones_do():
    params = SamplingParams(temperature=0, presence_penalty=5.0)
    sampler = sampler_of(params)
    logits = np.array([4.0, 3.0, 2.0], np.float32)
    sampler.accept(0)
    assert sampler.sample(logits).token == 1
    for token in range(1000):
        sampler.accept(token)
    assert sampler.tokens.tolist() == [0, 1, *range(1000)]


def test_logprobs_are_those_of_the_raw_logits():
    logits = random_logits(1000, 2.0, 1)
    expected = np.log(softmax(logits))
    params = {"temperature": 0.2, "top_k": 5, "logit_bias": {int(logits.argmin()): 50.0}, "seed": 1}
    choice = sampler_of(SamplingParams(**params, logprobs=3)).sample(logits)
    assert choice.token == logits.argmin()
    assert choice.logprob == pytest.approx(expected[choice.token], rel=1e-6)
    order = np.argsort(-expected)[:3]
    assert [i for i, _ in choice.top] == order.tolist()
    np.testing.assert_allclose([p for _, p in choice.top], expected[order], rtol=1e-6)
    assert sampler_of(SamplingParams(**params)).sample(logits) == (choice.token, None, ())
    assert sampler_of(SamplingParams(**params, logprobs=0)).sample(logits).top == ()


def test_logits_are_left_as_they_are():
    logits = random_logits(5000, 1.0, 0)
    logits.flags.writeable = False
    params = SamplingParams(
        seed=1, repetition_penalty=2.0, dry_multiplier=1.0, banned_tokens=[1], typical_p=0.9, top_k=0, xtc_probability=1
    )
    tokens_of(sampler_of(params, [1, 2, 3, 1, 2]), logits, 5, banned=[3])
