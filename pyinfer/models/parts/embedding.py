"""Both ends of a model: tokens to the residual stream, and its last norm to logits."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfer.models.graph import Graph, Rows, Stream
from pyinfer.models.keys import Keys


@dataclass(frozen=True)
class Embedding:
    """Rows of token_embd, and what is added to them."""

    n_vocab: int
    n_embd: int
    scale: float = 1.0  # on the tokens' rows
    n_positions: int = 0  # rows of position_embd, one of which is added by position (GPT); 0: there is no such table
    type_row: int | None = None  # of token_types, where the file has it, added to all tokens (BERT)


def embed(g: Graph, e: Embedding) -> Stream:
    """The residual stream x [n_tokens, n_embd] before the first layer."""
    table = g.weights.embedding("token_embd.weight", e.n_vocab, e.n_embd)
    positions = g.weights.matrix("position_embd.weight", e.n_positions, e.n_embd) if e.n_positions else None
    types = None if e.type_row is None else g.weights.row_or_none("token_types.weight", e.type_row, e.n_embd)
    x = g.rows("x", e.n_embd)
    x.value.want("rows")
    g.plan.embed("embed", table, x.value, e.scale, positions, types)
    g.can_shift = g.can_shift and positions is None  # they are in all that layers read
    return g.stream(g.done(x, "embed"))


@dataclass(frozen=True)
class Output:
    """Logits: products of the last norm with `matrix`, which is the embedding where it is tied to it."""

    n_vocab: int
    matrix: str
    softcap: float = 0.0  # logits become softcap * tanh(logits / softcap); 0: they don't


def read_output(keys: Keys, softcap: float = 0.0) -> Output:
    return Output(keys.n_vocab, "output" if "output.weight" in keys.file.tensors else "token_embd", softcap)


def logits(g: Graph, hidden: Rows, o: Output | None) -> Rows | None:
    """hidden [n_outputs, n_embd] to logits [n_outputs, n_vocab]; None where there is no output matrix."""
    if o is None:
        return None
    wanted = g.pick(hidden, "output_rows")
    (out,) = g.linear("output", wanted, {o.matrix: ("logits", o.n_vocab)}, outputs=True)
    if o.softcap:
        g.plan.softcap("softcap", out.value, o.softcap, rows="logits")
    return out
