"""Embeddings: a vector a text, pooled from its tokens' states after the last norm.

Texts are passed many at a time, the long ones first, so that those of a pass are alike. What a text gives does not
depend on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pyinfer.arguments import as_list_or_none, checked_ids, quoted
from pyinfer.engine.engine import Engine
from pyinfer.errors import ContextError, ModelError, ParameterError
from pyinfer.tokenizer import Tokenizer

# whether a token counts, from its position and its text's length
POOLINGS: dict[str, Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]] = {
    "mean": lambda position, length: position < length,
    "cls": lambda position, length: position == 0,
    "last": lambda position, length: position == length - 1,
}


def embed(
    engine: Engine,
    tokenizer: Tokenizer,
    texts: str | Sequence[str | Sequence[int]],
    pooling: str | None = None,
    normalize: bool = True,
    truncate: bool = False,
) -> NDArray[np.float32]:
    """Embeddings of texts, float32 [n_texts, n_embd]; a single text is a list of one.

    texts: texts, which get the special tokens that the model asks for, or token ids as they are. pooling: "mean" of all
    tokens, the first ("cls") or the "last"; None: as the file says, else "mean" for an encoder, "last" for a decoder.
    normalize: to length 1. truncate: texts longer than the context lose their end (a special token there stays).
    The engine's sequences are overwritten, and empty afterwards.
    Raises ContextError for a text that is too long, ParameterError for one without tokens, for ids out of range and for
    an unknown pooling, ModelError where the model computes no finite numbers.
    """
    pooling = check_pooling(engine, pooling)
    tokens = tokenize(engine, tokenizer, texts, truncate)
    out = np.empty((len(tokens), engine.config.n_embd), np.float32)
    for group in group_texts([len(ids) for ids in tokens], engine.n_batch, engine.n_seqs):
        out[group] = pool(engine, [tokens[i] for i in group], pooling)
    damaged = np.flatnonzero(~np.isfinite(out).all(axis=1))
    if len(damaged):
        raise ModelError(f"the embedding of text {damaged[0]} is not finite: weights are damaged or overflow float32")
    if normalize:
        out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return out


def check_pooling(engine: Engine, pooling: str | None) -> str:
    """The pooling to use; ParameterError for one that does not exist."""
    usual = engine.config.pooling or ("mean" if engine.config.encoder else "last")
    found = usual if pooling is None else pooling
    if not isinstance(found, str) or found not in POOLINGS:
        whose = " in the model's file" if pooling is None else ""
        raise ParameterError(f"pooling is {quoted(found)}{whose}; expected one of {', '.join(POOLINGS)}")
    return found


def tokenize(
    engine: Engine, tokenizer: Tokenizer, texts: str | Sequence[str | Sequence[int]], truncate: bool
) -> list[list[int]]:
    """The token ids of each text, as many as the context holds."""
    items = [texts] if isinstance(texts, str) else as_list_or_none(texts)
    if items is None:
        raise ParameterError(f"texts is {quoted(texts)}; expected a text or a list of texts")
    tokens = []
    for i, text in enumerate(items):
        ids = tokenizer.encode(text) if isinstance(text, str) else checked_ids(text, engine.n_vocab, f"text {i}")
        if not ids:
            raise ParameterError(f"text {i} has no tokens; expected at least one")
        if len(ids) > engine.n_ctx:
            if not truncate:
                raise ContextError(
                    f"text {i} has {len(ids)} tokens; the context has {engine.n_ctx} (n_ctx; truncate=True cuts texts)"
                )
            closing = ids[-1:] if isinstance(text, str) and tokenizer.add_eos else []
            ids = ids[: engine.n_ctx - len(closing)] + closing
        tokens.append(ids)
    return tokens


def group_texts(lengths: Sequence[int], n_batch: int, n_seqs: int) -> Iterator[list[int]]:
    """The indices of texts that are passed together: up to n_seqs with n_batch tokens in all, or one that is longer."""
    group: list[int] = []
    n_tokens = 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if group and (n_tokens + lengths[i] > n_batch or len(group) == n_seqs):
            yield group
            group, n_tokens = [], 0
        group.append(i)
        n_tokens += lengths[i]
    if group:
        yield group


def pool(engine: Engine, tokens: Sequence[Sequence[int]], pooling: str) -> NDArray[np.float64]:
    """Pooled states of texts, float64 [n_texts, n_embd]. Only a single text may exceed the engine's batch."""
    lengths = np.array([len(ids) for ids in tokens])
    ids = np.concatenate([np.asarray(ids, np.int32) for ids in tokens])
    text = np.repeat(np.arange(len(tokens)), lengths)
    position = np.concatenate([np.arange(n) for n in lengths])
    counts = POOLINGS[pooling](position, lengths[text])
    sums = np.zeros((len(tokens), engine.config.n_embd))
    try:
        for start in range(0, len(ids), engine.n_batch):
            part = slice(start, start + engine.n_batch)
            wanted = np.flatnonzero(counts[part])
            rows = engine.hidden(ids[part], position[part], text[part], wanted)
            of = text[part][wanted]
            for i in np.unique(of).tolist():
                sums[i] += rows[of == i].sum(axis=0, dtype=np.float64)
    finally:
        for i in range(len(tokens)):
            engine.truncate(i, 0)
    means: NDArray[np.float64] = sums / np.bincount(text[counts])[:, None]
    return means
