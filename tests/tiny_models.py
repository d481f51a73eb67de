"""Small models with random weights, written by the third-party package `gguf`, so that tests can vary what they hold.

    path = write_tiny_model(tmp_path / "m.gguf", TinyModel("llama", types={"ffn_down": "Q6_K", "": "Q4_0"}))

Weights are scaled so that every layer matters to the logits: an engine that skips or swaps anything is seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Quant
from numpy.typing import NDArray

from pyinfer.gguf import GGUFFile, GGUFWriter

ENCODERS = ("bert", "nomic-bert")

# Formats the gguf package can't quantize to: where a block holds its float16 scales, and the size of the minimum's
# scale in terms of the first one that centres the values on zero.
RANDOM_BLOCKS: dict[str, tuple[tuple[int, float], ...]] = {
    "Q2_K": ((80, 1.0), (82, 1.5)),
    "Q3_K": ((108, 1.0),),
    "Q4_K": ((0, 1.0), (2, 7.5)),
    "Q5_K": ((0, 1.0), (2, 15.5)),
    "Q6_K": ((208, 1.0),),
    "IQ4_NL": ((0, 1.0),),
    "IQ4_XS": ((0, 1.0),),
}


@dataclass
class TinyModel:
    """What to write. Matrices read along n_embd (or n_ff) need a multiple of their format's block there."""

    architecture: str  # llama, qwen2, gemma3, bert or nomic-bert
    n_layers: int = 2
    n_embd: int = 256
    n_heads: int | Sequence[int] = 4  # a sequence: one number a layer
    n_kv_heads: int | Sequence[int] = 2
    head_dim: int = 64
    n_ff: int = 512
    n_vocab: int = 96
    n_ctx: int = 128
    types: Mapping[str, str] = field(default_factory=dict)  # part of a matrix's name: its format; "" for the rest, F32
    biases: bool | None = None  # on attention (and llama's feed-forward); None: as the architecture usually has
    tied: bool = False  # no output.weight
    fused_qkv: bool = False  # attn_qkv instead of attn_q, attn_k and attn_v
    output_scales: bool = False  # NAME.scale tensors
    rope_factors: Sequence[float] | None = None  # rope_freqs.weight [head_dim/2]
    longrope_factors: tuple[Sequence[float], Sequence[float]] | None = None  # rope_factors_short, rope_factors_long
    sliding_window: int = 8  # gemma3
    sliding_pattern: int | Sequence[int] | None = 2  # gemma3; None: the key is absent
    metadata: Mapping[str, Any] = field(default_factory=dict)  # `ARCHITECTURE.` keys added or replaced; None: left out
    seed: int = 0


def yarn_keys(factor: float, n_ctx_orig: int, **more: float) -> dict[str, Any]:
    """For TinyModel.metadata; more: yarn_beta_fast, yarn_beta_slow, yarn_ext_factor, attn_factor."""
    keys = {"type": "yarn", "factor": factor, "original_context_length": n_ctx_orig, **more}
    return {f"rope.scaling.{key}": value for key, value in keys.items()}


def longrope_keys(n_ctx_orig: int, attn_factor: float = 1.0) -> dict[str, Any]:
    """For TinyModel.metadata."""
    keys = {"type": "longrope", "original_context_length": n_ctx_orig, "attn_factor": attn_factor}
    return {f"rope.scaling.{key}": value for key, value in keys.items()}


def linear_keys(factor: float) -> dict[str, Any]:
    """For TinyModel.metadata."""
    return {"rope.scaling.type": "linear", "rope.scaling.factor": factor}


def random_blocks(rng: np.random.Generator, shape: tuple[int, int], kind: str, std: float) -> NDArray[np.uint8]:
    """Random blocks (rows, bytes) of a format, whose values have about this standard deviation."""
    block, size = gguf.GGML_QUANT_SIZES[Quant[kind]]
    assert shape[1] % block == 0, f"{kind}: {shape[1]} columns are not a multiple of {block}"
    blocks = rng.integers(0, 256, (shape[0] * shape[1] // block, size), dtype=np.uint8)

    def set_scales(scales: NDArray[np.float64]) -> None:
        for offset, ratio in RANDOM_BLOCKS[kind]:
            blocks[:, offset : offset + 2] = (scales * ratio).astype("<f2")[:, None].view(np.uint8)

    set_scales(np.full(len(blocks), 1 / 64))
    unit = gguf.quants.dequantize(blocks, Quant[kind]).std() * 64
    set_scales(std / unit * rng.uniform(0.7, 1.3, len(blocks)))
    return blocks.reshape(shape[0], -1)


def write_tiny_model(path: Path, model: TinyModel) -> Path:
    """Writes the model and returns its path."""
    rng = np.random.default_rng(model.seed)
    writer = gguf.GGUFWriter(path, model.architecture)
    for key, value in _metadata(model).items():
        _add_key(writer, f"{model.architecture}.{key}", value)
    writer.add_tokenizer_model("test")
    writer.add_token_list([f"<{i}>" for i in range(model.n_vocab)])
    for name, shape in _matrices(model).items():
        _add_matrix(writer, rng, name, shape, model)
    for name, values in _vectors(model, rng).items():
        writer.add_tensor(name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_text_model(path: Path, model: TinyModel, texts: Mapping[int, str] | None = None) -> Path:
    """As write_tiny_model, with the characters of ASCII as tokens 0 to 127: letters, and control tokens, 1 to end a
    text and 2 to begin one; model.n_vocab must be 128. texts: of some tokens, other ones."""
    assert model.n_vocab == 128
    tokens = [chr(i) if 33 <= i < 127 else f"<{i}>" for i in range(127)] + ["ab"]
    tokens[32], tokens[10] = "Ġ", "Ċ"
    for token, text in (texts or {}).items():
        tokens[token] = text
    vocabulary = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array([1 if len(t) <= 2 else 3 for t in tokens], np.int32),
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.bos_token_id": 2,
    }
    return write_model_over(path, model, vocabulary)


def write_model_over(path: Path, model: TinyModel, vocabulary: Mapping[str, Any]) -> Path:
    """As write_tiny_model, with the tokenizer of other metadata; all tensors must be F32."""
    with GGUFFile(write_tiny_model(path.with_suffix(".plain"), model)) as file:
        metadata = {key: value for key, value in file.metadata.items() if not key.startswith("tokenizer.")}
        writer = GGUFWriter(path, metadata | vocabulary)
        for info in file.tensors.values():
            writer.add_tensor(info.name, info.rows().view(np.float32).reshape(info.shape))
        writer.write()
    return path


def _metadata(model: TinyModel) -> dict[str, Any]:
    keys: dict[str, Any] = {
        "block_count": model.n_layers,
        "context_length": model.n_ctx,
        "embedding_length": model.n_embd,
        "feed_forward_length": model.n_ff,
        "attention.head_count": model.n_heads,
        "attention.head_count_kv": model.n_kv_heads,
        "attention.key_length": model.head_dim,
        "attention.value_length": model.head_dim,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 10000.0,
    }
    if model.architecture == "gemma3":
        keys |= {
            "attention.sliding_window": model.sliding_window,
            "attention.sliding_window_pattern": model.sliding_pattern,
            "rope.freq_base": 100000.0,
        }
    if model.architecture in ENCODERS:
        del keys["attention.layer_norm_rms_epsilon"]
        keys |= {"attention.layer_norm_epsilon": 1e-5, "attention.causal": False, "pooling_type": 1}
    keys |= model.metadata
    return {key: value for key, value in keys.items() if value is not None}


def _add_key(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, list(value))


def _matrices(model: TinyModel) -> dict[str, tuple[int, int]]:
    """Shape (n_out, n_in) of every matrix, by name without `.weight`."""
    shapes = {"token_embd": (model.n_vocab, model.n_embd)}
    if model.architecture in ENCODERS:
        shapes["token_types"] = (2, model.n_embd)
        if model.architecture == "bert":
            shapes["position_embd"] = (model.n_ctx, model.n_embd)
    elif not model.tied:
        shapes["output"] = (model.n_vocab, model.n_embd)
    for layer in range(model.n_layers):
        n_heads, n_kv_heads = (n if isinstance(n, int) else n[layer] for n in (model.n_heads, model.n_kv_heads))
        of_layer = {
            "attn_q": (n_heads * model.head_dim, model.n_embd),
            "attn_k": (n_kv_heads * model.head_dim, model.n_embd),
            "attn_v": (n_kv_heads * model.head_dim, model.n_embd),
            "attn_output": (model.n_embd, n_heads * model.head_dim),
            "ffn_gate": (model.n_ff, model.n_embd),
            "ffn_up": (model.n_ff, model.n_embd),
            "ffn_down": (model.n_embd, model.n_ff),
        }
        if model.fused_qkv:
            n_rows = sum(of_layer.pop(f"attn_{part}")[0] for part in "qkv")
            of_layer["attn_qkv"] = (n_rows, model.n_embd)
        if model.architecture == "bert":
            del of_layer["ffn_gate"]
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in of_layer.items()}
    return shapes


def _add_matrix(
    writer: gguf.GGUFWriter, rng: np.random.Generator, name: str, shape: tuple[int, int], model: TinyModel
) -> None:
    embd_std = model.n_embd**-0.5 if model.architecture == "gemma3" else 1.0  # gemma3 multiplies it by √n_embd
    std = embd_std if name in ("token_embd", "position_embd", "token_types") else 1.5 / np.sqrt(shape[1])
    kind = next((kind for part, kind in model.types.items() if part and part in name), model.types.get("", "F32"))
    if kind in RANDOM_BLOCKS:
        writer.add_tensor(f"{name}.weight", random_blocks(rng, shape, kind, std), raw_dtype=Quant[kind])
        return
    values = (rng.standard_normal(shape) * std).astype(np.float32)
    if kind in ("F32", "F16"):
        writer.add_tensor(f"{name}.weight", values.astype({"F32": np.float32, "F16": np.float16}[kind]))
    else:
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(values, Quant[kind]), raw_dtype=Quant[kind])


def _vectors(model: TinyModel, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Norms, biases, output scales and RoPE factors, by full name."""
    encoder = model.architecture in ENCODERS
    norms = dict.fromkeys(
        ("attn_output_norm", "layer_output_norm") if encoder else ("attn_norm", "ffn_norm"), model.n_embd
    )
    if model.architecture == "gemma3":
        norms |= {"post_attention_norm": model.n_embd, "post_ffw_norm": model.n_embd}
        norms |= {"attn_q_norm": model.head_dim, "attn_k_norm": model.head_dim}
    biased = {"attn_q", "attn_k", "attn_v", "attn_qkv"}
    if model.architecture in ("llama", *ENCODERS):
        biased |= {"attn_output", "ffn_gate", "ffn_up", "ffn_down"}
    with_biases = model.architecture in ("qwen2", "bert") if model.biases is None else model.biases

    first_or_last = "token_embd_norm" if encoder else "output_norm"
    vectors = {f"{first_or_last}.weight": rng.uniform(0.5, 1.5, model.n_embd)}
    for layer in range(model.n_layers):
        for name, size in norms.items():
            vectors[f"blk.{layer}.{name}.weight"] = rng.uniform(0.5, 1.5, size)
    if encoder:
        for name in list(vectors):
            vectors[name.replace(".weight", ".bias")] = rng.standard_normal(model.n_embd) * 0.3
    for name, (n_out, _) in _matrices(model).items():
        if with_biases and name.rpartition(".")[2] in biased:
            vectors[f"{name}.bias"] = rng.standard_normal(n_out) * 0.3
        if model.output_scales and name.startswith("blk."):
            vectors[f"{name}.scale"] = rng.uniform(0.5, 1.5, 1)
    if model.rope_factors is not None:
        vectors["rope_freqs.weight"] = np.asarray(model.rope_factors, dtype=np.float64)
    if model.longrope_factors is not None:
        for length, factors in zip(("short", "long"), model.longrope_factors, strict=True):
            vectors[f"rope_factors_{length}.weight"] = np.asarray(factors, dtype=np.float64)
    return vectors
