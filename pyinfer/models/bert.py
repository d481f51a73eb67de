"""Encoders: BERT (Devlin et al. 2018), and Nomic's (Nussbaum et al. 2024, arXiv:2402.01613), which rotates and gates.

Post-norm blocks: each norm takes the sum of a block's input and output, and its result is the next block's input.
"""

from pyinfer.models.blocks import Blocks


def record(b: Blocks) -> None:
    encode(b, act="gelu_erf", gated=False)


def record_nomic(b: Blocks) -> None:
    encode(b, act="silu", gated=True)


def encode(b: Blocks, act: str, gated: bool) -> None:
    b.embed()
    x = b.post_norm("token_embd_norm")
    for layer in range(b.config.n_layers):
        blk = f"blk.{layer}"
        b.add(b.attention(layer, x))
        x = b.post_norm(f"{blk}.attn_output_norm")
        b.add(b.feed_forward(layer, x, act, gated))
        x = b.post_norm(f"{blk}.layer_output_norm", outputs=layer == b.config.n_layers - 1)
