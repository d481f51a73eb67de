"""Grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245), each layer with its own numbers.

Shapes: x [n_tokens, n_embd]; q [n_tokens, n_heads * k_dim]; k [n_tokens, n_kv_heads * k_dim];
v [n_tokens, n_kv_heads * v_dim]; heads [n_tokens, n_heads * v_dim].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pyinfer.memory.spec import AttentionSpec
from pyinfer.models.graph import Floats, Layer, Norm, Rows
from pyinfer.models.keys import MAX_CONTEXT, MAX_HEADS, MAX_LAYERS, MAX_WIDTH, Keys
from pyinfer.models.rope import Rope

PlanNorm = tuple[Floats | None, Floats | None, bool]  # weight, bias, centered


@dataclass(frozen=True)
class HeadNorm:
    """A norm of the heads of q and of k, with the weights attn_q_norm and attn_k_norm.

    - `norm`: its kind. With `unit`, q's and k's have no weights.
    - `over`: "head" is of each head, whose weights are those of all heads or its own; "all" is of all heads together.
    - `after`: whether it comes after the rotation.
    - `of`: "each": q's and k's where the file has their weight; "q": both, where it has q's.
    - `unit_k`: whether k's has no weights.
    """

    norm: Norm
    over: Literal["head", "all"] = "head"
    after: bool = False
    of: Literal["each", "q"] = "each"
    unit_k: bool = False


@dataclass(frozen=True)
class Attention:
    """Attention of one layer."""

    n_heads: int
    n_kv_heads: int
    k_dim: int  # of a head's query and key
    v_dim: int
    scale: float  # on query · key
    rope: Rope | None = None  # None: heads are not rotated
    head_norm: HeadNorm | None = None
    value_norm_eps: float | None = None  # of an RMSNorm without weights of the heads of v; None: there is none
    window: int = 0  # tokens attend to so many keys, with their own (not causal: so many, half on each side); 0: to all
    softcap: float = 0.0  # scores become softcap * tanh(scores / softcap); 0: they do not change
    causal: bool = True  # tokens attend to earlier ones and themselves; False: to all of their sequence
    max_alibi: float = 0.0  # the largest slope's exponent, of ALiBi (Press et al. 2022, arXiv:2108.12409); 0: none
    sinks: bool = False  # each head has a score more, of no value: attn_sinks (Xiao et al. 2023, arXiv:2309.17453)
    gate: Literal["value", "head"] | None = None  # heads are multiplied by sigmoid(attn_gate x), a gate for each
    clamp: float = 0.0  # bound of |q|, |k| and |v|; 0: none
    temperature: float = 0.0  # q is multiplied by 1 + temperature * ln(floor(position / n_ctx_orig) + 1)
    n_ctx_orig: int = 1
    inner_norm: Norm | None = None  # of all heads before the output projection: attn_sub_norm
    kv_from: int | None = None  # the layer whose keys and values are used; None: the layer's own

    @property
    def memory(self) -> AttentionSpec:
        return AttentionSpec(self.n_kv_heads, self.k_dim, self.v_dim, self.window if self.causal else 0)


def alibi_slopes(n_heads: int, max_alibi: float) -> Floats:
    """Return the slope of each head [n_heads]: 2^(-max_alibi / n) and its powers for n heads, a power of two.

    Further heads take every second one of those for 2 n heads.
    """
    n = 1 << n_heads.bit_length() - 1
    exponents = [(h + 1) / n if h < n else (2 * (h - n) + 1) / (2 * n) for h in range(n_heads)]
    return np.exp2(-max_alibi * np.array(exponents)).astype(np.float32)


def read_head_dims(keys: Keys, key: str, windows: Sequence[int]) -> list[int]:
    """Return the dimensions of a head of each layer: those of `key`, or of `key`_swa in layers with a window.

    By default they are those of the embedding divided by the number of heads.
    """
    n_heads = keys.get_per_layer("attention.head_count", MAX_HEADS, minimum=0)[0]
    if not keys.has(key) and (n_heads == 0 or keys.n_embd % n_heads):
        keys.fail("attention.head_count", n_heads, f"a divisor of the embedding's {keys.n_embd} (there is no {key})")
    dim = keys.get_int(key, MAX_WIDTH, default=keys.n_embd // max(n_heads, 1))
    local = keys.get_int(f"{key}_swa", MAX_WIDTH, default=dim)
    return [local if window else dim for window in windows]


@dataclass(frozen=True)
class Window:
    """Which layers have a window, and of how many positions.

    - `period`: every period-th layer has none (0: all have one); the file's number, and an array which layers have one,
      take its place. None: the array must be there.
    - `size`: where the file has none. None: it must have one. 0: there are no windows then.
    - `first_full`: the first layer of each period has none, in place of the last one.
    - `applies`: whether there are windows at all, whatever the file says.
    """

    period: int | None = None
    size: int | None = None
    first_full: bool = False
    applies: Callable[[Keys], bool] = lambda keys: True

    def read(self, keys: Keys) -> list[int]:
        """Return the window of every layer; 0: it has none."""
        key, n_layers = "attention.sliding_window_pattern", keys.n_layers
        if not self.applies(keys):
            return [0] * n_layers
        window = keys.get_int("attention.sliding_window", MAX_CONTEXT, default=self.size, minimum=0)
        if not window:
            return [0] * n_layers
        pattern = keys.get_array(key)
        if pattern is None:
            period = keys.get_int(key, MAX_LAYERS, default=self.period, minimum=0)
            full = 0 if self.first_full else period - 1
            pattern = tuple(int(period == 0 or layer % period != full) for layer in range(n_layers))
        if len(pattern) != n_layers or not set(pattern) <= {0, 1}:
            keys.fail(key, list(pattern), f"{n_layers} zeros and ones, one a layer")
        return [window * slides for slides in pattern]


def attention(h: Layer, x: Rows, a: Attention) -> Rows:
    """Record the layer's attention over x, with the output projection to x's width."""
    g, w = h.graph, h.graph.weights
    gate = None
    if a.gate is not None:
        width = a.n_heads * (a.v_dim if a.gate == "value" else 1)
        (gate,) = g.linear(h.name("attn_gate"), x, {h.name("attn_gate"): ("gate", width)})
    q, k, v = _qkv(h, x, a) if a.kv_from is None else (_q(h, x, a), None, None)
    q_norm, k_norm, norms = _head_norms(h, q, k, a)
    angles, g.rotations[h.cache_index] = (None, None) if a.rope is None else g.angles(a.rope)
    g.plan.rope(
        h.name("rope"), q.value, None if k is None else k.value, None if v is None else v.value,
        None if angles is None else angles.value, h.cache, neox=a.rope is not None and a.rope.neox, q_norm=q_norm,
        k_norm=k_norm, eps=norms.eps, norm_after=a.head_norm is not None and a.head_norm.after,
        norm_v=a.value_norm_eps is not None, q_scale=a.scale, clamp=a.clamp, temperature=a.temperature,
        n_ctx_orig=a.n_ctx_orig,
    )  # fmt: skip
    heads = g.rows("heads", a.n_heads * a.v_dim)
    g.plan.attention(
        h.name("attention"), q.value, h.cache, heads.value, window=a.window, softcap=a.softcap, causal=a.causal,
        slopes=alibi_slopes(a.n_heads, a.max_alibi) if a.max_alibi else None,
        sinks=w.vector(h.name("attn_sinks.weight"), a.n_heads) if a.sinks else None,
        gate=None if gate is None else gate.value,
    )  # fmt: skip
    if a.inner_norm is not None:
        heads.value.want("rows")
        heads = h.norm(heads, "attn_sub_norm", a.inner_norm)
    (out,) = g.linear(h.name("attn_output"), heads, {h.name("attn_output"): ("projected", x.width)})
    return out


def _head_norms(h: Layer, q: Rows, k: Rows | None, a: Attention) -> tuple[PlanNorm | None, PlanNorm | None, Norm]:
    """Return the norms of heads that the rotation does, and their kind; record those over all heads."""
    kind = a.head_norm
    if kind is None:
        return None, None, Norm(a.value_norm_eps or 0.0)
    g, w = h.graph, h.graph.weights
    norms: list[PlanNorm | None] = []
    for role, rows, n_heads in (("q", q, a.n_heads), ("k", k, a.n_kv_heads)):
        name = h.name(f"attn_{role}_norm")
        there = h.name("attn_q_norm") if kind.of == "q" else name
        if rows is None or not (w.has(f"{there}.weight") or kind.norm.unit or (kind.unit_k and role == "k")):
            norms.append(None)
        elif kind.over == "all":
            g.norm_rows_in_place(rows, name, kind.norm)
            norms.append(None)
        elif kind.norm.unit or (kind.unit_k and role == "k"):
            norms.append((None, None, kind.norm.centered))
        else:
            weight = w.one_of(f"{name}.weight", (a.k_dim, n_heads * a.k_dim, n_heads))
            if weight.size == n_heads != a.k_dim:  # a factor a head
                weight = np.repeat(weight, a.k_dim)
            bias = w.vector_or_none(f"{name}.bias", weight.size) if kind.norm.centered else None
            norms.append((weight, bias, kind.norm.centered))
    return norms[0], norms[1], kind.norm


def _q(h: Layer, x: Rows, a: Attention) -> Rows:
    (q,) = h.graph.linear(h.name("attn_q"), x, {h.name("attn_q"): ("q", a.n_heads * a.k_dim)})
    return q


def _qkv(h: Layer, x: Rows, a: Attention) -> tuple[Rows, Rows, Rows]:
    """Record queries, keys and values. The file has three weights, or one with the rows of q, then k, then v."""
    g, fused = h.graph, h.name("attn_qkv")
    widths = {"q": a.n_heads * a.k_dim, "k": a.n_kv_heads * a.k_dim, "v": a.n_kv_heads * a.v_dim}
    if not g.weights.has(f"{fused}.weight"):
        names = {"v": "k"} if not g.weights.has(h.name("attn_v.weight")) else {}  # values may be the keys (Gemma 4)
        segments = [
            (*g.weight(h.name(f"attn_{names.get(role, role)}"), width, x.width), role, width)
            for role, width in widths.items()
        ]
        q, k, v = g.products(h.name("qkv"), x, segments)
        return q, k, v
    biases = [g.weights.vector_or_none(h.name(f"attn_{role}.bias"), width) for role, width in widths.items()]
    q, k, v = g.fused(h.name("qkv"), x, fused, widths, biases)
    return q, k, v
