"""Grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245), each layer with its own numbers.

Shapes: x [n_tokens, n_embd]; q [n_tokens, n_heads * k_dim]; k [n_tokens, n_kv_heads * k_dim];
v [n_tokens, n_kv_heads * v_dim]; heads [n_tokens, n_heads * v_dim].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pyinfer.errors import ModelError
from pyinfer.memory.spec import AttentionSpec
from pyinfer.models.graph import Layer, Norm, Rows
from pyinfer.models.keys import MAX_CONTEXT, MAX_HEADS, MAX_LAYERS, MAX_WIDTH, Keys
from pyinfer.models.rope import Rope


@dataclass(frozen=True)
class Attention:
    """Attention of one layer."""

    n_heads: int
    n_kv_heads: int
    k_dim: int  # of a head's query and key
    v_dim: int
    scale: float  # on query · key
    rope: Rope | None = None  # None: heads are not rotated
    head_norm: Norm | None = None  # of heads of q and of k before the rotation, where the file has their weight
    window: int = 0  # a query attends to so many keys, with its own; 0: to all
    softcap: float = 0.0  # scores become softcap * tanh(scores / softcap); 0: they do not change
    causal: bool = True  # tokens attend to earlier ones and themselves; False: to all of their sequence

    @property
    def memory(self) -> AttentionSpec:
        return AttentionSpec(self.n_kv_heads, self.k_dim, self.v_dim, self.window)


def read_head_dim(keys: Keys, key: str = "attention.key_length") -> int:
    """Return the dimensions of a head; by default those of the embedding divided by the number of heads."""
    n_heads = keys.get_per_layer("attention.head_count", MAX_HEADS)[0]
    if not keys.has(key) and keys.n_embd % n_heads:
        keys.fail("attention.head_count", n_heads, f"a divisor of the embedding's {keys.n_embd} (there is no {key})")
    return keys.get_int(key, MAX_WIDTH, default=keys.n_embd // n_heads)


def read_attention(
    keys: Keys,
    ropes: Sequence[Rope | None] | Rope | None = None,
    windows: Sequence[int] = (),
    head_norm: Norm | None = None,
    scale: float | None = None,
    causal: bool = True,
) -> tuple[Attention, ...]:
    """Read the attention of every layer.

    - `ropes`: one for all layers, or one for each.
    - `windows` (none): one for each layer.
    - `scale` (None): None means 1/√k_dim.
    - `causal` (True): used where the file does not say.
    """
    n_heads = keys.get_per_layer("attention.head_count", MAX_HEADS)
    n_kv_heads = keys.get_per_layer("attention.head_count_kv", MAX_HEADS, default=n_heads)
    for heads, kv_heads in zip(n_heads, n_kv_heads, strict=True):
        if heads % kv_heads:
            keys.fail("attention.head_count_kv", kv_heads, f"a divisor of the {heads} heads")
    k_dim, v_dim = read_head_dim(keys), read_head_dim(keys, "attention.value_length")
    causal = keys.get_bool("attention.causal", causal)
    by_layer = [ropes] * keys.n_layers if ropes is None or isinstance(ropes, Rope) else ropes
    return tuple(
        Attention(
            n_heads=heads,
            n_kv_heads=kv_heads,
            k_dim=k_dim,
            v_dim=v_dim,
            scale=1 / math.sqrt(k_dim) if scale is None else scale,
            rope=rope,
            head_norm=head_norm,
            window=window,
            causal=causal,
        )
        for heads, kv_heads, rope, window in zip(
            n_heads, n_kv_heads, by_layer, windows or [0] * keys.n_layers, strict=True
        )
    )


def read_windows(keys: Keys, period: int) -> list[int]:
    """Return the window of every layer; 0: it has none.

    All layers but every period-th have the file's window (period 0: all layers), unless an array says which. Raises
    ModelError if layers with a window have other head sizes than the rest.
    """
    key = "attention.sliding_window_pattern"
    n_layers, window = keys.n_layers, keys.get_int("attention.sliding_window", MAX_CONTEXT, default=0, minimum=0)
    if not window:
        return [0] * n_layers
    pattern = keys.get_array(key)
    if pattern is None:
        period = keys.get_int(key, MAX_LAYERS, default=period, minimum=0)
        pattern = tuple(int(period == 0 or layer % period < period - 1) for layer in range(n_layers))
    if len(pattern) != n_layers or not set(pattern) <= {0, 1}:
        keys.fail(key, list(pattern), f"{n_layers} zeros and ones, one a layer")
    if any(pattern):
        why = "as in the other layers"
        keys.check_equal("attention.key_length_swa", read_head_dim(keys), why)
        keys.check_equal("attention.value_length_swa", read_head_dim(keys, "attention.value_length"), why)
    return [window * slides for slides in pattern]


def attention(h: Layer, x: Rows, a: Attention) -> Rows:
    """Record the layer's attention over x, with the output projection to x's width."""
    g, w = h.graph, h.graph.weights
    q, k, v = _qkv(h, x, a)
    angles, g.rotations[h.cache_index] = (None, None) if a.rope is None else g.angles(a.rope)
    q_norm, k_norm = (
        None if a.head_norm is None else w.vector_or_none(h.name(f"attn_{role}_norm.weight"), a.k_dim) for role in "qk"
    )
    g.plan.rope(
        h.name("rope"), q.value, k.value, v.value, None if angles is None else angles.value, h.cache,
        neox=a.rope is not None and a.rope.neox, q_norm=q_norm, k_norm=k_norm,
        eps=0.0 if a.head_norm is None else a.head_norm.eps, q_scale=a.scale,
    )  # fmt: skip
    heads = g.rows("heads", a.n_heads * a.v_dim)
    g.plan.attention(
        h.name("attention"), q.value, h.cache, heads.value, window=a.window, softcap=a.softcap, causal=a.causal
    )
    (out,) = g.linear(h.name("attn_output"), heads, {h.name("attn_output"): ("projected", x.width)})
    return out


def _qkv(h: Layer, x: Rows, a: Attention) -> list[Rows]:
    """Record queries, keys and values. The file has three weights, or one with the rows of q, then k, then v."""
    g, fused = h.graph, h.name("attn_qkv")
    widths = {"q": a.n_heads * a.k_dim, "k": a.n_kv_heads * a.k_dim, "v": a.n_kv_heads * a.v_dim}
    if not g.weights.has(f"{fused}.weight"):
        return g.linear(h.name("qkv"), x, {h.name(f"attn_{role}"): (role, width) for role, width in widths.items()})
    if any(width % 16 for width in widths.values()):
        raise ModelError(f"{fused}.weight: {widths} rows of q, k and v; expected multiples of 16")
    matrix, bias, scale = g.weight(fused, sum(widths.values()), x.width)
    first, segments = 0, []
    for role, width in widths.items():
        part = None if bias is None else bias[first : first + width]
        segments.append((matrix.part(first, width), part, scale, role, width))
        first += width
    return g.products(h.name("qkv"), x, segments)
