"""GBNF: grammars in llama.cpp's notation, their Lark, which accepts the same texts, and grammars that can't be read."""

import re
import time
from itertools import product
from random import Random

import hypothesis.strategies as st
import llguidance
import pytest
from guided_texts import ARITHMETIC, JSON, derives, random_choice, tiny_tokenizer, write
from hypothesis import given, settings

from pyinfer.errors import ParameterError
from pyinfer.guides.grammar.gbnf import Repeat, normal_ranges, parse_gbnf
from pyinfer.guides.grammar.lark import gbnf_to_lark
from pyinfer.guides.guide import Guide
from pyinfer.tokenizer import load_tokenizer

LIST = r"""# a list in Markdown
root ::= item+
item ::= "- " [^\r\n\x0b\x0c\x85\u2028\u2029]{1,40} "\n"   # one line
"""
CHESS = r"""
root    ::= ("1. " move " " move "\n") ([1-9] [0-9]? ". " move " " move "\n"){1,4}
move    ::= (pawn | nonpawn | castle) [+#]?
pawn    ::= ([a-h] "x")? [a-h] [1-8] ("=" [NBKQR])?
nonpawn ::= [NBKQR] [a-h]? [1-8]? "x"? [a-h] [1-8]
castle  ::= "O-O" "-O"?
"""
MOVE = r"((?:[a-h]x)?[a-h][1-8](?:=[NBKQR])?|[NBKQR][a-h]?[1-8]?x?[a-h][1-8]|O-O(?:-O)?)[+#]?"


def made_up_grammar(rng: Random) -> str:
    """Rules over a, b and c that are as ambiguous and as recursive as it gets."""
    names = ["root", "x", "y"][: rng.randint(1, 3)]
    leaves = ['"a"', '"b"', '"ab"', '"ba"', "[ab]", "[^a]", '"c"', "[a-c]"]
    counts = ["*", "+", "?", "{2}", "{1,2}", "{0,3}", "{2,}"]

    def sequence(depth):
        items = [item(depth) for _ in range(rng.randint(0 if rng.random() < 0.2 else 1, 3))]
        return " ".join(items) or '""'

    def item(depth):
        kind = rng.random()
        if depth == 0 or kind < 0.35:
            return rng.choice(leaves)
        if kind < 0.55:
            return rng.choice(names)
        group = "(" + " | ".join(sequence(depth - 1) for _ in range(rng.randint(1, 3))) + ")"
        return group if kind < 0.7 else rng.choice([*leaves[:5], group, rng.choice(names)]) + rng.choice(counts)

    bodies = [" | ".join(sequence(2) for _ in range(rng.randint(1, 3))) for _ in names]
    return "".join(f"{name} ::= {body}\n" for name, body in zip(names, bodies, strict=True))


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False))
def test_lark_accepts_what_the_grammar_derives(rng):
    grammar = made_up_grammar(rng)
    rules = parse_gbnf(grammar)
    texts = ["".join(chars) for n in range(5) for chars in product("abc", repeat=n)]
    try:
        lark = gbnf_to_lark(grammar)
    except ParameterError as error:
        assert "no text that ends" in str(error)
        assert not any(derives(rules, text) for text in texts)
        return

    start = llguidance.LLMatcher(llguidance.LLTokenizer("byte"), lark, log_level=0)

    assert start.get_error() == ""
    for text in texts:
        matcher = start.deep_copy()
        whole = matcher.try_consume_tokens(list(text.encode())) == len(text)
        assert (whole and matcher.is_accepting()) == derives(rules, text), (text, lark)


@pytest.fixture(scope="module", params=["tiny", "llama-spm"])
def tokenizer(request):
    if request.param == "tiny":
        return tiny_tokenizer()
    return load_tokenizer(request.getfixturevalue("reference") / "vocab" / "ggml-vocab-llama-spm.gguf")


@pytest.mark.parametrize(
    ("grammar", "pattern"),
    [
        (LIST, "(- [^\r\n\x0b\x0c\x85\u2028\u2029]{1,40}\n)+"),
        (CHESS, rf"1\. {MOVE} {MOVE}\n([1-9][0-9]?\. {MOVE} {MOVE}\n){{1,4}}"),
        (r'root ::= "é\u65e5\U0001F600\x41\"\\\n" .', '(?s)é日😀A"\\\\\n.'),
        ("root ::= [^a-zA-Z\\-] [\\]\\[] [-+] [a-] \n | [^\\n]{2}", r"[^a-zA-Z\-][\]\[][-+][a-]|[^\n]{2}"),
        ('root ::=\n  "a"\n  | ("b"\n   "c")\n# end\n  | "d"{2} "e"{0}', "a|bc|dd"),
    ],
)
def test_texts_of_regular_grammars(tokenizer, grammar, pattern):
    for seed in range(4):
        written = write(Guide.gbnf(grammar), tokenizer, random_choice(tokenizer, seed, patience=20))

        assert written.finished
        assert re.fullmatch(pattern, written.text), written.text


@pytest.mark.parametrize("grammar", [ARITHMETIC, JSON], ids=["arithmetic", "json"])
def test_texts_of_recursive_grammars(tokenizer, grammar):
    rules = parse_gbnf(grammar)
    for seed in range(4):
        written = write(Guide.gbnf(grammar), tokenizer, random_choice(tokenizer, seed, patience=10), max_tokens=150)

        assert written.finished, written.text
        assert derives(rules, written.text), written.text


def test_white_space_that_is_also_a_border_is_read_as_the_border():
    """A greedy reading would take the new line for white space, and never come to an end."""
    matcher = Guide.gbnf(ARITHMETIC).matcher(tokenizer := tiny_tokenizer())

    for token in tokenizer.encode("(a_1 +2)*b= 3 \n\n"):
        matcher.accept(token)

    assert matcher.complete


def test_strings_of_json_are_read_as_a_whole():
    """Masks over a large vocabulary then take microseconds; character by character they take a millisecond."""
    assert re.search(r"^L\d+: /\\x\{22\}.*\\x\{22\}.*/$", gbnf_to_lark(JSON), re.MULTILINE)


def test_rules_that_call_themselves_at_the_end_become_repetitions():
    assert gbnf_to_lark('root ::= "a" root | "b"') == "start: L0\nL0: /a*b/\n"
    assert gbnf_to_lark('root ::= "[" ws "]"\nws ::= ([ \\t] ws)?').count("\n") == 2


def test_alternatives_without_an_end_are_removed():
    grammar = 'root ::= "a" endless | "b" endless? | "c"\nendless ::= "x" endless\nnone ::= []'

    assert gbnf_to_lark(grammar) == "start: L0\nL0: /[b-c]/\n"


# as llama.cpp's parser reads them: a rule's last definition counts, a repetition repeats what stands before it, with
# its repetitions, and a set without characters is no item at all
AS_LLAMA_CPP = {
    'root ::= "a"\nroot ::= "b"': ("b", ["", "b", "a", "ab"]),
    'root ::= x\nx ::= "a"\nx ::= "b" x?': ("b+", ["", "a", "b", "bb"]),
    'root ::= "a"*+': ("(a*)+", ["", "a", "aaa", "b"]),
    'root ::= "a"+ ? "b"': ("(a+)?b", ["b", "ab", "aab", "a"]),
    'root ::= "ab"{2}{3}': ("((ab){2}){3}", ["ab" * n for n in range(8)]),
    'root ::= "a"{2}*': ("(a{2})*", ["a" * n for n in range(6)]),
    'root ::= ("a" | "b"){1,2}{2,}': ("((a|b){1,2}){2,}", ["", "a", "ab", "bab", "babab"]),
    'root ::= "a"?{0,2}"c"': ("(a?){0,2}c", ["c", "ac", "aac", "aaac"]),
    'root ::= "a" [] "b"': ("ab", ["ab", "a", "b"]),
    'root ::= "a" [^] "b"': ("ab", ["ab", "acb"]),
}


@pytest.mark.parametrize("grammar", AS_LLAMA_CPP)
def test_grammars_mean_what_llama_cpp_reads(grammar):
    regex, texts = AS_LLAMA_CPP[grammar]
    rules = parse_gbnf(grammar)

    assert [text for text in texts if derives(rules, text)] == [text for text in texts if re.fullmatch(regex, text)]


def test_repetitions_of_repetitions_do_not_nest_where_they_need_not():
    assert gbnf_to_lark('root ::= "a"' + "*+?" * 1000) == "start: L0\nL0: /a*/\n"


@pytest.mark.parametrize(
    ("grammar", "says"),
    [
        ("", "there is no rule 'root'"),
        ('start ::= "a"', "there is no rule 'root'"),
        ("root ::= other", "'root' refers to 'other', which is not there"),
        ('root ::= "a" root', "no text that ends matches 'root'"),
        ('root ::= "a"' + "{2}" * 200, "more than 100 repetitions of repetitions"),
        ('root ::= "a', "line 1: a text or set of characters has no end"),
        ("root ::= [a", "has no end"),
        ('root ::= ("a"', r"line 1: expected '\)'"),
        ('root ::= "a")', r"expected a new line; found '\)'"),
        ('root ::= "a"\nroot = "b"', "line 2: expected '::='"),
        ('root ::= "\\q"', r"\\q is no escape"),
        ('root ::= "\\x4"', r"\\x is no escape"),
        ('root ::= "\\U00110000"', r"\\U is no escape"),
        ("root ::= [z-a]", r"from U\+007A to U\+0061 runs backwards"),
        ('root ::= "a"{3,2}', "at least 3 and at most 2 times"),
        ('root ::= "a"{,2}', r"expected \{n\}"),
        ('root ::= "a"{99999999999}', "at most nine digits"),
        ("root ::= *", "expected a new line"),
        ("root ::= <a b>", "expected <name>"),
        ("root ::= " + "(" * 101, "more than 100 parentheses"),
        ("root ::= " + '"abcdefghij" ' * 10_000, "more than 50000 parts"),
    ],
)
def test_what_can_not_be_read_is_refused_with_its_line(grammar, says):
    with pytest.raises(ParameterError, match=says):
        gbnf_to_lark(grammar)


@pytest.mark.parametrize(
    "grammar",
    [
        "\n".join(f"r{i} ::= r{i + 1} r{i + 1}" for i in range(60)) + '\nr60 ::= "a"\nroot ::= r0',
        "\n".join(f"r{i} ::= r{i + 1}" for i in range(3000)) + '\nr3000 ::= "a"\nroot ::= r0',
        "root ::= " + " | ".join(f'"{i}"' for i in range(5000)),
        "root ::= word root? word\nword ::= " + " | ".join(f'"{i}"' for i in range(5000)),
        "root ::= (" + " | ".join(f'[a-z]* "{i}" root' for i in range(300)) + ")?",
        "root ::= " + '("a" | "b" root)?' * 300,
    ],
    ids=["doubling", "a chain", "many choices", "many words", "many conflicts", "optional parts"],
)
def test_large_grammars_are_translated_in_time(grammar):
    started = time.process_time()

    assert gbnf_to_lark(grammar)

    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("ranges", "negated", "expected"),
    [
        ([(98, 99), (97, 97), (100, 105), (200, 201)], False, ((97, 105), (200, 201))),
        ([(97, 122)], True, ((0, 96), (123, 0xD7FF), (0xE000, 0x10FFFF))),
        ([(0xD000, 0xE000)], False, ((0xD000, 0xD7FF), (0xE000, 0xE000))),
        ([(0, 0x10FFFF)], True, ()),
        ([], True, ((0, 0xD7FF), (0xE000, 0x10FFFF))),
    ],
)
def test_sets_of_characters(ranges, negated, expected):
    assert normal_ranges(ranges, negated) == expected


def test_counts_and_signs():
    rules = parse_gbnf('root ::= "a"* "a"+ "a"? "a"{2} "a"{2,} "a"{ 2 , 3 }')

    counts = [(item.min_count, item.max_count) for item in rules["root"].items if isinstance(item, Repeat)]
    assert counts == [(0, None), (1, None), (0, 1), (2, 2), (2, None), (2, 3)]
