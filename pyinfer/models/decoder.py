"""The layers that most architectures are made of: a declaration says in what one differs from a plain decoder.

Plain means: pre-norm blocks with RMSNorm, attention with neighbouring pairs of whole heads rotated, SwiGLU, and an
output matrix that may be the embedding. A field is a value, or a function of the file's keys where the file decides.

    "qwen3": Decoder(rope=NEOX, head_norm=rms_heads)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeVar

from pyinfer.memory.spec import LayerSpec
from pyinfer.models.graph import Graph, Layer, Norm, Outputs, Rows, ScaleOf, Stream, Term
from pyinfer.models.keys import MAX_CONTEXT, MAX_HEADS, MAX_WIDTH, Keys
from pyinfer.models.model import Architecture, read_pooling
from pyinfer.models.parts.attention import Attention, HeadNorm, Window, attention, read_head_dims
from pyinfer.models.parts.embedding import Embedding, Output, embed, logits
from pyinfer.models.parts.feed_forward import Act, FeedForward, Gate, feed_forward
from pyinfer.models.parts.per_layer import add_per_layer_input, per_layer_inputs
from pyinfer.models.parts.rotary import Rotary
from pyinfer.models.transformer import Block, Transformer

T = TypeVar("T")
# a value, or what the file says
Number = float | Callable[[Keys], float]
Count = int | Callable[[Keys], int]
Flag = bool | Callable[[Keys], bool]

NORM_EPS, LAYER_EPS = "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"
PLAIN = Rotary()
NEOX = Rotary(neox=True)
PARTIAL = Rotary(partial=True)
PARTIAL_NEOX = Rotary(neox=True, partial=True)


def of(keys: Keys, value: T | Callable[[Keys], T]) -> T:
    return value(keys) if callable(value) else value


def rms(keys: Keys) -> Norm:
    return Norm(keys.get_float(NORM_EPS))


def layer_norm(keys: Keys) -> Norm:
    return Norm(keys.get_float(LAYER_EPS), centered=True)


def unit_rms(keys: Keys) -> Norm:
    return Norm(keys.get_float(NORM_EPS), unit=True)


def unit_layer_norm(keys: Keys) -> Norm:
    return Norm(keys.get_float(LAYER_EPS), centered=True, unit=True)


def rms_heads(keys: Keys) -> HeadNorm:
    """RMSNorm of each head before the rotation."""
    return HeadNorm(rms(keys))


def rms_heads_after(keys: Keys) -> HeadNorm:
    return HeadNorm(rms(keys), after=True)


def number(key: str, default: float | None = 0.0, zero: float = 0.0) -> Callable[[Keys], float]:
    """A number of the file: `default` where it has none (None: it must), `zero` where it is 0."""
    return lambda keys: keys.get_float(key, default, minimum=-math.inf) or zero


def sqrt_width(keys: Keys) -> float:
    return math.sqrt(keys.n_embd)


@dataclass(frozen=True)
class Decoder:
    """What an architecture declares. Names are tensors' without `blk.N.` and `.weight`; None: there is no such part."""

    # the residual stream's beginning
    embedding_scale: Number = 1.0
    embedding_norm: str | None = None  # "unit": a norm without weights
    embedding_matrix: Literal["token_embd", "either"] = "token_embd"  # "either": output where there is no other
    positions: Literal["needed", "optional"] | None = None  # learned: position_embd
    token_types: bool = False
    skip: str | None = None  # a factor a layer, on the normed embedding, which is then added to x
    # norms of the residual stream, and where parts are added to it
    norm: Callable[[Keys], Norm] = rms
    post_norm: Callable[[Keys], Norm] | None = None  # of parts before they are added; None: as `norm`
    attn_norm: str | None = "attn_norm"
    attn_norm_optional: bool = False  # whether layers without it take x itself
    attn_norm_2: bool = False  # attention's own, where the file has it (Falcon 40B)
    attn_post: str | None = None
    ffn_norm: str | None = "ffn_norm"  # None: the part takes x itself, or attention's norm where they are parallel
    ffn_post: str | None = None
    attn_sum: str | None = None  # of the sum of x and the part (BERT)
    attn_sum_2: str | None = None  # once more, of that and the layer's input, where the file has it
    ffn_sum: str | None = None
    output_norm: str | None = "output_norm"
    parallel: Flag | Literal["file"] = False  # "file": in layers without an ffn_norm
    residual_scale: Number = 1.0
    # layers
    n_unused: Count = 0  # of the last ones
    n_loops: Count = 1
    loop_norm: Flag = True  # whether output_norm follows each loop
    # attention
    rope: Rotary | Callable[[Keys], Rotary | None] | None = PLAIN
    head_norm: Callable[[Keys], HeadNorm | None] = lambda keys: None
    scale: Number = 0.0  # on query · key; 0: 1/√head_dim
    softcap: Number = 0.0
    window: Window | None = None
    max_alibi: Number = 0.0
    sinks: bool = False
    gate: Literal["value", "head"] | None = None
    clamp: Number = 0.0
    temperature: Number = 0.0
    attn_inner_norm: bool = False
    causal: bool = True
    causal_key: bool = True  # whether the file may say otherwise
    value_norm: bool = False  # whether heads of values get an RMSNorm without weights
    n_shared: Count = 0  # of the last layers that use keys and values of the last layer before them of their kind
    empty_layers: bool = False  # whether numbers of heads, and widths, may be 0
    # feed-forward
    act: Act | Callable[[Keys], Act] = "silu"
    acts: Callable[[Keys], Sequence[Act]] | None = None  # of every layer, in place of `act`
    ffn_gate: Gate = "separate"
    ffn_scales: ScaleOf = "nothing"
    ffn_inner_norm: bool = False
    divisors: bool = False
    width: Callable[[int], int] = lambda n: n
    # the end of a layer
    per_layer: Count = 0  # the width of an input of each layer's own (parts/per_layer.py); 0: none
    layer_scale: bool = False  # whether x is multiplied by layer_output_scale, where the file has it
    # logits
    output: Literal["either", "own", "tied"] | None = "either"
    output_scale: Number = 1.0
    output_softcap: Number = 0.0
    # tensors that files have and that change no result, as patterns of fnmatch, in a layer or outside
    unneeded: tuple[str, ...] = ()
    with_expert_count: bool = False  # whether files have a number of experts, of which there are none

    def architecture(self) -> Architecture:
        """Return the functions of the architecture."""
        unneeded = (*self.unneeded, *(("ffn_*.scale",) if self.ffn_scales == "nothing" else ()))
        patterns = tuple(name for pattern in unneeded for name in (pattern, f"blk.*.{pattern}"))
        return Architecture(partial(read, d=self), memory, record, patterns)


def read(keys: Keys, d: Decoder) -> Transformer:
    """Read a declared architecture's sizes and constants. Raises ModelError."""
    n_unused = of(keys, d.n_unused)
    n = keys.n_layers - n_unused
    if n < 1:
        keys.fail("block_count", keys.n_layers, f"more than the {n_unused} layers that are not used")
    if keys.get_int("expert_count", MAX_WIDTH, default=0, minimum=0) > 1 and not d.with_expert_count:
        keys.fail("expert_count", keys.get_int("expert_count", MAX_WIDTH), f"0: {keys.prefix} has no experts here")
    norm, post = d.norm(keys), (d.post_norm or d.norm)(keys)
    heads, blocks = read_attention(keys, d)[:n], read_feed_forward(keys, d)[:n]
    names = keys.file.tensors
    embedding_name = "token_embd"
    if d.embedding_matrix == "either" and "token_embd.weight" not in names:
        embedding_name = "output"
    with_positions = d.positions == "needed" or (d.positions == "optional" and "position_embd.weight" in names)
    return Transformer(
        architecture=keys.prefix,
        n_layers=n,
        n_embd=keys.n_embd,
        n_vocab=keys.n_vocab,
        n_ctx_train=keys.n_ctx_train,
        pooling=read_pooling(keys),
        norm=norm,
        post_norm=post,
        embedding=Embedding(
            keys.n_vocab,
            keys.n_embd,
            scale=of(keys, d.embedding_scale),
            n_positions=keys.n_ctx_train if with_positions else 0,
            type_row=0 if d.token_types else None,
            matrix=embedding_name,
        ),
        attention=heads,
        feed_forward=blocks,
        blocks=tuple(read_block(keys, d, i) for i in range(n)),
        n_unused=n_unused,
        n_loops=of(keys, d.n_loops),
        loop_norm=of(keys, d.loop_norm),
        per_layer=of(keys, d.per_layer),
        output=read_output(keys, d),
        declared=d,
    )


def read_block(keys: Keys, d: Decoder, layer: int) -> Block:
    def has(name: str | None) -> bool:
        return name is not None and f"blk.{layer}.{name}.weight" in keys.file.tensors

    own = d.attn_norm_2 and has("attn_norm_2")
    parallel = not has(d.ffn_norm) if d.parallel == "file" else of(keys, d.parallel)
    return Block(
        attn_norm="attn_norm_2" if own else None if d.attn_norm_optional and not has(d.attn_norm) else d.attn_norm,
        ffn_norm="attn_norm" if own else None if d.parallel == "file" and parallel else d.ffn_norm,
        attn_sum_2=d.attn_sum_2 if has(d.attn_sum_2) else None,
        parallel=bool(parallel),
        scale=of(keys, d.residual_scale),
    )


def read_attention(keys: Keys, d: Decoder) -> tuple[Attention | None, ...]:
    """Read the attention of every layer; None: it has none. With n_kv_heads = 0 it is its output matrix alone."""
    least = 0 if d.empty_layers else 1
    n_heads = keys.get_per_layer("attention.head_count", MAX_HEADS, minimum=least)
    n_kv_heads = keys.get_per_layer("attention.head_count_kv", MAX_HEADS, default=n_heads, minimum=least)
    for heads, kv_heads in zip(n_heads, n_kv_heads, strict=True):
        if kv_heads and heads % kv_heads:
            keys.fail("attention.head_count_kv", kv_heads, f"a divisor of the {heads} heads")
    windows = d.window.read(keys) if d.window is not None else [0] * keys.n_layers
    k_dims, v_dims = (read_head_dims(keys, f"attention.{name}_length", windows) for name in ("key", "value"))
    rotary: Rotary | None = of(keys, d.rope)
    ropes = [None] * keys.n_layers if rotary is None else rotary.read(keys, k_dims, windows)
    n_ctx_orig = keys.get_int("rope.scaling.original_context_length", MAX_CONTEXT, default=0, minimum=0)
    kv_from = read_kv_sources(keys, of(keys, d.n_shared), windows)
    for i, source in enumerate(kv_from):
        if source is not None and n_kv_heads[i] != n_kv_heads[source]:
            keys.fail("attention.head_count_kv", n_kv_heads[i], f"{n_kv_heads[source]}, those of layer {source}")
    common: dict[str, Any] = {
        "head_norm": d.head_norm(keys),
        "softcap": of(keys, d.softcap),
        "causal": keys.get_bool("attention.causal", d.causal) if d.causal_key else d.causal,
        "max_alibi": of(keys, d.max_alibi),
        "sinks": d.sinks,
        "gate": d.gate,
        "clamp": of(keys, d.clamp),
        "temperature": of(keys, d.temperature),
        "value_norm_eps": d.norm(keys).eps if d.value_norm else None,
        "n_ctx_orig": n_ctx_orig or keys.n_ctx_train,
        "inner_norm": d.norm(keys) if d.attn_inner_norm else None,
    }
    return tuple(
        None
        if not n_heads[i]
        else Attention(
            n_heads=n_heads[i],
            n_kv_heads=n_kv_heads[i],
            k_dim=k_dims[i],
            v_dim=v_dims[i],
            scale=of(keys, d.scale) or 1 / math.sqrt(k_dims[i]),
            rope=ropes[i],
            window=windows[i],
            kv_from=kv_from[i],
            **common,
        )
        for i in range(keys.n_layers)
    )


def read_kv_sources(keys: Keys, n_shared: int, windows: Sequence[int]) -> list[int | None]:
    """Return the layer whose keys and values each layer uses; None: its own.

    The last n_shared layers use those of the layer before them, or where they have a window, of the one before that.
    """
    first = keys.n_layers - n_shared
    sources = [None if i < first else first - (2 if window else 1) for i, window in enumerate(windows)]
    for i, source in enumerate(sources):
        if source is not None and (source < 0 or windows[source] != windows[i]):
            keys.fail(
                "attention.shared_kv_layers",
                n_shared,
                "as many as leave a sliding layer and then a full one before them",
            )
    return sources


def read_feed_forward(keys: Keys, d: Decoder) -> tuple[FeedForward | None, ...]:
    """Read the feed-forward of every layer; None: it has none."""
    widths = keys.get_per_layer("feed_forward_length", MAX_WIDTH, minimum=0 if d.empty_layers else 1)
    inner = d.norm(keys) if d.ffn_inner_norm else None
    acts = d.acts(keys) if d.acts is not None else [d.act(keys) if callable(d.act) else d.act] * len(widths)
    return tuple(
        FeedForward(d.width(n), act, d.ffn_gate, d.ffn_scales, inner, d.divisors) if n else None
        for n, act in zip(widths, acts, strict=True)
    )


def read_output(keys: Keys, d: Decoder) -> Output | None:
    if d.output is None:
        return None
    own = d.output == "own" or (d.output == "either" and "output.weight" in keys.file.tensors)
    matrix = "output" if own else "token_embd"
    return Output(keys.n_vocab, matrix, of(keys, d.output_softcap), of(keys, d.output_scale))


def memory(c: Transformer) -> Sequence[LayerSpec]:
    """Return the specs of every layer's keys and values, once for each time that the layers are gone through."""
    return [a.memory for a in c.attention if a is not None and a.n_kv_heads and a.kv_from is None] * c.n_loops


def record(g: Graph, c: Transformer) -> Outputs:
    d: Decoder = c.declared
    x, n = begin(g, c), None
    if d.embedding_norm is not None:
        n = g.norm_in_place(x, d.embedding_norm, replace(c.norm, unit=d.embedding_norm == "unit"))
    first = g.read(x, "skip") if d.skip else None
    own = per_layer_inputs(g, x, c.n_vocab, c.n_layers, c.per_layer, c.norm) if c.per_layer else None
    for loop in range(c.n_loops):
        for i in range(c.n_layers):
            last = loop == c.n_loops - 1 and i == c.n_layers - 1
            h = g.layer(i, c.cache_of(loop, i))
            n = layer(h, x, n, c, last and d.output_norm is None)
            if own is not None:
                add_per_layer_input(h, x, own, c.per_layer, c.post_norm)
            if d.layer_scale and g.weights.has(name := h.name("layer_output_scale.weight")):
                g.rescale(x, g.weights.scalar(name, 1.0), h.name("layer_output_scale"))
            if first is not None:
                x += first * g.weights.scalar(h.name(f"{d.skip}.weight"), 1.0)
        if loop < c.n_loops - 1 and c.loop_norm and d.output_norm is not None:
            g.norm_in_place(x, d.output_norm, c.norm)
    hidden = n if d.output_norm is None and n is not None else g.norm(x, d.output_norm or "", c.norm, outputs=True)
    return Outputs(hidden, logits(g, hidden, c.output))


def begin(g: Graph, c: Transformer) -> Stream:
    """Record x before the first layer, and the angles of positions, once for all layers of the same rope."""
    x = embed(g, c.embedding)
    for a in c.attention:
        if a is not None and a.rope is not None:
            g.angles(a.rope)
    return x


def layer(h: Layer, x: Stream, n: Rows | None, c: Transformer, outputs: bool) -> Rows | None:
    """Record a layer. n: the norm that has taken x's place before it, as the one that is returned after it.

    `outputs`: the layer's last norm is of the wanted rows only.
    """
    d, b, a, f = c.declared, c.blocks[h.index], c.attention[h.index], c.feed_forward[h.index]
    if f is None:
        return n

    def normed(name: str | None, what: str) -> Rows:
        return h.norm(x, name, c.norm) if name is not None else n if n is not None else h.read(x, what)

    def added(part: Rows, post: str | None) -> Rows | Term:
        return (part if post is None else h.post(part, post, c.post_norm)) * b.scale

    if b.parallel:
        assert a is not None
        into = normed(b.attn_norm, "attn_in")
        heads, hidden = attention(h, into, a), feed_forward(h, h.norm(x, b.ffn_norm, c.norm) if b.ffn_norm else into, f)
        x += added(heads, d.attn_post)
        x += added(hidden, d.ffn_post)
        return None
    before = h.read(x, "layer_in") if b.attn_sum_2 is not None else None
    if a is not None:
        x += added((attention if a.n_kv_heads else project)(h, normed(b.attn_norm, "attn_in"), a), d.attn_post)
        n = None
    if d.attn_sum is not None:
        n = h.norm_in_place(x, d.attn_sum, c.norm)
    if before is not None and b.attn_sum_2 is not None:
        x += before
        n = h.norm_in_place(x, b.attn_sum_2, c.norm)
    x += added(feed_forward(h, normed(b.ffn_norm, "ffn_in"), f), d.ffn_post)
    return None if d.ffn_sum is None else h.norm_in_place(x, d.ffn_sum, c.norm, outputs)


def project(h: Layer, x: Rows, a: Attention) -> Rows:
    """Record attention that is one matrix, since it has no keys and values."""
    (out,) = h.graph.linear(h.name("attn_output"), x, {h.name("attn_output"): ("projected", x.width)})
    return out
