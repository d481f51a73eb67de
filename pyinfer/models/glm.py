"""ChatGLM and GLM-4 (Zeng et al. 2024, arXiv:2406.12793), Phi-3 and 4 (arXiv:2404.14219), and Hunyuan: fused gates,
sections of rotary positions."""

from pyinfer.models.decoder import PARTIAL, Decoder, rms_heads_after
from pyinfer.models.keys import MAX_LAYERS, Keys
from pyinfer.models.parts.rotary import Rotary


def mrope_if_sections(keys: Keys) -> str | None:
    sections = keys.get_array("rope.dimension_sections") or (0, 0)
    return "mrope" if len(sections) > 1 and sections[0] > 0 and sections[1] > 0 else None


def base_by_alpha(keys: Keys, base: float, head_dim: int) -> float:
    """NTK-aware scaling: the base times a power of alpha."""
    alpha = keys.get_float("rope.scaling.alpha", 0.0)
    return float(base * alpha ** (head_dim / (head_dim - 2))) if alpha > 0 and head_dim > 2 else base


ARCHITECTURES = {
    "chatglm": Decoder(rope=PARTIAL, ffn_gate="fused"),
    "glm4": Decoder(
        attn_post="post_attention_norm", ffn_post="post_ffw_norm", ffn_gate="fused",
        n_unused=lambda keys: keys.get_int("nextn_predict_layers", MAX_LAYERS, default=0, minimum=0),
        rope=Rotary(partial=True, sections=mrope_if_sections),
    ),
    "phi3": Decoder(rope=Rotary(neox=True, partial=True, factors="long_short"), ffn_gate="fused"),
    "hunyuan-dense": Decoder(head_norm=rms_heads_after, rope=Rotary(neox=True, base=base_by_alpha)),
    "hunyuan_vl": Decoder(
        head_norm=rms_heads_after, rope=Rotary(neox=True, base=base_by_alpha, sections=mrope_if_sections)
    ),
}  # fmt: skip
