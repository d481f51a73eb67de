"""What the layers of a model keep of a sequence: one spec a layer, of which Memory makes groups.

A model file declares it, as in `[AttentionSpec(c.n_kv_heads, c.head_dim, c.head_dim)] * c.n_layers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from pyinfer import _kernels

PAGE: int = _kernels.PAGE  # positions


def n_pages_for(n_positions: int) -> int:
    """Pages that so many positions take, the last of them perhaps in part."""
    return -(-n_positions // PAGE)


@dataclass(frozen=True)
class AttentionSpec:
    """Keys and values of each position.

    window: how many of the last positions a query sees, its own included; 0: all of them.
    """

    n_kv_heads: int
    k_dim: int  # of a head
    v_dim: int
    window: int = 0


@dataclass(frozen=True)
class LatentSpec:
    """One row a position for all heads (multi-head latent attention); values are its first v_dim columns."""

    dim: int
    v_dim: int


@dataclass(frozen=True)
class StateSpec:
    """A recurrent layer's state: so many float32 numbers a sequence, whatever its length.

    It is that of the last computed position only, and zero before the first.
    """

    shape: tuple[int, ...]


LayerSpec: TypeAlias = AttentionSpec | LatentSpec | StateSpec
