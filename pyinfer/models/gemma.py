"""Gemma (arXiv:2403.08295), Gemma 2 (arXiv:2408.00118) and Gemma 3 (arXiv:2503.19786).

GELU, an embedding scaled by the square root of its width; from Gemma 2 on, norms before and after each part, and
windows. The norm weights in the file include Gemma's 1 + weight.
"""

import math
from collections.abc import Callable
from dataclasses import replace

from pyinfer.models.decoder import PARTIAL_NEOX, Decoder, number, rms_heads, sqrt_width
from pyinfer.models.keys import MAX_HEADS, MAX_LAYERS, MAX_WIDTH, Keys
from pyinfer.models.parts.attention import Window
from pyinfer.models.parts.rotary import Rotary, Sliding


def scale_of_27b(n_layers: int) -> Callable[[Keys], float]:
    """1/√(n_embd / n_heads) in the model with so many layers; the others' scale is the usual one."""

    def scale(keys: Keys) -> float:
        n_heads = keys.get_per_layer("attention.head_count", MAX_HEADS)[0]
        return 1 / math.sqrt(keys.n_embd // n_heads) if keys.n_layers == n_layers else 0.0

    return scale


GEMMA = Decoder(embedding_scale=sqrt_width, rope=PARTIAL_NEOX, act="gelu", output="tied")
GEMMA2 = replace(GEMMA, attn_post="post_attention_norm", ffn_post="post_ffw_norm")
GEMMA3 = replace(
    GEMMA2,
    head_norm=rms_heads,
    rope=Rotary(neox=True, partial=True, sliding=Sliding(default_base=10000.0)),
    scale=scale_of_27b(62),
    window=Window(period=6, size=0),
    output="either",
    output_softcap=number("final_logit_softcapping"),
    unneeded=("v.*", "mm.*"),  # of images, in files that have text and vision in one
)


def n_shared_layers(keys: Keys) -> int:
    return keys.get_int("attention.shared_kv_layers", MAX_LAYERS, default=0, minimum=0)


def per_layer_width(keys: Keys) -> int:
    return keys.get_int("embedding_length_per_layer_input", MAX_WIDTH, default=0, minimum=0)


ARCHITECTURES = {
    "gemma": GEMMA,
    "gemma2": replace(
        GEMMA2,
        rope=Rotary(neox=True, partial=True, sliding=Sliding(scaled=True)),
        scale=scale_of_27b(46),
        softcap=number("attn_logit_softcapping", 50.0),
        window=Window(period=2, size=4096),
        output_softcap=number("final_logit_softcapping", 30.0),
    ),
    "gemma3": GEMMA3,
    # Gemma 4 (2026), dense: layers of two head sizes, late ones without keys and values of their own
    "gemma4": replace(
        GEMMA3,
        rope=Rotary(neox=True, partial=True, factors="freqs", sliding=Sliding(default_base=10000.0, factors=False)),
        scale=1.0,
        window=Window(),
        value_norm=True,
        n_shared=n_shared_layers,
        ffn_scales="sum",
        per_layer=per_layer_width,
        layer_scale=True,
        output_softcap=number("final_logit_softcapping", 30.0),
    ),
    "gemma-embedding": replace(
        GEMMA3, scale=0.0, window=Window(period=6), causal=False, output=None, unneeded=("dense_2.*", "dense_3.*")
    ),
}
