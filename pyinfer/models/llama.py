"""Llama (Touvron et al. 2023, arXiv:2302.13971) and models that are nearly the same."""

import math

from pyinfer.models.decoder import (
    NEOX,
    PARTIAL,
    PARTIAL_NEOX,
    Decoder,
    layer_norm,
    number,
    rms,
    rms_heads,
    rms_heads_after,
    unit_rms,
)
from pyinfer.models.graph import Norm
from pyinfer.models.keys import MAX_LAYERS, Keys
from pyinfer.models.parts.attention import HeadNorm, Window
from pyinfer.models.parts.feed_forward import Act
from pyinfer.models.parts.rotary import Rotary, Sliding

LLAMA_ROPE = Rotary(factors="either")
OPTIONAL_BIASES = ("attn_output.bias", "ffn_gate.bias", "ffn_up.bias", "ffn_down.bias")


def xielu(keys: Keys) -> list[Act]:
    """xIELU (Huang & Schlag 2024, arXiv:2411.13010): its numbers are keys without a prefix, one or one a layer."""
    names = ("alpha_n", "alpha_p", "beta", "eps")
    alpha_n, alpha_p, beta, eps = (keys.get_root_floats(f"xielu.{name}") for name in names)
    return [
        ("xielu", softplus(p), b + softplus(n), b, e) for n, p, b, e in zip(alpha_n, alpha_p, beta, eps, strict=True)
    ]


def softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def rms_heads_of_query(keys: Keys) -> HeadNorm:
    """After the rotation; only queries have weights, a factor a head."""
    return HeadNorm(rms(keys), after=True, unit_k=True)


ARCHITECTURES = {
    "llama": Decoder(rope=LLAMA_ROPE, ffn_scales="sum"),
    "llama-embed": Decoder(rope=LLAMA_ROPE, ffn_scales="sum", causal=False, output=None),
    "arcee": Decoder(rope=Rotary(factors="freqs"), act="relu_squared", ffn_gate="none"),
    # Deci and Nemotron (Bercovich et al. 2025, arXiv:2411.19146): layers may lack parts
    "deci": Decoder(rope=LLAMA_ROPE, empty_layers=True),
    "ernie4_5": Decoder(with_expert_count=True, unneeded=("attn_output.bias",)),
    "paddleocr": Decoder(rope=Rotary(sections="mrope"), with_expert_count=True),
    "internlm2": Decoder(output="own"),
    "xverse": Decoder(output="own"),
    "maincoder": Decoder(head_norm=rms_heads_after),
    "mistral3": Decoder(rope=LLAMA_ROPE, ffn_scales="sum", temperature=number("attention.temperature_scale")),
    # Baichuan: the 7B's positions are rotary, the 13B's ALiBi
    "baichuan": Decoder(
        rope=lambda keys: Rotary() if keys.n_layers == 32 else None,
        max_alibi=lambda keys: 8.0 if keys.n_layers == 40 else 0.0, output="own",
    ),
    "refact": Decoder(rope=None, max_alibi=8.0, unneeded=("rope_freqs.weight", *OPTIONAL_BIASES)),
    # LLaDA (Nie et al. 2025, arXiv:2502.09992), a diffusion model
    "llada": Decoder(causal=False, causal_key=False, unneeded=("rope_freqs.weight", *OPTIONAL_BIASES)),
    "smollm3": Decoder(rope=Rotary(layers=lambda keys, layer, slides: (layer + 1) % 4 != 0)),
    "cogvlm": Decoder(rope=Rotary(neox=True, fixed=True), unneeded=("rope_freqs.weight", "attn_qkv.scale", "vis_*")),
    "nanbeige": Decoder(
        rope=Rotary(partial=True, factors="freqs"),
        ffn_scales="sum",
        n_loops=lambda keys: keys.get_int("num_loops", MAX_LAYERS, default=1),
        loop_norm=lambda keys: not keys.get_bool("skip_loop_final_norm", False),
    ),
    # Apertus (2025, arXiv:2509.14233)
    "apertus": Decoder(
        rope=Rotary(neox=True, factors="either"), head_norm=rms_heads, acts=xielu, ffn_gate="none", output="own",
        unneeded=("attn_q_norm.bias", "attn_k_norm.bias"),
    ),
    # BitNet b1.58 (Wang et al. 2023, arXiv:2310.11453): norms before the output matrices
    "bitnet": Decoder(
        rope=PARTIAL_NEOX, attn_inner_norm=True, ffn_inner_norm=True, ffn_scales="sum", output="tied"
    ),
    "orion": Decoder(norm=layer_norm, rope=NEOX, output="own"),
    "pangu-embedded": Decoder(rope=NEOX, unneeded=("rope_freqs.weight",)),
    "seed_oss": Decoder(rope=NEOX, ffn_norm="post_attention_norm"),
    "pockettts": Decoder(norm=layer_norm, act="gelu", ffn_gate="none", output="tied"),
    "plamo": Decoder(rope=NEOX, parallel=True, ffn_norm=None, output="own"),
    "openelm": Decoder(rope=PARTIAL_NEOX, head_norm=rms_heads, output="tied", unneeded=("attn_qkv.scale",)),
    "spark2_5": Decoder(
        rope=Rotary(neox=True, partial=True, sliding=Sliding(scaled=True)),
        window=Window(), gate="head", act="gelu", unneeded=("attn_gate.scale",),
    ),
    "muse-glimmer": Decoder(
        embedding_norm="unit", attn_post="post_attention_norm", ffn_post="post_ffw_norm",
        post_norm=lambda keys: Norm(1e-8), head_norm=rms_heads,
        rope=Rotary(partial=True, layers=lambda keys, layer, slides: slides, sliding=Sliding()),
        window=Window(period=4), gate="value", output="own", output_scale=number("logit_scale", None),
        output_softcap=number("final_logit_softcapping", 30.0), unneeded=("attn_gate.scale",),
    ),
    "plamo3": Decoder(
        attn_post="post_attention_norm", ffn_post="post_ffw_norm", head_norm=rms_heads,
        rope=Rotary(neox=True, partial=True, sliding=Sliding(default_base=10000.0)),
        window=Window(period=8, size=0), ffn_gate="fused", unneeded=("attn_qkv.scale",),
    ),
    # Talkie: the embedding is added after every layer
    "talkie": Decoder(
        embedding_norm="unit", skip="layer_output_scale", norm=unit_rms, head_norm=rms_heads_of_query, rope=NEOX,
        ffn_scales="sum", unneeded=("ffn_gate.scale", "ffn_up.scale"), output="own",
        output_scale=number("logit_scale", None),
    ),
    "neo-bert": Decoder(rope=PARTIAL, causal=False, ffn_gate="fused", output=None, output_norm="enc.output_norm"),
    "eurobert": Decoder(rope=PARTIAL_NEOX, causal=False, output=None),
}  # fmt: skip
