"""Thoughts and answers are told apart, whole and as they come."""

import hypothesis.strategies as st
import pytest
from chats import source_of, tokenizer_of, user
from hypothesis import given, settings

from pyinfer.chat import AnswerParser, prepare_chat
from pyinfer.chat.reasoning import REASONING_FORMATS, ReasoningFormat, ReasoningParser, reasoning_format
from pyinfer.chat.tools import TOOL_FORMATS

THINK = ReasoningFormat("<think>", "</think>")


def split(text, opened=False, step=10**9, form=THINK):
    parser = ReasoningParser(form, opened)
    parts = [parser.push(text[i : i + step]) for i in range(0, len(text), step)] + [parser.finish()]
    return tuple(map("".join, zip(*parts, strict=True)))


@pytest.mark.parametrize("step", [1, 4, 10**9])
@pytest.mark.parametrize(
    ("text", "opened", "expected"),
    [
        ("<think>\nHm.\n</think>\n\nYes.", False, ("Hm.", "Yes.")),
        ("\n<think>Hm.</think>Yes.", False, ("Hm.", "Yes.")),
        ("Hm.\n\nSo.\n</think>\n\nYes.", True, ("Hm.\n\nSo.", "Yes.")),
        ("<think>\n\n</think>\n\nYes.", False, ("", "Yes.")),
        ("<think>Hm. </thin", False, ("Hm. </thin", "")),
        ("<think>Hm.</think>", False, ("Hm.", "")),
        ("Yes. <think>no</think>", False, ("", "Yes. <think>no</think>")),
        ("<think>a</think> b <think>c</think>", False, ("a", "b <think>c</think>")),
        ("<thi", False, ("", "<thi")),
        ("  Yes. \n", False, ("", "  Yes. \n")),
        ("", False, ("", "")),
        ("", True, ("", "")),
    ],
)
def test_thoughts_come_first(text, opened, expected, step):
    assert split(text, opened, step) == expected


@settings(max_examples=200, deadline=None)
@given(
    text=st.lists(st.sampled_from(["<think>", "</think>", "<", "think>", "a", " ", "\n"]), max_size=10).map("".join),
    opened=st.booleans(),
    step=st.integers(1, 9),
)
def test_the_way_a_text_is_cut_changes_nothing(text, opened, step):
    assert split(text, opened, step) == split(text, opened)


@pytest.mark.parametrize("form", REASONING_FORMATS)
def test_every_format_is_read(form):
    assert split(f"{form.start}Hm.{form.end}Yes.", form=form) == ("Hm.", "Yes.")


@pytest.mark.parametrize(
    ("name", "keys", "answer", "expected"),
    [
        ("qwen3-0.6b", {}, "<think>\nHm.\n</think>\n\nYes.", ("Hm.", "Yes.")),
        ("qwen3-0.6b", {"enable_thinking": False}, "Yes.", ("", "Yes.")),
        ("qwen3.5-4b", {}, "Hm.\n</think>\n\nYes.", ("Hm.", "Yes.")),
        ("deepseek-v3", {}, "Hm.\n</think>\n\nYes.", ("Hm.", "Yes.")),
        ("deepseek-v3.1", {"thinking": True}, "Hm.</think>Yes.", ("Hm.", "Yes.")),
        ("deepseek-v3.1", {}, "Yes.", ("", "Yes.")),
        ("ministral-3-reasoning", {}, "[THINK]Hm.[/THINK]Yes.", ("Hm.", "Yes.")),
        ("seed-oss", {}, "<seed:think>Hm.</seed:think>Yes.", ("Hm.", "Yes.")),
    ],
)
def test_the_prompt_knows_how_its_model_thinks(name, keys, answer, expected):
    prompt = prepare_chat(tokenizer_of(source_of(name)), [user("Q?")], **keys)

    parser = prompt.parser(reasoning=True)
    parser.push(answer)
    parser.finish()

    assert (parser.answer().reasoning, parser.answer().content) == expected


def test_thoughts_are_text_unless_asked_for():
    prompt = prepare_chat(tokenizer_of(source_of("qwen3-0.6b")), [user("Q?")])
    parser = prompt.parser()

    deltas = parser.push("<think>Hm.</think>Yes.") + parser.finish()

    assert [delta.as_dict() for delta in deltas] == [{"content": "<think>Hm.</think>Yes."}]
    assert parser.answer().as_dict() == {"role": "assistant", "content": "<think>Hm.</think>Yes."}


def test_thoughts_text_and_calls_come_in_order():
    hermes = next(form for form in TOOL_FORMATS if form.name == "hermes")
    tools = [{"type": "function", "function": {"name": "f"}}]
    parser = AnswerParser(THINK, hermes, tools)
    text = '<think>Call <tool_call>?</think>\nSo:\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'

    deltas = [delta for c in text for delta in parser.push(c)] + parser.finish()

    kinds = [next(iter(delta.as_dict())) for delta in deltas]
    assert [k for i, k in enumerate(kinds) if i == 0 or kinds[i - 1] != k] == [
        "reasoning_content",
        "content",
        "tool_calls",
    ]
    answer = parser.answer()
    assert (answer.reasoning, answer.content, answer.tool_calls[0].name) == ("Call <tool_call>?", "So:", "f")
    assert answer.as_dict()["reasoning_content"] == "Call <tool_call>?"


def test_templates_that_do_not_think_have_no_format():
    assert reasoning_format(source_of("qwen2.5-7b-instruct")) is None
    assert reasoning_format(source_of("ministral-3-reasoning")).start == "[THINK]"


def test_control_tokens_around_thoughts_are_shown_when_asked_for():
    tokenizer = tokenizer_of(source_of("ministral-3-reasoning"))
    prompt = prepare_chat(tokenizer, [user("a")])
    shown = {tokenizer.special_texts[i] for i in prompt.visible_tokens(tokenizer, reasoning=True)}

    assert shown == {"[THINK]", "[/THINK]"} and not prompt.visible_tokens(tokenizer)
