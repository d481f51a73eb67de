"""The work between two forward passes, by size of the vocabulary: the next token is chosen and becomes text.

The limit is NumPy's argmax, which reads every logit once.
"""

import time

import numpy as np
import pytest
from seed_vocabulary import vocabulary
from tiny_vocabularies import ListedTokens

from pyinfer.sampling.logprobs import choice_of
from pyinfer.sampling.params import SamplingParams
from pyinfer.sampling.sampler import Sampler
from pyinfer.tokenizer import tokenizer_from_metadata

SIZES = [49_152, 152_064, 262_144]
OFF = {"temperature": 0.8, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 1}
CHAINS = {
    "greedy": {"temperature": 0},
    "default": {"seed": 1},
    "default+logprobs": {"seed": 1, "logprobs": 5},
    "draw": OFF,
    "top_k": {**OFF, "top_k": 40},
    "top_p": {**OFF, "top_p": 0.95},
    "min_p": {**OFF, "min_p": 0.05},
    "typ_p": {**OFF, "typical_p": 0.95},
    "top_n_sigma": {**OFF, "top_n_sigma": 1.0},
    "xtc": {**OFF, "xtc_probability": 1.0},
    "dynatemp": {**OFF, "dynatemp_range": 0.5},
    "penalties": {**OFF, "frequency_penalty": 0.1},
    "dry": {**OFF, "dry_multiplier": 0.8},
    "mirostat": {**OFF, "mirostat": True},
    "adaptive_p": {**OFF, "adaptive_target": 0.3},
    "bans": {**OFF, "banned_tokens": [1, 2, 3]},
}
N_PROMPT = 16_384  # tokens, which penalties and DRY read


def flat_logits(rng: np.random.Generator, n: int) -> np.ndarray:
    """Logits of a model that knows nothing: many thousand tokens share 95 % of the probability."""
    return rng.standard_normal(n).astype(np.float32)


def peaked_logits(rng: np.random.Generator, n: int) -> np.ndarray:
    """Logits as after a usual text: probabilities fall with the square of the rank."""
    return (rng.permutation(-2 * np.log(np.arange(1, n + 1))) + 15).astype(np.float32)


def median_seconds(work, n: int) -> float:
    times = []
    for _ in range(n):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


@pytest.mark.parametrize("n_vocab", SIZES)
@pytest.mark.parametrize("make_logits", [flat_logits, peaked_logits], ids=["flat", "peaked"])
@pytest.mark.parametrize("chain", CHAINS)
def test_sampling(benchmark, chain, make_logits, n_vocab):
    logits = make_logits(np.random.default_rng(0), n_vocab)
    prompt = np.random.default_rng(1).integers(0, 1000, N_PROMPT)
    sampler = Sampler(SamplingParams(**CHAINS[chain]), prompt, ListedTokens([""] * n_vocab))
    benchmark.pedantic(sampler.sample, (logits,), rounds=30, iterations=3, warmup_rounds=3)
    seconds = benchmark.stats.stats.median
    benchmark.extra_info["us a token"] = round(seconds * 1e6, 1)
    benchmark.extra_info["GB/s"] = round(logits.nbytes / seconds / 1e9, 2)
    benchmark.extra_info["share of argmax's speed"] = round(median_seconds(logits.argmax, 50) / seconds, 3)


@pytest.mark.parametrize("n_vocab", SIZES)
@pytest.mark.parametrize("n_words", ["few", "half", "all"])
def test_masked(benchmark, n_words, n_vocab):
    """With the mask of a guide."""
    rng = np.random.default_rng(0)
    words = {"few": np.zeros, "half": lambda n, t: rng.integers(0, 2**32, n, t), "all": lambda n, t: ~np.zeros(n, t)}
    mask = words[n_words]((n_vocab + 31) // 32, np.uint32)
    mask[5] |= 1
    sampler = Sampler(SamplingParams(seed=1), [], ListedTokens([""] * n_vocab))
    logits = peaked_logits(rng, n_vocab)
    benchmark.pedantic(sampler.sample, (logits, mask), rounds=30, iterations=3, warmup_rounds=3)
    benchmark.extra_info["us a token"] = round(benchmark.stats.stats.median * 1e6, 1)


@pytest.mark.parametrize("n_vocab", SIZES)
def test_logprobs(benchmark, n_vocab):
    """Those of one token and of the 20 likeliest."""
    logits = peaked_logits(np.random.default_rng(0), n_vocab)
    benchmark.pedantic(choice_of, (logits, 7, 20), rounds=30, iterations=3, warmup_rounds=3)
    benchmark.extra_info["us a token"] = round(benchmark.stats.stats.median * 1e6, 1)


@pytest.mark.parametrize("n_vocab", SIZES)
def test_detokenizing(benchmark, n_vocab):
    tokenizer = tokenizer_from_metadata(vocabulary(n_vocab, n_vocab - 100))
    tokens = np.random.default_rng(0).integers(0, n_vocab - 100, 4096).tolist()

    def push_all() -> None:
        decoder = tokenizer.stream_decoder(skip_special=True, continues=True)
        for token in tokens:
            decoder.push(token)

    benchmark.pedantic(push_all, rounds=10, warmup_rounds=1)
    benchmark.extra_info["us a token"] = round(benchmark.stats.stats.median / len(tokens) * 1e6, 3)
