"""The Config that most architectures share: layers of attention and feed-forward, between embedding and output."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfer.memory.spec import LayerSpec
from pyinfer.models.graph import Graph, Norm, Stream
from pyinfer.models.keys import MAX_WIDTH, Keys
from pyinfer.models.model import Config, read_pooling
from pyinfer.models.parts.attention import Attention
from pyinfer.models.parts.embedding import Embedding, Output, embed
from pyinfer.models.parts.feed_forward import FeedForward


@dataclass(frozen=True)
class Transformer(Config):
    """The parts of a transformer. Tuples have one entry for each layer."""

    norm: Norm  # of the residual stream
    embedding: Embedding
    attention: tuple[Attention, ...]
    feed_forward: tuple[FeedForward, ...]
    output: Output | None  # None: an encoder, which gives no logits

    @property
    def causal(self) -> bool:
        return all(a.causal for a in self.attention)

    @property
    def encoder(self) -> bool:
        return self.output is None

    @property
    def n_positions(self) -> int:
        return self.embedding.n_positions


def read_rms_norm(keys: Keys) -> Norm:
    return Norm(keys.get_float("attention.layer_norm_rms_epsilon"))


def read_layer_norm(keys: Keys) -> Norm:
    return Norm(keys.get_float("attention.layer_norm_epsilon"), centered=True)


def read_transformer(
    keys: Keys,
    norm: Norm,
    attention: tuple[Attention, ...],
    feed_forward: tuple[FeedForward, ...],
    output: Output | None,
    embedding: Embedding | None = None,
) -> Transformer:
    """Return a transformer of these parts. `embedding`: None means the tokens' rows without changes."""
    if keys.has("expert_count") and (n_experts := keys.get_int("expert_count", MAX_WIDTH, minimum=0)):
        keys.fail("expert_count", n_experts, f"0: mixtures of experts are not supported for {keys.prefix}")
    return Transformer(
        architecture=keys.prefix,
        n_layers=keys.n_layers,
        n_embd=keys.n_embd,
        n_vocab=keys.n_vocab,
        n_ctx_train=keys.n_ctx_train,
        pooling=read_pooling(keys),
        norm=norm,
        embedding=embedding or Embedding(keys.n_vocab, keys.n_embd),
        attention=attention,
        feed_forward=feed_forward,
        output=output,
    )


def memory(c: Transformer) -> list[LayerSpec]:
    """Return the specs of every layer's keys and values."""
    return [a.memory for a in c.attention]


def begin(g: Graph, c: Transformer) -> Stream:
    """Record x before the first layer, and the angles of positions, once for all layers of the same rope."""
    x = embed(g, c.embedding)
    for a in c.attention:
        if a.rope is not None:
            g.angles(a.rope)
    return x
