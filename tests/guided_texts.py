"""Guided texts without a model: grammars, schemas, a tiny vocabulary, and loops that choose allowed tokens."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from tiny_vocabularies import CONTROL, bpe_metadata

from pyinfer.guides.grammar.gbnf import Alt, Chars, Ref, Seq
from pyinfer.guides.guide import Guide
from pyinfer.guides.masks import allowed_ids, apply_mask
from pyinfer.tokenizer import Tokenizer, tokenizer_from_metadata

# expressions and their values, in GBNF
ARITHMETIC = r"""
root  ::= (expr "=" ws term "\n")+
expr  ::= term ([-+*/] term)*
term  ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= [ \t\n]*
"""
JSON = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws

object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws

array  ::=
  "[" ws (
            value
    ("," ws value)*
  )? "]" ws

string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4})
  )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"""
ADDRESS = {
    "type": "object",
    "properties": {"street": {"type": "string", "maxLength": 20}, "zip": {"type": "string", "pattern": "^[0-9]{5}$"}},
    "required": ["street", "zip"],
    "additionalProperties": False,
}
SCHEMAS = {
    "any object": {"type": "object"},
    "anything": True,
    "string": {"type": "string"},
    "bounded string": {"type": "string", "minLength": 3, "maxLength": 8},
    "pattern": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3,5}$"},
    "pattern inside": {"type": "string", "pattern": "ab+c", "maxLength": 12},
    "date and time": {"type": "string", "format": "date-time"},
    "email": {"type": "string", "format": "email"},
    "ipv4": {"type": "string", "format": "ipv4"},
    "uuid": {"type": "string", "format": "uuid"},
    "made-up format": {"type": "string", "format": "colour", "maxLength": 5},
    "integers from 3 to 117": {"type": "integer", "minimum": 3, "maximum": 117},
    "negative numbers": {"type": "number", "exclusiveMinimum": -10, "maximum": -0.5},
    "multiples of 7": {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 1000},
    "enum": {"enum": ["red", "grün", "日本", 4, None, True, {"a": [1]}]},
    "const": {"const": {"version": 2, "text": 'a "quoted" word\n'}},
    "nothing but null": {"type": "null"},
    "list": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 5},
    "tuple": {
        "type": "array",
        "prefixItems": [{"type": "string", "maxLength": 4}, {"type": "boolean"}],
        "items": False,
    },
    "list of lists": {"type": "array", "items": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3}},
    "address": ADDRESS,
    "nested": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "home": ADDRESS, "others": {"type": "array", "items": ADDRESS}},
        "required": ["name", "home", "others"],
    },
    "optional properties": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "boolean"}, "c": {"type": "null"}},
        "additionalProperties": False,
    },
    "map of numbers": {"type": "object", "additionalProperties": {"type": "number"}, "maxProperties": 3},
    "any of": {"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 5}, {"type": "array", "maxItems": 0}]},
    "one of": {
        "oneOf": [
            {"properties": {"kind": {"const": "cat"}, "lives": {"type": "integer"}}, "required": ["kind"]},
            {"properties": {"kind": {"const": "dog"}, "name": {"type": "string"}}, "required": ["kind"]},
        ],
        "type": "object",
    },
    "all of": {"allOf": [{"type": "integer", "minimum": 5}, {"maximum": 9}]},
    "reference": {
        "$defs": {"point": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}},
        "type": "object",
        "properties": {"from": {"$ref": "#/$defs/point"}, "to": {"$ref": "#/$defs/point"}},
        "required": ["from", "to"],
    },
    "tree": {
        "type": "object",
        "properties": {"value": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#"}}},
        "required": ["value", "children"],
        "additionalProperties": False,
    },
    "linked list that may end": {
        "$defs": {"node": {"properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}}},
        "$ref": "#/$defs/node",
        "type": "object",
    },
}
# pairs that are joined, so that tokens reach across the borders of JSON's elements
MERGES = [
    '" :',
    '": Ġ',
    '" ,',
    '", Ġ',
    '{ "',
    '" }',
    "a b",
    "ab c",
    "t r",
    "u e",
    "tr ue",
    "n u",
    "l l",
    "nu ll",
    "1 2",
]
# the bytes of tokens that bring a text near its end, the best first
CLOSING = (b'"]})>@=', b",:.", b"0123456789-\n", b" ")


@dataclass
class Written:
    """A text under a guide: its tokens, how many were forced, and whether it came to an end."""

    text: str
    tokens: list[int]
    n_forced: int
    finished: bool


def tiny_tokenizer() -> Tokenizer:
    """The 256 bytes, a few joined ones, and two tokens that end a text."""
    special = {"<|im_end|>": CONTROL, "<|endoftext|>": CONTROL, "<|tool|>": CONTROL}
    return tokenizer_from_metadata(bpe_metadata(MERGES, special))


def derives(rules, text):
    """Whether the root of a grammar derives a text, by the definition.

    From each position, all positions where each rule may end are collected, until none is added.
    """
    n = len(text)
    table = {(name, at): set() for name in rules for at in range(n + 1)}

    def ends(node, at):
        match node:
            case Chars():
                inside = at < n and any(low <= ord(text[at]) <= high for low, high in node.ranges)
                return {at + 1} if inside else set()
            case Ref():
                return table[node.name, at]
            case Seq():
                reached = {at}
                for item in node.items:
                    reached = {end for start in reached for end in ends(item, start)}
                return reached
            case Alt():
                return {end for item in node.items for end in ends(item, at)}
        reached, found = {at}, set()
        for count in range(n + node.min_count + 2 if node.max_count is None else node.max_count + 1):
            found |= reached if count >= node.min_count else set()
            reached = {end for start in reached for end in ends(node.item, start)}
        return found

    while True:
        new = {key: ends(rules[key[0]], key[1]) - ends_ for key, ends_ in table.items()}
        if not any(new.values()):
            return n in table["root", 0]
        for key, ends_ in new.items():
            table[key] |= ends_


def write(
    guide: Guide, tokenizer: Tokenizer, choose: Callable[[np.ndarray], int], max_tokens: int = 400, force: bool = True
) -> Written:
    """The text of a model that chooses one of the allowed tokens (int64, ascending) by `choose`."""
    matcher = guide.matcher(tokenizer)
    tokens: list[int] = []
    n_forced = 0
    while not matcher.finished and len(tokens) < max_tokens:
        step = matcher.forced() if force else []
        n_forced += len(step)
        step = step or [choose(allowed_ids(matcher.mask(), tokenizer.n_vocab))]
        for token in step:
            matcher.accept(token)
        tokens += [token for token in step if token not in tokenizer.eog_ids]
    text = tokenizer.decode_bytes(tokens).decode(errors="strict" if matcher.finished else "replace")
    return Written(text, tokens, n_forced, matcher.finished)


@lru_cache(maxsize=4)
def _closing(tokenizer: Tokenizer) -> np.ndarray:
    """How much each token helps to end a text: float32 [n_vocab]."""
    closing = np.zeros(tokenizer.n_vocab, np.float32)
    for token in range(tokenizer.n_vocab):
        text = tokenizer.token_bytes(token)
        closing[token] = sum(30 / (rank + 1) for rank, good in enumerate(CLOSING) if text and not text.strip(good))
    closing[list(tokenizer.eog_ids)] = 60
    return closing


def random_choice(tokenizer: Tokenizer, seed: int, patience: int = 30) -> Callable[[np.ndarray], int]:
    """A model of random logits that after `patience` tokens prefers ends: of the text, of strings and of lists."""
    rng = np.random.default_rng(seed)
    closing = _closing(tokenizer)
    calls = 0

    def choose(ids: np.ndarray) -> int:
        nonlocal calls
        calls += 1
        logits = rng.standard_normal(len(ids)) + (closing[ids] if calls > patience else 0)
        return int(ids[np.argmax(logits)])

    return choose


def greedy_over(logits: np.ndarray, tokenizer: Tokenizer, guide: Guide, max_tokens: int = 400) -> Written:
    """The text of a model that gives the same logits, float32 [n_vocab], for every token, and takes the largest."""
    matcher = guide.matcher(tokenizer)
    tokens: list[int] = []
    while not matcher.finished and len(tokens) < max_tokens:
        masked = logits.copy()
        apply_mask(masked, matcher.mask())
        token = int(masked.argmax())
        matcher.accept(token)
        tokens += [] if token in tokenizer.eog_ids else [token]
    return Written(tokenizer.decode_bytes(tokens).decode(), tokens, 0, matcher.finished)
