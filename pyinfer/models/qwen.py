"""Qwen (Bai et al. 2023, arXiv:2309.16609) to Qwen 3 (2025, arXiv:2505.09388), and models like them."""

from pyinfer.models.decoder import NEOX, NORM_EPS, PARTIAL_NEOX, Decoder, rms_heads
from pyinfer.models.graph import Norm
from pyinfer.models.parts.rotary import Rotary

ARCHITECTURES = {
    "qwen": Decoder(rope=PARTIAL_NEOX, width=lambda n: n // 2, output="own"),
    "qwen2": Decoder(rope=NEOX),
    # llama.cpp takes an epsilon of 0 whatever the file says
    "qwen2vl": Decoder(
        norm=lambda keys: Norm(keys.get_float(NORM_EPS, 0.0)), rope=Rotary(sections="mrope"), unneeded=("output.bias",)
    ),
    "qwen3": Decoder(rope=NEOX, head_norm=rms_heads, ffn_scales="sum", unneeded=("cls.output.*",)),
    "qwen3vl": Decoder(rope=Rotary(sections="imrope"), head_norm=rms_heads, unneeded=("cls.output.*",)),
    # Dream (Ye et al. 2025, arXiv:2508.15487), a diffusion model
    "dream": Decoder(rope=NEOX, causal=False, causal_key=False, unneeded=("output.bias",)),
}
