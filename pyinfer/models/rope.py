"""Rotary position embedding (Su et al. 2021, arXiv:2104.09864): the frequencies at which pairs of a head rotate.

At position p the pair i of a query or key becomes (a·cos − b·sin, a·sin + b·cos) · mscale at the angle p · inv_freq[i],
with pairs (i, i + n_rot/2) for NeoX and (2i, 2i + 1) otherwise. Dimensions from n_rot on are not rotated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pyinfer.errors import ModelError
from pyinfer.models.keys import MAX_CONTEXT, MAX_WIDTH, Keys

SCALINGS = ("none", "linear", "yarn", "longrope")
FREQS = ("rope_freqs.weight",)
LONGROPE = ("rope_factors_short.weight", "rope_factors_long.weight")
MIN_RAMP = 0.001  # pairs; a ramp of no width is a step


@dataclass(frozen=True)
class Rope:
    """How the heads of a layer rotate: n_rot dimensions of each, an even number."""

    n_rot: int
    neox: bool  # pairs (i, i + n_rot/2); else (2i, 2i + 1)
    freq_base: float = 10000.0
    scaling: str = "none"  # one of SCALINGS
    factor: float = 1.0  # by which the context is stretched; 1: it is not
    n_ctx_orig: int = 1  # context before stretching
    attn_factor: float = 1.0  # on the rotated vectors, with any scaling
    ext_factor: float = 1.0  # YaRN: 1 keeps high frequencies, 0 makes it linear
    beta_fast: float = 32.0  # YaRN: pairs that turn more often than this in n_ctx_orig keep their frequency
    beta_slow: float = 1.0  # YaRN: pairs that turn less often than this are interpolated
    log_multiplier: float = 0.0  # YaRN: m of the temperature (1 + 0.1 ln factor) / (1 + 0.1 m ln factor)
    # Tensors [n_rot/2] that divide the frequencies: none, one (Llama 3.1), or longrope's two (Ding et al. 2024,
    # arXiv:2402.13753), the first for contexts up to n_ctx_orig, the second for longer ones.
    factor_tensors: tuple[str, ...] = ()
    still: frozenset[int] = frozenset()  # pairs that do not turn

    def factors_of(self, n_ctx: int) -> str | None:
        """Return the name of the tensor that divides the frequencies in a context of n_ctx tokens."""
        if not self.factor_tensors:
            return None
        return self.factor_tensors[-1 if n_ctx > self.n_ctx_orig else 0]

    def unscaled(self, freq_base: float) -> Rope:
        """Return a copy with another base and without stretching, for layers with a window (Gemma 3)."""
        return replace(self, freq_base=freq_base, factor=1.0)


def read_rope(
    keys: Keys, head_dim: int, neox: bool, whole_head: bool = False, dims_key: str = "rope.dimension_count"
) -> Rope:
    """Read the rotation of heads with head_dim dimensions. `whole_head`: all of them must be rotated."""
    n_rot = keys.get_int(dims_key, MAX_WIDTH, default=head_dim)
    if n_rot % 2 or n_rot > head_dim or (whole_head and n_rot != head_dim):
        expected = f"{head_dim}" if whole_head else f"an even number up to {head_dim}"
        keys.fail(dims_key, n_rot, f"{expected} (the head's size)")
    scaling = keys.get_choice("rope.scaling.type", "linear", SCALINGS)
    factor_key = "rope.scaling.factor" if keys.has("rope.scaling.factor") else "rope.scale_linear"
    factor = keys.get_float(factor_key, 0.0) or 1.0  # files write 0 for: not scaled
    n_ctx_orig = keys.get_int("rope.scaling.original_context_length", MAX_CONTEXT, 0, minimum=0)
    yarn = scaling == "yarn"
    ext_factor = keys.get_float("rope.scaling.yarn_ext_factor", -1.0, minimum=-math.inf) if yarn else 0.0
    return Rope(
        n_rot=n_rot,
        neox=neox,
        freq_base=read_freq_base(keys, "rope.freq_base"),
        scaling=scaling,
        factor=1.0 if scaling == "none" else factor,
        n_ctx_orig=n_ctx_orig or keys.n_ctx_train,
        attn_factor=keys.get_positive_float("rope.scaling.attn_factor", 1.0),
        ext_factor=ext_factor if ext_factor >= 0 else 1.0,  # files write a negative number for: not set
        beta_fast=keys.get_positive_float("rope.scaling.yarn_beta_fast", 32.0) if yarn else 32.0,
        beta_slow=keys.get_positive_float("rope.scaling.yarn_beta_slow", 1.0) if yarn else 1.0,
        log_multiplier=keys.get_float("rope.scaling.yarn_log_multiplier", 0.0) if yarn else 0.0,
    )


def read_freq_base(keys: Keys, key: str, default: float = 10000.0) -> float:
    value = keys.get_float(key, default)
    if value <= 1:
        keys.fail(key, value, "more than 1")
    return value


def read_factors(keys: Keys, names: tuple[str, ...], n_rot: int) -> tuple[str, ...]:
    """Return these names if the file has such tensors, else nothing. Raises ModelError if it has only some of them."""
    tensors = keys.file.tensors
    if not any(name in tensors for name in names):
        return ()
    for name in names:
        if name not in tensors:
            raise ModelError(f"{keys.file.path}: the tensor {name} is missing")
        shape = tuple(tensors[name].shape)
        if shape != (n_rot // 2,):
            raise ModelError(
                f"{keys.file.path}: {name} has shape {shape}, expected ({n_rot // 2},), one a rotated pair"
            )
    return names


def rope_frequencies(rope: Rope, factors: NDArray[np.floating] | None = None) -> tuple[NDArray[np.float64], float]:
    """Return the radians a position of each pair, float64 [n_rot/2], and mscale, the factor on cosine and sine.

    `factors`: [n_rot/2], the values of the tensor `rope.factors_of(n_ctx)`; frequencies are divided by them.
    Raises ModelError if factors have another shape or hold a zero or a value that is not finite.
    """
    pairs = np.arange(rope.n_rot // 2, dtype=np.float64)
    inv_freq = rope.freq_base ** (-2 * pairs / rope.n_rot)
    if factors is not None:
        inv_freq = inv_freq / _check_factors(factors, rope.n_rot // 2)
    inv_freq[list(rope.still)] = 0
    keep = yarn_ramp(rope) * rope.ext_factor if rope.scaling == "yarn" else 0.0
    # Kept frequencies extrapolate; the others are interpolated linearly (Chen et al. 2023, arXiv:2306.15595).
    return inv_freq * (keep + (1 - keep) / rope.factor), rope.attn_factor * yarn_mscale(rope)


def yarn_ramp(rope: Rope) -> NDArray[np.float64]:
    """Return how far each pair keeps its frequency: 1 for fast pairs, 0 for slow ones, linear between; [n_rot/2].

    This is YaRN's "NTK-by-parts" (Peng et al. 2023, arXiv:2309.00071, §3.2), with its bounds moved out to whole pairs.
    """

    def pair_that_turns(times: float) -> float:
        return rope.n_rot * math.log(rope.n_ctx_orig / (times * 2 * math.pi)) / (2 * math.log(rope.freq_base))

    low = max(0, math.floor(pair_that_turns(rope.beta_fast)))
    high = min(rope.n_rot - 1, math.ceil(pair_that_turns(rope.beta_slow)))
    pairs = np.arange(rope.n_rot // 2, dtype=np.float64)
    ramp: NDArray[np.float64] = 1 - np.clip((pairs - low) / max(MIN_RAMP, high - low), 0, 1)
    return ramp


def yarn_mscale(rope: Rope) -> float:
    """Return YaRN's attention temperature, 0.1·ln(factor) + 1 (§3.4), as a factor on queries and on keys.

    With a log_multiplier m (DeepSeek, Mistral 3) it is divided by 0.1·m·ln(factor) + 1.
    """
    if rope.scaling != "yarn" or rope.ext_factor == 0 or rope.factor <= 1:
        return 1.0
    of_log = 0.1 * math.log(rope.factor)
    return (of_log + 1) / (of_log * rope.log_multiplier + 1)


def _check_factors(factors: NDArray[np.floating], n_pairs: int) -> NDArray[np.float64]:
    values = np.asarray(factors, dtype=np.float64)
    if values.shape != (n_pairs,):
        raise ModelError(f"RoPE frequency factors have shape {values.shape}, expected ({n_pairs},), one a rotated pair")
    if not np.isfinite(values).all() or (values == 0).any():
        bad = int(np.flatnonzero(~np.isfinite(values) | (values == 0))[0])
        raise ModelError(f"RoPE frequency factor {bad} is {values[bad]}, expected a finite number other than 0")
    return values
