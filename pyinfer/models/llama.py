"""Llama (Touvron et al. 2023, arXiv:2302.13971) and similar models: pre-norm blocks and SwiGLU."""

from pyinfer.models.graph import Graph, Outputs, ScaleOf
from pyinfer.models.keys import Keys
from pyinfer.models.model import Architecture
from pyinfer.models.parts.attention import attention, read_attention, read_head_dim
from pyinfer.models.parts.embedding import logits, read_output
from pyinfer.models.parts.feed_forward import feed_forward, read_feed_forward
from pyinfer.models.rope import Rope, read_rope
from pyinfer.models.transformer import Transformer, begin, memory, read_rms_norm, read_transformer


def read(keys: Keys, rope: Rope | None, scale_of: ScaleOf = "nothing") -> Transformer:
    norm = read_rms_norm(keys)
    heads = read_attention(keys, rope, head_norm=norm)
    return read_transformer(keys, norm, heads, read_feed_forward(keys, "silu", scale_of=scale_of), read_output(keys))


def read_llama(keys: Keys) -> Transformer:
    """Heads are rotated whole; Llama 3.1 divides frequencies by factors; scales apply to feed-forward biases, too."""
    rope = read_rope(keys, read_head_dim(keys), neox=False, whole_head=True, factors="rope_freqs.weight")
    return read(keys, rope, scale_of="sum")


def read_qwen2(keys: Keys) -> Transformer:
    """Qwen 2 (Yang et al. 2024, arXiv:2407.10671)."""
    return read(keys, read_rope(keys, read_head_dim(keys), neox=True))


def record(g: Graph, c: Transformer) -> Outputs:
    x = begin(g, c)
    for i in range(c.n_layers):
        h = g.layer(i)
        x += attention(h, h.norm(x, "attn_norm", c.norm), c.attention[i])
        x += feed_forward(h, h.norm(x, "ffn_norm", c.norm), c.feed_forward[i])
    hidden = g.norm(x, "output_norm", c.norm, outputs=True)
    return Outputs(hidden, logits(g, hidden, c.output))


ARCHITECTURES = {
    "llama": Architecture(read_llama, memory, record),
    "qwen2": Architecture(read_qwen2, memory, record),
}
