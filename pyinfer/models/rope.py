"""Rotary position embedding (Su et al. 2021, arXiv:2104.09864): the frequencies by which pairs of a head turn.

At position p the pair i of a query or key becomes (a·cos − b·sin, a·sin + b·cos) · mscale at the angle p · inv_freq[i],
with pairs (i, i + n_rot/2) for NeoX and (2i, 2i + 1) otherwise; dimensions from n_rot on stay as they are.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pyinfer.errors import ModelError
from pyinfer.models.config import RopeConfig

MIN_RAMP = 0.001  # pairs; a ramp of no width is a step


def rope_frequencies(
    rope: RopeConfig, local: bool = False, factors: NDArray[np.floating] | None = None
) -> tuple[NDArray[np.float64], float]:
    """Radians a position for every pair, float64 [n_rot/2], and mscale, the factor on cosine and sine.

    local: for a layer with a sliding window, which has its own base and is never stretched (Gemma 3, arXiv:2503.19786).
    factors: [n_rot/2], the values of the tensor `rope.factors_tensor`, or longrope's for the context in use (Ding et
    al. 2024, arXiv:2402.13753); frequencies are divided by them.
    Raises ModelError if factors have another shape or hold a zero or a value that is not finite.
    """
    base = rope.freq_base_local if local else rope.freq_base
    factor = 1.0 if local else rope.factor
    pairs = np.arange(rope.n_rot // 2, dtype=np.float64)
    inv_freq = base ** (-2 * pairs / rope.n_rot)
    if factors is not None:
        inv_freq = inv_freq / _check_factors(factors, rope.n_rot // 2)
    keep = yarn_ramp(rope, base) * rope.ext_factor if rope.scaling == "yarn" else 0.0
    # Kept frequencies extrapolate; the others are interpolated linearly (Chen et al. 2023, arXiv:2306.15595).
    return inv_freq * (keep + (1 - keep) / factor), rope.attn_factor * yarn_mscale(rope, factor)


def yarn_ramp(rope: RopeConfig, base: float) -> NDArray[np.float64]:
    """How far each pair keeps its frequency: 1 for fast pairs, 0 for slow ones, linear between; float64 [n_rot/2].

    "NTK-by-parts" of YaRN (Peng et al. 2023, arXiv:2309.00071, §3.2), with its bounds moved out to whole pairs.
    """

    def pair_that_turns(times: float) -> float:
        return rope.n_rot * math.log(rope.n_ctx_orig / (times * 2 * math.pi)) / (2 * math.log(base))

    low = max(0, math.floor(pair_that_turns(rope.beta_fast)))
    high = min(rope.n_rot - 1, math.ceil(pair_that_turns(rope.beta_slow)))
    pairs = np.arange(rope.n_rot // 2, dtype=np.float64)
    ramp: NDArray[np.float64] = 1 - np.clip((pairs - low) / max(MIN_RAMP, high - low), 0, 1)
    return ramp


def yarn_mscale(rope: RopeConfig, factor: float) -> float:
    """YaRN's attention temperature, 0.1·ln(factor) + 1 (§3.4), as a factor on queries and on keys."""
    if rope.scaling != "yarn" or rope.ext_factor == 0 or factor <= 1:
        return 1.0
    return 0.1 * math.log(factor) + 1


def _check_factors(factors: NDArray[np.floating], n_pairs: int) -> NDArray[np.float64]:
    values = np.asarray(factors, dtype=np.float64)
    if values.shape != (n_pairs,):
        raise ModelError(f"RoPE frequency factors have shape {values.shape}, expected ({n_pairs},), one a rotated pair")
    if not np.isfinite(values).all() or (values == 0).any():
        bad = int(np.flatnonzero(~np.isfinite(values) | (values == 0))[0])
        raise ModelError(f"RoPE frequency factor {bad} is {values[bad]}, expected a finite number other than 0")
    return values
