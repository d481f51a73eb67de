"""Llama (Touvron et al. 2023) and what is built like it, Qwen 2 among others: pre-norm blocks and SwiGLU."""

from pyinfer.models.blocks import Blocks, Value


def record(b: Blocks) -> Value:
    b.embed()
    for layer in range(b.config.n_layers):
        b.add(b.attention(layer, b.norm(f"blk.{layer}.attn_norm")))
        b.add(b.feed_forward(layer, b.norm(f"blk.{layer}.ffn_norm"), act="silu"))
    return b.logits(b.norm("output_norm", outputs=True))
