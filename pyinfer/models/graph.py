"""The graph of a model: an architecture calls it, in the order in which data flows, to record operations on a plan.

Rows are activations, [n_tokens, width]. Rows of the same role share memory: it is used again once no variable refers to
the Rows that had it. So the content of a variable lasts as long as the variable. (A variable that every layer assigns
needs a second piece of memory; nest calls where nothing is read twice.) A Stream is a residual stream x: `x += y` only
notes that y is to be added, and the next norm of x adds it in the same operation. Additions happen in the order in
which they are written, before x is read.

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
from pyinfer.errors import ModelError
from pyinfer.models.rope import Rope, rope_frequencies
from pyinfer.weights.store import Weights

Value = _kernels.Value
Floats = NDArray[np.float32]
Segment = tuple[_kernels.Matrix, Floats | None, float]  # a product: matrix, bias, scale
ScaleOf = Literal["product", "sum", "nothing"]
ROW_GROUP = 16  # rows that lie together in a matrix


@dataclass(frozen=True)
class Norm:
    """RMSNorm (Zhang & Sennrich 2019); with `centered`, LayerNorm (Ba et al. 2016), which subtracts the mean first.

    A file has its weight as NAME.weight, and perhaps NAME.bias. With `unit` the norm has neither.
    """

    eps: float
    centered: bool = False
    unit: bool = False


class Rows:
    """Activations [n_tokens, width], the result of the operation `name`, whose number from 1 is `n_ops`."""

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
    """How a layer rotates cached keys by position; a context shift rotates them to other positions."""

    frequencies: NDArray[np.float64]  # [n_rot/2], radians a position
    neox: bool


class Outputs(NamedTuple):
    """The results of an architecture: rows of the wanted tokens. `logits` is None for an encoder."""

    hidden: Rows  # [n_outputs, n_embd], after the last norm
    logits: Rows | None = None  # [n_outputs, n_vocab]


class Stream:
    """A residual stream x [n_tokens, width]."""

    def __init__(self, graph: Graph, rows: Rows) -> None:
        self.graph = graph
        self.rows = rows
        self.pending: list[Term] = []
        self.ended = False  # the last addition was done for wanted rows only: x must not be read any more

    def __iadd__(self, y: Rows | Term | Stream) -> Stream:
        """Note that y is to be added. A stream is added at once, since it may change."""
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
        self.rotations: list[Rotation | None] = [None] * len(caches)  # a cache's; None: no position is in its keys
        self.can_shift = True  # False: keys depend on their positions in ways that no rotation can change
        self._free: dict[tuple[str, int], list[Value]] = {}
        self._angles: dict[Rope, tuple[Rows, Rotation]] = {}

    def layer(self, index: int, cache: int | None = None) -> Layer:
        """Return a layer. `cache`: the number of the cache that it uses, where that is not its own."""
        return Layer(self, index, index if cache is None else cache)

    def rows(self, role: str, width: int) -> Rows:
        """Return activations that no other variable refers to."""
        free = self._free.setdefault((role, width), [])
        return Rows(free.pop() if free else Value(role, width, self.plan.capacity), free)

    def done(self, rows: Rows, name: str) -> Rows:
        """Note that these rows are the result of the plan's last operation, `name`."""
        rows.name, rows.n_ops = name, len(self.plan.names)
        return rows

    def stream(self, rows: Rows) -> Stream:
        """Return a residual stream that begins with these rows and uses their memory."""
        return Stream(self, rows)

    def read(self, x: Stream, name: str) -> Rows:
        """Copy x, to read it without a norm or to keep its present content."""
        self.flush(x)
        out = self.rows("read", x.rows.width)
        out.value.want("rows")
        self.plan.pack(name, x.rows.value, out.value)
        return self.done(out, name)

    def flush(self, x: Stream) -> None:
        """Record the additions to x that were noted."""
        assert not x.ended, f"{x.rows.name}: a stream is read after the norm of its outputs"
        for term in x.pending:
            self._add(x, f"{term.y.name}.add", None, x.rows, term, term.eps)
        x.pending = []

    def rescale(self, x: Stream, scale: float, name: str) -> None:
        """Record that x becomes scale * x."""
        self.flush(x)
        self.plan.norm(name, x.rows.value, None, x.rows.value, 0.0, x_scale=scale)

    def norm(self, x: Stream | Rows, name: str, kind: Norm, outputs: bool = False) -> Rows:
        """Return the norm of x with the weight `name`. `outputs`: only of the rows that the pass wants."""
        rows = x.rows if isinstance(x, Stream) else x
        return self._norm(x, name, kind, self.rows("hidden.outputs" if outputs else "normed", rows.width), outputs)

    def norm_in_place(self, x: Stream, name: str, kind: Norm, outputs: bool = False) -> Rows:
        """Replace x by its norm, as post-norm blocks do, which add the next block's result to the norm."""
        return self.norm(x, name, kind, outputs) if outputs else self._norm(x, name, kind, x.rows)

    def pick(self, hidden: Rows, name: str) -> Rows:
        """The rows whose logits are wanted, which come first in the wanted rows `hidden`, for products to read.

        They are packed anew, since the tiles of activations are laid out by the number of rows.
        """
        out = self.rows("hidden.logits", hidden.width)
        self.plan.pack(name, hidden.value, out.value, rows="logits")
        return self.done(out, name)

    def norm_rows_in_place(self, rows: Rows, name: str, kind: Norm) -> None:
        """Record that rows become their norm."""
        rows.value.want("rows")
        self._add(rows, name, kind, rows, None, kind.eps)

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
        """Whether the operation of x's norm can add this term first."""
        return term.post is None or (term.eps == kind.eps and not kind.centered)

    def _add(
        self, x: Stream | Rows, name: str, kind: Norm | None, out: Rows, term: Term | None, eps: float,
        outputs: bool = False,
    ) -> None:  # fmt: skip
        """Record x += term and, if there is a kind of norm, out = norm of x."""
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
        tensor = name if self.weights.has(name) else f"{name}.weight"  # PLaMo 3 leaves the suffix out
        return self.weights.vector(tensor, n), self.weights.vector_or_none(f"{name}.bias", n)

    def post(self, y: Rows, name: str, kind: Norm) -> Term:
        """Return the norm of y with the weight `name`, to add it to a stream."""
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
        """Multiply x by several weights at once. `parts`: a weight's name -> (role of the product, its width).

        A bias `NAME.bias` is added where the file has one. A scale `NAME.scale` multiplies what `scale_of` says: the
        product, the sum of product and bias, or nothing.
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
        """Return x W^T * scale + bias for each (W, bias, scale, role of the product, its width)."""
        outs = [self.rows(role, width) for *_, role, width in segments]
        products = [
            (matrix, out.value, bias, scale) for (matrix, bias, scale, *_), out in zip(segments, outs, strict=True)
        ]
        self.plan.matmul(name, x.value, products, rows="logits" if outputs else "tokens")
        return [self.done(out, name) for out in outs]

    def fused(
        self, name: str, x: Rows, weight: str, widths: dict[str, int], biases: Sequence[Floats | None] = ()
    ) -> list[Rows]:
        """Multiply x by the parts of one weight: its first rows give the first role of `widths`, and so on.

        - `biases` (none): one a part, which are added if all are there and the weight has none of its own.
        """
        parts = self.parts(weight, widths, x.width)
        if biases and all(b is not None for b in biases) and parts[0][1] is None:
            parts = [(matrix, bias, scale) for (matrix, _, scale), bias in zip(parts, biases, strict=True)]
        segments = [(*part, role, width) for part, (role, width) in zip(parts, widths.items(), strict=True)]
        return self.products(name, x, segments)

    def parts(self, weight: str, widths: dict[str, int], k: int, scale_of: ScaleOf = "product") -> list[Segment]:
        """Return the parts of a matrix of k columns, so many rows each, with their bias and scale."""
        if any(width % ROW_GROUP for width in widths.values()):
            raise ModelError(f"{weight}.weight: parts of {widths} rows; expected multiples of {ROW_GROUP}")
        matrix, bias, scale = self.weight(weight, sum(widths.values()), k, scale_of)
        first, parts = 0, []
        for width in widths.values():
            parts.append((matrix.part(first, width), None if bias is None else bias[first : first + width], scale))
            first += width
        return parts

    def weight(
        self, name: str, n_rows: int, k: int, scale_of: ScaleOf = "product"
    ) -> tuple[_kernels.Matrix, Floats | None, float]:
        """Return a matrix [n_rows, k], and the bias and scale of its product."""
        w = self.weights
        scale = 1.0 if scale_of == "nothing" else w.scalar(f"{name}.scale", 1.0)
        bias = w.vector_or_none(f"{name}.bias", n_rows)
        if bias is not None and scale_of == "sum":
            bias = bias * np.float32(scale)
        return w.matrix(f"{name}.weight", n_rows, k), bias, scale

    def angles(self, rope: Rope) -> tuple[Rows, Rotation]:
        """Return the cosines and sines of a pass's positions, [n_tokens, n_rot], and the rotation of keys.

        They are recorded once for all layers with the same rope.
        """
        if rope not in self._angles:
            vectors = {name: self.weights.vector(name, rope.n_rot // 2) for name in rope.factor_tensors}
            name = rope.factors_of(self.plan.n_ctx)
            frequencies, mscale = rope_frequencies(rope, None if name is None else vectors[name])
            rows = self.rows("angles", rope.n_rot)
            self.plan.angles("angles", frequencies, mscale, rows.value)
            self._angles[rope] = self.done(rows, "angles"), Rotation(frequencies, rope.neox)
        return self._angles[rope]


@dataclass(frozen=True)
class Layer:
    """A layer of a graph. Its operations and weights are named blk.N.NAME."""

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
