"""Chat templates give prompts, and fail as TokenizerError."""

import pytest

from pyinfer.errors import TokenizerError
from pyinfer.tokenizer import load_tokenizer
from pyinfer.tokenizer.chat import render

HELLO = [{"role": "user", "content": "Hello"}]
CHATML = (
    "{% for m in messages %}\n{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}\n"
    "  {% endfor %}\n{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def test_a_prompt_ends_where_the_answer_begins():
    assert render(CHATML, HELLO) == "<|im_start|>user\nHello<|im_end|>\n\n<|im_start|>assistant\n"
    assert render(CHATML, HELLO, add_generation_prompt=False) == "<|im_start|>user\nHello<|im_end|>\n\n"


def test_the_template_of_qwen_adds_its_system_prompt(reference):
    tokenizer = load_tokenizer(reference / "vocab" / "ggml-vocab-qwen2.gguf")

    assert render(tokenizer.chat_template, HELLO) == (
        "<|im_start|>system\nYou are a helpful assistant<|im_end|>\n"
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    )


def test_json_keeps_what_html_would_escape():
    assert render("{{ tools | tojson }}", [], tools=[{"name": "a<b>&'é"}]) == '[{"name": "a<b>&\'é"}]'


def test_loop_controls_and_the_date_are_known():
    assert render("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", []) == "01"
    assert len(render("{{ strftime_now('%Y') }}", [])) == 4


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{% for %}", "line 1"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ messages.nothing.at_all }}", "nothing"),
        ("{{ 'a' + 1 }}", "str"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "safe"),
        ("{{ range(10 ** 9) | list }}", "range"),
        ("{{ nothing | tojson }}", "JSON"),
    ],
)
def test_a_failing_template_is_a_tokenizer_error(template, says):
    with pytest.raises(TokenizerError, match=says):
        render(template, HELLO)
