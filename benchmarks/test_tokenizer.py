"""Tokenizers: loading, text to ids and back; a made-up vocabulary of 152,064 tokens, and those of real models."""

import pytest
from made_up_text import code, prose
from real_models import REAL_MODELS
from seed_vocabulary import vocabulary

from pyinfer.tokenizer import load_tokenizer, tokenizer_from_metadata

N_BYTES = 400_000
TEXTS = {"prose": prose(N_BYTES), "code": code(N_BYTES)}


@pytest.fixture(scope="module", params=["made-up", *REAL_MODELS], ids=lambda p: getattr(p, "stem", p))
def tokenizer(request):
    if request.param == "made-up":
        return tokenizer_from_metadata(vocabulary(152_064, 151_643))
    return load_tokenizer(request.param)


@pytest.mark.parametrize("text", TEXTS)
def test_encode(benchmark, tokenizer, text):
    ids = benchmark.pedantic(tokenizer.encode, (TEXTS[text],), rounds=5, warmup_rounds=1)
    seconds = benchmark.stats.stats.median
    benchmark.extra_info["MB/s"] = round(N_BYTES / seconds / 1e6, 2)
    benchmark.extra_info["Mtokens/s"] = round(len(ids) / seconds / 1e6, 3)
    benchmark.extra_info["bytes a token"] = round(N_BYTES / len(ids), 2)


@pytest.mark.parametrize("text", TEXTS)
def test_decode(benchmark, tokenizer, text):
    ids = tokenizer.encode(TEXTS[text], add_special=False)
    assert benchmark.pedantic(tokenizer.decode, (ids,), rounds=5, warmup_rounds=1) == TEXTS[text]
    seconds = benchmark.stats.stats.median
    benchmark.extra_info["MB/s"] = round(N_BYTES / seconds / 1e6, 2)
    benchmark.extra_info["Mtokens/s"] = round(len(ids) / seconds / 1e6, 3)


@pytest.mark.parametrize("path", REAL_MODELS, ids=lambda path: path.stem)
def test_loading_a_tokenizer(benchmark, path):
    """Includes reading the file's metadata."""
    tokenizer = benchmark.pedantic(load_tokenizer, (path,), rounds=5, warmup_rounds=1)
    seconds = benchmark.stats.stats.median
    benchmark.extra_info["ms"] = round(seconds * 1e3, 1)
    benchmark.extra_info["Mtokens/s"] = round(tokenizer.n_vocab / seconds / 1e6, 2)
