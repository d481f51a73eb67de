"""Granite (IBM 2024) and MiniCPM (Hu et al. 2024, arXiv:2404.06395): Llama with scaled embedding, parts and logits."""

import math
from collections.abc import Callable
from dataclasses import replace

from pyinfer.models.decoder import Decoder, number
from pyinfer.models.keys import Keys
from pyinfer.models.parts.attention import Window
from pyinfer.models.parts.rotary import Rotary

ROPE = Rotary(factors="either")


def divided(key: str, default: Callable[[Keys], float] | None = None) -> Callable[[Keys], float]:
    """1 / a number of the file."""
    return lambda keys: 1 / keys.get_positive_float(key, None if default is None else default(keys))


def rope_pattern(keys: Keys, layer: int, slides: bool) -> bool:
    pattern = keys.get_array("attention.rope_pattern")
    return pattern is None or layer >= len(pattern) or bool(pattern[layer])


GRANITE = Decoder(
    rope=ROPE,
    embedding_scale=number("embedding_scale", zero=1.0),
    residual_scale=number("residual_scale", zero=1.0),
    scale=number("attention.scale"),
    output_scale=divided("logit_scale"),
)

ARCHITECTURES = {
    "granite": replace(
        GRANITE, rope=lambda keys: ROPE if keys.get_bool("rope.scaling.finetuned", True) else None
    ),
    "granitemoe": GRANITE,
    "granite_swa": replace(
        GRANITE, rope=replace(ROPE, layers=rope_pattern), window=Window(), sinks=True
    ),
    "minicpm": Decoder(
        rope=ROPE,
        embedding_scale=number("embedding_scale", 12.0, zero=1.0),
        residual_scale=lambda keys: number("residual_scale", 1.4 / math.sqrt(keys.n_layers), zero=1.0)(keys),
        output_scale=divided("logit_scale", lambda keys: 256 / keys.n_embd),
    ),
}  # fmt: skip
