"""JSON's strings as terminals: what llguidance accepts under them is what the patterns, formats and lengths allow."""

import json

import pytest
from guided_texts import tiny_tokenizer

from pyinfer.errors import ParameterError
from pyinfer.guides.grammar.ecma import parse_ecma
from pyinfer.guides.grammar.outcomes import Unsatisfiable
from pyinfer.guides.grammar.strings import string_terminal
from pyinfer.guides.guide import Guide


@pytest.fixture(scope="module")
def tiny():
    return tiny_tokenizer()


def accepts(tokenizer, terminal: str, text: str) -> bool:
    """Whether a text may be written, and end, under a grammar of one terminal."""
    matcher = Guide.lark(f"start: A\nA: {terminal}").matcher(tokenizer)
    try:
        for token in tokenizer.encode(text, add_special=False):
            matcher.accept(token)
    except ParameterError:
        return False
    return matcher.complete


PATTERN = parse_ecma
CASES = {
    "any": ({}, ['""', '"é😀/"', r'"\n\t\"\\"', r'"\u000a\u001F\u007f"'], ['"\n"', r'"\/"', r'"\u0041"', r'"\x"', "a"]),
    "lengths": ({"min_length": 2, "max_length": 3}, ['"ab"', r'"\n\n\n"', '"😀😀"'], ['"a"', '"abcd"']),
    "a pattern": ({"patterns": [PATTERN("^[^a]+$")]}, ['"b"', r'"\n"', r'"\""', r'"\\"', '"é"'], ['"a"', '""']),
    "punctuation": ({"patterns": [PATTERN("^[!-/:-@[-`{-~]+$")]}, ['"[!{~"', r'"\"\\"'], ['"a"', r'"\n"', '"{é"']),
    "found inside": ({"patterns": [PATTERN(r"\bfoo\b")]}, ['"foo"', '"a foo!"', r'"\nfoo"'], ['"foot"', '"a_foo"']),
    "two patterns": ({"patterns": [PATTERN("^a"), PATTERN("b$")]}, ['"ab"', '"axb"'], ['"a"', '"b"']),
    "look-ahead": (
        {"patterns": [PATTERN(r"^(?=.*[A-Z])(?=.*\d).{4,}$")]},
        ['"abC1"', '"1Cab"'],
        ['"abcd"', '"C1"', '"ABCD"'],
    ),
    "pattern and length": ({"patterns": [PATTERN("^a*$")], "max_length": 2}, ['"aa"', '""'], ['"aaa"']),
    "format and pattern": (
        {"formats": ["date"], "patterns": [PATTERN("^2")]},
        ['"2024-02-29"'],
        ['"1999-01-01"', '"2023-02-29"'],
    ),
    "names": (
        {"without": ["a", 'b"\n', ""], "without_patterns": [PATTERN("^x")]},
        ['"b"', '"ab"', '"ax"'],
        ['"a"', '""', r'"b\"\n"', r'"b\"\u000A"', '"xa"'],
    ),
    "no date": ({"without_formats": ["date"]}, ['"2023-02-29"'], ['"2024-02-29"']),
}


@pytest.mark.parametrize("name", CASES)
def test_a_string_is_accepted_if_it_meets_all(tiny, name):
    arguments, good, bad = CASES[name]
    terminal = string_terminal(**arguments)

    assert all(isinstance(json.loads(text), str) for text in good)
    assert [text for text in good if not accepts(tiny, terminal, text)] == []
    assert [text for text in bad if accepts(tiny, terminal, text)] == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"min_length": 3, "max_length": 2},
        {"patterns": [PATTERN("^a{3}$")], "max_length": 2},
        {"patterns": [PATTERN("^a"), PATTERN("^b")]},
        {"patterns": [PATTERN("^[]$")]},
        {"patterns": [PATTERN("a^")]},
        {"patterns": [PATTERN("^(a|b)$")], "without": ["a", "b"]},
        {"patterns": [PATTERN("^(?!a)a")]},
        {"formats": ["date"], "min_length": 11},
        {"formats": ["uuid", "ipv4"]},
    ],
)
def test_what_no_string_meets_is_an_error(arguments):
    with pytest.raises(Unsatisfiable):
        string_terminal(**arguments)
