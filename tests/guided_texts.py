"""Texts under a guide without a model: a tiny vocabulary, and loops that choose among the tokens that may follow."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from tiny_vocabularies import CONTROL, bpe_metadata

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
# neighbours that are joined, so that tokens reach across the borders of JSON's elements
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
# what a text that is to end soon is made of, the best first
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


def write(
    guide: Guide, tokenizer: Tokenizer, choose: Callable[[np.ndarray], int], most: int = 400, force: bool = True
) -> Written:
    """What a model writes whose next token is `choose` of the allowed ones (int64, ascending)."""
    matcher = guide.matcher(tokenizer)
    tokens: list[int] = []
    n_forced = 0
    while not matcher.finished and len(tokens) < most:
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
    """How much a token does for a text to end: float32 [n_vocab]."""
    closing = np.zeros(tokenizer.n_vocab, np.float32)
    for token in range(tokenizer.n_vocab):
        text = tokenizer.token_bytes(token)
        closing[token] = sum(30 / (rank + 1) for rank, good in enumerate(CLOSING) if text and not text.strip(good))
    closing[list(tokenizer.eog_ids)] = 60
    return closing


def random_choice(tokenizer: Tokenizer, seed: int, patience: int = 30) -> Callable[[np.ndarray], int]:
    """A model of random logits that after some tokens has a liking for ends: of the text, of strings and of lists."""
    rng = np.random.default_rng(seed)
    closing = _closing(tokenizer)
    calls = 0

    def choose(ids: np.ndarray) -> int:
        nonlocal calls
        calls += 1
        logits = rng.standard_normal(len(ids)) + (closing[ids] if calls > patience else 0)
        return int(ids[np.argmax(logits)])

    return choose


def greedy_over(logits: np.ndarray, tokenizer: Tokenizer, guide: Guide, most: int = 400) -> Written:
    """What a model writes that has the same logits everywhere: float32 [n_vocab]."""
    matcher = guide.matcher(tokenizer)
    tokens: list[int] = []
    while not matcher.finished and len(tokens) < most:
        masked = logits.copy()
        apply_mask(masked, matcher.mask())
        token = int(masked.argmax())
        matcher.accept(token)
        tokens += [] if token in tokenizer.eog_ids else [token]
    return Written(tokenizer.decode_bytes(tokens).decode(), tokens, 0, matcher.finished)
