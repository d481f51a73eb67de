"""Gemma 3 (arXiv:2503.19786): norms before and after each block, norms of heads, GELU; 5 of 6 layers have a window.

The norm weights in the file include Gemma's 1 + weight.
"""

import math

from pyinfer.models.graph import Graph, Outputs
from pyinfer.models.keys import MAX_HEADS, Keys
from pyinfer.models.model import Architecture
from pyinfer.models.parts.attention import attention, read_attention, read_head_dim, read_windows
from pyinfer.models.parts.embedding import Embedding, logits, read_output
from pyinfer.models.parts.feed_forward import feed_forward, read_feed_forward
from pyinfer.models.rope import read_freq_base, read_rope
from pyinfer.models.transformer import Transformer, begin, memory, read_rms_norm, read_transformer

N_LAYERS_27B = 62


def read(keys: Keys) -> Transformer:
    norm, head_dim, windows = read_rms_norm(keys), read_head_dim(keys), read_windows(keys, period=6)
    rope = local = read_rope(keys, head_dim, neox=True)
    if any(windows):  # sliding layers have a base of their own and are never stretched
        keys.check_equal("rope.dimension_count_swa", rope.n_rot, "as in the other layers")
        local = rope.unscaled(read_freq_base(keys, "rope.freq_base_swa"))
    ropes = [local if window else rope for window in windows]
    n_heads = keys.get_per_layer("attention.head_count", MAX_HEADS)[0]
    query_width = keys.n_embd // n_heads if keys.n_layers == N_LAYERS_27B else head_dim
    return read_transformer(
        keys,
        norm,
        read_attention(keys, ropes, windows, head_norm=norm, scale=1 / math.sqrt(query_width)),
        read_feed_forward(keys, "gelu"),
        read_output(keys, softcap=keys.get_float("final_logit_softcapping", 0.0)),
        Embedding(keys.n_vocab, keys.n_embd, scale=math.sqrt(keys.n_embd)),
    )


def record(g: Graph, c: Transformer) -> Outputs:
    x = begin(g, c)
    for i in range(c.n_layers):
        h = g.layer(i)
        x += h.post(attention(h, h.norm(x, "attn_norm", c.norm), c.attention[i]), "post_attention_norm", c.norm)
        x += h.post(feed_forward(h, h.norm(x, "ffn_norm", c.norm), c.feed_forward[i]), "post_ffw_norm", c.norm)
    hidden = g.norm(x, "output_norm", c.norm, outputs=True)
    return Outputs(hidden, logits(g, hidden, c.output))


ARCHITECTURES = {"gemma3": Architecture(read, memory, record)}
