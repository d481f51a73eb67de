"""llama-cpp-python's `Llama` on pyinfer: its dictionaries, its steps, its special values."""

import json
import pickle
import sys
import warnings

import numpy as np
import pytest
from chats import ZONED_TOOLS
from tiny_models import TinyModel, write_text_model, write_tiny_model

import pyinfer.compat
from pyinfer import LLM, ContextError, Guide, ParameterError, PyinferError, SamplingParams
from pyinfer.compat import (
    Llama,
    LlamaCache,
    LlamaGrammar,
    LlamaPromptLookupDecoding,
    LogitsProcessorList,
    StoppingCriteriaList,
)
from pyinfer.compat.infill import infill_prompt, infill_tokens
from pyinfer.tokenizer import tokenizer_from_metadata

from tiny_vocabularies import CONTROL, bpe_metadata  # isort: skip

MESSAGES = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A random model whose tokens are characters."""
    return write_text_model(tmp_path_factory.mktemp("compat") / "m.gguf", TinyModel("llama", n_vocab=128, n_ctx=1024))


@pytest.fixture(scope="module")
def llama(path):
    with Llama(str(path), n_ctx=0, logits_all=True, chat_format="chatml", verbose=False) as model:
        yield model


def joined(chunks):
    return "".join(chunk["choices"][0]["text"] for chunk in chunks)


def test_a_completion_is_the_text_of_the_model_in_openais_form(llama):
    answer = llama("Hello world", max_tokens=8, temperature=0)
    done = llama.llm.generate("Hello world", SamplingParams(temperature=0, max_tokens=8))
    assert list(answer) == ["id", "object", "created", "model", "choices", "usage"]
    assert answer["id"].startswith("cmpl-") and answer["object"] == "text_completion"
    assert answer["model"] == llama.model_path
    assert answer["choices"] == [{"text": done.text, "index": 0, "logprobs": None, "finish_reason": done.finish_reason}]
    n = len(done.tokens)
    assert answer["usage"] == {"prompt_tokens": 11, "completion_tokens": n, "total_tokens": 11 + n}


def test_the_positional_order_is_that_of_llama_cpp_python(llama):
    assert llama("Hello", None, 3, 0.0)["usage"]["completion_tokens"] == 3


def test_a_stream_is_the_same_text_and_ends_with_its_reason(llama):
    whole = llama("Hello world", max_tokens=12, temperature=0)["choices"][0]
    chunks = list(llama("Hello world", max_tokens=12, temperature=0, stream=True))
    assert joined(chunks) == whole["text"]
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None] * (len(chunks) - 1) + [whole["finish_reason"]]
    assert all(list(c) == ["id", "object", "created", "model", "choices"] for c in chunks)
    assert len({c["id"] for c in chunks}) == 1


def test_echo_gives_the_prompt_with_its_logprobs(llama):
    choice = llama("Hello", max_tokens=2, temperature=0, echo=True, logprobs=2)["choices"][0]
    logprobs = choice["logprobs"]
    assert choice["text"].startswith("Hello")
    assert list(logprobs) == ["tokens", "text_offset", "token_logprobs", "top_logprobs"]
    assert logprobs["tokens"][:5] == list("Hello") and logprobs["text_offset"] == list(range(7))
    assert logprobs["token_logprobs"][0] is None and logprobs["top_logprobs"][0] is None
    expected = Llama.logits_to_logprobs(llama.llm.logits(llama.tokenize(b"Hello")))
    after_h = expected[0]
    assert logprobs["token_logprobs"][1] == pytest.approx(after_h[ord("e")], abs=1e-4)
    assert max(logprobs["top_logprobs"][1].values()) == pytest.approx(after_h.max(), abs=1e-4)


def test_streamed_logprobs_are_those_of_the_whole_text(llama):
    whole = llama("Hello", max_tokens=5, temperature=0, logprobs=1)["choices"][0]["logprobs"]
    chunks = llama("Hello", max_tokens=5, temperature=0, logprobs=1, stream=True)
    parts = [c["choices"][0]["logprobs"] for c in chunks if c["choices"][0]["logprobs"]]
    assert {key: [x for part in parts for x in part[key]] for key in whole} == whole


def test_stop_texts_end_a_text(llama):
    text = llama("Hello world", max_tokens=12, temperature=0)["choices"][0]["text"]
    stopped = llama("Hello world", max_tokens=12, temperature=0, stop=[text[4]])["choices"][0]
    assert stopped["finish_reason"] == "stop" and stopped["text"] == text[: text.index(text[4])]


def test_special_tokens_in_a_prompt_are_tokens(llama):
    assert llama("<3>a", max_tokens=1)["usage"]["prompt_tokens"] == 2


def test_max_tokens_none_goes_on_until_the_context_is_full(path):
    with Llama(path, n_ctx=32) as small:
        bias = {1: -1e9}
        assert small("Hello", max_tokens=None, logit_bias=bias)["usage"]["total_tokens"] == 32
        with pytest.raises(ContextError, match="32"):
            small("x" * 40)
        with pytest.raises(ValueError, match="32"):  # what llama-cpp-python raises
            small("x" * 40, stream=True)


def test_a_seed_of_the_constructor_gives_the_same_texts_again(path):
    def texts():
        with Llama(path, seed=7) as model:
            return [model("Hello", max_tokens=12, temperature=2.0)["choices"][0]["text"] for _ in range(2)]

    first, second = texts()
    assert [first, second] == texts() and first != second


def test_processors_and_criteria_are_called(llama):
    only_a = LogitsProcessorList([lambda tokens, logits: np.where(np.arange(128) == 97, logits, -np.inf)])
    short = StoppingCriteriaList([lambda tokens, logits: len(tokens) >= 8])
    answer = llama("Hello", max_tokens=20, logits_processor=only_a, stopping_criteria=short)["choices"][0]
    assert answer["text"] == "aaa" and answer["finish_reason"] == "stop"


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.ndarray.tolist])
def test_processors_may_return_numbers_of_any_kind(llama, kind):
    def only_a(tokens, logits):
        return kind(np.where(np.arange(128) == 97, 1.0, -np.inf))

    assert llama("Hello", max_tokens=2, logits_processor=only_a)["choices"][0]["text"] == "aa"
    with pytest.raises(ParameterError, match=r"logits_processor.*5"):
        llama("Hello", logits_processor=[5])
    with pytest.raises(ParameterError, match=r"\(test_proc.*returned None"):
        llama("Hello", logits_processor=[lambda tokens, logits: None])


def test_penalties_act_before_mirostat(llama):
    bias = {97: 200.0, 98: 150.0}  # "b" only comes where "a" is penalized
    plain = llama("Hello", max_tokens=4, mirostat_mode=2, logit_bias=bias)
    assert plain["choices"][0]["text"] == "aaaa"
    penalized = llama("a", max_tokens=1, mirostat_mode=2, presence_penalty=100.0, logit_bias=bias)
    assert penalized["choices"][0]["text"] == "b"


def test_temperature_0_takes_the_likeliest_token_whatever_is_typical(llama):
    usual = llama("Hello world", max_tokens=12, temperature=0)["choices"]
    assert llama("Hello world", max_tokens=12, temperature=0, typical_p=0.01)["choices"] == usual
    bias = {97: 200.0, 98: 150.0}
    penalized = llama("a", max_tokens=1, temperature=0, presence_penalty=100.0, logit_bias=bias)["choices"][0]
    assert penalized["text"] == "b"  # penalties do act


@pytest.mark.parametrize("name", ["temperature", "top_k", "top_p", "min_p", "typical_p"])
def test_a_sampling_argument_that_is_no_number_is_named(llama, name):
    for value in (None, "1", True):
        with pytest.raises(ParameterError, match=f"^{name} is "):
            llama("Hello", **{name: value})


@pytest.mark.parametrize(
    "name, value", [("max_tokens", "1"), ("max_tokens", 1.5), ("stop", 5), ("stop", [None]), ("logit_bias", {"a": 1})]
)
def test_what_is_no_limit_stop_or_bias_is_named(llama, name, value):
    with pytest.raises(ParameterError, match=f"^{name} "):
        llama("Hello", **{name: value})
    usual = {"max_tokens": np.int64(3), "stop": ["", "~~"], "logit_bias": {"97": 100.0}}
    assert llama("Hello", **usual)["choices"][0]["text"] == "aaa"


@pytest.mark.parametrize("n", [-1, 6, 1.0])
def test_going_back_needs_tokens_that_are_there(llama, n):
    llama.reset()
    llama.eval(llama.tokenize(b"Hello"))
    with pytest.raises(ParameterError, match=f"^n_tokens is {n}; expected a whole number from 0 to 5"):
        llama.n_tokens = n
    assert llama.n_tokens == 5
    llama.n_tokens = 2
    assert list(llama.eval_tokens) == list(b"He")


def test_negative_temperatures_mirostat_and_tfs_are_taken_as_llama_cpp_python_does(llama):
    assert llama("Hello", max_tokens=2, temperature=-1, seed=1)["usage"]["completion_tokens"] <= 2
    with pytest.warns(UserWarning, match="mirostat 2"):
        llama("Hello", max_tokens=2, mirostat_mode=1)
    with pytest.warns(UserWarning, match="tfs_z"):
        llama("Hello", max_tokens=2, tfs_z=0.5)
    with pytest.raises(ParameterError, match="mirostat_mode is 3"):
        llama("Hello", mirostat_mode=3)


@pytest.mark.parametrize(
    "grammar",
    [LlamaGrammar.from_string('root ::= "yes" | "no"'), Guide.choice(["yes", "no"])],
)
def test_a_grammar_holds(llama, grammar):
    assert llama("Well?", grammar=grammar)["choices"][0]["text"] in ("yes", "no")
    generated = llama.generate(llama.tokenize(b"Well?"), grammar=grammar)
    tokens = []
    for token in generated:
        if token in llama.tokenizer().eog_ids:
            break
        tokens.append(token)
    assert llama.detokenize(tokens) in (b"yes", b"no")


def test_grammars_come_from_schemas_and_files(llama, tmp_path):
    (tmp_path / "g.gbnf").write_text('root ::= "ok"')
    assert llama("?", grammar=LlamaGrammar.from_file(tmp_path / "g.gbnf"))["choices"][0]["text"] == "ok"
    boolean = LlamaGrammar.from_json_schema('{"type": "boolean"}')
    assert json.loads(llama("?", grammar=boolean)["choices"][0]["text"]) in (True, False)
    with pytest.raises(ParameterError, match="missing"):
        LlamaGrammar.from_file(tmp_path / "missing")


def test_a_chat_answer_has_llama_cpp_pythons_form(llama):
    answer = llama.create_chat_completion(MESSAGES, max_tokens=4, temperature=0, logprobs=True, top_logprobs=1)
    assert list(answer) == ["id", "object", "created", "model", "choices", "usage"]
    assert answer["id"].startswith("chatcmpl-") and answer["object"] == "chat.completion"
    choice = answer["choices"][0]
    assert list(choice) == ["index", "message", "logprobs", "finish_reason"]
    assert list(choice["message"]) == ["role", "content"] and choice["message"]["role"] == "assistant"
    first = choice["logprobs"]["content"][0]
    assert set(first) == {"token", "logprob", "bytes", "top_logprobs"}
    assert first["top_logprobs"][0]["logprob"] == first["logprob"]  # greedy
    chunks = list(llama.create_chat_completion(MESSAGES, max_tokens=4, temperature=0, stream=True))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant"} and deltas[-1] == {}
    assert "".join(delta.get("content", "") for delta in deltas) == choice["message"]["content"]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[-1]["choices"][0]["finish_reason"] == choice["finish_reason"]


def test_a_response_format_holds(llama):
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
    form = {"type": "json_object", "schema": schema}
    answer = llama.create_chat_completion(MESSAGES, response_format=form)
    assert json.loads(answer["choices"][0]["message"]["content"])["n"] in (1, 2)
    with pytest.raises(ParameterError, match="response_format"):
        llama.create_chat_completion(MESSAGES, response_format={"type": "xml"})
    with pytest.raises(ParameterError, match="one of them"):
        llama.create_chat_completion(MESSAGES, tools=ZONED_TOOLS, tool_choice="now", response_format=form)


@pytest.mark.parametrize(
    "choice", ["now", ZONED_TOOLS[0], {"type": "function", "function": {"name": "now"}}, "required"]
)
def test_a_tool_that_is_chosen_is_called(llama, choice):
    answer = llama.create_chat_completion(MESSAGES, tools=ZONED_TOOLS, tool_choice=choice, stop=None)["choices"][0]
    (call,) = answer["message"]["tool_calls"][:1]
    assert answer["finish_reason"] == "tool_calls"
    assert call["function"]["name"] == "now" and json.loads(call["function"]["arguments"])["zone"] in ("a", "b")


def test_functions_are_the_older_form_of_tools(llama):
    function = ZONED_TOOLS[0]["function"]
    chunks = list(
        llama.create_chat_completion(MESSAGES, functions=[function], function_call={"name": "now"}, stream=True)
    )
    calls = [c["choices"][0]["delta"]["function_call"] for c in chunks if "function_call" in c["choices"][0]["delta"]]
    assert calls[0]["name"] == "now" and chunks[-1]["choices"][0]["finish_reason"] == "function_call"


def test_chat_formats_are_mapped_and_unknown_ones_named(path):
    with Llama(path, chat_format="mistral-instruct", vocab_only=True) as model:
        assert model.n_vocab() == 128 and model.tokenize(b"ab") == [127]
        with pytest.raises(PyinferError, match="vocab_only"):
            model("Hello")
    with Llama(path, chat_format="pygmalion-9") as model, pytest.raises(ParameterError, match="pygmalion-9"):
        model.create_chat_completion(MESSAGES)


def test_a_chat_handler_is_called_in_place_of_the_template(path):
    with Llama(path, chat_handler=lambda llama, messages, **rest: (llama, messages, rest["top_k"])) as model:
        assert model.create_chat_completion(MESSAGES, top_k=3) == (model, MESSAGES, 3)


def test_tokens_go_there_and_back(llama):
    tokens = llama.tokenize(b"ab c<3>")
    assert llama.detokenize(tokens) == b"ab c<3>"
    assert llama.tokenize(b"<3>", special=True) == [3] and llama.detokenize([3]) == b""
    assert llama.detokenize([3], special=True) == b"<3>"
    assert llama.detokenize([97], prev_tokens=[98]) == b"a"
    assert (llama.token_eos(), llama.token_bos(), llama.token_nl(), llama.n_ctx()) == (1, 2, 10, 1024)
    assert llama.metadata["general.architecture"] == "llama" and llama.n_embd() == 256
    with pytest.raises(ParameterError, match="UTF-8"):
        llama.tokenize(b"\xff")


def test_eval_gives_the_logits_of_all_tokens(llama):
    tokens = llama.tokenize(b"Hello world")
    llama.reset()
    llama.eval(tokens[:4])
    llama.eval(tokens[4:])
    np.testing.assert_allclose(llama.scores[: llama.n_tokens], llama.llm.logits(tokens), atol=1e-3)
    assert list(llama.eval_tokens) == tokens and len(llama.eval_logits) == len(tokens)
    assert llama.sample(temp=0) == np.argmax(llama.scores[llama.n_tokens - 1])
    assert llama.sample(temp=0, idx=3) == np.argmax(llama.scores[3])


def test_generate_is_eval_and_sample_in_turn(llama):
    prompt = llama.tokenize(b"Hello world")
    tokens = [token for token, _ in zip(llama.generate(prompt, temp=0), range(6), strict=False)]
    llama.reset()
    for token in tokens:
        llama.eval(prompt)
        assert llama.sample(temp=0) == token
        prompt = [token]


def test_generate_takes_tokens_in_between(llama):
    generator = llama.generate(llama.tokenize(b"Hello"), temp=0)
    first = next(generator)
    generator.send([98, 99])
    assert list(llama.eval_tokens) == [*b"Hello", first, 98, 99]


def test_without_logits_all_the_last_row_is_there(path):
    with Llama(path) as model:
        model.eval([72, 73])
        np.testing.assert_allclose(model.scores, model.llm.logits([72, 73])[-1:], atol=1e-3)
        with pytest.raises(ContextError, match="600"):
            model.eval([72] * 598)
        assert model.n_tokens == 2


def test_a_state_is_where_it_was_saved(llama, path):
    llama.reset()
    with pytest.raises(ParameterError, match="eval"):
        llama.sample()
    llama.eval(llama.tokenize(b"Hello world"))
    expected = llama.sample(temp=0)
    state = pickle.loads(pickle.dumps(llama.save_state()))
    assert state.llama_state_size > 0
    llama.reset()
    llama.load_state(state)
    assert llama.sample(temp=0) == expected
    with Llama(path) as other:
        other.load_state(state)
        assert other.n_tokens == 11 and other.sample(temp=0) == expected


def test_a_completion_is_what_eval_goes_on_from(llama):
    answer = llama("Hello", max_tokens=3, temperature=0)
    assert llama.n_tokens == answer["usage"]["total_tokens"]
    llama.set_cache(LlamaCache())
    llama.set_seed(3)
    llama.sample()


def test_embeddings_come_as_lists(tmp_path):
    model = TinyModel("llama", n_vocab=128, n_ctx=64)
    with Llama(write_text_model(tmp_path / "m.gguf", model), embedding=True, pooling_type=1) as llama:
        both = llama.create_embedding(["ab", "Hello"])
        assert both["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
        one = llama.embed("Hello")
        assert len(one) == 256 and both["data"][1]["embedding"] == one
        assert np.linalg.norm(llama.embed("Hello", normalize=True)) == pytest.approx(1, abs=1e-5)


def test_arguments_without_use_are_warned_of(path):
    with pytest.warns(UserWarning, match="n_gpu_layers, flash_attn"):
        Llama(path, n_gpu_layers=-1, flash_attn=True, vocab_only=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Llama(path, n_gpu_layers=0, use_mmap=True, use_mlock=False, verbose=False, rope_freq_base=0.0, vocab_only=True)


@pytest.mark.parametrize(
    "arguments, named",
    [
        ({"n_gpu_layer": 1, "colour": 2}, "n_gpu_layer, colour"),
        ({"lora_path": "x.gguf"}, "lora_path"),
        ({"rope_freq_base": -5e5}, "rope_freq_base"),
        ({"rope_scaling_type": 7}, "rope_scaling_type is 7"),
        ({"kv_overrides": {"llama.block_count": "x"}}, "llama.block_count is 'x'; expected a int"),
        ({"kv_overrides": {"tokenizer.ggml.tokens": "x"}}, "tokens is a list"),
        ({"kv_overrides": 5}, "5; expected a mapping"),
        ({"type_k": 24}, "type_k is 24"),
        ({"tokenizer": 5}, "tokenizer is a int"),
        ({"pooling_type": 0}, "pooling_type is 0"),
        ({"draft_model": lambda ids: ids}, "draft_model is a function"),
    ],
)
def test_what_can_not_be_done_is_an_error_that_names_it(path, arguments, named):
    with pytest.raises(ParameterError, match=named):
        Llama(path, **arguments)


@pytest.mark.parametrize(
    "memory, arguments, weights",
    [
        ("enough", {}, "copy"),
        ("enough", {"use_mmap": False}, "copy"),
        ("too little", {}, "mmap"),
        ("too little", {"use_mmap": True}, "mmap"),
        ("too little", {"use_mmap": False}, "copy"),
        ("too little", {"use_mlock": True}, "copy"),
    ],
)
@pytest.mark.filterwarnings("ignore:use_mlock")
def test_weights_stay_in_the_mapped_file_where_memory_has_no_room_for_them(
    path, monkeypatch, memory, arguments, weights
):
    asked = []
    monkeypatch.setattr("pyinfer.compat.model.LLM", lambda *a, **options: asked.append(options) or LLM(*a, **options))
    size = path.stat().st_size
    monkeypatch.setattr("pyinfer.compat.arguments.usable_memory", lambda: 2 * size if memory == "enough" else size)
    with Llama(path, **arguments) as model:
        assert model("Hello", max_tokens=1, temperature=0)["usage"]["completion_tokens"] == 1
    assert [options["weights"] for options in asked] == [weights]


def test_locked_memory_is_warned_of(path):
    with pytest.warns(UserWarning, match="not locked"):
        Llama(path, use_mlock=True).close()


def test_prompt_lookup_guesses_and_leaves_texts_as_they_are(llama, path):
    repeating = {"logit_bias": {97: 100.0}, "max_tokens": 60, "temperature": 0}
    draft_model = LlamaPromptLookupDecoding(max_ngram_size=2, num_pred_tokens=4)
    with Llama(path, n_ctx=0, draft_model=draft_model) as guessing:
        assert guessing.draft_model is draft_model
        for arguments in ({"max_tokens": 40, "temperature": 1.0, "seed": 5}, repeating):
            assert guessing("abcabcabc", **arguments)["choices"] == llama("abcabcabc", **arguments)["choices"]
        done = guessing.llm.generate("a" * 9, SamplingParams(logit_bias={97: 100.0}, temperature=0, max_tokens=60))
        assert done.accepted_tokens == done.drafted_tokens > 0
        assert done.drafted_tokens <= 4 * (60 - done.drafted_tokens)  # at most four to each token of a pass's own


def test_numbers_of_guesses_are_checked():
    with pytest.raises(ParameterError, match="num_pred_tokens is 0"):
        LlamaPromptLookupDecoding(num_pred_tokens=0)


def test_a_missing_file_is_a_value_error(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        Llama(str(tmp_path / "none.gguf"))


def test_a_llama_can_be_pickled(path):
    with Llama(path, n_ctx=64, seed=1) as one, pickle.loads(pickle.dumps(one)) as other:
        assert other.n_ctx() == 64


def test_suffixes_are_for_models_that_fill_in(llama):
    with pytest.raises(ParameterError, match="suffix"):
        llama("def f(", suffix="return x")
    marks = dict.fromkeys(("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"), CONTROL)
    tokenizer = tokenizer_from_metadata(bpe_metadata(special=marks))
    assert infill_tokens(tokenizer, {}) == (256, 257, 258)
    assert infill_tokens(tokenizer, {f"tokenizer.ggml.fim_{n}_token_id": 9 for n in ("pre", "suf", "mid")}) == (9, 9, 9)
    before, after = tokenizer.encode("ab"), tokenizer.encode("c")
    assert infill_prompt(tokenizer, {}, "ab", "c", False) == [256, *before, 257, *after, 258]
    assert infill_prompt(tokenizer, {}, "ab", "c", True) == [257, *after, 256, *before, 258]


@pytest.mark.parametrize("filename, name", [("*q8_0.gguf", ":q8_0"), ("m-Q4_K_M.gguf", ":m-Q4_K_M"), (None, "")])
def test_from_pretrained_asks_the_hub(monkeypatch, path, filename, name):
    asked = []
    monkeypatch.setattr("pyinfer.compat.model.resolve_model", lambda model: asked.append(model) or path)
    Llama.from_pretrained("org/repo", filename, vocab_only=True)
    assert asked == ["hf:org/repo" + name]
    with pytest.raises(ParameterError, match="local_dir"):
        Llama.from_pretrained("org/repo", filename, local_dir="here")


def test_openais_classes_take_the_answers(llama):
    chat = pytest.importorskip("openai.types.chat")
    assert isinstance(llama.create_chat_completion_openai_v1(MESSAGES, max_tokens=2), chat.ChatCompletion)


def test_install_is_refused_behind_llama_cpp_python(llama_cpp, monkeypatch):
    from llama_cpp.llama_grammar import LlamaGrammar as Grammar
    from llama_cpp.llama_speculative import LlamaPromptLookupDecoding as PromptLookup

    assert llama_cpp.Llama is Llama and Grammar is LlamaGrammar and PromptLookup is LlamaPromptLookupDecoding
    monkeypatch.setitem(sys.modules, "llama_cpp", json)
    with pytest.raises(ParameterError, match="imported already"):
        pyinfer.compat.install()


def test_a_real_model_answers(real_model):
    with Llama(real_model("smollm2-135m-q4_1"), n_ctx=512) as model:
        text = model("The capital of France is", max_tokens=8, temperature=0)["choices"][0]["text"]
        assert "Paris" in text
        answer = model.create_chat_completion(MESSAGES, max_tokens=16, temperature=0)
        assert answer["choices"][0]["message"]["content"].strip()


def test_an_encoder_embeds(tmp_path):
    bert = TinyModel("bert", n_vocab=96, n_ctx=32)
    with Llama(write_tiny_model(tmp_path / "bert.gguf", bert), embedding=True) as model:
        assert model.n_ctx() == 32
