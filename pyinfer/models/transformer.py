"""The Config of layers of attention and feed-forward, between embedding and output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyinfer.models.graph import Norm
from pyinfer.models.model import Config
from pyinfer.models.parts.attention import Attention
from pyinfer.models.parts.embedding import Embedding, Output
from pyinfer.models.parts.feed_forward import FeedForward


@dataclass(frozen=True)
class Block:
    """How a layer's parts are joined to the residual stream."""

    attn_norm: str | None = "attn_norm"  # None: attention takes x itself
    ffn_norm: str | None = "ffn_norm"  # None: the feed-forward takes x itself, or attention's norm if it is parallel
    attn_sum_2: str | None = None
    parallel: bool = False  # both parts take the x before the layer
    scale: float = 1.0  # on what the parts add


@dataclass(frozen=True)
class Transformer(Config):
    """The parts of a transformer. Tuples have one entry for each layer; None: the layer has no such part."""

    norm: Norm  # of the residual stream
    post_norm: Norm  # of what is added to it
    embedding: Embedding
    attention: tuple[Attention | None, ...]
    feed_forward: tuple[FeedForward | None, ...]
    blocks: tuple[Block, ...]
    per_layer: int  # the width of an input of each layer's own; 0: there is none
    output: Output | None  # None: an encoder, which gives no logits
    declared: Any  # the Decoder that was read
    n_unused: int  # layers of the file after the last one
    n_loops: int  # times that all layers are gone through, each time with a cache of their own
    loop_norm: bool  # whether the last norm follows each time

    @property
    def causal(self) -> bool:
        return all(a.causal for a in self.attention if a is not None)

    @property
    def encoder(self) -> bool:
        return self.output is None

    @property
    def n_positions(self) -> int:
        return self.embedding.n_positions

    @property
    def unneeded(self) -> tuple[str, ...]:
        skipped = (i for i, f in enumerate(self.feed_forward) if f is None)
        return tuple(f"blk.{i}.*" for i in (*skipped, *range(self.n_layers, self.n_layers + self.n_unused)))

    def rotates_by(self, n_ctx: int) -> tuple[str, ...]:
        names = {a.rope.factors_of(n_ctx) for a in self.attention if a is not None and a.rope is not None}
        return tuple(sorted(name for name in names if name is not None))

    def cache_of(self, loop: int, layer: int) -> int:
        """Return the number of the cache that a layer uses."""
        cached = [i for i, a in enumerate(self.attention) if a is not None and a.n_kv_heads and a.kv_from is None]
        a = self.attention[layer]
        if a is None or not a.n_kv_heads:
            return 0
        return loop * len(cached) + cached.index(layer if a.kv_from is None else a.kv_from)
