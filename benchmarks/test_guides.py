"""Structured output, by size of the vocabulary: masks, forced tokens, and compilation.

A matcher follows a text token by token. For each token that is not forced, the mask is computed and applied to logits.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from guided_texts import ARITHMETIC, JSON
from real_models import REAL_MODELS

from pyinfer.guides.guide import Guide
from pyinfer.guides.masks import apply_mask
from pyinfer.tokenizer import Tokenizer, load_tokenizer

pytest.importorskip("llguidance")

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "email": {"type": "string", "format": "email"},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 20}, "maxItems": 5},
        "home": {
            "type": "object",
            "properties": {"street": {"type": "string"}, "kind": {"enum": ["house", "flat", "boat"]}},
            "required": ["street", "kind"],
        },
    },
    "required": ["name", "age", "email", "tags", "home"],
    "additionalProperties": False,
}
PERSON_TEXT = (
    '{"name": "Ada Lovelace, Countess of Lovelace", "age": 36, "email": "ada.lovelace@example.org", '
    '"tags": ["mathematics", "engines"], "home": {"street": "12 St James\'s Square, London", "kind": "house"}}'
)
LARK_CALCULATION = r"""
start: sum
sum: product (("+" | "-") product)*
product: atom (("*" | "/") atom)*
atom: NUMBER | NAME | NAME "(" sum ("," sum)* ")" | "(" sum ")"
NUMBER: /[0-9]+(\.[0-9]+)?/
NAME: /[a-z_][a-z0-9_]*/
%ignore /[ \t]+/
"""
# words and the separators between them are lexemes of their own: a token may have parts of both
LARK_SENTENCES = r"""
start: sentence (" " sentence)*
sentence: WORD ((" " | ", ") WORD)* "."
WORD: /[A-Za-z']+/
"""
CASES = {
    "json": (Guide.json(PERSON), PERSON_TEXT),
    "json, fixed": (Guide.json(PERSON, whitespace=False), PERSON_TEXT),
    "any json": (Guide.json({"type": "object"}), PERSON_TEXT),
    "gbnf json": (Guide.gbnf(JSON), PERSON_TEXT),
    "gbnf arithmetic": (Guide.gbnf(ARITHMETIC), "(total_1 +22)*price= 3125 \nx*(y-17)=z\n"),
    "lark calculation": (Guide.lark(LARK_CALCULATION), "sqrt(width * width + 3.14159) / max(total_count, 27)"),
    "lark sentences": (
        Guide.lark(LARK_SENTENCES),
        "It weaves algebraic patterns. We may say, most aptly, that it's a loom.",
    ),
    "choice": (Guide.choice(["positive", "negative", "neutral, or hard to say"]), "neutral, or hard to say"),
    "regex, digits": (Guide.regex(r"\+\d{2} \d{3} \d{4,8}"), "+49 123 4567890"),
    "regex, words": (
        Guide.regex(r"[A-Z][a-z]+( [a-z]+){3,12}\."),
        "Engines weave patterns just as looms weave flowers.",
    ),
    "regex, line": (Guide.regex(r"- [^\n]{10,200}\n"), '- Looms, they say, weave "flowers" and leaves.\n'),
}


@pytest.fixture(scope="module", params=REAL_MODELS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    chosen: Path = request.param
    return chosen


@pytest.fixture(scope="module")
def tokenizer(path: Path) -> Tokenizer:
    return load_tokenizer(path)


@pytest.mark.parametrize("case", CASES)
def test_masks(benchmark, tokenizer, case):
    guide, text = CASES[case]
    tokens = tokenizer.encode(text, add_special=False, continues=True)
    logits = np.zeros(tokenizer.n_vocab, np.float32)
    guide.matcher(tokenizer)
    computed, applied, forced = [], [], 0

    def follow() -> None:
        nonlocal forced
        matcher = guide.matcher(tokenizer)
        i = 0
        while i < len(tokens) and not matcher.finished:
            step = matcher.forced()
            if step and tokens[i : i + len(step)] == step:
                forced += len(step)
            else:
                started = time.perf_counter()
                mask = matcher.mask()
                between = time.perf_counter()
                apply_mask(logits, mask)
                ended = time.perf_counter()
                computed.append(between - started)
                applied.append(ended - between)
                step = [tokens[i]]
            for token in step:
                matcher.accept(token)
            i += len(step)
            logits.fill(0)

    benchmark.pedantic(follow, rounds=20, warmup_rounds=2)
    both = (np.array(computed) + np.array(applied)) * 1e6
    benchmark.extra_info["us a mask, median"] = round(float(np.median(both)), 1)
    benchmark.extra_info["us a mask, 90 of 100 below"] = round(float(np.percentile(both, 90)), 1)
    benchmark.extra_info["us to compute, median"] = round(float(np.median(computed)) * 1e6, 1)
    benchmark.extra_info["us to apply, median"] = round(float(np.median(applied)) * 1e6, 1)
    benchmark.extra_info["share of tokens forced"] = round(forced / (forced + len(both)), 3)


def test_vocabulary_is_compiled(benchmark, path):
    def compile_for(tokenizer: Tokenizer) -> None:
        Guide.regex("a").matcher(tokenizer)

    # a new tokenizer each time: a compiled vocabulary is kept as long as its tokenizer
    benchmark.pedantic(compile_for, setup=lambda: ((load_tokenizer(path),), {}), rounds=3)


@pytest.mark.parametrize("case", CASES)
def test_guide_is_compiled(benchmark, tokenizer, case):
    guide, _ = CASES[case]
    Guide.regex("a").matcher(tokenizer)
    fresh = (
        Guide(guide.kind, guide.source + " " * n, guide.whitespace) for n in range(1, 60)
    )  # none was compiled before
    benchmark.pedantic(lambda one: one.matcher(tokenizer), setup=lambda: ((next(fresh),), {}), rounds=20)
