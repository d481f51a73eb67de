"""Feed-forward layers: down(act(gate(x)) * up(x)) (Shazeer 2020, arXiv:2002.05202), or down(act(up(x)))."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pyinfer.models.graph import Layer, Norm, Rows, ScaleOf

Gate = Literal["separate", "fused", "none", "file"]
Act = str | tuple[str, float, float, float, float]

# Architecture.unneeded where scale_of is "nothing": llama.cpp, too, leaves these scales out
UNSCALED_FFN = ("blk.*.ffn_*.scale",)


@dataclass(frozen=True)
class FeedForward:
    """The feed-forward of one layer.

    - `act`: the activation, as Plan.glu has it.
    - `gate`: where the gate's weight is: in ffn_gate ("separate"), in the first half of ffn_up's rows ("fused"),
      nowhere ("none"); "file": in ffn_gate if the file has it, in ffn_up if that has twice n_ff rows.
    - `scale_of`: what the tensors NAME.scale apply to.
    - `inner_norm`: of the hidden units, before ffn_down: ffn_sub_norm.
    - `divisors`: whether hidden units are divided by ffn.act.scales, where the file has it.
    """

    n_ff: int
    act: Act
    gate: Gate = "separate"
    scale_of: ScaleOf = "nothing"
    inner_norm: Norm | None = None
    divisors: bool = False


def feed_forward(h: Layer, x: Rows, f: FeedForward) -> Rows:
    """Record the layer's feed-forward of x: [n_tokens, n_embd] to [n_tokens, n_embd]."""
    g, w, up = h.graph, h.graph.weights, h.name("ffn_up")
    gate = f.gate
    if gate == "file":
        n_up = w.n_rows(f"{up}.weight")
        gate = "separate" if w.has(h.name("ffn_gate.weight")) else "fused" if n_up == 2 * f.n_ff else "none"
    if gate == "fused":
        weights = g.parts(up, {"gate": f.n_ff, "up": f.n_ff}, x.width, f.scale_of)
    else:
        names = ("ffn_gate", "ffn_up") if gate == "separate" else ("ffn_up",)
        weights = [g.weight(h.name(name), f.n_ff, x.width, f.scale_of) for name in names]
    hidden = g.rows("hidden", f.n_ff)  # [n_tokens, n_ff]
    factors = w.vector_or_none(h.name("ffn.act.scales"), f.n_ff) if f.divisors else None
    if f.inner_norm is not None:
        hidden.value.want("rows")
    name = h.name("ffn_up" if gate == "none" else "ffn_gate_up")
    g.plan.glu(
        name, x.value, weights, hidden.value, f.act, factors=None if factors is None else np.float32(1) / factors
    )
    if f.inner_norm is not None:
        hidden = h.norm(hidden, "ffn_sub_norm", f.inner_norm)
    (out,) = g.linear(h.name("ffn_down"), hidden, {h.name("ffn_down"): ("projected", x.width)}, f.scale_of)
    return out
