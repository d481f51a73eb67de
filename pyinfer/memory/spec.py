"""What a layer keeps of a sequence, as the memory and the architectures of models agree on it.

Layers of equal spec form a group, whose pages or states the memory keeps together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union


@dataclass(frozen=True)
class AttentionSpec:
    """Keys and values of every position, of n_kv_heads heads each."""

    n_kv_heads: int
    k_dim: int  # of a head's key
    v_dim: int  # of a head's value
    window: int = 0  # a query sees the last so many positions, its own included; 0: all


@dataclass(frozen=True)
class LatentSpec:
    """One row a position for all heads (multi-head latent attention); the values are its first v_dim columns."""

    dim: int
    v_dim: int


@dataclass(frozen=True)
class StateSpec:
    """A state of fixed size a sequence, however long it is: float32 of this shape."""

    shape: tuple[int, ...]


LayerSpec = Union[AttentionSpec, LatentSpec, StateSpec]  # noqa: UP007 (at run time, 3.10)
