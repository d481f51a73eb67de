"""Gemma 3 (arXiv:2503.19786): norms before and after each block, GELU, norms of heads, five sliding layers to one
that sees everything. The file's norm weights include Gemma's 1 + weight."""

from pyinfer.models.blocks import Blocks, Value


def record(b: Blocks) -> Value:
    b.embed()
    for layer in range(b.config.n_layers):
        blk = f"blk.{layer}"
        b.add(b.attention(layer, b.norm(f"{blk}.attn_norm")), post=f"{blk}.post_attention_norm")
        b.add(b.feed_forward(layer, b.norm(f"{blk}.ffn_norm"), act="gelu"), post=f"{blk}.post_ffw_norm")
    return b.logits(b.norm("output_norm", outputs=True))
