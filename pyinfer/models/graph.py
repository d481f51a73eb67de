"""The graph of a model: what an architecture calls, in the order data flows, to record its operations on a plan.

Rows are activations, [n_tokens, width]. Those that play the same role share memory: it is handed out again once nobody
refers to the Rows that had it, so what a variable names lasts as long as the variable (one that is set anew in every
layer costs a second piece: nest calls where nothing is read twice). A Stream is a residual stream, x: `x += y` only
notes what is to be added, and the next norm of x does it in the same operation. Additions happen in the order in which
they are written, before x is read.

    x = g.stream(rows)
    x += attention(h, h.norm(x, "attn_norm", c.norm), c.attention[i])     # sequential
    n = h.norm(x, "attn_norm", c.norm)                                    # parallel: both from the same n
    x += attention(h, n, c.attention[i])
    x += feed_forward(h, n, c.feed_forward[i]) * c.residual_scale         # scaled
    x += h.post(y, "post_attention_norm", c.norm)                         # a norm of what is added
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyinfer import _kernels
from pyinfer.models.rope import Rope, rope_frequencies
from pyinfer.weights.store import Weights

Value = _kernels.Value
Floats = NDArray[np.float32]
ScaleOf = Literal["product", "sum", "nothing"]


@dataclass(frozen=True)
class Norm:
    """RMSNorm (Zhang & Sennrich 2019), or LayerNorm (Ba et al. 2016) where the mean is taken away first.

    A file has its weight as NAME.weight, and NAME.bias if there is one; `unit` has neither.
    """

    eps: float
    centered: bool = False
    unit: bool = False


class Rows:
    """Activations [n_tokens, width] that an operation gives; `name` is the operation's, `n_ops` its number from 1."""

    def __init__(self, value: Value, free: list[Value]) -> None:
        self.value = value
        self.name = value.name
        self.n_ops = 0
        self._free = free

    def __del__(self) -> None:
        self._free.append(self.value)

    @property
    def width(self) -> int:
        return self.value.k

    def __mul__(self, scale: float) -> Term:
        return Term(self) * scale


@dataclass(frozen=True)
class Term:
    """What is added to a stream: scale * y, or scale * RMSNorm(y) * post."""

    y: Rows
    scale: float = 1.0
    post: Floats | None = None
    eps: float = 0.0  # of the norm of y

    def __mul__(self, scale: float) -> Term:
        return replace(self, scale=self.scale * scale)


class Rotation(NamedTuple):
    """How a layer's cached keys turn by position, which context shift undoes."""

    frequencies: NDArray[np.float64]  # [n_rot/2], radians a position
    neox: bool


class Outputs(NamedTuple):
    """What an architecture gives: rows of the wanted tokens. logits: None for an encoder."""

    hidden: Rows  # [n_outputs, n_embd], after the last norm
    logits: Rows | None = None  # [n_outputs, n_vocab]


class Stream:
    """A residual stream x [n_tokens, width]."""

    def __init__(self, graph: Graph, rows: Rows) -> None:
        self.graph = graph
        self.rows = rows
        self.pending: list[Term] = []
        self.ended = False  # rows of tokens that are not wanted lack the last addition

    def __iadd__(self, y: Rows | Term | Stream) -> Stream:
        """Note that y is to be added; a stream is added at once, since it may change."""
        if isinstance(y, Stream):
            self.graph.flush(y)
            self.pending.append(Term(y.rows))
            self.graph.flush(self)
        else:
            self.pending.append(y if isinstance(y, Term) else Term(y))
        return self


class Graph:
    """Records a model's operations on `plan`; `caches` holds what each layer keeps of a sequence, as its spec says."""

    def __init__(
        self, plan: _kernels.Plan, weights: Weights, caches: Sequence[_kernels.Cache | _kernels.State]
    ) -> None:
        self.plan = plan
        self.weights = weights
        self.caches = caches
        self.rotations: list[Rotation | None] = [None] * len(caches)  # of each; None: keys that no position is in
        self.can_shift = True  # False: keys know their positions in ways that no rotation undoes
        self._free: dict[tuple[str, int], list[Value]] = {}
        self._angles: dict[Rope, tuple[Rows, Rotation]] = {}

    def layer(self, index: int, cache: int | None = None) -> Layer:
        """A layer, with the cache of this number where it is not its own: that of another, or of another round."""
        return Layer(self, index, index if cache is None else cache)

    def rows(self, role: str, width: int) -> Rows:
        """Activations that nobody else refers to."""
        free = self._free.setdefault((role, width), [])
        return Rows(free.pop() if free else Value(role, width, self.plan.capacity), free)

    def done(self, rows: Rows, name: str) -> Rows:
        """Note that the last operation on the plan, NAME, gives these rows."""
        rows.name, rows.n_ops = name, len(self.plan.names)
        return rows

    def stream(self, rows: Rows) -> Stream:
        """A residual stream that begins with these rows, and whose memory they become."""
        return Stream(self, rows)

    def read(self, x: Stream, name: str) -> Rows:
        """x as it is, for what reads it without a norm; also to keep a copy of it."""
        self.flush(x)
        out = self.rows("read", x.rows.width)
        out.value.want("rows")
        self.plan.pack(name, x.rows.value, out.value)
        return self.done(out, name)

    def flush(self, x: Stream) -> None:
        """Do the additions to x that were noted."""
        assert not x.ended, f"{x.rows.name}: a stream is read after the norm of its outputs"
        for term in x.pending:
            self._add(x, f"{term.y.name}.add", None, x.rows, term, term.eps)
        x.pending = []

    def norm(self, x: Stream | Rows, name: str, kind: Norm, outputs: bool = False) -> Rows:
        """The norm of x by the weight `name`; outputs: of the rows that the pass wants only."""
        rows = x.rows if isinstance(x, Stream) else x
        return self._norm(x, name, kind, self.rows("hidden.outputs" if outputs else "normed", rows.width), outputs)

    def norm_in_place(self, x: Stream, name: str, kind: Norm, outputs: bool = False) -> Rows:
        """x = its norm, as in post-norm blocks, which add to the norm and not to what it was made of."""
        return self.norm(x, name, kind, outputs) if outputs else self._norm(x, name, kind, x.rows)

    def pick(self, hidden: Rows, name: str) -> Rows:
        """The rows whose logits are wanted, which come first in the wanted rows `hidden`, for products to read.

        They are packed anew, since the tiles of activations are laid out by the number of rows.
        """
        out = self.rows("hidden.logits", hidden.width)
        self.plan.pack(name, hidden.value, out.value, rows="logits")
        return self.done(out, name)

    def _norm(self, x: Stream | Rows, name: str, kind: Norm, out: Rows, outputs: bool = False) -> Rows:
        if outputs:
            out.value.want("rows")
        if isinstance(x, Rows):
            self._add(x, name, kind, out, None, kind.eps, outputs)
            return out
        last = x.pending.pop() if x.pending and self._fits(x.pending[-1], kind) else None
        self.flush(x)
        self._add(x, name, kind, out, last, kind.eps, outputs)
        x.ended = outputs and last is not None
        return out

    @staticmethod
    def _fits(term: Term, kind: Norm) -> bool:
        """Whether the operation that norms x can add this first."""
        return term.post is None or (term.eps == kind.eps and not kind.centered)

    def _add(
        self, x: Stream | Rows, name: str, kind: Norm | None, out: Rows, term: Term | None, eps: float,
        outputs: bool = False,
    ) -> None:  # fmt: skip
        """x += term; out = norm of x, if there is a kind of norm."""
        rows = x.rows if isinstance(x, Stream) else x
        weight, bias = (None, None) if kind is None else self._norm_weights(name, kind, rows.width)
        more: dict[str, Any] = {"rows": "outputs"} if outputs else {}
        if term is not None:
            more = more | {"y": term.y.value, "post": term.post}
            if term.scale != 1:
                more["y_scale"] = term.scale
        if kind is not None:
            more = more | {"bias": bias, "centered": kind.centered}
        self.plan.norm(name, rows.value, weight, out.value, eps, **more)
        self.done(out, name)

    def _norm_weights(self, name: str, kind: Norm, n: int) -> tuple[Floats, Floats | None]:
        if kind.unit:
            return np.ones(n, np.float32), None
        return self.weights.vector(f"{name}.weight", n), self.weights.vector_or_none(f"{name}.bias", n)

    def post(self, y: Rows, name: str, kind: Norm) -> Term:
        """The norm of y by the weight `name`, to be added to a stream."""
        if kind.centered or self.weights.has(f"{name}.bias"):
            return Term(self._norm(y, name, kind, self.rows("post", y.width)))
        weight, _ = self._norm_weights(name, kind, y.width)
        return Term(y, post=weight, eps=kind.eps)

    def linear(
        self,
        name: str,
        x: Rows,
        parts: dict[str, tuple[str, int]],
        scale_of: ScaleOf = "product",
        outputs: bool = False,
    ) -> list[Rows]:
        """Products of x with several weights at once. parts: the weight's name -> (role of the product, its width).

        The bias `NAME.bias` applies where the file has it; so does the scale `NAME.scale`, to the product, to the sum
        of product and bias, or to nothing.
        """
        segments = [
            (*self.weight(weight, width, x.width, scale_of), role, width) for weight, (role, width) in parts.items()
        ]
        return self.products(name, x, segments, outputs)

    def products(
        self,
        name: str,
        x: Rows,
        segments: Sequence[tuple[_kernels.Matrix, Floats | None, float, str, int]],
        outputs: bool = False,
    ) -> list[Rows]:
        """x W^T * scale + bias for each (W, bias, scale, role of the product, its width)."""
        outs = [self.rows(role, width) for *_, role, width in segments]
        products = [
            (matrix, out.value, bias, scale) for (matrix, bias, scale, *_), out in zip(segments, outs, strict=True)
        ]
        self.plan.matmul(name, x.value, products, rows="logits" if outputs else "tokens")
        return [self.done(out, name) for out in outs]

    def weight(
        self, name: str, n_rows: int, k: int, scale_of: ScaleOf = "product"
    ) -> tuple[_kernels.Matrix, Floats | None, float]:
        """A matrix [n_rows, k], and the bias and scale of its product."""
        w = self.weights
        scale = 1.0 if scale_of == "nothing" else w.scalar(f"{name}.scale", 1.0)
        bias = w.vector_or_none(f"{name}.bias", n_rows)
        if bias is not None and scale_of == "sum":
            bias = bias * np.float32(scale)
        return w.matrix(f"{name}.weight", n_rows, k), bias, scale

    def angles(self, rope: Rope) -> tuple[Rows, Rotation]:
        """Cosines and sines of the positions of a pass, [n_tokens, n_rot], recorded once; and what keys turn by."""
        if rope not in self._angles:
            factors = None
            if rope.factors_tensor is not None:
                factors = self.weights.vector(rope.factors_tensor, rope.n_rot // 2)
            frequencies, mscale = rope_frequencies(rope, factors)
            rows = self.rows("angles", rope.n_rot)
            self.plan.angles("angles", frequencies, mscale, rows.value)
            self._angles[rope] = self.done(rows, "angles"), Rotation(frequencies, rope.neox)
        return self._angles[rope]


@dataclass(frozen=True)
class Layer:
    """A layer of a graph, whose operations and weights are named blk.N.NAME."""

    graph: Graph
    index: int
    cache_index: int

    def name(self, name: str) -> str:
        return f"blk.{self.index}.{name}"

    @property
    def cache(self) -> _kernels.Cache:
        """The KV cache of an attention layer."""
        cache = self.graph.caches[self.cache_index]
        assert isinstance(cache, _kernels.Cache), f"layer {self.cache_index} keeps a state"
        return cache

    @property
    def state(self) -> _kernels.State:
        """The state of a recurrent layer."""
        state = self.graph.caches[self.cache_index]
        assert isinstance(state, _kernels.State), f"layer {self.cache_index} keeps keys and values"
        return state

    def norm(self, x: Stream | Rows, name: str, kind: Norm, outputs: bool = False) -> Rows:
        return self.graph.norm(x, self.name(name), kind, outputs)

    def norm_in_place(self, x: Stream, name: str, kind: Norm, outputs: bool = False) -> Rows:
        return self.graph.norm_in_place(x, self.name(name), kind, outputs)

    def post(self, y: Rows, name: str, kind: Norm) -> Term:
        return self.graph.post(y, self.name(name), kind)

    def read(self, x: Stream, name: str) -> Rows:
        return self.graph.read(x, self.name(name))
