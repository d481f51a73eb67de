"""Per-layer inputs (Gemma 3n and 4): each layer has an embedding of its own of every token, which a gate lets in.

e [n_tokens, n_layers * width] = (norm(per_layer_model_proj x / √n_embd) + √width per_layer_token_embd[token]) / √2, the
norm being of each layer's part; at the end of layer i: x += post_norm(proj(gelu(inp_gate x) * e_i)).
"""

from __future__ import annotations

import math

from pyinfer.models.graph import Graph, Layer, Norm, Rows, Stream


def per_layer_inputs(g: Graph, x: Stream, n_vocab: int, n_layers: int, width: int, norm: Norm) -> Rows:
    """Record e, from the embedding x [n_tokens, n_embd]."""
    table = g.weights.embedding("per_layer_token_embd.weight", n_vocab, n_layers * width)
    e = g.rows("per_layer", n_layers * width)
    e.value.want("rows")
    g.plan.embed("per_layer_token_embd", table, e.value, math.sqrt(width / 2))
    start = g.read(x, "per_layer_in")
    matrix, bias, scale = g.weight("per_layer_model_proj", n_layers * width, start.width)
    (y,) = g.products(
        "per_layer_model_proj", start,
        [(matrix, bias, scale / math.sqrt(start.width), "per_layer_model", n_layers * width)],
    )  # fmt: skip
    post = g.weights.vector("per_layer_proj_norm.weight", width)
    g.plan.norm("per_layer_proj_norm", e.value, None, e.value, norm.eps, y=y.value, post=post, y_scale=math.sqrt(0.5))
    return g.done(e, "per_layer_proj_norm")


def add_per_layer_input(h: Layer, x: Stream, e: Rows, width: int, norm: Norm) -> None:
    """Record the addition of the layer's own input to x."""
    g, now = h.graph, h.read(x, "per_layer_in")
    (gate,) = g.linear(h.name("inp_gate"), now, {h.name("inp_gate"): ("per_layer_gate", width)})
    gated = g.rows("per_layer_gated", width)
    g.plan.gated(h.name("per_layer"), gate.value, e.value, gated.value, "gelu", first=h.index * width)
    (y,) = g.linear(h.name("proj"), g.done(gated, h.name("per_layer")), {h.name("proj"): ("projected", now.width)})
    x += h.post(y, "post_norm", norm)
