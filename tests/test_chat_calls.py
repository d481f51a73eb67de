"""`chat` and `stream_chat`: a model's turn, from messages to a message."""

import asyncio
import json

import pytest
from chats import TOOLS, assistant, system, user
from tiny_models import TinyModel, write_text_model
from tiny_vocabularies import CONTROL, bpe_metadata

from pyinfer import LLM, AsyncLLM, ContextError, ParameterError, SamplingParams
from pyinfer.chat import builtin_templates, choose_template, prepare_turn
from pyinfer.chat.templates import turn_ends
from pyinfer.tokenizer import tokenizer_from_metadata

GREEDY = SamplingParams(temperature=0, max_tokens=12)
HELLO = [user("Hello")]
PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}A:"


@pytest.fixture(scope="module")
def llm(tmp_path_factory):
    model = TinyModel("llama", n_layers=1, n_vocab=128, n_ctx=2048)
    path = write_text_model(tmp_path_factory.mktemp("chat") / "model.gguf", model)
    with LLM(path, n_threads=1, kv_type="f32") as llm:
        yield llm


def tokenizer_of(special):
    return tokenizer_from_metadata(bpe_metadata(special=dict.fromkeys(special, CONTROL)))


def written(llm, text):
    """Parameters under which the model writes this text, and ends it."""
    ids = [*llm.tokenizer.encode(text, add_special=False), llm.tokenizer.eos_id]

    def follow(tokens, logits):
        logits[:] = -1e9
        logits[ids[len(tokens) - follow.start]] = 0
        return logits

    follow.start = None

    def first(tokens, logits):
        if follow.start is None:
            follow.start = len(tokens)
        return follow(tokens, logits)

    return SamplingParams(temperature=0, logits_processors=[first])


def test_an_answer_is_the_text_after_the_rendered_prompt(llm):
    done = llm.chat(HELLO, GREEDY, template=PLAIN)

    prompt = llm.tokenizer.encode("user: Hello\nA:")
    text = llm.generate(prompt, GREEDY)
    assert list(done.completion.prompt) == prompt
    assert done.message == {"role": "assistant", "content": text.text}
    assert (done.content, done.finish_reason) == (text.text, "length")
    assert done.usage == {
        "prompt_tokens": len(prompt),
        "completion_tokens": 12,
        "total_tokens": len(prompt) + 12,
        "prompt_tokens_details": {"cached_tokens": done.completion.cached_tokens},
    }


def test_a_stream_gives_the_same_answer(llm):
    whole = llm.chat(HELLO, GREEDY, template="chatml")
    stream = llm.stream_chat(HELLO, GREEDY, template="chatml")
    assert stream.completion is None
    assert "".join(delta.content for delta in stream) == whole.content
    assert stream.completion.answer == stream.answer == whole.answer
    assert stream.completion.completion.tokens == whole.completion.tokens


def test_a_stream_that_is_closed_keeps_what_came(llm):
    with llm.stream_chat(HELLO, SamplingParams(ignore_eos=True, seed=1), template="chatml") as stream:
        first = next(stream).content
    assert first and stream.answer.content.startswith(first)
    assert list(stream) == [] and stream.completion is None


def test_several_answers(llm):
    done = llm.chat(HELLO, SamplingParams(n=3, max_tokens=4, seed=3), template=PLAIN)
    assert len(done.choices) == 3 and done.choices[0].answer == done.answer
    assert done.usage["completion_tokens"] == sum(len(choice.completion.tokens) for choice in done.choices)
    with pytest.raises(ParameterError, match="a chat's stream gives one answer"):
        llm.stream_chat(HELLO, SamplingParams(n=2), template=PLAIN)


def test_special_tokens_of_a_user_are_text(llm):
    done = llm.chat([user("<1>")], GREEDY, template=PLAIN)
    assert 1 not in done.completion.prompt


def test_calls_are_told_apart(llm):
    text = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'
    done = llm.chat(HELLO, written(llm, text), template="chatml", tools=TOOLS)
    assert done.finish_reason == "tool_calls" and done.content is None
    assert done.message["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": '{"city": "Rome"}'}

    stream = llm.stream_chat(HELLO, written(llm, text), template="chatml", tools=TOOLS)
    (delta,) = stream
    assert delta.tool_calls[0].name == "get_weather" and stream.completion.finish_reason == "tool_calls"


def test_control_tokens_that_are_shown_are_text(llm):
    params = SamplingParams(temperature=0, max_tokens=2, allowed_tokens=[3])
    assert "".join(piece.text for piece in llm.stream([40], params, visible_tokens={3})) == "<3><3>"
    assert "".join(piece.text for piece in llm.stream([40], params)) == ""


def test_marks_of_calls_that_are_control_tokens_are_shown():
    tokenizer = tokenizer_of(["<tool_call>", "</tool_call>", "<think>", "<|im_end|>"])
    turn = prepare_turn(tokenizer, HELLO, template="chatml", tools=TOOLS)
    assert {tokenizer.special_texts[i] for i in turn.visible_tokens} == {"<tool_call>", "</tool_call>"}
    assert [tokenizer.special_texts[i] for i in turn.params.stop_token_ids] == ["<|im_end|>"]


def test_thoughts_come_apart_when_asked(llm):
    source = PLAIN + "{# </think> #}"
    text = "<think>hm</think>yes"
    apart = llm.chat(HELLO, written(llm, text), template=source, reasoning=True)
    assert (apart.reasoning, apart.content) == ("hm", "yes")
    together = llm.chat(HELLO, written(llm, text), template=source)
    assert (together.reasoning, together.content) == (None, text)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "now"}}])
def test_a_call_that_must_come_is_well_formed(llm, choice):
    pytest.importorskip("llguidance")
    params = SamplingParams(temperature=1.5, seed=1, max_tokens=400)
    options = {"template": "chatml", "tools": TOOLS[1:], "parallel_tool_calls": False}
    done = llm.chat(HELLO, params, tool_choice=choice, **options)
    assert done.finish_reason == "tool_calls"
    assert [call.name for call in done.tool_calls] == ["now"] and json.loads(done.tool_calls[0].arguments) == {}


def test_constrained_calls_need_a_known_format_and_no_other_guide(llm):
    unknown = PLAIN + "{{ tools and '' }}"
    with pytest.raises(ParameterError, match="not known"):
        llm.chat(HELLO, template=unknown, tools=TOOLS, constrain_tools=True)
    done = llm.chat(HELLO, template=unknown, tools=TOOLS[1:], tool_choice="required", seed=1, max_tokens=200)
    assert [(call.name, call.arguments) for call in done.tool_calls] == [("now", "{}")]
    from pyinfer import Guide

    with pytest.raises(ParameterError, match="expected one of them"):
        llm.chat(HELLO, SamplingParams(guide=Guide.regex("a")), template="chatml", tools=TOOLS, constrain_tools=True)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda llm: llm.chat("Hello", template=PLAIN), "messages is"),
        (lambda llm: llm.chat(HELLO), "no chat template"),
        (lambda llm: llm.chat(HELLO, {"temperature": 0}, template=PLAIN), "params is a dict"),
        (lambda llm: llm.chat(HELLO, template=PLAIN, tool_choice="required"), "no tools"),
    ],
)
def test_bad_arguments_are_refused(llm, call, message):
    with pytest.raises(ParameterError, match=message):
        call(llm)


def test_a_prompt_that_is_too_long_is_refused(llm):
    with pytest.raises(ContextError, match="the context of 2048"):
        llm.chat([user("x" * 3000)], template=PLAIN)


@pytest.mark.parametrize("name", builtin_templates())
def test_another_template_ends_the_turn_with_its_own_marks(llm, name):
    ids, texts = turn_ends(llm.tokenizer, choose_template(llm.tokenizer, name))
    assert ids or texts
    # none of these is a token of this model, which writes them as text, if they are ASCII
    if texts and texts[0].isascii():
        done = llm.chat(HELLO, written(llm, f"hi{texts[0]} more"), template=name)
        assert (done.content.strip(), done.finish_reason) == ("hi", "stop")


def test_the_model_s_own_template_adds_no_end(llm, monkeypatch):
    monkeypatch.setattr(llm.tokenizer, "chat_template", choose_template(llm.tokenizer, "chatml"))
    assert prepare_turn(llm.tokenizer, HELLO, GREEDY).params == GREEDY


def test_a_turn_passes_its_new_tokens_only(llm):
    messages = [system("Be brief."), user("Hello there, how are you today?")]
    done = llm.chat(messages, GREEDY, template="chatml")
    again = llm.chat([*messages, assistant(done.content), user("And now?")], GREEDY, template="chatml")
    assert again.completion.cached_tokens >= done.completion.prompt_tokens


def test_chats_on_asyncio(llm):
    expected = llm.chat(HELLO, GREEDY, template="chatml")

    async def main():
        model = AsyncLLM(llm)
        done = await model.chat(HELLO, GREEDY, template="chatml")
        stream = model.stream_chat(HELLO, GREEDY, template="chatml")
        text = "".join([delta.content async for delta in stream])
        async with model.stream_chat(HELLO, SamplingParams(ignore_eos=True), template="chatml") as left:
            await anext(left)
        await asyncio.to_thread(model.close)
        return done, text, stream.completion, left

    done, text, streamed, left = asyncio.run(main())
    assert done.answer == streamed.answer == expected.answer and text == expected.content
    assert left.answer.content and left.completion is None


def test_fields_of_sampling_params_are_keywords(llm):
    both = SamplingParams(temperature=0, max_tokens=12, seed=3)
    expected = llm.chat(HELLO, SamplingParams(temperature=0, max_tokens=4), template=PLAIN)
    assert llm.chat(HELLO, template=PLAIN, temperature=0, max_tokens=4).content == expected.content
    assert llm.chat(HELLO, both, template=PLAIN, max_tokens=4).usage["completion_tokens"] == 4
    stream = llm.stream_chat(HELLO, template=PLAIN, temperature=0, max_tokens=4)
    assert "".join(delta.content for delta in stream) == expected.content

    async def main():
        model = AsyncLLM(llm)
        done = await model.chat(HELLO, template=PLAIN, temperature=0, max_tokens=4)
        stream = model.stream_chat(HELLO, template=PLAIN, temperature=0, max_tokens=4)
        text = "".join([delta.content async for delta in stream])
        await asyncio.to_thread(model.close)
        return done.content, text

    assert asyncio.run(main()) == (expected.content, expected.content)


def test_variables_of_the_template_have_their_own_argument(llm):
    template = PLAIN + "{{ 'hm' if enable_thinking else 'no' }}"

    def prompt(**options):
        return prepare_turn(llm.tokenizer, HELLO, template=template, **options).prompt.text

    assert prompt().endswith("A:no")
    assert prompt(template_kwargs={"enable_thinking": True}).endswith("A:hm")
    assert prompt(enable_thinking=True).endswith("A:hm")  # the template reads it
    assert prompt(template_kwargs={"what_other_models_read": 1}).endswith("A:no")
    with pytest.raises(ParameterError, match="in template_kwargs; expected one of them"):
        prompt(enable_thinking=True, template_kwargs={"enable_thinking": True})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_token": 4}, "did you mean max_tokens"),
        ({"temprature": 0}, "did you mean temperature"),
        ({"max_new_tokens": 4}, "did you mean max_tokens"),
        ({"enable_thinking": False}, "template_kwargs"),
        ({"tool": []}, "did you mean tools"),
        ({"stream": True}, "stream_chat"),
        ({"response_format": {"type": "json_object"}}, r"guide=Guide.json\("),
        ({"chat_template": "chatml"}, "did you mean template"),
        ({"messages_": 1}, "no option of a chat"),
        ({"template_kwargs": 5}, "template_kwargs is a int"),
        ({"template_kwargs": {"messages": []}}, "template_kwargs has 'messages'"),
        ({"temperature": "hot"}, "temperature is 'hot'"),
    ],
)
def test_keywords_that_nobody_reads_are_errors_that_say_what_was_meant(llm, options, says):
    for answer in (llm.chat, llm.stream_chat):
        with pytest.raises(ParameterError, match=says):
            answer(HELLO, template=PLAIN, **options)


@pytest.mark.parametrize("name", ["zephyr", "gemma", "vicuna", "llama-2", "phi-3", "command-r"])
def test_a_call_can_be_required_of_every_model(llm, name):
    """Where the template has no place for tools, a message describes them, and a grammar has one of them called."""
    pytest.importorskip("llguidance")
    choice = {"type": "function", "function": {"name": "now"}}
    done = llm.chat(HELLO, template=name, tools=TOOLS, tool_choice=choice, seed=1, max_tokens=300)
    prompt = llm.tokenizer.decode(done.completion.prompt)
    assert "now" in prompt and "get_weather" not in prompt and "Hello" in prompt
    assert [(call.name, call.arguments) for call in done.tool_calls][:1] == [("now", "{}")]

    again = llm.chat(
        [*HELLO, done.message, {"role": "tool", "tool_call_id": done.tool_calls[0].id, "content": "It is noon."}],
        template=name, max_tokens=1,
    )  # fmt: skip
    prompt = llm.tokenizer.decode(again.completion.prompt)
    assert "now" in prompt and "It is noon." in prompt
