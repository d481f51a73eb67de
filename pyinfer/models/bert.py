"""Encoders: BERT (Devlin et al. 2018, arXiv:1810.04805) with learned positions, and Nomic BERT (Nussbaum et al. 2024,
arXiv:2402.01613) with rotary positions and gated feed-forward.

They have post-norm blocks: a norm takes the sum of a block's input and output, and is the next block's input.
"""

from pyinfer.models.graph import Graph, Outputs
from pyinfer.models.keys import Keys
from pyinfer.models.model import Architecture
from pyinfer.models.parts.attention import attention, read_attention, read_head_dim
from pyinfer.models.parts.embedding import Embedding
from pyinfer.models.parts.feed_forward import FeedForward, feed_forward, read_feed_forward
from pyinfer.models.rope import Rope, read_rope
from pyinfer.models.transformer import Transformer, begin, memory, read_layer_norm, read_transformer


def read(keys: Keys, rope: Rope | None, blocks: tuple[FeedForward, ...], n_positions: int = 0) -> Transformer:
    """Read an encoder's parts. All tokens get type 0, that of the first sentence."""
    norm = read_layer_norm(keys)
    heads = read_attention(keys, rope, causal=False)
    embedding = Embedding(keys.n_vocab, keys.n_embd, n_positions=n_positions, type_row=0)
    return read_transformer(keys, norm, heads, blocks, None, embedding)


def read_bert(keys: Keys) -> Transformer:
    return read(keys, None, read_feed_forward(keys, "gelu_erf", gate="none"), n_positions=keys.n_ctx_train)


def read_nomic(keys: Keys) -> Transformer:
    return read(keys, read_rope(keys, read_head_dim(keys), neox=True), read_feed_forward(keys, "silu"))


def record(g: Graph, c: Transformer) -> Outputs:
    x = begin(g, c)
    n = g.norm_in_place(x, "token_embd_norm", c.norm)
    for i in range(c.n_layers):
        h = g.layer(i)
        x += attention(h, n, c.attention[i])
        n = h.norm_in_place(x, "attn_output_norm", c.norm)
        x += feed_forward(h, n, c.feed_forward[i])
        n = h.norm_in_place(x, "layer_output_norm", c.norm, outputs=i == c.n_layers - 1)
    return Outputs(n)


ARCHITECTURES = {
    "bert": Architecture(read_bert, memory, record),
    "nomic-bert": Architecture(read_nomic, memory, record),
}
