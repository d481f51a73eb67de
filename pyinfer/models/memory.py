"""What a model's layers keep of a sequence."""

from __future__ import annotations

from pyinfer.memory.spec import AttentionSpec, LayerSpec
from pyinfer.models.config import ModelConfig


def layer_specs(c: ModelConfig) -> list[LayerSpec]:
    """One a layer."""
    return [
        AttentionSpec(n_kv_heads, c.head_dim, c.head_dim_v, c.sliding_window if slides else 0)
        for n_kv_heads, slides in zip(c.n_kv_heads, c.sliding_layers, strict=True)
    ]
