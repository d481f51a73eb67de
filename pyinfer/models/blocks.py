"""The building blocks that transformers are made of, recorded as operations of a plan.

A model file calls them in the order data flows. Activations that play the same role in every layer share memory, named
by that role. The residual stream is `x`; `add` only notes what is to be added to it, and the next norm does it in the
same pass. The norm of the outputs gives `hidden`, what logits and embeddings are made of.
Shapes: x [n_tokens, n_embd]; q [n_tokens, n_heads * head_dim]; k, v [n_tokens, n_kv_heads * head_dim].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pyinfer import _kernels
from pyinfer.errors import ModelError
from pyinfer.models.config import ModelConfig
from pyinfer.models.rope import rope_frequencies

if TYPE_CHECKING:
    from pyinfer.runtime.weights import Weights

Value = _kernels.Value
ScaleOf = Literal["product", "sum", "nothing"]


class Blocks:
    """Records blocks of a model on `plan`; `caches` holds the KV cache of each layer.

    hidden: [n_outputs, n_embd], the tokens asked for after the last norm, once the first n_hidden_ops operations ran.
    """

    hidden: Value
    n_hidden_ops: int

    def __init__(
        self, plan: _kernels.Plan, config: ModelConfig, weights: Weights, caches: list[_kernels.Cache]
    ) -> None:
        self.plan = plan
        self.config = config
        self.weights = weights
        self.caches = caches
        self.frequencies: dict[bool, NDArray[np.float64]] = {}  # of rotary positions; key: in sliding layers or not
        self._values: dict[str, Value] = {}
        self._pending: tuple[Value, Any] | None = None  # what to add to x, and the weight of the norm before

    def value(self, role: str, width: int) -> Value:
        """Activations [n_tokens, width], the same memory for the same role and width."""
        key = f"{role}:{width}"
        if key not in self._values:
            self._values[key] = Value(role, width, self.plan.capacity)
        return self._values[key]

    def embed(self) -> None:
        """x = the tokens' rows of the embedding, with what positions and types of tokens add; the positions' angles."""
        c = self.config
        self.x = self.value("x", c.n_embd)
        table = self.weights.matrix("token_embd.weight", c.n_vocab, c.n_embd)
        positions = self.weights.matrix("position_embd.weight", c.n_ctx_train, c.n_embd) if c.rope is None else None
        types = self.weights.row_or_none("token_types.weight", 0, c.n_embd)  # all tokens are of the first sentence
        self.plan.embed("embed", table, self.x.want("rows"), c.embd_scale, positions, types)
        if c.rope is None:
            return
        factors = None
        if c.rope.factors_tensor is not None:
            factors = self.weights.vector(c.rope.factors_tensor, c.rope.n_rot // 2)
        for local in sorted(set(c.sliding_layers)):
            frequencies, mscale = rope_frequencies(c.rope, local, factors)
            self.frequencies[local] = frequencies
            self.plan.angles("angles", frequencies, mscale, self.value(f"angles.{local}", c.rope.n_rot))

    def add(self, y: Value, post: str | None = None) -> None:
        """x += y, or += RMSNorm(y) * the weight `post`."""
        weight = None if post is None else self.weights.vector(f"{post}.weight", self.config.n_embd)
        self._pending = (y, weight)

    def norm(self, name: str, outputs: bool = False) -> Value:
        """The norm of x by the weight `name`; outputs: only of the tokens whose outputs are wanted, as `hidden`."""
        return self._norm(name, self.value("normed", self.config.n_embd), outputs)

    def post_norm(self, name: str, outputs: bool = False) -> Value:
        """As norm, and x is the result: what follows is added to that."""
        return self._norm(name, self.x, outputs)

    def _norm(self, name: str, out: Value, outputs: bool) -> Value:
        c, w = self.config, self.weights
        y, post = self._pending or (None, None)
        self._pending = None
        if outputs:
            out = self.hidden = self.value("hidden.outputs", c.n_embd).want("rows")
        weight, bias = w.vector(f"{name}.weight", c.n_embd), w.vector_or_none(f"{name}.bias", c.n_embd)
        rows: _kernels._Rows = "outputs" if outputs else "tokens"
        self.plan.norm(
            name, self.x, weight, out, c.norm_eps, y=y, post=post, rows=rows, bias=bias, centered=c.layer_norm
        )
        self.n_hidden_ops = len(self.plan.names)
        return out

    def linear(
        self,
        name: str,
        x: Value,
        parts: dict[str, tuple[str, int]],
        scale_of: ScaleOf = "product",
        outputs: bool = False,
    ) -> list[Value]:
        """Products of x with several weights at once. parts: the weight's name -> (role of the product, its width).

        The bias `NAME.bias` applies where the file has it; so does the scale `NAME.scale`, to the product, to the sum
        of product and bias, or to nothing.
        """
        outs = [self.value(role, width) for role, width in parts.values()]
        weights = [self._weight(weight, out.k, x.k, scale_of) for weight, out in zip(parts, outs, strict=True)]
        segments = [(matrix, out, bias, scale) for (matrix, bias, scale), out in zip(weights, outs, strict=True)]
        self.plan.matmul(name, x, segments, rows="logits" if outputs else "tokens")
        return outs

    def _weight(self, name: str, n_rows: int, k: int, scale_of: ScaleOf) -> tuple[_kernels.Matrix, Any, float]:
        """A matrix [n_rows, k], and the bias and scale of its product."""
        w = self.weights
        scale = 1.0 if scale_of == "nothing" else w.scalar(f"{name}.scale", 1.0)
        bias = w.vector_or_none(f"{name}.bias", n_rows)
        if bias is not None and scale_of == "sum":
            bias = bias * np.float32(scale)
        return w.matrix(f"{name}.weight", n_rows, k), bias, scale

    def attention(self, layer: int, x: Value) -> Value:
        """Grouped-query attention (Ainslie et al. 2023); norms of heads if the file has them."""
        c, blk, cache = self.config, f"blk.{layer}", self.caches[layer]
        sliding = c.sliding_layers[layer]
        q, k, v = self._qkv(layer, x)
        angles = None if c.rope is None else self.value(f"angles.{sliding}", c.rope.n_rot)
        self.plan.rope(
            f"{blk}.rope", q, k, v, angles, cache, neox=c.rope is not None and c.rope.neox,
            q_norm=self.weights.vector_or_none(f"{blk}.attn_q_norm.weight", c.head_dim),
            k_norm=self.weights.vector_or_none(f"{blk}.attn_k_norm.weight", c.head_dim),
            eps=c.norm_eps, q_scale=c.attn_scale,
        )  # fmt: skip
        heads = self.value("heads", q.k)
        window = c.sliding_window if sliding else 0
        self.plan.attention(f"{blk}.attention", q, cache, heads, window=window, softcap=c.attn_softcap, causal=c.causal)
        (out,) = self.linear(f"{blk}.attn_output", heads, {f"{blk}.attn_output": ("projected", c.n_embd)})
        return out

    def _qkv(self, layer: int, x: Value) -> list[Value]:
        """Queries, keys and values: three weights, or one with the rows of all three, one after the other."""
        c, blk, fused = self.config, f"blk.{layer}", f"blk.{layer}.attn_qkv"
        kv = c.n_kv_heads[layer] * c.head_dim
        widths = {"q": c.n_heads[layer] * c.head_dim, "k": kv, "v": kv}
        if not self.weights.has(f"{fused}.weight"):
            return self.linear(f"{blk}.qkv", x, {f"{blk}.attn_{role}": (role, width) for role, width in widths.items()})
        if any(width % 16 for width in widths.values()):
            raise ModelError(f"{fused}.weight: {widths} rows of q, k and v; expected multiples of 16")
        matrix, bias, scale = self._weight(fused, sum(widths.values()), x.k, "product")
        first, segments = 0, []
        for role, width in widths.items():
            part = None if bias is None else bias[first : first + width]
            segments.append((matrix.part(first, width), self.value(role, width), part, scale))
            first += width
        self.plan.matmul(f"{blk}.qkv", x, segments)
        return [out for _, out, _, _ in segments]

    def feed_forward(self, layer: int, x: Value, act: str, gated: bool = True) -> Value:
        """down(act(gate(x)) * up(x)) (Shazeer 2020), or down(act(up(x))); act: "silu", "gelu" or "gelu_erf"."""
        c, blk = self.config, f"blk.{layer}.ffn"
        n_ff = c.n_ff[layer]
        scale_of: ScaleOf = "sum" if c.ffn_output_scales else "nothing"
        hidden = self.value("hidden", n_ff)
        weights = [
            self._weight(f"{blk}_{name}", n_ff, x.k, scale_of) for name in (("gate", "up") if gated else ("up",))
        ]
        self.plan.glu(f"{blk}_gate_up" if gated else f"{blk}_up", x, weights, hidden, act)
        (out,) = self.linear(f"{blk}_down", hidden, {f"{blk}_down": ("projected", c.n_embd)}, scale_of=scale_of)
        return out

    def logits(self, x: Value) -> Value:
        """Logits [n_outputs, n_vocab], by the output matrix or, where it is tied, the embedding."""
        c = self.config
        name = "token_embd" if c.tied_output else "output"
        (out,) = self.linear("output", x, {name: ("logits", c.n_vocab)}, outputs=True)
        if c.final_softcap:
            self.plan.softcap("softcap", out, c.final_softcap, rows="logits")
        return out
