"""A plain forward pass in float64, to compare the engine with: what llama, qwen2, gemma3, bert and nomic-bert mean.

Written for reading, one function a step, shapes in comments. It shares nothing with the engine: files are read and
dequantized by the third-party package `gguf`, and hyper-parameters, RoPE and masks are worked out here once more.
Within 1e-6 (normalised mean squared error) of llama.cpp's float32 logits on its own test models, and within 1e-9 of
Hugging Face's states of a nomic-bert (test_oracle.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ENCODERS = ("bert", "nomic-bert")

OUTPUT_ROWS = 16384  # rows of the output matrix held in float64 at a time: a vocabulary of 262144 would take 1.3 GB


class Model:
    """Metadata and tensors of a GGUF file."""

    def __init__(self, path: str | Path) -> None:
        reader = gguf.GGUFReader(str(path))
        self.fields = reader.fields
        self.tensors = {t.name: t for t in reader.tensors}
        self.architecture: str = self.fields["general.architecture"].contents()
        self.n_ctx: int = self.get("context_length")  # of the session

    def get(self, key: str, default: Any = None) -> Any:
        """The value of `ARCHITECTURE.key`."""
        field = self.fields.get(f"{self.architecture}.{key}")
        return default if field is None else field.contents()

    def rows(self, name: str, index: Any = slice(None)) -> Floats:
        """Rows of a matrix (n_out, n_in), dequantized."""
        tensor = self.tensors[name]
        return gguf.quants.dequantize(np.ascontiguousarray(tensor.data[index]), tensor.tensor_type).astype(np.float64)

    def vector(self, name: str) -> Floats | None:
        return self.rows(name).reshape(-1) if name in self.tensors else None

    def product(self, name: str, x: Floats) -> Floats:
        """x (n, n_in) to x · Wᵀ (n, n_out)."""
        n_out = self.tensors[name].data.shape[0]
        starts = range(0, n_out, OUTPUT_ROWS)
        return np.concatenate([x @ self.rows(name, slice(i, i + OUTPUT_ROWS)).T for i in starts], axis=1)

    def linear(self, name: str, x: Floats) -> Floats:
        """x (n, n_in) to (n, n_out): x · Wᵀ · scale + bias, the output scale and the bias where the file has them."""
        scale, bias = self.vector(f"{name}.scale"), self.vector(f"{name}.bias")
        y = self.product(f"{name}.weight", x)
        y = y if scale is None else y * scale
        return y if bias is None else y + bias

    def feed_forward_linear(self, name: str, x: Floats) -> Floats:
        """As linear, but a feed-forward adds the bias before it scales, and qwen2's and gemma3's has neither."""
        y = self.product(f"{name}.weight", x)
        if self.architecture not in ("llama", *ENCODERS):
            return y
        scale, bias = self.vector(f"{name}.scale"), self.vector(f"{name}.bias")
        y = y if bias is None else y + bias
        return y if scale is None else y * scale


def rms_norm(x: Floats, weight: Floats | None, eps: float) -> Floats:
    """Over the last axis. Gemma's (1 + weight) is already in the file's weight."""
    assert weight is not None
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def layer_norm(model: Model, name: str, x: Floats) -> Floats:
    weight, bias = model.vector(f"{name}.weight"), model.vector(f"{name}.bias")
    assert weight is not None and bias is not None
    centered = x - x.mean(axis=-1, keepdims=True)
    variance = np.mean(centered**2, axis=-1, keepdims=True)
    return centered / np.sqrt(variance + model.get("attention.layer_norm_epsilon")) * weight + bias


def softmax(x: Floats) -> Floats:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def silu(x: Floats) -> Floats:
    return x / (1 + np.exp(-x))


def gelu_tanh(x: Floats) -> Floats:
    """The tanh approximation, as Gemma was trained with."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu(x: Floats) -> Floats:
    """x times the normal distribution's probability of less than x, as BERT was trained with."""
    erfc: Callable[[Floats], Floats] = np.vectorize(math.erfc)
    return x * erfc(-x / math.sqrt(2)) / 2


def yarn_blend(n_rot: int, base: float, context: float, beta_fast: float, beta_slow: float) -> Floats:
    """(n_rot/2,): 1 where a pair keeps its frequency, 0 where it is interpolated (Peng et al. 2023, arXiv:2309.00071).

    A pair whose frequency is f turns context·f/2π times within the original context: more than beta_fast times, keep;
    fewer than beta_slow, interpolate; in between a line over the pair's index, from whole index to whole index.
    """

    def index_of(turns: float) -> float:
        return n_rot / 2 * math.log(context / (2 * math.pi * turns)) / math.log(base)

    first = max(math.floor(index_of(beta_fast)), 0)
    last = min(math.ceil(index_of(beta_slow)), n_rot - 1)
    return np.array([1 - min(max((i - first) / max(last - first, 0.001), 0), 1) for i in range(n_rot // 2)])


def rope_angles(model: Model, positions: Floats, n_rot: int, sliding: bool) -> tuple[Floats, float]:
    """Angle of every position and pair (n, n_rot/2), and the factor on the rotated vectors."""
    base = model.get("rope.freq_base", 10000.0)
    factor = model.get("rope.scaling.factor", model.get("rope.scale_linear", 0.0)) or 1.0
    kind = model.get("rope.scaling.type", "linear")
    magnitude = model.get("rope.scaling.attn_factor", 1.0)
    if sliding:  # Gemma 3: layers with a window keep the short context's frequencies
        base, factor = model.get("rope.freq_base_swa", 10000.0), 1.0

    frequency = base ** (-2 * np.arange(n_rot // 2) / n_rot)
    if model.architecture == "llama" and kind == "longrope":  # Ding et al. 2024, arXiv:2402.13753
        length = "long" if model.n_ctx > model.get("rope.scaling.original_context_length") else "short"
        frequency = frequency / model.vector(f"rope_factors_{length}.weight")
    elif model.architecture == "llama" and "rope_freqs.weight" in model.tensors:  # Llama 3.1 and later
        frequency = frequency / model.vector("rope_freqs.weight")
    if kind in ("linear", "longrope"):
        frequency = frequency / factor
    elif kind == "yarn":
        context = model.get("rope.scaling.original_context_length", 0) or model.get("context_length")
        betas = model.get("rope.scaling.yarn_beta_fast", 32.0), model.get("rope.scaling.yarn_beta_slow", 1.0)
        keep = yarn_blend(n_rot, base, context, *betas)
        extrapolation = model.get("rope.scaling.yarn_ext_factor", -1.0)
        keep = keep * (1.0 if extrapolation < 0 else extrapolation)
        frequency = frequency * keep + frequency / factor * (1 - keep)
        magnitude *= 1 + 0.1 * math.log(factor) if factor > 1 and extrapolation != 0 else 1
    return positions[:, None] * frequency, magnitude


def rotate(x: Floats, angles: Floats, magnitude: float, neox: bool) -> Floats:
    """x (n, n_heads, head_dim): the first n_rot values turned in pairs, (i, i + n_rot/2) or (2i, 2i + 1)."""
    n_rot = 2 * angles.shape[1]
    cos, sin = np.cos(angles)[:, None] * magnitude, np.sin(angles)[:, None] * magnitude  # (n, 1, n_rot/2)
    first, second = (
        (slice(0, n_rot // 2), slice(n_rot // 2, n_rot)) if neox else (slice(0, n_rot, 2), slice(1, n_rot, 2))
    )
    y = x.copy()
    y[..., first] = x[..., first] * cos - x[..., second] * sin
    y[..., second] = x[..., first] * sin + x[..., second] * cos
    return y


def is_sliding(model: Model, layer: int) -> bool:
    """Gemma 3: every sixth layer sees everything, unless the file says otherwise; recurrent_model.py always says."""
    if model.architecture not in ("gemma3", "hybrid") or not model.get("attention.sliding_window", 0):
        return False
    pattern = model.get("attention.sliding_window_pattern", 6)
    return bool(pattern[layer]) if isinstance(pattern, list) else layer % pattern < pattern - 1


def attention(model: Model, layer: int, x: Floats, positions: Floats, sequences: Floats) -> Floats:
    """x (n, n_embd) to (n, n_embd), before the residual."""
    n, n_embd = x.shape
    n_layers = model.get("block_count")
    heads = model.get("attention.head_count")
    kv_heads = model.get("attention.head_count_kv", heads)
    n_heads = heads[layer] if isinstance(heads, list) else heads
    n_kv_heads = kv_heads[layer] if isinstance(kv_heads, list) else kv_heads
    head_dim = model.get("attention.key_length", n_embd // n_heads)
    n_rot = model.get("rope.dimension_count", head_dim)
    eps = model.get("attention.layer_norm_rms_epsilon")
    sliding = is_sliding(model, layer)
    blk = f"blk.{layer}"

    if f"{blk}.attn_qkv.weight" in model.tensors:
        kv = n_kv_heads * head_dim
        q, k, v = np.split(model.linear(f"{blk}.attn_qkv", x), [n_heads * head_dim, n_heads * head_dim + kv], axis=1)
    else:
        q, k, v = (model.linear(f"{blk}.attn_{part}", x) for part in "qkv")
    q = q.reshape(n, n_heads, -1)  # (n, n_heads, head_dim)
    k = k.reshape(n, n_kv_heads, -1)  # (n, n_kv_heads, head_dim)
    v = v.reshape(n, n_kv_heads, -1)  # (n, n_kv_heads, head_dim_v)
    if model.architecture == "gemma3":
        q = rms_norm(q, model.vector(f"{blk}.attn_q_norm.weight"), eps)
        k = rms_norm(k, model.vector(f"{blk}.attn_k_norm.weight"), eps)
    if model.architecture != "bert":
        angles, magnitude = rope_angles(model, positions, n_rot, sliding)
        q = rotate(q, angles, magnitude, neox=model.architecture != "llama")
        k = rotate(k, angles, magnitude, neox=model.architecture != "llama")

    k, v = (a.repeat(n_heads // n_kv_heads, axis=1) for a in (k, v))  # a group of query heads shares a key head
    gemma3_27b = model.architecture == "gemma3" and n_layers == 62
    scores = np.einsum("qhd,khd->hqk", q, k) / math.sqrt(n_embd // n_heads if gemma3_27b else head_dim)
    age = positions[:, None] - positions[None, :]  # (n, n), query minus key
    visible = sequences[:, None] == sequences[None, :]
    if model.get("attention.causal", True):
        visible &= age >= 0
    if sliding:
        visible &= age < model.get("attention.sliding_window")
    weights = softmax(np.where(visible, scores, -np.inf))  # (n_heads, n, n)
    return model.linear(f"{blk}.attn_output", np.einsum("hqk,khd->qhd", weights, v).reshape(n, -1))


def feed_forward(model: Model, layer: int, x: Floats) -> Floats:
    """x (n, n_embd) to (n, n_embd), before the residual."""
    if model.architecture == "bert":
        return model.feed_forward_linear(
            f"blk.{layer}.ffn_down", gelu(model.feed_forward_linear(f"blk.{layer}.ffn_up", x))
        )
    activation: Callable[[Floats], Floats] = gelu_tanh if model.architecture == "gemma3" else silu
    gate = activation(model.feed_forward_linear(f"blk.{layer}.ffn_gate", x))  # (n, n_ff)
    up = model.feed_forward_linear(f"blk.{layer}.ffn_up", x)  # (n, n_ff)
    return model.feed_forward_linear(f"blk.{layer}.ffn_down", gate * up)


def encoder_states(model: Model, tokens: Sequence[int], positions: Floats, sequences: Floats) -> Floats:
    """States (n, n_embd) after the last layer."""
    x = model.rows("token_embd.weight", np.asarray(tokens)) + model.rows("token_types.weight")[0]  # (n, n_embd)
    if model.architecture == "bert":
        x = x + model.rows("position_embd.weight", positions.astype(int))
    x = layer_norm(model, "token_embd_norm", x)
    for layer in range(model.get("block_count")):
        x = layer_norm(model, f"blk.{layer}.attn_output_norm", x + attention(model, layer, x, positions, sequences))
        x = layer_norm(model, f"blk.{layer}.layer_output_norm", x + feed_forward(model, layer, x))
    return x


def decoder_states(model: Model, tokens: Sequence[int], positions: Floats, sequences: Floats) -> Floats:
    """States (n, n_embd) after the output norm."""
    gemma = model.architecture == "gemma3"
    eps = model.get("attention.layer_norm_rms_epsilon")
    x = model.rows("token_embd.weight", np.asarray(tokens))  # (n, n_embd)
    if gemma:
        x = x * math.sqrt(x.shape[1])
    for layer in range(model.get("block_count")):
        blk = f"blk.{layer}"
        y = rms_norm(x, model.vector(f"{blk}.attn_norm.weight"), eps)
        y = attention(model, layer, y, positions, sequences)
        x = x + (rms_norm(y, model.vector(f"{blk}.post_attention_norm.weight"), eps) if gemma else y)
        y = feed_forward(model, layer, rms_norm(x, model.vector(f"{blk}.ffn_norm.weight"), eps))
        x = x + (rms_norm(y, model.vector(f"{blk}.post_ffw_norm.weight"), eps) if gemma else y)
    return rms_norm(x, model.vector("output_norm.weight"), eps)


def oracle_states(
    path: str | Path,
    tokens: Sequence[int],
    positions: Sequence[int] | None = None,
    sequences: Sequence[int] | None = None,
    n_ctx: int | None = None,
) -> Floats:
    """States (n, n_embd) that logits and embeddings are made of, of tokens at positions (default 0, 1, …), each
    attending within its own sequence, in a context of n_ctx tokens (default: the file's)."""
    model = Model(path)
    model.n_ctx = n_ctx or model.n_ctx
    assert model.architecture in ("llama", "qwen2", "gemma3", *ENCODERS), model.architecture
    at = np.arange(len(tokens), dtype=np.float64) if positions is None else np.asarray(positions, dtype=np.float64)
    of = np.zeros(len(tokens)) if sequences is None else np.asarray(sequences, dtype=np.float64)
    states = encoder_states if model.architecture in ENCODERS else decoder_states
    return states(model, tokens, at, of)


def oracle_logits(
    path: str | Path,
    tokens: Sequence[int],
    positions: Sequence[int] | None = None,
    sequences: Sequence[int] | None = None,
    n_ctx: int | None = None,
) -> Floats:
    """Logits (n, n_vocab); as oracle_states."""
    model = Model(path)
    x = oracle_states(path, tokens, positions, sequences, n_ctx)
    tied = "output.weight" not in model.tensors
    logits = model.linear("token_embd" if tied else "output", x)  # (n, n_vocab)
    if tied and "output.bias" in model.tensors:
        logits = logits + model.vector("output.bias")
    cap = model.get("final_logit_softcapping", 0.0) if model.architecture == "gemma3" else 0.0
    return cap * np.tanh(logits / cap) if cap else logits
