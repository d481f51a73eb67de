r"""Patterns of ECMA-262: they match what Node's regular expressions find, anchors and look-around included."""

import json
import random
import shutil
import subprocess

import pytest

from pyinfer.errors import ParameterError
from pyinfer.guides.grammar.ecma import matches, parse_ecma
from pyinfer.guides.grammar.outcomes import NotExact, TooComplex, Unsupported

# patterns, and the characters that the tried texts consist of
PATTERNS = {
    "^[!-/:-@[-`{-~]+$": "![`{~aA0",
    "^[a&&b]$": "a&b",
    "^[+--~~c[]$": "+-,~c[",
    "[^]": "a\n",
    "^[^]*x$": "x\n",
    "[]|a": "a]",
    r"^\d+$": "09٣a",
    r"^\w+$": "a_é0",
    r"^\s$": " \t\n\u00a0\u2003\ufeffa\u180e",
    r"^\S\D\W$": "a1 ",
    "^.$": "a\n\r\u2028é",
    "a.c": "abc\n",
    "ab|cd": "abcd",
    "^ab|cd$": "abcd",
    "^(a|b|)$": "ab",
    "(^|,)a($|,)": "a,b",
    "^a$|^b$": "ab",
    "a$b|c": "abc",
    "a^|b": "ab",
    "^^a$$": "a",
    "$^": "a",
    "a*?b+?c??": "abc",
    "^a{2}$|^a{3,}b$|^a{0,1}c$": "abc",
    "a{,2}": "a{,2}",
    "x{a}|}]": "x{a}]",
    r"^\x41\u0042\u{43}\cJ\0$": "ABC\n\0",
    r"^\u{1F600}$|^\uD83D\uDE01$": "😀😁",
    r"^[\u{1F600}-\u{1F602}]$": "😀😁😂😃",
    r"^\p{Lu}\P{Lu}$": "AaÉé1",
    r"^\p{Script=Greek}[\p{L}-]*$": "αaж-",
    r"^[\w-.]+$": "a-.,",
    r"^[\b\-\]\\^]$": "\b-]\\^",
    r"^[a-c-e]+$": "abcde-",
    r"\/\-\@": "/-@",
    r"^(?<year>\d{2})-(?:a)$": "12-a",
    r"\bfoo\b": "fo _",
    r"\Bo\B": "fo ",
    r"^\b|x": "x ",
    r"^(?!\.)(?!.*\.\.)[a.]+$": "a.",
    r"^(?=.*a)(?=.*b).{2,4}$": "abc",
    r"^(?!ab).*$": "abc",
    r"^(?!.*ab$)": "abc",
    r"a(?=b)": "abc",
    r"a(?!b)c?": "abc",
    r"(?<=a)b": "abc",
    r"(?<!a)b": "abc",
    r"^(?:(?!-)[a-]{1,3}(?<!-)\.)+$": "a-.",
    r"^(?:(?!bb)[ab]{2})*$": "ab",
    r"^(?!a|b$)[abc]+$": "abc",
    r"(?=a|b)[^a]": "abc",
    r"(?!)|a": "ab",
    r"^(?!(?!a)b)[ab]": "ab",
}


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_patterns_match_what_node_finds():
    rng = random.Random(1)
    tried = {}
    for pattern, alphabet in PATTERNS.items():
        texts = {"".join(rng.choice(alphabet) for _ in range(rng.randint(0, 6))) for _ in range(150)}
        tried[pattern] = sorted({*texts, *alphabet, "", *(a + b for a in alphabet for b in alphabet)})
    script = """
        const found = {};
        for (const [pattern, texts] of Object.entries(JSON.parse(require("fs").readFileSync(0)))) {
            let regex;
            try { regex = new RegExp(pattern, "u"); } catch { regex = new RegExp(pattern); }
            found[pattern] = texts.map(text => regex.test(text));
        }
        console.log(JSON.stringify(found));
    """
    node = subprocess.run(["node", "-e", script], input=json.dumps(tried), capture_output=True, text=True, check=True)

    for pattern, found in json.loads(node.stdout).items():
        parsed = parse_ecma(pattern)
        assert [text for text in tried[pattern] if matches(parsed, text)] == [
            text for text, is_found in zip(tried[pattern], found, strict=True) if is_found
        ], pattern


@pytest.mark.parametrize(
    "pattern",
    ["(", ")", "a)", "[a", "*a", "a**", "a{2}{3}", "[b-a]", "\\", "(?<a", "a{2,1}", "(?P=a)", r"\u{110000}", "a++"],
)
def test_what_is_no_regular_expression_is_an_error(pattern):
    with pytest.raises(ParameterError, match="is no regular expression"):
        parse_ecma(pattern)


@pytest.mark.parametrize(
    "pattern", [r"(a)\1", r"(?<n>a)\k<n>", "^(?:(?!end).)*$", r"\p{Emoji}", "(?i)a", "(?i:a)", "(?:^a|b)+", "(a(?!b))*"]
)
def test_what_can_not_be_had_is_unsupported(pattern):
    with pytest.raises(Unsupported):
        parse_ecma(pattern)


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (r"^(a|b)-\1$", "a-a", "c-a"),
        ("^x(?:(?!end).)*$", "x y", "y"),
        ("^(?:(?!end)[a-z])+$", "middle", "1"),
        (r"^(?!.*(a)\1)[a-z]+$", "ab", "1"),
    ],
)
def test_a_loose_pattern_leaves_out_what_can_not_be_had(pattern, good, bad):
    loose = parse_ecma(pattern, loose=True)

    assert matches(loose, good)
    assert not matches(loose, bad)


@pytest.mark.parametrize("pattern", ["(" * 60 + ")" * 60, "a" * 30_000, "a{1000000}", r"\b" * 20, "a{99999999999}"])
def test_large_patterns_are_refused(pattern):
    with pytest.raises(TooComplex):
        parse_ecma(pattern)


@pytest.mark.parametrize(
    "pattern", ["^(a+)+b$", "^(a|aa)+b$", "(.*)*x(.*)*y", "^([a-z]+.)+[A-Z]([a-z])+$", ".*a.{12}c"]
)
def test_matching_has_no_patterns_that_take_for_ever(pattern):
    try:
        assert not matches(parse_ecma(pattern), "a" * 2000)
    except NotExact as error:
        assert "very long" in error.reason
