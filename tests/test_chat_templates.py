"""Chat templates render as `transformers` renders them, and fail as TemplateError, soon, whatever they try."""

import time
from types import SimpleNamespace

import pytest
from chats import BUILTIN, PUBLISHED, TOOLS, assistant, call, conversations, source_of, system, tokenizer_of, tool, user
from transformers.utils.chat_template_utils import render_jinja_template

from pyinfer.chat.templates import choose_template, render, template_quirks, template_variables
from pyinfer.errors import ParameterError, TemplateError
from pyinfer.tokenizer import load_tokenizer

HELLO = [user("Hello")]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
NO_FILE = SimpleNamespace(chat_template=None, chat_templates={})


def by_transformers(template, messages, **kwargs):
    texts, _ = render_jinja_template([messages], chat_template=template, **{"add_generation_prompt": True, **kwargs})
    return texts[0]


def outcome(function, *args, **kwargs):
    """What a function gives, or "refused"."""
    try:
        return function(*args, **kwargs)
    except Exception:
        return "refused"


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_templates_render_as_transformers_renders_them(name):
    template = source_of(name)
    chats = conversations(template_quirks(template).text_arguments)

    ours = {chat: outcome(render, template, messages, **TOKENS, **keys) for chat, (messages, keys) in chats.items()}
    theirs = {
        chat: outcome(by_transformers, template, messages, **TOKENS, **keys) for chat, (messages, keys) in chats.items()
    }

    assert ours == theirs
    assert list(ours.values()).count("refused") <= 2


def test_most_published_templates_are_there():
    assert len(PUBLISHED) >= 20


SYSTEM = [system("Be brief."), user(" Hi "), assistant(" Hello! "), user("2+2?")]
# What the published templates of these formats give for SYSTEM, with the beginning of an answer.
FORMATS = {
    "chatml": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n"
    "<|im_start|>assistant\n Hello! <|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n",
    "command-r": "<s><|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>Be brief.<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Hi<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>Hello!<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>2+2?<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    "deepseek": "<s>Be brief.<｜User｜> Hi <｜Assistant｜> Hello! <｜end▁of▁sentence｜><｜User｜>2+2?<｜Assistant｜>",
    "gemma": "<s><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello!<end_of_turn>\n"
    "<start_of_turn>user\n2+2?<end_of_turn>\n<start_of_turn>model\n",
    "llama-2": "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n Hi [/INST] Hello! </s><s>[INST] 2+2? [/INST]",
    "llama-3": "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n2+2?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "mistral": "<s>[INST]  Hi [/INST] Hello!</s>[INST] Be brief.\n\n2+2?[/INST]",
    "phi-3": "<|system|>\nBe brief.<|end|>\n<|user|>\n Hi <|end|>\n<|assistant|>\n Hello! <|end|>\n"
    "<|user|>\n2+2?<|end|>\n<|assistant|>\n",
    "vicuna": "<s>Be brief.\n\nUSER: Hi\nASSISTANT: Hello!</s>\nUSER: 2+2?\nASSISTANT:",
    "zephyr": "<|system|>\nBe brief.</s>\n<|user|>\n Hi </s>\n<|assistant|>\n Hello! </s>\n<|user|>\n2+2?</s>\n"
    "<|assistant|>\n",
}


@pytest.mark.parametrize("name", BUILTIN)
def test_builtin_formats_are_those_that_models_were_trained_on(name):
    assert render(choose_template(NO_FILE, name), SYSTEM, **TOKENS) == FORMATS[name]


@pytest.mark.parametrize(("ours", "published"), [("phi-3", "phi-3.5-mini"), ("deepseek", "deepseek-v3")])
def test_builtin_formats_equal_published_templates(ours, published):
    theirs = source_of(published).replace("<think>\\n", "")  # R1 begins its answers with a thought
    for messages, keys in conversations(text_arguments=True).values():
        expected = outcome(render, theirs, messages, **TOKENS, **keys)
        assert outcome(render, choose_template(NO_FILE, ours), messages, **TOKENS, **keys) == expected


def test_builtin_mistral_differs_from_nemo_only_in_its_spaces():
    chats = [(m, keys) for name, (m, keys) in conversations().items() if name not in ("white space", "parts")]
    for messages, keys in chats:
        expected = outcome(render, source_of("mistral-nemo"), messages, **TOKENS, **keys)
        found = outcome(render, choose_template(NO_FILE, "mistral"), messages, **TOKENS, **keys)
        assert found.replace(" ", "") == expected.replace(" ", "")


def test_builtin_chatml_has_a_place_for_tools():
    messages = [
        *(user("Weather?"), assistant(None, tool_calls=[call("get_weather", {"city": "Rome"})])),
        *(tool("3"), tool("4"), assistant("Cold.")),
    ]

    text = render(choose_template(NO_FILE, "chatml"), messages, tools=TOOLS, add_generation_prompt=False)

    assert '{"type": "function", "function": {"name": "now"' in text
    assert text.endswith(
        '<|im_start|>assistant\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'
        "<|im_end|>\n<|im_start|>user\n<tool_response>\n3\n</tool_response>\n<tool_response>\n4\n</tool_response>"
        "<|im_end|>\n<|im_start|>assistant\nCold.<|im_end|>\n"
    )


def test_the_template_of_qwen_adds_its_system_prompt(reference):
    tokenizer = load_tokenizer(reference / "vocab" / "ggml-vocab-qwen2.gguf")

    assert render(tokenizer.chat_template, HELLO) == (
        "<|im_start|>system\nYou are a helpful assistant<|im_end|>\n"
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_file_can_have_templates_by_name():
    named = {"tokenizer.chat_template.tool_use": "T{{ tools }}", "tokenizer.chat_template.rag": "R"}
    tokenizer = tokenizer_of("D")
    tokenizer.chat_templates = {key.rpartition(".")[2]: text for key, text in named.items()}

    assert choose_template(tokenizer) == "D"
    assert choose_template(tokenizer, with_tools=True) == "T{{ tools }}"
    assert choose_template(tokenizer, "default", with_tools=True) == "D"
    assert choose_template(tokenizer, "rag") == "R"
    assert choose_template(tokenizer, "{{ 1 }}") == "{{ 1 }}"
    assert "<|im_start|>" in choose_template(tokenizer, "chatml")


@pytest.mark.parametrize(
    ("template", "says"),
    [(None, "no chat template"), ("chatmal", "chatml, command-r"), (7, "template is a int")],
)
def test_a_template_that_is_none_is_refused(template, says):
    with pytest.raises(ParameterError, match=says):
        choose_template(NO_FILE, template)


def test_what_a_template_expects_is_found_out():
    usual = template_quirks(source_of("qwen2.5-7b-instruct"))
    assert usual.takes_text and usual.takes_none and not usual.takes_parts and not usual.text_arguments
    assert not template_quirks(source_of("minimax-m2")).takes_none  # it would write "None"
    assert template_quirks(source_of("smolvlm")).takes_parts and not template_quirks(source_of("smolvlm")).takes_text
    assert template_quirks(source_of("deepseek-v3")).text_arguments
    assert not template_quirks(source_of("qwen3-0.6b")).text_arguments
    assert template_variables("{% for m in messages %}{{ m.x + tools }}{% endfor %}") == {"messages", "tools"}


def test_json_keeps_what_html_would_escape():
    assert render("{{ tools | tojson }}", [], tools=[{"name": "a<b>&'é"}]) == '[{"name": "a<b>&\'é"}]'
    assert render("{{ tools | tojson(indent=1) }}", [], tools=["a"]) == '[\n "a"\n]'


def test_loop_controls_marks_of_training_and_the_date_are_known():
    assert render("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", []) == "01"
    assert render("a{% generation %}b{% set x = 1 %}{% endgeneration %}{{ x }}", []) == "ab"
    assert len(render("{{ strftime_now('%Y') }}", [])) == 4


def test_the_bounds_change_nothing_of_the_language():
    assert render("{{ [1, 2, 3][1:] }}{{ (1, 'a') }}{{ {'a': 1}.items() | list }}", []) == "[2, 3](1, 'a')[('a', 1)]"
    assert render("{% for a, b in [(1, 2)] if a %}{{ loop.length }}{{ a ~ b ~ none }}{% endfor %}", []) == "112None"
    assert render("{{ '%s-%02d' % ('a', 5) }}{{ '{} {x}'.format(1, x=2) }}{{ ', '.join(['a', 'b']) }}", []) == (
        "a-051 2a, b"
    )
    assert render("{% set n = namespace(i=0) %}{% set n.i = n.i + 2 %}{{ n.i ** 3 }}{{ 'ab' * 2 }}", []) == "8abab"


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{% for %}", "line 1"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ messages.nothing.at_all }}", "nothing"),
        ("{{ 'a' + 1 }}", "str"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("{{ nothing | tojson }}", "JSON"),
        ("{% if 1 %}" * 3000 + "{% endif %}" * 3000, "Recursion"),
        ("{% for a in [1] %}" * 25 + "{% endfor %}" * 25, "nested"),
        ("x" * 300_000, "300000 characters"),
        ("{% include 'other' %}", "loader"),
    ],
)
def test_a_failing_template_is_a_template_error(template, says):
    with pytest.raises(TemplateError, match=says):
        render(template, HELLO)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "safe"),
        ("{{ cycler.__init__.__globals__ }}", "unsafe"),
        ("{{ dict.mro() }}", "mro"),
        ("{% set n = namespace() %}{% set n.__class__ = 1 %}", "namespace"),
        ("{{ namespace(_a=1) }}", "namespace"),
        ("{{ '{0.__class__.__mro__}'.format(1) }}", "unsafe"),
        ("{{ lipsum(5) }}", "lipsum"),
        ("{{ 'a' | urlize }}", "urlize"),
    ],
)
def test_a_template_can_reach_and_change_nothing(template, says):
    with pytest.raises(TemplateError, match=says):
        render(template, HELLO)


DOUBLING = "{%% set n = namespace(x=%s) %%}{%% for i in range(60) %%}%s{%% endfor %%}{{ n.x }}"


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(100000) %}{% for b in range(100000) if false %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{{ range(100000) | select('in', range(100000) | list) | list }}",
        "{% for a in range(100000) %}{{ 'x' * 10000 }}{% endfor %}",
        "{% for a in 'x' * 1000000 %}{{ messages }}{% endfor %}",
        "{{ range(10 ** 9) | list }}",
        "{{ 'x' * 10 ** 10 }}",
        "{{ 10 ** (10 ** 10) }}",
        "{{ [0] * 10 ** 10 }}",
        "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}",
        "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
        "{{ ('x' * 100000).join('y' * 100000) }}",
        "{{ (['x' * 100000] * 100000) | join }}",
        "{{ ([[1] * 1000] * 100000) | sum(start=[]) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%*d' % (1000000000, 1) }}",
        "{{ '{:{}}'.format(1, 1000000000) }}",
        "{{ ('{0}' * 10000).format('x' * 100000) }}",
        "{{ 'a' | center(1000000000) }}",
        "{{ 'a'.ljust(width=1000000000) }}",
        "{{ ('\n' * 100000) | indent(100000) }}",
        "{{ [[[1] * 100000]] | tojson(indent=1000000) }}",
        "{{ [1] | batch(1000000000, 2) | list }}",
        "{{ [1] | slice(1000000000) | list }}",
        "{{ 5 | round(-1000000000) }}",
        "{{ 5.5 | round(100000, 'ceil') }}",
        "{{ ([0] * 16000000) | map(attribute='x') | list }}",
        "{{ ('a ' * 10000000) | title }}",
        "{{ 'a'.translate({97: 'b'}) }}",
        "{{ ('<!---->' | safe).striptags() }}",
        "{{ (5).to_bytes(1000000000, 'big') }}",
        DOUBLING % ("'ab'", "{% set n.x = n.x + n.x %}"),
        DOUBLING % ("'ab'", "{% set n.x = n.x ~ n.x %}"),
        DOUBLING % ("'ab'", "{% set y %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = y %}"),
        DOUBLING % ("[1]", "{% set n.x = [n.x, n.x] %}"),
        DOUBLING % ("[1]", "{% set n.x = (n.x, n.x) %}"),
        DOUBLING % ("[1]", "{% set n.x = {'a': n.x, 'b': n.x} %}"),
        DOUBLING % ("[1]", "{% set n.x = dict(a=n.x, b=n.x) %}"),
        "{% set x = 'x' * 1000000 %}{% for i in range(1000) %}{% set y = x[i:] %}{% endfor %}",
    ],
)
def test_a_template_that_would_not_end_or_fill_the_memory_ends_soon(template, monkeypatch):
    monkeypatch.setattr("pyinfer.chat.sandbox.MAX_SECONDS", 0.1)
    start = time.thread_time()

    with pytest.raises(TemplateError, match=r"takes longer|at most|than it may|bits|too large|Range too big|unsafe"):
        render(template, HELLO)

    assert time.thread_time() - start < 0.6


def test_a_template_that_would_not_end_ends_within_two_seconds():
    start = time.thread_time()

    with pytest.raises(TemplateError, match="takes longer than 1 s"):
        render("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", HELLO)

    assert time.thread_time() - start < 2


def test_finding_out_what_a_template_expects_ends_sooner():
    start = time.thread_time()

    template_quirks("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}")

    assert time.thread_time() - start < 1


def test_long_conversations_are_within_the_bounds():
    messages = [user("word " * 50_000), assistant("word " * 50_000)] * 10

    text = render(source_of("qwen3-0.6b"), messages)

    assert len(text) > 5_000_000
    assert len(render(source_of("qwen3-0.6b"), [user("a"), assistant("b")] * 2000)) > 100_000
