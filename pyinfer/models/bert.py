"""Encoders: BERT (Devlin et al. 2018, arXiv:1810.04805) and those like it, ModernBERT (arXiv:2412.13663).

BERT's blocks are post-norm: a norm takes the sum of a part's input and output, and is the next part's input.
"""

from dataclasses import replace

from pyinfer.models.decoder import PARTIAL_NEOX, Decoder, layer_norm
from pyinfer.models.keys import Keys
from pyinfer.models.parts.attention import HeadNorm, Window
from pyinfer.models.parts.feed_forward import Act
from pyinfer.models.parts.rotary import Rotary, Sliding

ACTS = {"gelu": "gelu", "geglu": "gelu", "silu": "silu", "swish": "silu", "swiglu": "silu"}


def layer_norm_of_heads(keys: Keys) -> HeadNorm:
    return HeadNorm(layer_norm(keys), over="all")


def hidden_activation(keys: Keys) -> Act:
    return ACTS[keys.get_choice("hidden_activation", "gelu", tuple(ACTS))]


BERT = Decoder(
    embedding_norm="token_embd_norm",
    token_types=True,
    norm=layer_norm,
    attn_norm=None,
    attn_sum="attn_output_norm",
    ffn_norm=None,
    ffn_sum="layer_output_norm",
    output_norm=None,
    causal=False,
    output=None,
    unneeded=("cls.*",),  # the head of a classifier or reranker
)

ARCHITECTURES = {
    "bert": replace(BERT, positions="needed", rope=None, act="gelu_erf", ffn_gate="none"),
    # Nomic BERT (Nussbaum et al. 2024, arXiv:2402.01613)
    "nomic-bert": replace(BERT, rope=PARTIAL_NEOX),
    # Jina embeddings 2 and 3 (arXiv:2310.19923, arXiv:2409.10173)
    "jina-bert-v2": replace(
        BERT, rope=None, max_alibi=8.0, attn_sum_2="attn_norm_2", head_norm=layer_norm_of_heads, act="gelu",
        ffn_gate="file",
    ),
    "jina-bert-v3": replace(BERT, rope=PARTIAL_NEOX, act="gelu", ffn_gate="none"),
    "modern-bert": Decoder(
        embedding_norm="token_embd_norm", norm=layer_norm, attn_norm_optional=True,
        rope=Rotary(neox=True, partial=True, sliding=Sliding(default_base=10000.0)),
        window=Window(period=3, size=0, first_full=True), causal=False, act=hidden_activation, ffn_gate="fused",
        output=None, unneeded=("cls.*",),
    ),
}  # fmt: skip
