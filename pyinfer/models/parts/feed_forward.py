"""Feed-forward layers: down(act(gate(x)) * up(x)) (Shazeer 2020, arXiv:2002.05202), or down(act(up(x)))."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pyinfer.models.graph import Layer, Rows, ScaleOf
from pyinfer.models.keys import MAX_WIDTH, Keys


@dataclass(frozen=True)
class FeedForward:
    """The feed-forward of one layer."""

    n_ff: int
    act: str  # "silu", "gelu" (the tanh approximation) or "gelu_erf" (the exact form)
    gate: Literal["separate", "none"] = "separate"
    scale_of: ScaleOf = "nothing"  # what the tensors NAME.scale apply to


def read_feed_forward(
    keys: Keys, act: str, gate: Literal["separate", "none"] = "separate", scale_of: ScaleOf = "nothing"
) -> tuple[FeedForward, ...]:
    """Read the feed-forward of every layer."""
    widths = keys.get_per_layer("feed_forward_length", MAX_WIDTH)
    return tuple(FeedForward(n_ff, act, gate, scale_of) for n_ff in widths)


def feed_forward(h: Layer, x: Rows, f: FeedForward) -> Rows:
    """Record the layer's feed-forward of x: [n_tokens, n_embd] to [n_tokens, n_embd]."""
    g = h.graph
    names = {"separate": ("gate", "up"), "none": ("up",)}[f.gate]
    weights = [g.weight(h.name(f"ffn_{name}"), f.n_ff, x.width, f.scale_of) for name in names]
    hidden = g.rows("hidden", f.n_ff)  # [n_tokens, n_ff]
    g.plan.glu(h.name(f"ffn_{'_'.join(names)}"), x.value, weights, hidden.value, f.act)
    (out,) = g.linear(h.name("ffn_down"), hidden, {h.name("ffn_down"): ("projected", x.width)}, f.scale_of)
    return out
