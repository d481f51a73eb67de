"""What programs call below `Llama`: `_model`, `_ctx`, llama_cpp._internals, the C interface, caches, tokenizers."""

import pickle

import numpy as np
import pytest
from tiny_models import TinyModel, linear_keys, write_text_model, write_tiny_model, yarn_keys

from pyinfer import LLM, ContextError, ParameterError, PyinferError
from pyinfer.compat import BaseLlamaTokenizer, Llama, LlamaDiskCache, LlamaHFTokenizer, LlamaRAMCache, LlamaTokenizer

PROMPT = b"Hello world"


@pytest.fixture
def llama(path):
    with Llama(path, n_ctx=256, n_threads=1, verbose=False) as model:
        yield model


@pytest.fixture
def internals(llama_cpp):
    import llama_cpp._internals

    return llama_cpp._internals


def greedy(llama, tokens, n=4):
    return [token for token, _ in zip(llama.generate(tokens, temp=0), range(n), strict=False)]


def test_the_model_answers_questions(llama):
    model = llama._model
    assert (model.n_vocab(), model.n_embd(), model.n_ctx_train()) == (128, 256, 8192)
    assert (
        (model.token_bos(), model.token_eos(), model.token_nl()) == (2, 1, 10) == (2, llama._token_eos, llama._token_nl)
    )
    assert (model.token_get_text(32), model.token_get_text(97), model.token_get_text(3)) == ("Ġ", "a", "<3>")
    assert (model.token_eot(), model.token_prefix(), model.token_sep()) == (-1, -1, -1)
    assert model.add_bos_token() is False and model.add_eos_token() is False
    assert model.tokenize(b"a<3>", add_bos=True, special=True) == [97, 3]
    assert model.detokenize([97, 3]) == b"a" and model.token_to_piece(3, special=True) == b"<3>"
    assert model.metadata() == llama.metadata and model.size() == 4 * model.n_params() > 0
    with pytest.raises(ParameterError, match="token is 128"):
        model.token_get_text(128)


def test_private_names_are_there_without_weights_too(path):
    with Llama(path, vocab_only=True) as model:
        assert model._ctx.ctx is not None and model._model.add_bos_token() is False
        assert not model._is_recurrent and not model._is_hybrid
        assert model.context_params.n_ctx == model.n_ctx() and model.model_params.n_gpu_layers == 0


def test_the_context_begins_anew(llama):
    llama.eval(llama.tokenize(PROMPT))
    np.testing.assert_array_equal(llama._ctx.get_logits()[-1], llama.scores[-1])
    llama._ctx.kv_cache_clear()
    assert llama.n_tokens == 0
    llama._ctx.set_rng_seed(3)
    first = llama("Hello", max_tokens=8)["choices"]
    llama._ctx.set_rng_seed(3)
    assert llama("Hello", max_tokens=8)["choices"] == first


def test_tokens_and_scores_can_be_set(path):
    with Llama(path, n_ctx=64, logits_all=True) as one, Llama(path, n_ctx=64, logits_all=True) as other:
        tokens = one.tokenize(PROMPT)
        one.eval(tokens)
        expected = one.sample(temp=0)
        other.input_ids = one.input_ids.copy()
        other.n_tokens = one.n_tokens
        assert other.sample(temp=0) == expected and other._input_ids.tolist() == tokens
        other.eval([expected])
        assert other.n_tokens == len(tokens) + 1
        other.scores = np.zeros((64, 128), np.float32)
        other.scores[other.n_tokens - 1, 98] = 9
        assert other.sample(temp=0) == 98
        for name, value in (("input_ids", [500]), ("input_ids", 5), ("scores", np.zeros((64, 5)))):
            with pytest.raises(ParameterError, match=f"^{name}"):
                setattr(other, name, value)
        with pytest.raises(ContextError, match="65"):
            other.input_ids = [97] * 65


def test_a_model_a_context_and_samplers_work_without_llama(internals, llama_cpp, path, llama):
    model = internals.LlamaModel(path_model=str(path), params=llama_cpp.llama_model_default_params())
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_threads = 16, 1
    context = internals.LlamaContext(model=model, params=params)
    assert context.n_ctx() == 256  # as llama.cpp rounds it
    tokens = model.tokenize(PROMPT, add_bos=True, special=True)
    batch = internals.LlamaBatch(n_tokens=len(tokens), embd=0, n_seq_max=1)
    sampler = internals.LlamaSampler()
    sampler.add_top_k(50)
    sampler.add_greedy()
    found, n_past = [], 0
    for _ in range(4):
        batch.set_batch(tokens, n_past=n_past, logits_all=False)
        context.decode(batch)
        n_past += len(tokens)
        tokens = [sampler.sample(context, -1)]
        found += tokens
    assert found == greedy(llama, llama.tokenize(PROMPT))
    with pytest.raises(ParameterError, match="expected at most 11"):
        batch.set_batch([97] * 12, 0, False)
    model.close()
    assert context.ctx is None
    with pytest.raises(PyinferError, match="closed"):
        internals.LlamaContext(model=model, params=params)


def test_a_chain_of_samplers_is_repeatable_and_holds_a_grammar(internals, llama_cpp, llama):
    llama.eval(llama.tokenize(PROMPT))

    def drawn(sampler):
        return [sampler.sample(llama._ctx) for _ in range(6)]

    sampler = internals.LlamaSampler()
    sampler.add_penalties(n_vocab=128, penalty_last_n=64, penalty_repeat=1.1, penalty_freq=0.0, penalty_present=0.0)
    sampler.add_top_p(0.99, 1)
    sampler.add_min_p(0.0)
    sampler.add_temp(1.5)
    sampler.add_dist(7)
    assert drawn(sampler) == drawn(sampler.clone()) and sampler.get_seed() == 7
    strict = internals.LlamaSampler()
    strict.add_grammar(llama._model, llama_cpp.LlamaGrammar.from_string('root ::= "yes"'))
    strict.add_dist(1)
    assert bytes(strict.sample(llama._ctx) for _ in range(3)) == b"yes"


def test_the_c_interface_loads_and_decodes(llama_cpp, path, llama):
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    context = llama_cpp.llama_init_from_model(model, llama_cpp.llama_context_default_params())
    vocab = llama_cpp.llama_model_get_vocab(model)
    assert llama_cpp.llama_vocab_n_tokens(vocab) == llama_cpp.llama_n_vocab(model) == 128
    assert (llama_cpp.llama_vocab_bos(vocab), llama_cpp.llama_token_eos(model)) == (2, 1)
    assert llama_cpp.llama_vocab_is_eog(vocab, 1) and llama_cpp.llama_n_ctx(context) == 512
    ids = (llama_cpp.llama_token * 16)()
    n = llama_cpp.llama_tokenize(vocab, PROMPT, len(PROMPT), ids, 16, True, True)
    batch = llama_cpp.llama_batch_init(16, 0, 1)
    batch.n_tokens, batch.token[:n], batch.pos[:n] = n, ids[:n], range(n)
    assert llama_cpp.llama_decode(context, batch) == 0
    expected = llama.llm.logits(list(PROMPT))
    np.testing.assert_allclose(llama_cpp.llama_get_logits_ith(context, -1), expected[-1], atol=1e-3)
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
    assert context.n_tokens == 0
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_cache_serves_other_objects(path, tmp_path, kind):
    cache = LlamaRAMCache() if kind == "memory" else LlamaDiskCache(tmp_path / "states")
    with Llama(path, n_ctx=128) as writer:
        writer.set_cache(cache)
        expected = writer("Hello world", max_tokens=4, temperature=0)["choices"]
        assert list(PROMPT) in cache and cache.cache_size > 0
    if kind == "disk":
        cache = LlamaDiskCache(tmp_path / "states")  # as a later process has it
    with Llama(path, n_ctx=128, seed=5) as reader:
        reader.set_cache(cache)
        loaded = []
        load_state = reader.load_state
        reader.load_state = lambda state: loaded.append(state) or load_state(state)
        assert reader("Hello world", max_tokens=4, temperature=0)["choices"] == expected
        assert len(loaded) == 1 and loaded[0].input_ids[:11].tolist() == list(PROMPT)
        with pytest.raises(KeyError):
            cache[[5, 5, 5]]


def test_a_state_of_another_model_is_not_used(path, tmp_path):
    cache = LlamaRAMCache()
    with Llama(write_text_model(tmp_path / "m.gguf", TinyModel("llama", n_vocab=128, seed=3)), n_ctx=64) as other:
        other.set_cache(cache)
        other("Hello world", max_tokens=2)
    with Llama(path, n_ctx=128) as one, Llama(path, n_ctx=128) as plain:
        one.set_cache(cache)
        given = {"max_tokens": 4, "temperature": 0}
        assert one("Hello world", **given)["choices"] == plain("Hello world", **given)["choices"]


def test_a_cache_drops_what_was_used_longest_ago(llama, tmp_path):
    llama.eval(llama.tokenize(PROMPT))
    state = llama.save_state()
    assert len(pickle.dumps(state)) > 0
    for cache in (LlamaRAMCache(capacity_bytes=0), LlamaDiskCache(tmp_path, capacity_bytes=0)):
        cache[[1, 2, 3]] = state
        cache[[4, 5, 6]] = state
        assert [1, 2, 3] not in cache and [4, 5] in cache
    (tmp_path / "broken.npz").write_bytes(b"PK not a file")
    assert [4, 5] in LlamaDiskCache(tmp_path)
    with pytest.raises(ParameterError, match="capacity_bytes"):
        LlamaRAMCache(capacity_bytes=-1)


class Upper(BaseLlamaTokenizer):
    """Turns texts to upper case."""

    def tokenize(self, text, add_bos=True, special=True):
        return list(text.upper())

    def detokenize(self, tokens, prev_tokens=None, special=False):
        return bytes(tokens).lower()


def test_a_programs_tokenizer_makes_the_prompts(path):
    with (
        Llama(path, n_ctx=256, tokenizer=Upper(), chat_format="{{ messages[0].content }}") as own,
        Llama(path, n_ctx=256) as usual,
    ):
        assert own.tokenize(b"ab") == list(b"AB") and own.detokenize([65]) == b"a"
        assert isinstance(own.tokenizer_, Upper) and isinstance(usual.tokenizer_, LlamaTokenizer)
        given = {"max_tokens": 4, "temperature": 0}
        assert own("hello", **given)["choices"] == usual("HELLO", **given)["choices"]
        answer = own.create_chat_completion([{"role": "user", "content": "hello"}], **given)["choices"][0]
        assert answer["message"]["content"] == usual("HELLO", **given)["choices"][0]["text"]


def test_a_tokenizer_of_transformers_has_these_methods():
    class HuggingFace:
        def encode(self, text, add_special_tokens):
            return [1] * add_special_tokens + list(text.encode())

        def decode(self, tokens, skip_special_tokens):
            return bytes(t for t in tokens if t > 1 or not skip_special_tokens).decode()

    tokenizer = LlamaHFTokenizer(HuggingFace())
    assert tokenizer.tokenize(b"ab", special=True) == [1, 97, 98] and tokenizer.tokenize(b"ab", special=False) == [
        97,
        98,
    ]
    assert tokenizer.detokenize([1, 97]) == b"a" and tokenizer.detokenize([97], prev_tokens=[98]) == b"a"


def test_a_file_has_a_tokenizer(path):
    assert LlamaTokenizer.from_ggml_file(str(path)).encode("ab") == [127]


def logits_of(path, arguments, tokens):
    with Llama(path, n_ctx=64, logits_all=True, **arguments) as model:
        model.eval(tokens)
        return model.scores[: len(tokens)].copy()


@pytest.mark.parametrize(
    "arguments, metadata",
    [
        ({"rope_freq_base": 5e5}, {"rope.freq_base": 5e5}),
        ({"rope_freq_scale": 0.25}, linear_keys(4.0)),
        (
            {
                "rope_scaling_type": 2,
                "rope_freq_scale": 0.25,
                "yarn_orig_ctx": 32,
                "yarn_beta_fast": 16.0,
                "yarn_beta_slow": 2.0,
            },
            yarn_keys(4.0, 32, yarn_beta_fast=16.0, yarn_beta_slow=2.0),
        ),
        (
            {"yarn_ext_factor": 0.5, "rope_freq_scale": 0.5, "yarn_orig_ctx": 32},
            yarn_keys(2.0, 32, yarn_ext_factor=0.5),
        ),
        ({"yarn_attn_factor": 1.5}, {"rope.scaling.attn_factor": 1.5}),
        ({"kv_overrides": {"llama.rope.freq_base": 3e5}}, {"rope.freq_base": 3e5}),
    ],
)
def test_rope_arguments_are_those_of_a_file_with_these_values(tmp_path, arguments, metadata):
    plain = write_tiny_model(tmp_path / "plain.gguf", TinyModel("llama"))
    scaled = write_tiny_model(tmp_path / "scaled.gguf", TinyModel("llama", metadata=metadata))
    tokens = list(range(3, 60))
    expected = logits_of(scaled, {}, tokens)
    np.testing.assert_array_equal(logits_of(plain, arguments, tokens), expected)
    assert not np.allclose(logits_of(plain, {}, tokens)[-1], expected[-1])


def test_langchains_rope_arguments_mean_the_files(tmp_path):
    path = write_tiny_model(tmp_path / "m.gguf", TinyModel("llama", metadata={"rope.freq_base": 5e5}))
    tokens = list(range(3, 60))
    given = {"rope_freq_base": 10000.0, "rope_freq_scale": 1.0, "rope_scaling_type": -1, "yarn_ext_factor": -1.0}
    np.testing.assert_array_equal(logits_of(path, given, tokens), logits_of(path, {}, tokens))


@pytest.mark.parametrize(
    "arguments, kept, warned",
    [
        ({"type_k": 8, "type_v": 8}, "q8_0", False),
        ({"type_k": 8}, "f16", True),
        ({"type_v": 8}, "f16", True),
        ({"type_k": 0}, "f32", True),
        ({"type_k": 1, "type_v": 30}, "f32", True),
        ({"type_k": 30, "type_v": 30}, "bf16", False),
        ({"type_k": 2, "type_v": 2}, "q8_0", True),
        ({"type_k": 2}, "f16", True),
        ({"type_k": 1}, "f16", False),
    ],
)
@pytest.mark.filterwarnings("error")
def test_keys_and_values_have_one_type_no_coarser_than_asked_for(path, monkeypatch, arguments, kept, warned):
    asked = []
    monkeypatch.setattr("pyinfer.compat.model.LLM", lambda *a, **options: asked.append(options) or LLM(*a, **options))
    if warned:
        with pytest.warns(UserWarning, match=f"kept as {kept}"):
            Llama(path, n_ctx=64, **arguments).close()
    else:
        Llama(path, n_ctx=64, **arguments).close()
    assert asked[0]["kv_type"] == kept


def test_a_schema_becomes_a_grammars_text_and_back(llama, llama_cpp):
    from llama_cpp.llama_grammar import JSON_GBNF, json_schema_to_gbnf

    text = json_schema_to_gbnf('{"enum": ["yes", "no"]}')
    assert llama("?", grammar=llama_cpp.LlamaGrammar.from_string(text))["choices"][0]["text"] in ('"yes"', '"no"')
    assert (
        llama("?", grammar=llama_cpp.LlamaGrammar.from_string(JSON_GBNF), max_tokens=3)["choices"][0]["text"][0] == "{"
    )
    with pytest.raises(ParameterError, match="expected a JSON schema"):
        json_schema_to_gbnf("{")


def test_prompt_lookup_finds_candidates(llama_cpp):
    find = llama_cpp.llama_speculative.LlamaPromptLookupDecoding.find_candidate_pred_tokens
    assert find(np.array([1, 2, 3, 1, 2, 3, 1, 2, 3]), max_ngram_size=3, num_pred_tokens=2).tolist() == [1, 2]
    assert find(np.arange(9), max_ngram_size=3, num_pred_tokens=2).tolist() == []


def test_a_prompt_beyond_the_context_is_said_as_llama_cpp_python_says_it(path):
    with (
        Llama(path, n_ctx=32) as model,
        pytest.raises(ValueError, match=r"Requested tokens \(40\) exceed context window of 32"),
    ):
        model("x" * 40)
    with pytest.raises(ValueError, match=r"Model path does not exist: /no/file.gguf"):
        Llama("/no/file.gguf")
