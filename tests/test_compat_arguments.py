"""What pyinfer.compat.Llama shows of itself, and what it says to arguments of a wrong type or shape."""

import dataclasses
import warnings

import numpy as np
import pytest
from chats import TOOLS, ZONED_TOOLS

from pyinfer import ParameterError, PyinferError
from pyinfer.compat import Llama, StoppingCriteriaList
from pyinfer.compat.chat_format import Jinja2ChatFormatter

MESSAGES = [{"role": "user", "content": "Hello"}]
CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def llama(path):
    with Llama(str(path), n_ctx=256, logits_all=True, chat_format="chatml") as model:
        yield model


@pytest.mark.parametrize(
    "template, name", [(None, "llama-2"), (CHATML, "chatml"), (CHATML + " ", "chat_template.default")]
)
def test_the_chat_format_has_a_name(path, monkeypatch, template, name):
    with Llama(path, vocab_only=True) as model:
        monkeypatch.setattr(model._tokenizer, "chat_template", template)
        assert model.chat_format == name
        model.chat_format = "zephyr"
        assert model.chat_format == "zephyr"
    with Llama(path, vocab_only=True, chat_handler=print) as model:
        assert model.chat_format is None


@pytest.mark.parametrize("vocab_only", [False, True])
def test_arguments_are_attributes(path, vocab_only):
    with Llama(path, vocab_only=vocab_only, n_threads=1, n_ctx=64) as model:
        assert model.n_threads == model.n_threads_batch == model.context_params.n_threads == 1
        assert (model.numa, model.tensor_split, model.kv_overrides) == (0, None, None)
        assert (model.lora_base, model.lora_scale, model.lora_path) == (None, 1.0, None)
        assert (model._n_ctx, model._n_vocab) == (64, 128)
    with pytest.warns(UserWarning, match="numa"), Llama(path, vocab_only=True, numa=True, lora_scale=0.5) as model:
        assert model.n_threads >= 1 and model.numa == 1 and model.lora_scale == 0.5


def test_the_tokenizer_has_llama_cpp_pythons_methods(llama):
    tokenizer = llama.tokenizer_
    assert tokenizer.tokenize(b"a<3>") == tokenizer.encode("a<3>") == [97, 3]
    assert tokenizer.encode("a<3>", special=False) == llama.tokenize(b"a<3>")
    assert tokenizer.detokenize([97, 3]) == b"a" and tokenizer.decode([97, 98]) == "ab"


@pytest.mark.parametrize(
    "change, named",
    [
        ({"input_ids": 5}, "input_ids 5"),
        ({"llama_state": "x"}, "llama_state 'x'"),
        ({"n_tokens": -1}, "n_tokens of the state is -1"),
        ({"n_tokens": 9999}, "n_tokens of the state is 9999"),
        ({"input_ids": [500] * 9, "llama_state": b""}, "input_ids of the state: token 0 is 500"),
        ({"seed": "x"}, "seed is 'x'"),
    ],
)
def test_what_is_no_state_is_refused(llama, change, named):
    llama.reset()
    llama.eval(llama.tokenize(b"Hello"))
    with pytest.raises(ParameterError, match=named):
        llama.load_state(dataclasses.replace(llama.save_state(), **change))
    with pytest.raises(ParameterError, match="state is a str; expected a LlamaState"):
        llama.load_state("foo")


@pytest.mark.parametrize(
    "method, arguments, named",
    [
        ("tokenize", ["Hello"], "text is 'Hello'; expected bytes"),
        ("tokenize", [5], "text is 5"),
        ("detokenize", [5], "tokens is 5"),
        ("detokenize", [b"ab"], "tokens is b'ab'"),
        ("detokenize", [[500]], "token 0 is 500"),
        ("detokenize", [[97], 5], "tokens is 5"),
        ("eval", [5], "tokens is 5"),
        ("eval", ["Hello"], "tokens is 'Hello'"),
        ("embed", [5], "input is 5"),
        ("embed", [None], "input is None"),
        ("create_embedding", [{"a": 1}], "input is {'a': 1}"),
        ("set_seed", ["x"], "seed is 'x'"),
        ("create_completion", [5], "the prompt is a int"),
        ("create_completion", ["a", 5], "suffix is 5"),
    ],
)
def test_arguments_of_a_wrong_type_are_named(llama, method, arguments, named):
    with pytest.raises(ParameterError, match=named):
        getattr(llama, method)(*arguments)


@pytest.mark.parametrize(
    "arguments, named",
    [
        ({"messages": "Hello"}, "messages is 'Hello'"),
        ({"tools": 5}, "tools is 5"),
        ({"tools": [{"type": "function", "function": "now"}]}, r"tools\[0\] is"),
        ({"functions": 5}, "functions is 5"),
        ({"functions": ["now"]}, r"tools\[0\] is"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": "now"}}, "tool_choice is"),
        ({"response_format": "json"}, "response_format is 'json'"),
        ({"response_format": {"type": "json_schema", "json_schema": 5}}, "response_format is"),
        ({"mirostat_mode": np.array([1, 2])}, "mirostat_mode is"),
        ({"seed": "x"}, "seed is 'x'"),
    ],
)
def test_a_chats_arguments_of_a_wrong_type_are_named(llama, arguments, named):
    with pytest.raises(ParameterError, match=named):
        llama.create_chat_completion(**{"messages": MESSAGES, **arguments})


def test_a_chat_format_that_is_no_text_is_named(path):
    with Llama(path, chat_format=5) as model, pytest.raises(ParameterError, match="chat_format is 5"):
        model.create_chat_completion(MESSAGES)


@pytest.mark.parametrize("criteria", [5, "x", [5], StoppingCriteriaList([5])])
def test_what_is_no_criterion_is_named(llama, criteria):
    with pytest.raises(ParameterError, match="stopping_criteria is"):
        llama("Hello", stopping_criteria=criteria)
    with pytest.raises(ParameterError, match="stopping_criteria is"):
        next(llama.generate([97], stopping_criteria=criteria))


@pytest.mark.parametrize("idx", ["x", -1, 5, 1.0])
def test_a_position_to_sample_at_has_a_token(llama, idx):
    llama.reset()
    llama.eval(llama.tokenize(b"Hello"))
    with pytest.raises(ParameterError, match=r"idx is .*from 0 to 4"):
        llama.sample(idx=idx)


def test_without_logits_all_positions_can_be_sampled_at_too(llama, path):
    llama.reset()
    llama.eval(llama.tokenize(b"Hello"))
    with Llama(path) as model:
        model.eval(model.tokenize(b"Hello"))
        assert [model.sample(temp=0, idx=i) for i in range(5)] == [llama.sample(temp=0, idx=i) for i in range(5)]


@pytest.mark.parametrize("name", ["n_ctx", "n_batch", "last_n_tokens_size", "seed"])
def test_sizes_of_a_wrong_type_are_named(path, name):
    with pytest.raises(ParameterError, match=f"{name} is 'x'"):
        Llama(path, **{name: "x"})


def test_token_ids_can_be_embedded_and_counted(llama):
    one, n = llama.embed([llama.tokenize(b"Hello")], return_count=True)
    assert n == 5 and one == llama.embed(["Hello"])


def test_tools_without_a_place_in_the_template_are_ignored_with_a_warning(path):
    with Llama(path, n_ctx=1024, chat_format="zephyr") as model:
        plain = model.create_chat_completion(MESSAGES, temperature=0, max_tokens=4)
        with pytest.warns(UserWarning, match=r"tools are ignored: .*no place") as warned:
            answer = model.create_chat_completion(MESSAGES, tools=TOOLS, temperature=0, max_tokens=4)
        assert answer["choices"] == plain["choices"] and warned[0].filename == __file__
        for choice in ("required", "now"):  # a system message describes them, and a grammar has them called
            forced = model.create_chat_completion(MESSAGES, tools=ZONED_TOOLS, tool_choice=choice, max_tokens=200)
            assert forced["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "now"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.create_chat_completion(MESSAGES, tools=TOOLS, tool_choice="none", max_tokens=1)


@pytest.mark.parametrize("stream", [False, True])
def test_a_template_in_jinja_is_a_chat_handler(path, stream):
    formatter = Jinja2ChatFormatter(CHATML, eos_token="<|im_end|>", bos_token="")
    options = {"temperature": 0, "max_tokens": 6, "stream": stream}

    def texts(**how):
        with Llama(path, n_ctx=256, **how) as model:
            answer = model.create_chat_completion(MESSAGES, **options)
            return [chunk["choices"] for chunk in answer] if stream else answer["choices"]

    assert texts(chat_handler=formatter.to_chat_handler()) == texts(chat_format=CHATML)
    with Llama(path, n_ctx=256) as model:
        answer = formatter.to_chat_handler()(llama=model, messages=MESSAGES, max_tokens=2)
        assert answer["object"] == "chat.completion"


def test_a_template_in_jinja_gives_prompts_and_ends(path):
    source = "{{ bos_token }}{% for m in messages %}{{ m.content + eos_token }}{% endfor %}{{ add_generation_prompt }}"
    formatter = Jinja2ChatFormatter(source, "</s>", "<s>", add_generation_prompt=False, stop_token_ids=[97])
    made = formatter(messages=MESSAGES, tools=None)
    assert (made.prompt, made.stop, made.added_special) == ("<s>Hello</s>False", ["</s>"], True)
    assert made.stopping_criteria(np.array([98, 97]), None) and not made.stopping_criteria(np.array([97, 98]), None)
    with Llama(path, n_ctx=256, chat_handler=formatter.to_chat_handler()) as model:
        answer = model.create_chat_completion(MESSAGES, logit_bias={97: 1e6})["choices"][0]
        assert answer["finish_reason"] == "stop" and answer["message"]["content"] in ("", "a")


def test_installed_modules_are_found_in_every_way(llama_cpp):
    import llama_cpp.llama_chat_format
    from llama_cpp import llama_grammar
    from llama_cpp.llama_chat_format import ChatFormatterResponse

    assert llama_cpp.llama_chat_format.ChatFormatterResponse is ChatFormatterResponse
    assert llama_grammar.LlamaGrammar is llama_cpp.LlamaGrammar
    from llama_cpp.llama_chat_format import Llava15ChatHandler

    with pytest.raises(PyinferError, match="Llava15ChatHandler: pyinfer reads texts"):
        Llava15ChatHandler(clip_model_path="clip.gguf")
