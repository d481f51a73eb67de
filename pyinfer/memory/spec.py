"""Specs: what the layers of a model keep of a sequence. Memory makes groups of them.

A model's file declares one spec for each layer: `[AttentionSpec(c.n_kv_heads, c.head_dim, c.head_dim)] * c.n_layers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from pyinfer import _kernels

PAGE: int = _kernels.PAGE  # positions


def n_pages_for(n_positions: int) -> int:
    """Return how many pages so many positions need; the last one may be used in part."""
    return -(-n_positions // PAGE)


@dataclass(frozen=True)
class AttentionSpec:
    """Keys and values of each position.

    `window`: how many of the last positions a query attends to, with its own; 0: all of them.
    """

    n_kv_heads: int
    k_dim: int  # of a head
    v_dim: int
    window: int = 0


@dataclass(frozen=True)
class LatentSpec:
    """One row for each position, for all heads (multi-head latent attention). Values are its first v_dim columns."""

    dim: int
    v_dim: int


@dataclass(frozen=True)
class StateSpec:
    """A recurrent layer's state: a float32 array of this shape for each sequence, whatever the sequence's length.

    It belongs to the last computed position, and is zero before the first one.
    """

    shape: tuple[int, ...]


LayerSpec: TypeAlias = AttentionSpec | LatentSpec | StateSpec
