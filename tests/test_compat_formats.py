"""llama-cpp-python's chat formats by name, chat handlers of programs, and the older form of tool calls."""

import json

import numpy as np
import pytest
from chats import ZONED_TOOLS

from pyinfer import ParameterError
from pyinfer.chat.templates import render
from pyinfer.compat import Llama
from pyinfer.compat.chat_format import (
    ChatFormatterResponse,
    LlamaChatCompletionHandlerRegistry,
    get_chat_completion_handler,
    guess_chat_format_from_gguf_metadata,
    hf_tokenizer_config_to_chat_completion_handler,
    hf_tokenizer_config_to_chat_formatter,
    register_chat_completion_handler,
    register_chat_format,
)
from pyinfer.compat.formats import FORMATS
from pyinfer.compat.handlers import OWN_HANDLERS
from pyinfer.compat.sampling import StoppingCriteriaList

SYSTEM = {"role": "system", "content": "Be brief."}
TALK = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": 'A "quoted" {{ text }}'},
]
ASKED = 'A "quoted" {{ text }}'
# The prompts of llama-cpp-python for [SYSTEM, *TALK]
PROMPTS = {
    "llama-2": f"[INST] <<SYS>>\nBe brief.\n<</SYS>> Hi [/INST]Hello! </s><s>[INST]{ASKED}  [/INST]",
    "alpaca": f"Be brief.\n\n### Instruction: Hi\n\n### Response: Hello!</s>### Instruction: {ASKED}\n\n",
    "vicuna": f"USER: Hi ASSISTANT: Hello!</s>USER: {ASKED} ASSISTANT:",
    "baichuan-2": f"Be brief.<reserved_106>Hi<reserved_107>Hello!<reserved_106>{ASKED}<reserved_107>",
    "redpajama-incite": f"Be brief.\n<human>: Hi\n<bot>: Hello!\n<human>: {ASKED}\n<bot>:",
    "zephyr": (
        "<|system|>\nBe brief.</s>\n<|user|>\n\nHi</s>\n<|assistant|>\n\nHello!</s>\n<|user|>\n\n"
        f"{ASKED}</s>\n<|assistant|>\n\n"
    ),
    "mistral-instruct": f"[INST] Hi [/INST]Hello!</s>[INST] {ASKED} [/INST]",
    "gemma": (
        "<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello!<end_of_turn>\n"
        f"<start_of_turn>user\n{ASKED}<end_of_turn>\n<start_of_turn>model\n"
    ),
    "saiga": f"<s>system\nBe brief.</s><s>user\nHi</s><s>bot\nHello!</s><s>user\n{ASKED}</s><s>bot",
    "intel": f"### System:\nBe brief.\n### User:: Hi\n### Assistant:: Hello!\n### User:: {ASKED}\n### Assistant::",
}
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}{{ '[INST] ' + message.content + "
    "' [/INST]' }}{% else %}{{ message.content + eos_token }}{% endif %}{% endfor %}"
)
CONFIG = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": MISTRAL}


@pytest.fixture(scope="module")
def llama(path):
    with Llama(path, n_ctx=1024, verbose=False) as model:
        yield model


@pytest.fixture
def no_handlers(monkeypatch):
    monkeypatch.setattr(LlamaChatCompletionHandlerRegistry, "_chat_handlers", {})


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_is_llama_cpp_pythons(name):
    prompt = render(FORMATS[name].template(), [SYSTEM, *TALK])
    assert prompt.endswith(PROMPTS[name]) if name == "vicuna" else prompt == PROMPTS[name]


def test_there_are_27_formats_and_each_answers(llama):
    names = [*FORMATS, *OWN_HANDLERS]
    assert len(names) == 27
    for name in names:
        llama.chat_format = name
        answer = llama.create_chat_completion([SYSTEM, *TALK], max_tokens=1, temperature=0)
        assert answer["usage"]["prompt_tokens"] > len(ASKED)
        handler = get_chat_completion_handler(name)
        again = handler(llama=llama, messages=[SYSTEM, *TALK], max_tokens=1, temperature=0)
        assert again["choices"] == answer["choices"] and again["usage"] == answer["usage"]
    llama.chat_format = None


def test_every_message_is_in_the_prompt():
    for name in FORMATS:
        prompt = render(FORMATS[name].template(), TALK)
        assert all(message["content"] in prompt for message in TALK), name
        assert "{system_message}" not in prompt


def test_a_format_ends_its_answers(llama):
    llama.chat_format = "redpajama-incite"
    bias = {ord(c): 50.0 for c in "<human>"}
    answer = llama.create_chat_completion(TALK, logit_bias=bias, max_tokens=200, seed=1)["choices"][0]
    assert "<human>" not in answer["message"]["content"]
    llama.chat_format = None


def test_functions_of_formats_give_prompts(llama_cpp):
    from llama_cpp.llama_chat_format import format_gemma, format_llama2, format_mistral_instruct

    made = format_gemma(messages=[SYSTEM, *TALK])
    assert (made.prompt, made.stop, made.added_special) == (PROMPTS["gemma"], "<end_of_turn>\n", False)
    assert format_llama2([SYSTEM, *TALK]).prompt == PROMPTS["llama-2"]
    assert format_mistral_instruct(messages=TALK).prompt == PROMPTS["mistral-instruct"]


def test_a_formatter_is_registered_and_makes_the_prompt(llama, no_handlers):
    seen = {}

    @register_chat_format("plain")
    def plain(messages, **variables):
        seen.update(variables)
        ends = StoppingCriteriaList([lambda tokens, logits: len(tokens) >= 9])
        return ChatFormatterResponse("".join(m["content"] for m in messages), stop="~", stopping_criteria=ends)

    llama.chat_format = "plain"
    answer = llama.create_chat_completion([{"role": "user", "content": "Hello"}], logit_bias={97: 200.0})
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "aaaa"}
    assert answer["choices"][0]["finish_reason"] == "stop" and answer["usage"]["prompt_tokens"] == 5
    assert set(seen) == {"functions", "function_call", "tools", "tool_choice"}
    forced = {"tools": ZONED_TOOLS, "tool_choice": ZONED_TOOLS[0]}
    call = llama.create_chat_completion([{"role": "user", "content": "Hi"}], **forced)["choices"][0]["message"]
    assert call["tool_calls"][0]["function"]["name"] == "now"
    llama.chat_format = None


def test_a_handler_is_registered_under_a_name_of_its_own(llama, no_handlers):
    @register_chat_completion_handler("mine")
    def mine(*, llama, messages, **arguments):
        return llama, messages, arguments["top_k"]

    llama.chat_format = "mine"
    assert llama.create_chat_completion(TALK, top_k=3) == (llama, TALK, 3)
    assert get_chat_completion_handler("mine") is mine
    for taken in ("mine", "llama-2", "functionary"):
        with pytest.raises(ParameterError, match="exists; overwrite=True"):
            register_chat_completion_handler(taken)(mine)
    registry = LlamaChatCompletionHandlerRegistry()
    registry.register_chat_completion_handler("llama-2", mine, overwrite=True)
    registry.unregister_chat_handler("mine")
    with pytest.raises(ParameterError, match="mine"):
        registry.unregister_chat_handler("mine")
    with pytest.raises(ValueError, match="'mine'; expected one of"):
        get_chat_completion_handler("mine")
    llama.chat_format = None


def test_a_tokenizers_configuration_makes_prompts(llama):
    hello = [{"role": "user", "content": "Hello, world!"}]
    formatter = hf_tokenizer_config_to_chat_formatter(CONFIG)
    made = formatter(messages=hello)
    assert (made.prompt, made.stop) == ("<s>[INST] Hello, world! [/INST]</s>", ["</s>", "<s>"])
    handler = hf_tokenizer_config_to_chat_completion_handler(CONFIG)
    answer = handler(llama=llama, messages=hello, max_tokens=1)
    assert answer["usage"]["prompt_tokens"] == len("<s>[INST] Hello, world! [/INST]")
    with pytest.raises(ParameterError, match="tokenizer_config"):
        hf_tokenizer_config_to_chat_formatter({"bos_token": "<s>"})


def test_a_known_template_has_a_name():
    assert guess_chat_format_from_gguf_metadata({}) is None
    assert guess_chat_format_from_gguf_metadata({"tokenizer.chat_template": "{{ x }}"}) is None


def test_a_tool_is_called_whatever_the_template(llama):
    """zephyr's has no place for tools: a system message describes them."""
    llama.chat_format = "zephyr"
    other = {"type": "function", "function": {"name": "later", "parameters": {"type": "object", "maxProperties": 0}}}
    for tools, choice in ((ZONED_TOOLS, "now"), (ZONED_TOOLS, "required"), ([*ZONED_TOOLS, other], "required")):
        given = {"tools": tools, "tool_choice": choice, "max_tokens": 300, "seed": 1}
        answer = llama.create_chat_completion(TALK, **given)["choices"][0]
        (call,) = answer["message"]["tool_calls"]
        assert answer["finish_reason"] == "tool_calls" and answer["message"]["content"] is None
        assert call["function"]["name"] in ("now", "later") and isinstance(
            json.loads(call["function"]["arguments"]), dict
        )
        chunks = [chunk["choices"][0] for chunk in llama.create_chat_completion(TALK, stream=True, **given)]
        assert [len(chunk["delta"].get("tool_calls", ())) for chunk in chunks].count(1) == 1
        assert chunks[-1]["finish_reason"] == "tool_calls"
    llama.chat_format = None


@pytest.mark.parametrize("stream", [False, True])
def test_the_functions_loop(llama, stream):
    llama.chat_format = "chatml"
    given = {"functions": [ZONED_TOOLS[0]["function"]], "max_tokens": 100}
    answer = llama.create_chat_completion(TALK, function_call={"name": "now"}, stream=stream, **given)
    messages = [chunk["choices"][0]["delta"] for chunk in answer] if stream else [answer["choices"][0]["message"]]
    message = next(one for one in messages if "function_call" in one)
    assert message["tool_calls"][0]["function"]["name"] == message["function_call"]["name"] == "now"
    assert message["tool_calls"][0]["function"]["arguments"] == message["function_call"]["arguments"]
    call = {"role": "assistant", "content": None, "function_call": message["function_call"]}
    result = {"role": "function", "name": "now", "content": "noon"}
    own = llama.create_chat_completion([*TALK, call, result], temperature=0, **{**given, "max_tokens": 1})
    same = [
        *TALK,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": call["function_call"]}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "noon"},
    ]
    assert own["usage"] == llama.create_chat_completion(same, temperature=0, **{**given, "max_tokens": 1})["usage"]
    llama.chat_format = None


def test_variables_of_the_template_are_given_with_the_model(path):
    template = "{% for m in messages %}{{ m.content }}{% endfor %}{{ mark }}"
    with Llama(path, chat_format=template, chat_template_kwargs={"mark": "#####"}) as model:
        answer = model.create_chat_completion([{"role": "user", "content": "Hello"}], max_tokens=1)
        assert answer["usage"]["prompt_tokens"] == 10


def test_files_templates_are_handlers_too(llama, monkeypatch):
    monkeypatch.setattr(llama._tokenizer, "chat_template", "{{ messages[0].content }}")
    (name,) = llama._chat_handlers
    answer = llama._chat_handlers[name](llama=llama, messages=[{"role": "user", "content": "Hello"}], max_tokens=1)
    assert name == "chat_template.default" and answer["usage"]["prompt_tokens"] == 5
    assert np.isclose(answer["usage"]["total_tokens"], 6)
