"""Both ends of a model: from tokens to the residual stream, and from the last norm to logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyinfer.models.graph import Graph, Rows, Stream


@dataclass(frozen=True)
class Embedding:
    """Rows of token_embd, and what is added to them."""

    n_vocab: int
    n_embd: int
    scale: float = 1.0  # on the tokens' rows
    n_positions: int = 0  # rows of position_embd, one of which is added by position (GPT); 0: there is no such table
    type_row: int | None = None  # of token_types, where the file has it, added to all tokens (BERT)
    matrix: str = "token_embd"


def embed(g: Graph, e: Embedding) -> Stream:
    """Record the residual stream x [n_tokens, n_embd] before the first layer."""
    table = g.weights.embedding(f"{e.matrix}.weight", e.n_vocab, e.n_embd)
    positions = g.weights.matrix("position_embd.weight", e.n_positions, e.n_embd) if e.n_positions else None
    types = None if e.type_row is None else g.weights.row_or_none("token_types.weight", e.type_row, e.n_embd)
    x = g.rows("x", e.n_embd)
    x.value.want("rows")
    g.plan.embed("embed", table, x.value, e.scale, positions, types)
    g.can_shift = g.can_shift and positions is None  # learned positions are in everything that layers read
    return g.stream(g.done(x, "embed"))


@dataclass(frozen=True)
class Output:
    """The output matrix, which multiplies the last norm to logits. Its name is the embedding's where both are one."""

    n_vocab: int
    matrix: str
    softcap: float = 0.0  # logits become softcap * tanh(logits / softcap); 0: they do not change
    scale: float = 1.0  # on logits, before that


def logits(g: Graph, hidden: Rows, o: Output | None) -> Rows | None:
    """Record logits [n_outputs, n_vocab] of hidden [n_outputs, n_embd]; None where there is no output matrix."""
    if o is None:
        return None
    wanted = g.pick(hidden, "output_rows")
    matrix, bias, scale = g.weight(o.matrix, o.n_vocab, wanted.width)
    if bias is None:  # also where the matrix is the embedding's
        bias = g.weights.vector_or_none("output.bias", o.n_vocab)
    if bias is not None:
        bias = bias * np.float32(o.scale)
    (out,) = g.products("output", wanted, [(matrix, bias, scale * o.scale, "logits", o.n_vocab)], outputs=True)
    if o.softcap:
        g.plan.softcap("softcap", out.value, o.softcap, rows="logits")
    return out
