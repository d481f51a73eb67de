"""GPT-2 (Radford et al. 2019) and what follows it: LayerNorms, biases, GELU without a gate."""

from dataclasses import replace

from pyinfer.models.decoder import NEOX, PARTIAL_NEOX, Decoder, layer_norm, number
from pyinfer.models.keys import MAX_HEADS, Keys
from pyinfer.models.parts.attention import HeadNorm

GPT = Decoder(norm=layer_norm, rope=None, act="gelu", ffn_gate="none")


def scale_by_width(keys: Keys) -> float:
    """1 / head_dim (Yang et al. 2022, arXiv:2203.03466)."""
    return keys.get_per_layer("attention.head_count", MAX_HEADS)[0] / keys.n_embd


def layer_norm_of_all_heads(keys: Keys) -> HeadNorm:
    return HeadNorm(layer_norm(keys), over="all", of="q")


def layer_norm_of_each_head(keys: Keys) -> HeadNorm:
    return HeadNorm(layer_norm(keys))


ARCHITECTURES = {
    "gpt2": replace(GPT, positions="needed"),
    "starcoder": replace(GPT, positions="needed"),
    "starcoder2": replace(GPT, rope=NEOX),
    "codeshell": replace(GPT, rope=NEOX, output="own", embedding_matrix="either"),
    "gptneox": replace(
        GPT, rope=PARTIAL_NEOX, parallel=lambda keys: keys.get_bool("use_parallel_residual", None), output="own"
    ),
    # Falcon (Almazrouei et al. 2023, arXiv:2311.16867)
    "falcon": replace(GPT, rope=NEOX, parallel=True, ffn_norm=None, attn_norm_2=True),
    "phi2": replace(GPT, rope=PARTIAL_NEOX, parallel=True, ffn_norm=None, output="own"),
    # BLOOM (arXiv:2211.05100)
    "bloom": replace(GPT, embedding_norm="token_embd_norm", max_alibi=8.0),
    "mpt": replace(
        GPT,
        positions="optional",
        max_alibi=number("attention.max_alibi_bias"),
        clamp=number("attention.clamp_kqv"),
        head_norm=layer_norm_of_all_heads,
        divisors=True,
    ),
    "jais": replace(
        GPT, max_alibi=number("attention.max_alibi_bias"), scale=scale_by_width, act="silu", ffn_gate="separate",
        output="own",
    ),
    "jais2": replace(GPT, rope=NEOX, act="relu_squared"),
    # Nemotron-4 (Parmar et al. 2024, arXiv:2402.16819)
    "nemotron": replace(GPT, rope=PARTIAL_NEOX, act="relu_squared", output="own"),
    "stablelm": Decoder(
        norm=layer_norm, rope=PARTIAL_NEOX, head_norm=layer_norm_of_each_head, parallel="file", output="own"
    ),
}  # fmt: skip
