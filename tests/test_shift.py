"""Context shift: the oldest tokens leave a full context, and what stays is where it would be without them.

In a model of one layer keys and values depend on nothing but a token and its position, so that a shifted context must
be, up to rounding, the one that is computed from the tokens that are left.
"""

import numpy as np
import pytest
from tiny_models import TinyModel, write_text_model, yarn_keys

from pyinfer import LLM, ParameterError, SamplingParams
from pyinfer.engine.engine import Engine
from pyinfer.engine.options import EngineOptions
from pyinfer.gguf import GGUFFile

PAGE = 64
RNG = np.random.default_rng(0)
MODELS = {
    "llama": TinyModel("llama", n_layers=1, n_vocab=128, n_ctx=1024, rope_factors=np.linspace(1, 4, 32).tolist()),
    "qwen2-yarn": TinyModel("qwen2", n_layers=1, n_vocab=128, n_ctx=1024, metadata=yarn_keys(4.0, 256)),
    "gemma3": TinyModel("gemma3", n_layers=1, n_vocab=128, n_ctx=1024),
}


@pytest.fixture(params=MODELS)
def path(request, tmp_path):
    return write_text_model(tmp_path / "model.gguf", MODELS[request.param])


@pytest.fixture
def llama(tmp_path):
    return write_text_model(tmp_path / "llama.gguf", MODELS["llama"])


def cache_of(path, tokens):
    """An engine that has passed tokens, and a view of its pages in their order, float32 [n_pages, ...]."""
    with GGUFFile(path) as file:
        engine = Engine(file, EngineOptions(n_seqs=1, n_ctx=512, kv_type="f32", n_threads=1))
    n = len(tokens)
    engine.forward(tokens, np.arange(n), np.zeros(n), [])
    return engine, lambda: engine.memory.groups[0].pages[engine.memory.tables[0][0]].view(np.float32)


def test_what_stays_is_what_is_computed_at_the_new_positions(path):
    tokens = RNG.integers(33, 127, 4 * PAGE + 20).tolist()
    engine, pages = cache_of(path, tokens)
    assert engine.drop_pages(0, 1, 2)
    left = tokens[:PAGE] + tokens[3 * PAGE :]
    other, expected = cache_of(path, left)
    np.testing.assert_allclose(pages()[:2], expected()[:2], rtol=0, atol=1e-5)
    more = np.arange(2 * PAGE + 20, 2 * PAGE + 30)
    found = engine.forward(np.full(10, 70), more, np.zeros(10), np.arange(10)).copy()
    rows = other.forward(np.full(10, 70), more, np.zeros(10), np.arange(10))
    np.testing.assert_allclose(found, rows, atol=1e-3)


def shifted_text(llm, prompt, n_ctx, n_keep, n):
    """n greedy tokens, each from the logits of the tokens that are in the context, computed anew."""
    tokens, text = list(prompt), []
    while len(text) < n:
        if len(tokens) == n_ctx + 1:
            kept = -(-n_keep // PAGE) * PAGE
            dropped = max(1, (n_ctx // PAGE - kept // PAGE) // 2) * PAGE
            del tokens[kept : kept + dropped]
        logits = llm.logits(tokens)[-1]
        logits[1] = -np.inf  # the end of the text
        text.append(int(logits.argmax()))
        tokens.append(text[-1])
    return text


@pytest.mark.parametrize("n_ctx, n_keep", [(128, 0), (200, 0), (256, 1), (320, 100)])
def test_a_text_goes_on_behind_a_full_context(llama, n_ctx, n_keep):
    prompt = RNG.integers(33, 127, n_ctx - 10).tolist()
    params = SamplingParams(temperature=0, max_tokens=150, ignore_eos=True)
    with (
        LLM(llama, n_ctx=n_ctx, kv_type="f32", n_seqs=2, on_overflow="shift", n_keep=n_keep, n_threads=1) as llm,
        LLM(llama, n_ctx=n_ctx + 1, kv_type="f32", n_threads=1) as fresh,
    ):
        n_bos = int(llm.tokenizer.add_bos)
        expected = shifted_text(fresh, prompt, n_ctx, n_keep + n_bos, 150)
        beside = llm.stream(prompt[:100], params)
        first = next(beside)
        done = llm.generate(prompt, params)
        assert list(done.tokens) == expected and done.finish_reason == "length"
        text = first.text + "".join(piece.text for piece in beside)
        assert len(beside.completion.tokens) == 150 and text == beside.completion.text
        # what a shift has moved is not taken for what it was
        assert llm.generate(prompt, SamplingParams(temperature=0, max_tokens=1)).tokens == done.tokens[:1]
        assert llm.engine.memory.n_available == llm.engine.memory.n_pages


def test_a_context_that_ends_is_the_default(llama):
    with LLM(llama, n_ctx=128, kv_type="f32") as llm:
        done = llm.generate([65] * 120, SamplingParams(temperature=0, ignore_eos=True))
        assert (done.finish_reason, done.completion_tokens) == ("length", 8)


def test_shifts_and_preemptions_get_along(llama):
    with LLM(llama, n_ctx=192, kv_type="f32") as llm:
        size = llm.engine.memory.page_bytes
    params = SamplingParams(seed=0, max_tokens=200, ignore_eos=True)
    with LLM(llama, n_ctx=192, kv_type="f32", n_threads=1, kv_cache_memory=5 * size, on_overflow="shift") as llm:
        done = llm.generate([RNG.integers(33, 127, n).tolist() for n in (60, 150, 100, 10)], params)
        assert [d.completion_tokens for d in done] == [200] * 4
        assert llm.engine.memory.n_available == 5


def test_a_shifted_text_that_is_preempted_goes_on_with_the_same_bits(tmp_path):
    deep = write_text_model(tmp_path / "deep.gguf", TinyModel("llama", n_layers=2, n_vocab=128, n_ctx=1024))
    options = {"n_ctx": 192, "kv_type": "f32", "n_threads": 1, "on_overflow": "shift", "n_keep": 3}
    prompt = RNG.integers(33, 127, 100).tolist()
    params = SamplingParams(seed=0, max_tokens=400, ignore_eos=True, logprobs=2)
    with LLM(deep, **options) as llm:
        expected = llm.generate(prompt, params)
    with LLM(deep, n_seqs=1, **options) as llm:
        stream = llm.stream(prompt, params)
        for _ in range(150):  # past the first shifts, after 92 tokens and 64 more each
            next(stream)
        llm.generate("other", SamplingParams(max_tokens=4))  # which needs the slot of the stream, once that pauses
        for _ in stream:
            pass
        assert (stream.completion.tokens, stream.completion.logprobs) == (expected.tokens, expected.logprobs)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"on_overflow": "wrap"}, "on_overflow is 'wrap'"),
        ({"on_overflow": "shift", "n_keep": -1}, "n_keep is -1"),
        ({"on_overflow": "shift", "n_keep": 100}, "n_keep is 10.*context of 128.*can keep 64"),
        ({"on_overflow": "shift", "n_ctx": 60}, "context of 60.*can keep 0"),
    ],
)
def test_what_can_not_be_shifted_is_refused(llama, options, message):
    with pytest.raises(ParameterError, match=message):
        LLM(llama, **{"n_ctx": 128, **options})
