"""Functions of llama.cpp's C interface on vocabularies, batches and logits, for `Llama`.

Where llama.cpp has a pointer, these functions take the `Llama` itself. Only vocabularies are numbers, since compiled
code keeps them.
"""

from __future__ import annotations

import ctypes
import weakref
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyinfer.compat.constants import CONSTANTS
from pyinfer.compat.model import Model
from pyinfer.errors import ParameterError
from pyinfer.tokenizer import Tokenizer
from pyinfer.tokenizer.vocabulary import CONTROL

LLAMA_TOKEN_ATTR_NORMAL = CONSTANTS["LLAMA_TOKEN_ATTR_NORMAL"]
LLAMA_TOKEN_ATTR_CONTROL = CONSTANTS["LLAMA_TOKEN_ATTR_CONTROL"]
LLAMA_TOKEN_ATTR_USER_DEFINED = CONSTANTS["LLAMA_TOKEN_ATTR_USER_DEFINED"]

_vocabularies: weakref.WeakValueDictionary[int, Tokenizer] = weakref.WeakValueDictionary()
_models: weakref.WeakValueDictionary[int, Model] = weakref.WeakValueDictionary()


def llama_model_get_vocab(model: Model) -> int:
    """Return a number that stands for a model's vocabulary in the functions below, as long as the model exists."""
    tokenizer = model._tokenizer
    _vocabularies[id(tokenizer)] = tokenizer
    _models[id(tokenizer)] = model
    return id(tokenizer)


def model_of(vocab: int) -> Model:
    """Return the model of a vocabulary's number. Raises ParameterError if it does not exist any more."""
    if vocab not in _models:
        raise ParameterError(f"vocab is {vocab!r:.60}; expected what llama_model_get_vocab returned for an open model")
    return _models[vocab]


def llama_vocab_n_tokens(vocab: int) -> int:
    return _vocabularies[vocab].n_vocab


def llama_vocab_eos(vocab: int) -> int:
    """Return the token that ends a text; -1 if there is none."""
    end = _vocabularies[vocab].eos_id
    return -1 if end is None else end


def llama_token_get_attr(vocab: int, token: int) -> int:
    """Return a token's kind (control, user-defined or normal), one of LLAMA_TOKEN_ATTR_*."""
    tokenizer = _vocabularies[vocab]
    if token in _control_ids(tokenizer):
        return LLAMA_TOKEN_ATTR_CONTROL
    return LLAMA_TOKEN_ATTR_USER_DEFINED if tokenizer.is_user_defined(token) else LLAMA_TOKEN_ATTR_NORMAL


def llama_token_to_piece(vocab: int, token: int, buf: Any, length: int, lstrip: int, special: bool) -> int:
    """Write a token's bytes to a buffer of ctypes. Return how many there are; negative if the buffer is too short.

    `lstrip`: how many spaces at the front are left out. `special`: write control tokens, too.
    """
    tokenizer = _vocabularies[vocab]
    piece = tokenizer.token_bytes(token) if special or not tokenizer.is_special(token) else b""
    n_spaces = len(piece) - len(piece.lstrip(b" "))
    piece = piece[min(lstrip, n_spaces) :]
    if len(piece) > length:
        return -len(piece)
    buf[: len(piece)] = piece
    return len(piece)


@lru_cache(maxsize=4)
def _control_ids(tokenizer: Tokenizer) -> frozenset[int]:
    return frozenset(tokenizer.ids_of_types(CONTROL))


@lru_cache(maxsize=4)
def _single_bytes(tokenizer: Tokenizer) -> dict[bytes, int]:
    """Return the token of each byte that is a token by itself."""
    texts = (token for token in range(tokenizer.n_vocab - 1, -1, -1) if not tokenizer.is_special(token))
    return {piece: token for token in texts if len(piece := tokenizer.token_bytes(token)) == 1}


def tokens_of_bytes(tokenizer: Tokenizer, raw: bytes, add_special: bool, parse_special: bool) -> list[int]:
    """Return token ids of bytes. Each byte that is no UTF-8 becomes a token; raises ParameterError if it has none."""
    try:
        return tokenizer.encode(raw.decode("utf-8"), add_special=add_special, parse_special=parse_special)
    except UnicodeDecodeError as error:
        good, bad, rest = raw[: error.start], raw[error.start : error.end], raw[error.end :]
    singles = _single_bytes(tokenizer)
    missing = [byte for byte in bad if bytes([byte]) not in singles]
    if missing:
        raise ParameterError(f"the vocabulary has no token for byte {missing[0]:#04x}, which is no UTF-8")
    ids = tokenizer.encode(good.decode("utf-8"), add_special=add_special, parse_special=parse_special)
    ids += [singles[bytes([byte])] for byte in bad]
    return ids + (tokens_of_bytes(tokenizer, rest, False, parse_special) if rest else [])


_TokenizeFunction = ctypes.CFUNCTYPE(
    ctypes.c_int32,
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_char),
    ctypes.c_int32,
    ctypes.POINTER(ctypes.c_int32),
    ctypes.c_int32,
    ctypes.c_bool,
    ctypes.c_bool,
)


def _tokenize(
    vocab: int, text: Any, text_len: int, tokens: Any, n_tokens_max: int, add_special: bool, parse_special: bool
) -> int:
    """Write token ids, for compiled code. Return how many; negative: there is no room for so many."""
    ids = tokens_of_bytes(_vocabularies[vocab], text[:text_len], add_special, parse_special)
    if len(ids) > n_tokens_max:
        return -len(ids)
    for i, token in enumerate(ids):
        tokens[i] = token
    return len(ids)


llama_tokenize = _TokenizeFunction(_tokenize)
_lib = SimpleNamespace(llama_tokenize=llama_tokenize)  # llguidance takes the function's address from here


@dataclass
class Batch:
    """Tokens for llama_decode; each list has n_tokens elements. They are of one sequence, in order.

    The logits of all of them are computed, whatever `logits` says.
    """

    n_tokens: int
    token: list[int]
    pos: list[int]
    n_seq_id: list[int]
    seq_id: list[list[int]]
    logits: list[bool]


def llama_batch_init(n_tokens: int, embd: int, n_seq_max: int) -> Batch:
    """Return an empty batch with room for n_tokens. Raises ParameterError where `embd` asks for vectors."""
    if embd:
        raise ParameterError(f"embd is {embd}; expected 0: batches are of tokens")
    zeros = [0] * n_tokens
    return Batch(0, zeros[:], zeros[:], zeros[:], [[0] for _ in zeros], [False] * n_tokens)


def llama_batch_free(batch: Batch) -> None:
    """Do nothing: Python frees the batch."""


def llama_get_memory(ctx: Model) -> Model:
    return ctx


def llama_memory_seq_rm(mem: Model, seq_id: int, p0: int, p1: int) -> bool:
    """Remove the tokens from position p0 on. Returns False, with nothing changed, for any other range."""
    n = mem._context.n_tokens
    if seq_id not in (-1, 0) or 0 <= p1 < n:
        return False
    mem._context.truncate(min(max(p0, 0), n))
    return True


def llama_decode(ctx: Model, batch: Batch) -> int:
    """Append a batch's tokens and compute their logits, for `llama_get_logits`. Returns 0.

    Raises ContextError where there is no room, ParameterError for other positions or sequences.
    """
    n, start = batch.n_tokens, ctx._context.n_tokens
    if batch.pos[:n] != [*range(start, start + n)] or any(ids[0] for ids in batch.seq_id[:n]):
        raise ParameterError(
            f"a batch has positions {batch.pos[:n]!r:.60}; expected {start} to {start + n - 1} of sequence 0"
        )
    ctx._context.decode(batch.token[:n])
    return 0


def llama_get_logits(ctx: Model) -> NDArray[np.float32]:
    """Return the logits of the last batch: float32 [n_tokens, n_vocab]. Raises ParameterError if there was none."""
    if ctx._context.decoded is None:
        raise ParameterError("there are no logits; expected a call of llama_decode before")
    return ctx._context.decoded


def llama_get_logits_ith(ctx: Model, i: int) -> NDArray[np.float32]:
    """Return the logits of the last batch's token i, from its end where i is negative: float32 [n_vocab].

    Raises ParameterError where there is none.
    """
    rows = llama_get_logits(ctx)
    if not -len(rows) <= i < len(rows):
        raise ParameterError(f"i is {i}; expected a token of the last batch, which had {len(rows)}")
    row: NDArray[np.float32] = rows[i]
    return row
