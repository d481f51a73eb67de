"""Hyper-parameters of a model, read from GGUF metadata and checked.

Invariant: what read_config returns is consistent. Sizes are positive and within bounds, heads divide, per-layer tuples
have n_layers entries, rotated dimensions are even and fit into a head. Model code need not check them again.
Defaults are llama.cpp's. Files may hold keys their architecture does not define; those are not looked at. A new
architecture of the same family is one entry of ARCHITECTURES.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from pyinfer.errors import ModelError

ROPE_SCALINGS = ("none", "linear", "yarn", "longrope")
POOLINGS = {0: None, 1: "mean", 2: "cls", 3: "last", 4: "rank", (1 << 32) - 1: None}  # as files number them

# Far above any published model; a larger value is damage, and products of two of them stay within 64 bits.
MAX_LAYERS = 4096
MAX_WIDTH = 1 << 20
MAX_HEADS = 1 << 14
MAX_VOCAB = 1 << 24
MAX_CONTEXT = (1 << 31) - 1

MAX_SHOWN = 80  # characters of a bad value in a message: a hostile file's may be megabytes


class TensorShape(Protocol):
    """What is read of a tensor: its shape, row-major."""

    @property
    def shape(self) -> tuple[int, ...]: ...


class ModelFile(Protocol):
    """What is read of a file; pyinfer.gguf.GGUFFile is one. The typed getters raise on values of another type."""

    @property
    def path(self) -> Any: ...
    @property
    def metadata(self) -> Mapping[str, Any]: ...
    @property
    def tensors(self) -> Mapping[str, TensorShape]: ...
    def get_int(self, key: str) -> int: ...
    def get_float(self, key: str) -> float: ...
    def get_str(self, key: str) -> str: ...
    def get_bool(self, key: str) -> bool: ...


@dataclass(frozen=True)
class RopeConfig:
    """Rotary position embedding; rope.py turns it into frequencies."""

    n_rot: int  # rotated dimensions of a head, even
    neox: bool  # pairs (i, i + n_rot/2); else (2i, 2i + 1)
    freq_base: float
    freq_base_local: float  # of layers with a sliding window, which are never scaled
    scaling: str  # one of ROPE_SCALINGS
    factor: float  # context is stretched by this much; 1: not at all
    n_ctx_orig: int  # context before stretching
    attn_factor: float  # on the rotated vectors, with any scaling
    ext_factor: float  # YaRN: 1 keeps high frequencies, 0 makes it linear
    beta_fast: float  # YaRN: pairs that turn more often than this in n_ctx_orig keep their frequency
    beta_slow: float  # YaRN: pairs that turn less often than this are interpolated
    factors_tensor: str | None  # float [n_rot/2], divides the frequencies (Llama 3.1)


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and constants of a transformer; tuples have one entry a layer."""

    architecture: str
    n_layers: int
    n_embd: int
    n_heads: tuple[int, ...]
    n_kv_heads: tuple[int, ...]
    head_dim: int  # of queries and keys
    head_dim_v: int
    n_ff: tuple[int, ...]
    n_vocab: int  # rows of the embedding
    n_ctx_train: int
    layer_norm: bool  # norms are LayerNorm (Ba et al. 2016); else RMSNorm (Zhang & Sennrich 2019)
    norm_eps: float
    rope: RopeConfig | None  # None: n_ctx_train learned positions are added to the embeddings
    causal: bool  # tokens see those before them; else all of their sequence
    encoder: bool  # its last layer is its output: there are no logits
    pooling: str | None  # what makes a text's embedding of its tokens': "mean", "cls", "last" or "rank"
    sliding_window: int  # a query sees this many keys, itself included; 0: no layer slides
    sliding_layers: tuple[bool, ...]
    attn_scale: float  # on query · key
    attn_softcap: float  # 0: none
    final_softcap: float  # 0: none
    embd_scale: float  # on embeddings
    tied_output: bool  # the output matrix is the embedding
    ffn_output_scales: bool  # feed-forward tensors NAME.scale apply, after the bias (attention's do always, before it)


@dataclass(frozen=True)
class Architecture:
    """What an architecture defines beyond the common keys, with llama.cpp's defaults."""

    neox: bool
    whole_head_rotates: bool = False  # rope.dimension_count must be the head's
    factors_tensor: str | None = None
    sliding_period: int = 0  # every so many layers the last sees everything; 0: it knows no window
    freq_base_local: float = 10000.0
    attn_softcap: bool = False  # reads attn_logit_softcapping
    final_softcap: bool = False  # reads final_logit_softcapping
    scaled_embedding: bool = False  # embeddings times √n_embd
    encoder: bool = False  # no logits, and attention that is not causal unless the file says otherwise
    layer_norm: bool = False
    learned_positions: bool = False  # a table of positions, no RoPE
    width_scaled_layers: int = 0  # at this depth attention is scaled by √(n_embd/n_heads), not √head_dim
    ffn_output_scales: bool = False


ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": Architecture(
        neox=False, whole_head_rotates=True, factors_tensor="rope_freqs.weight", ffn_output_scales=True
    ),
    "qwen2": Architecture(neox=True),
    "gemma3": Architecture(
        neox=True, sliding_period=6, final_softcap=True, scaled_embedding=True, width_scaled_layers=62
    ),
    "bert": Architecture(neox=False, encoder=True, layer_norm=True, learned_positions=True),
    "nomic-bert": Architecture(neox=True, encoder=True, layer_norm=True),
}


class Keys:
    """The keys `ARCHITECTURE.*` of a file, with errors that name file and key."""

    def __init__(self, file: ModelFile, architecture: str) -> None:
        self.file = file
        self.prefix = architecture

    def has(self, key: str) -> bool:
        return f"{self.prefix}.{key}" in self.file.metadata

    def fail(self, key: str, found: object, expected: str) -> NoReturn:
        shown = str(found) if len(str(found)) <= MAX_SHOWN else f"{str(found)[:MAX_SHOWN]}…"
        raise ModelError(f"{self.file.path}: {self.prefix}.{key} is {shown}, expected {expected}")

    def _present(self, key: str, default: object) -> bool:
        """Whether to read the key; raises if it is neither there nor optional."""
        if self.has(key):
            return True
        if default is None:
            raise ModelError(f"{self.file.path}: the key {self.prefix}.{key} is missing")
        return False

    def get_int(self, key: str, maximum: int, default: int | None = None, minimum: int = 1) -> int:
        value = self.file.get_int(f"{self.prefix}.{key}") if self._present(key, default) else default
        assert value is not None
        if not minimum <= value <= maximum:
            self.fail(key, value, f"{minimum} to {maximum}")
        return value

    def get_float(self, key: str, default: float | None = None, minimum: float = 0.0) -> float:
        value = self.file.get_float(f"{self.prefix}.{key}") if self._present(key, default) else default
        assert value is not None
        if not (math.isfinite(value) and value >= minimum):
            self.fail(key, value, f"a finite number of at least {minimum:g}")
        return value

    def get_positive_float(self, key: str, default: float) -> float:
        value = self.get_float(key, default)
        if value == 0:
            self.fail(key, value, "more than 0")
        return value

    def get_bool(self, key: str, default: bool) -> bool:
        return self.file.get_bool(f"{self.prefix}.{key}") if self.has(key) else default

    def get_choice(self, key: str, default: str, known: tuple[str, ...]) -> str:
        value = self.file.get_str(f"{self.prefix}.{key}") if self.has(key) else default
        if value not in known:
            self.fail(key, repr(value), f"one of {', '.join(known)}")
        return value

    def get_per_layer(
        self, key: str, n_layers: int, maximum: int, default: tuple[int, ...] | None = None
    ) -> tuple[int, ...]:
        """One number for all layers, or an array of one a layer."""
        values = self.get_array(key)
        if values is None:
            if default is not None and not self.has(key):
                return default
            return (self.get_int(key, maximum),) * n_layers
        if len(values) != n_layers:
            self.fail(key, f"an array of {len(values)}", f"{n_layers}, one a layer")
        for value in values:
            if not 1 <= value <= maximum:
                self.fail(key, value, f"1 to {maximum}")
        return values

    def get_array(self, key: str) -> tuple[int, ...] | None:
        """The integers or booleans of an array; None where the key is absent or holds a scalar."""
        value = self.file.metadata.get(f"{self.prefix}.{key}")
        if value is None or isinstance(value, bool | int | float | str) or not hasattr(value, "__len__"):
            return None
        if len(value) > MAX_LAYERS:
            self.fail(key, f"an array of {len(value)}", f"at most {MAX_LAYERS} values")
        values = [v.item() if hasattr(v, "item") else v for v in value]
        if not all(isinstance(v, int) for v in values):
            self.fail(key, values, "integers")
        return tuple(values)


def read_config(file: ModelFile) -> ModelConfig:
    """The hyper-parameters of the model in `file`.

    Raises ModelError for an unknown architecture and for values that are missing, absurd or contradict each other.
    """
    name, arch = _architecture(file)
    keys = Keys(file, name)
    n_layers = keys.get_int("block_count", MAX_LAYERS)
    n_embd = keys.get_int("embedding_length", MAX_WIDTH)
    n_ctx_train = keys.get_int("context_length", MAX_CONTEXT)
    if keys.has("expert_count") and (n_experts := keys.get_int("expert_count", MAX_WIDTH, minimum=0)):
        keys.fail("expert_count", n_experts, f"0: mixtures of experts are not supported for {name}")

    n_heads = keys.get_per_layer("attention.head_count", n_layers, MAX_HEADS)
    n_kv_heads = keys.get_per_layer("attention.head_count_kv", n_layers, MAX_HEADS, default=n_heads)
    for heads, kv_heads in zip(n_heads, n_kv_heads, strict=True):
        if heads % kv_heads:
            keys.fail("attention.head_count_kv", kv_heads, f"a divisor of the {heads} heads")
    head_dim = _head_dim(keys, "attention.key_length", n_embd, n_heads[0])
    head_dim_v = _head_dim(keys, "attention.value_length", n_embd, n_heads[0])

    sliding_layers = _sliding_layers(keys, arch, n_layers)
    sliding_window = keys.get_int("attention.sliding_window", MAX_CONTEXT) if any(sliding_layers) else 0
    if sliding_window:
        _check_equal(keys, "attention.key_length_swa", head_dim)
        _check_equal(keys, "attention.value_length_swa", head_dim_v)
    query_width = n_embd // n_heads[0] if arch.width_scaled_layers == n_layers else head_dim

    return ModelConfig(
        architecture=name,
        n_layers=n_layers,
        n_embd=n_embd,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=head_dim,
        head_dim_v=head_dim_v,
        n_ff=keys.get_per_layer("feed_forward_length", n_layers, MAX_WIDTH),
        n_vocab=_n_vocab(file, n_embd),
        n_ctx_train=n_ctx_train,
        layer_norm=arch.layer_norm,
        norm_eps=keys.get_float(f"attention.layer_norm_{'' if arch.layer_norm else 'rms_'}epsilon"),
        rope=None if arch.learned_positions else _rope(keys, arch, head_dim, n_ctx_train, bool(sliding_window)),
        causal=keys.get_bool("attention.causal", not arch.encoder),
        encoder=arch.encoder,
        pooling=_pooling(keys),
        sliding_window=sliding_window,
        sliding_layers=sliding_layers,
        attn_scale=1 / math.sqrt(query_width),
        attn_softcap=keys.get_float("attn_logit_softcapping", 0.0) if arch.attn_softcap else 0.0,
        final_softcap=keys.get_float("final_logit_softcapping", 0.0) if arch.final_softcap else 0.0,
        embd_scale=math.sqrt(n_embd) if arch.scaled_embedding else 1.0,
        tied_output="output.weight" not in file.tensors,
        ffn_output_scales=arch.ffn_output_scales,
    )


def _architecture(file: ModelFile) -> tuple[str, Architecture]:
    if "general.architecture" not in file.metadata:
        raise ModelError(f"{file.path}: the key general.architecture is missing")
    name = file.get_str("general.architecture")
    if name not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise ModelError(f"{file.path}: general.architecture is {name[:MAX_SHOWN]!r}, expected one of {known}")
    return name, ARCHITECTURES[name]


def _head_dim(keys: Keys, key: str, n_embd: int, n_heads: int) -> int:
    if not keys.has(key) and n_embd % n_heads:
        keys.fail("attention.head_count", n_heads, f"a divisor of the embedding's {n_embd} (there is no {key})")
    return keys.get_int(key, MAX_WIDTH, default=n_embd // n_heads)


def _n_vocab(file: ModelFile, n_embd: int) -> int:
    """Rows of the embedding (columns, where it is stored transposed), which may exceed the tokenizer's vocabulary
    (padding) but not fall short of it."""
    if "token_embd.weight" not in file.tensors:
        raise ModelError(f"{file.path}: the tensor token_embd.weight is missing")
    shape = tuple(file.tensors["token_embd.weight"].shape)
    if len(shape) == 2 and shape[1] != n_embd:
        shape = shape[::-1]
    if len(shape) != 2 or shape[1] != n_embd or not 1 <= shape[0] <= MAX_VOCAB:
        found = tuple(file.tensors["token_embd.weight"].shape)
        raise ModelError(f"{file.path}: token_embd.weight has shape {found}, expected (1 to {MAX_VOCAB}, {n_embd})")
    n_tokens = len(file.metadata.get("tokenizer.ggml.tokens", ()))
    if n_tokens > shape[0]:
        raise ModelError(
            f"{file.path}: tokenizer.ggml.tokens has {n_tokens} tokens, expected at most {shape[0]}, "
            "the rows of token_embd.weight"
        )
    return shape[0]


def _sliding_layers(keys: Keys, arch: Architecture, n_layers: int) -> tuple[bool, ...]:
    """Which layers see only a window: all but every period-th, or as an array says."""
    key = "attention.sliding_window_pattern"
    if not arch.sliding_period or not keys.get_int("attention.sliding_window", MAX_CONTEXT, default=0, minimum=0):
        return (False,) * n_layers
    pattern = keys.get_array(key)
    if pattern is None:
        period = keys.get_int(key, MAX_LAYERS, default=arch.sliding_period, minimum=0)
        return tuple(period == 0 or layer % period < period - 1 for layer in range(n_layers))
    if len(pattern) != n_layers or not set(pattern) <= {0, 1}:
        keys.fail(key, list(pattern), f"{n_layers} zeros and ones, one a layer")
    return tuple(bool(slides) for slides in pattern)


def _pooling(keys: Keys) -> str | None:
    value = keys.get_int("pooling_type", max(POOLINGS), default=0, minimum=-1)
    if value % (1 << 32) not in POOLINGS:
        keys.fail("pooling_type", value, "0 to 4")
    return POOLINGS[value % (1 << 32)]


def _check_equal(keys: Keys, key: str, expected: int) -> None:
    """Sliding layers of another shape than the rest would need a cache of their own."""
    if keys.has(key) and (found := keys.get_int(key, MAX_WIDTH)) != expected:
        keys.fail(key, found, f"{expected}, as in the other layers")


def _rope(keys: Keys, arch: Architecture, head_dim: int, n_ctx_train: int, sliding: bool) -> RopeConfig:
    n_rot = keys.get_int("rope.dimension_count", MAX_WIDTH, default=head_dim)
    if n_rot % 2 or n_rot > head_dim or (arch.whole_head_rotates and n_rot != head_dim):
        expected = f"{head_dim}" if arch.whole_head_rotates else f"an even number up to {head_dim}"
        keys.fail("rope.dimension_count", n_rot, f"{expected} (the head's size)")
    if sliding:
        _check_equal(keys, "rope.dimension_count_swa", n_rot)

    scaling = keys.get_choice("rope.scaling.type", "linear", ROPE_SCALINGS)
    factor_key = "rope.scaling.factor" if keys.has("rope.scaling.factor") else "rope.scale_linear"
    factor = keys.get_float(factor_key, 0.0) or 1.0  # 0 is written for: not scaled
    freq_base = _freq_base(keys, "rope.freq_base", 10000.0)
    ext_factor = keys.get_float("rope.scaling.yarn_ext_factor", -1.0, minimum=-math.inf) if scaling == "yarn" else 0.0
    return RopeConfig(
        n_rot=n_rot,
        neox=arch.neox,
        freq_base=freq_base,
        freq_base_local=_freq_base(keys, "rope.freq_base_swa", arch.freq_base_local) if sliding else freq_base,
        scaling=scaling,
        factor=1.0 if scaling == "none" else factor,
        n_ctx_orig=keys.get_int("rope.scaling.original_context_length", MAX_CONTEXT, 0, minimum=0) or n_ctx_train,
        attn_factor=keys.get_positive_float("rope.scaling.attn_factor", 1.0),
        ext_factor=ext_factor if ext_factor >= 0 else 1.0,  # negative is written for: not set
        beta_fast=keys.get_positive_float("rope.scaling.yarn_beta_fast", 32.0) if scaling == "yarn" else 32.0,
        beta_slow=keys.get_positive_float("rope.scaling.yarn_beta_slow", 1.0) if scaling == "yarn" else 1.0,
        factors_tensor=_factors_tensor(keys, arch.factors_tensor, n_rot),
    )


def _freq_base(keys: Keys, key: str, default: float) -> float:
    value = keys.get_float(key, default)
    if value <= 1:
        keys.fail(key, value, "more than 1")
    return value


def _factors_tensor(keys: Keys, name: str | None, n_rot: int) -> str | None:
    if name is None or name not in keys.file.tensors:
        return None
    shape = tuple(keys.file.tensors[name].shape)
    if shape != (n_rot // 2,):
        raise ModelError(f"{keys.file.path}: {name} has shape {shape}, expected ({n_rot // 2},), one a rotated pair")
    return name
