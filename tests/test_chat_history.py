"""Histories with tools: nothing of a call or its result is lost, in the form that each template shows best."""

import pytest
from chats import PUBLISHED, TOOLS, assistant, call, source_of, tokenizer_of, tool, user
from transformers.utils.chat_template_utils import render_jinja_template

from pyinfer.chat import prepare_chat
from pyinfer.chat.templates import builtin_templates, choose_template, template_quirks, template_variables

SOURCES = {name: source_of(name) for name in PUBLISHED}
SOURCES |= {f"builtin {name}": choose_template(tokenizer_of(""), name) for name in builtin_templates()}

START = "{% for m in messages %}"
USERS = "{% if m.role != 'assistant' %}<{{ m.role }}>{{ m.content }}{% endif %}"
END = "{% endfor %}{% if add_generation_prompt %}<A>{% endif %}"
CALLS = "{% for c in m.tool_calls %}<CALL>{{ c.function.name }} {{ c.function.arguments | tojson }}</CALL>{% endfor %}"
# What a template does with a message of the model, and the content of a call's message that it shows best.
HABITS = {
    "calls where the content is none": (
        f"{{% if m.role == 'assistant' and m.content is none %}}<A>{CALLS}{{% elif m.role == 'assistant' %}}"
        "<A>{{ m.content }}</s>{% endif %}", None,
    ),
    "a content that is split": (
        "{% if m.role == 'assistant' %}<A>{{ m.content.split('</think>')[-1] }}"
        f"{{% if m.tool_calls %}}{CALLS}{{% endif %}}{{% endif %}}", "",
    ),
    "a content that is split where another message follows": (
        "{% if m.role == 'assistant' %}{% set text = m.content %}{% if not loop.last %}"
        "{% set text = m.content.split('x')[0] %}{% endif %}<A>{{ text or '' }}"
        f"{{% if m.tool_calls %}}{CALLS}{{% endif %}}{{% endif %}}", "",
    ),
    "calls where there is no content": (
        f"{{% if m.role == 'assistant' %}}<A>{{% if 'content' in m %}}{{{{ m.content + '' }}}}{{% else %}}{CALLS}"
        "{% endif %}{% endif %}", "absent",
    ),
    "a content that is written whatever it is": (
        "{% if m.role == 'assistant' %}<A>{{ m.content }}"
        f"{{% if m.tool_calls %}}{CALLS}{{% endif %}}{{% endif %}}", "",
    ),
}  # fmt: skip


def message_of(content, *calls):
    message = assistant(content, tool_calls=list(calls))
    if content == "absent":
        del message["content"]
    return message


@pytest.mark.parametrize("given", [None, "", "absent"])
@pytest.mark.parametrize("habit", HABITS)
def test_a_call_is_shown_however_its_content_is_empty(habit, given):
    source, best = HABITS[habit]
    template = START + USERS + source + END
    one, result = call("add", {"a": 2}), tool("5", "add")
    for further in ([], [result], [result, assistant("Five."), user("Thanks")]):
        text = prepare_chat(tokenizer_of(""), [user("2+3?"), message_of(given, one), *further], template).text
        shown, _ = render_jinja_template(
            [[user("2+3?"), message_of(best, one), *further]], chat_template=template, add_generation_prompt=True
        )
        assert text == shown[0] and '<CALL>add {"a": 2}</CALL>' in text


@pytest.mark.parametrize("name", SOURCES)
def test_published_templates_show_every_call_word_and_result(name):
    source = SOURCES[name]
    tokenizer, keys = tokenizer_of(source), {"tools": TOOLS} if "tools" in template_variables(source) else {}
    calls = [call("get_weather", {"city": "Rome"}), call("now", {"zone": "UTC"}, 2)]
    results = [tool("Sunny.", "get_weather"), tool("Noon.", "now", 2)]
    for given in (None, "", "absent"):
        one = [user("Weather?"), message_of(given, calls[0]), results[0]]
        for messages in (one[:2], one, [*one, assistant("It is sunny."), user("Thanks")]):
            text = prepare_chat(tokenizer, messages, **keys).text
            assert "get_weather" in text and "Rome" in text and "None" not in text
            assert len(messages) == 2 or "Sunny." in text
        both = prepare_chat(tokenizer, [user("?"), message_of(given, *calls), *results], **keys).text
        assert all(part in both for part in ("get_weather", "Rome", "now", "UTC", "Sunny.", "Noon."))


def test_calls_that_a_template_takes_one_at_a_time_come_one_after_the_other():
    template = (
        "{% for m in messages %}{% if m.tool_calls %}{% if m.tool_calls | length > 1 %}{{ raise_exception('one') }}"
        "{% endif %}<A>" + CALLS + "{% else %}<{{ m.role }}>{{ m.content }}{% endif %}{% endfor %}"
    )
    calls = [call("one", {"a": 1}), call("two", {"b": 2}, 2)]
    results = [tool("second", "two", 2), tool("first", "one")]  # in another order than the calls

    text = prepare_chat(tokenizer_of(""), [user("?"), assistant(None, tool_calls=calls), *results], template).text

    assert text == '<user>?<A><CALL>one {"a": 1}</CALL><tool>first<A><CALL>two {"b": 2}</CALL><tool>second'


def test_words_beside_a_call_come_before_it_where_a_template_drops_them():
    template = (
        START + "{% if m.tool_calls %}<A>" + CALLS + "{% else %}<{{ m.role }}>{{ m.content }}{% endif %}{% endfor %}"
    )
    messages = [user("?"), assistant("Let me see.", tool_calls=[call("now", {})]), tool("12", "now")]
    text = prepare_chat(tokenizer_of(""), messages, template).text
    assert text == "<user>?<assistant>Let me see.<A><CALL>now {}</CALL><tool>12"


def test_a_template_without_calls_and_results_gets_them_as_text():
    template = (
        "{% for m in messages %}{% if m.role not in ('user', 'assistant') %}{{ raise_exception('no') }}{% endif %}"
        "<{{ m.role }}>{{ m.content }}{% endfor %}"
    )
    calls = [call("now", {"zone": "a"}), call("now", '{"zone": "b"}', 2)]
    messages = [user("?"), assistant("So:", tool_calls=calls), tool("1", "now"), tool("2", "now", 2)]
    assert prepare_chat(tokenizer_of(""), messages, template).text == (
        '<user>?<assistant>So:\n{"name": "now", "arguments": {"zone": "a"}}\n'
        '{"name": "now", "arguments": {"zone": "b"}}'
        "<user><tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response>"
    )


def test_ids_of_other_programs_become_those_that_a_template_accepts():
    long = {**call("now", {}), "id": "call_from-another-program"}
    result = {**tool("12", "now"), "tool_call_id": long["id"]}
    template = source_of("mistral-nemo")
    messages = [user("?"), assistant(None, tool_calls=[long]), result]
    assert template_quirks(template).short_ids

    text = prepare_chat(tokenizer_of(template), messages, tools=TOOLS).text

    (short,) = {part[:9] for part in text.split('"id": "')[1:]}
    assert short.isalnum() and text.count(short) == 2 and long["id"] not in text
    assert prepare_chat(tokenizer_of(template), messages, tools=TOOLS).text == text


def test_results_get_the_name_of_their_function_where_a_template_writes_it():
    template = (
        START + "{% if m.tool_calls %}" + CALLS + "{% else %}<{{ m.name }}>{{ m.content }}{% endif %}{% endfor %}"
    )
    result = {"role": "tool", "tool_call_id": "abcdefgh1", "content": "12"}
    messages = [user("?"), assistant(None, tool_calls=[call("now", {})]), result]
    assert prepare_chat(tokenizer_of(""), messages, template).text.endswith("<now>12")


@pytest.mark.parametrize("arguments", [None, "", "{}", {}])
def test_calls_without_arguments_have_none(arguments):
    messages = [user("?"), assistant(None, tool_calls=[call("now", arguments)])]
    assert '{"name": "now", "arguments": {}}' in prepare_chat(tokenizer_of(""), messages, "chatml").text


def test_calls_of_functions_are_calls_of_tools_where_a_template_does_not_know_them():
    function = {"role": "assistant", "content": "", "function_call": {"name": "add", "arguments": '{"a": 2}'}}
    messages = [user("2+3?"), function, {"role": "function", "name": "add", "content": "5"}]
    for name in ("qwen3-0.6b", "mistral-nemo", "deepseek-v3.1", "smollm2-135m"):
        text = prepare_chat(tokenizer_of(""), messages, source_of(name)).text
        assert '"a": 2' in text and "add" in text and "5" in text.partition('"a": 2')[2], name
    own = "{% for m in messages %}{{ m.role }}{{ m.content }}{{ m.function_call.name if m.function_call }}{% endfor %}"
    assert prepare_chat(tokenizer_of(""), messages, own).text == "user2+3?assistantaddfunction5"


def test_a_list_of_no_calls_is_no_call():
    template = START + "{{ 'calls' if 'tool_calls' in m else m.content }}" + "{% endfor %}"
    for none in ([], None):
        assert prepare_chat(tokenizer_of(""), [user("?"), assistant("A", tool_calls=none)], template).text == "?A"


TRANSLATION = (
    "{% for m in messages %}{% if m.content is string %}{{ raise_exception('parts') }}{% endif %}"
    "{% for p in m.content %}<{{ p.source_lang_code }}-{{ p.target_lang_code }}>{{ p.text }}{% endfor %}{% endfor %}"
)


def test_parts_with_keys_of_the_template_s_own_reach_it_as_they_are():
    part = {"type": "text", "source_lang_code": "cs", "target_lang_code": "de-AT", "text": "Ahoj </s>"}
    tokenizer = tokenizer_of("")

    prompt = prepare_chat(tokenizer, [user([part])], TRANSLATION)
    (expected,), _ = render_jinja_template([[user([part])]], chat_template=TRANSLATION)

    assert prompt.text == expected == "<cs-de-AT>Ahoj </s>"
    assert tokenizer.eos_id not in prompt.tokens
    # a key that the template does not read says nothing
    plain = {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}
    assert "user\nHi<|im_end|>" in prepare_chat(tokenizer, [user([plain])], "chatml").text
