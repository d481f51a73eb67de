"""OLMo (Groeneveld et al. 2024, arXiv:2402.00838), OLMo 2 and 3 (2025, arXiv:2501.00656), and EXAONE (LG AI)."""

from pyinfer.models.decoder import Decoder, number, rms, rms_heads, unit_layer_norm
from pyinfer.models.keys import MAX_LAYERS, Keys
from pyinfer.models.parts.attention import HeadNorm, Window
from pyinfer.models.parts.rotary import Rotary, Sliding

N_LAYERS_THAT_SLIDE = 64  # of EXAONE 4 32B


def rms_of_all_heads(keys: Keys) -> HeadNorm:
    return HeadNorm(rms(keys), over="all")


def large(keys: Keys) -> bool:
    return keys.n_layers == N_LAYERS_THAT_SLIDE


def n_draft_layers(keys: Keys) -> int:
    return keys.get_int("nextn_predict_layers", MAX_LAYERS, default=0, minimum=0)


ARCHITECTURES = {
    "olmo": Decoder(norm=unit_layer_norm, clamp=number("attention.clamp_kqv")),
    "olmo2": Decoder(
        attn_norm=None, attn_post="post_attention_norm", ffn_norm=None, ffn_post="post_ffw_norm",
        head_norm=rms_of_all_heads, rope=Rotary(neox=True, sliding=Sliding(key=None, attn_factor=False)),
        window=Window(period=4, size=0), output="own",
    ),
    "exaone": Decoder(rope=Rotary(neox=True, factors="freqs")),
    "exaone4": Decoder(
        attn_norm=None, attn_post="post_attention_norm", ffn_norm=None, ffn_post="post_ffw_norm",
        n_unused=n_draft_layers, head_norm=rms_heads,
        rope=Rotary(neox=True, factors="freqs", layers=lambda keys, layer, slides: slides or not large(keys)),
        window=Window(period=4, size=4096, applies=large),
    ),
}  # fmt: skip
