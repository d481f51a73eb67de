"""Command R and Command A (Cohere 2025, arXiv:2504.00698): LayerNorms without bias, parallel parts."""

from dataclasses import replace

from pyinfer.models.decoder import PARTIAL, Decoder, layer_norm, number
from pyinfer.models.keys import Keys
from pyinfer.models.parts.attention import HeadNorm, Window
from pyinfer.models.parts.rotary import Rotary

N_LAYERS_WITH_HEAD_NORM = 64  # of Command R+


def norm_of_large(keys: Keys) -> HeadNorm | None:
    return HeadNorm(layer_norm(keys)) if keys.n_layers >= N_LAYERS_WITH_HEAD_NORM else None


COMMAND_R = Decoder(
    norm=layer_norm, ffn_norm=None, parallel=True, head_norm=norm_of_large, rope=PARTIAL, output="tied",
    output_scale=number("logit_scale", zero=1.0),
)  # fmt: skip

ARCHITECTURES = {
    "command-r": COMMAND_R,
    "cohere2": replace(
        COMMAND_R,
        head_norm=lambda keys: None,
        rope=Rotary(partial=True, layers=lambda keys, layer, slides: slides),
        window=Window(period=4),
        ffn_scales="sum",
        output_scale=number("logit_scale", None, zero=1.0),
    ),
}
