"""Single operations on NumPy arrays, as plans of one operation; and random blocks of every format."""

from __future__ import annotations

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Quant

from pyinfer import _kernels
from pyinfer.gguf import TensorType

FLOATS = ("F32", "F16", "BF16")
FORMATS = [t.name for t in TensorType if _kernels.has_kernels(t)]
QUANTIZED = [name for name in FORMATS if name not in FLOATS]
# where a block holds half floats; formats that are not here have scales of another kind
HALVES = {
    "Q1_0": (0,),
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q8_0": (0,),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "IQ2_XXS": (0,),
    "IQ2_XS": (0,),
    "IQ2_S": (0,),
    "IQ3_XXS": (0,),
    "IQ3_S": (0,),
    "IQ1_S": (0,),
    "IQ4_NL": (0,),
    "IQ4_XS": (0,),
    "TQ1_0": (52,),
    "TQ2_0": (64,),
}


def random_rows(rng: np.random.Generator, name: str, n_rows: int, k: int, scale: float = 0.01) -> np.ndarray:
    """Random blocks uint8 [n_rows, row_bytes]: any quants, scales of about the given size."""
    kind = TensorType[name]
    if name in FLOATS:
        values = rng.standard_normal((n_rows, k)).astype(np.float32)
        return gguf.quants.quantize(values, Quant[name]).view(np.uint8).reshape(n_rows, -1)
    blocks = rng.integers(0, 256, (n_rows * k // kind.block_size, kind.block_bytes), dtype=np.uint8)
    for offset in HALVES.get(name, ()):
        halves = (scale * rng.uniform(0.5, 2, len(blocks))).astype("<f2")
        blocks[:, offset : offset + 2] = halves[:, None].view(np.uint8)
    if name == "IQ1_M":  # the half float's nibbles are the high ones of the four words at 48
        bits = (scale * rng.uniform(0.5, 2, len(blocks))).astype("<f2").view(np.uint16)
        for i in range(4):
            blocks[:, 49 + 2 * i] = blocks[:, 49 + 2 * i] & 0x0F | (bits >> (4 * i) & 15).astype(np.uint8) << 4
    if name == "MXFP4":
        blocks[:, 0] = rng.integers(110, 125, len(blocks))
    if name == "NVFP4":
        blocks[:, :4] = rng.integers(16, 64, (len(blocks), 4))
    return blocks.reshape(n_rows, -1)


def dequantized(name: str, rows: np.ndarray, k: int) -> np.ndarray:
    """By the gguf package, float32 [n_rows, k]; of Q1_0 it knows the size only: a half float, then 128 signs."""
    if name == "F32":
        return rows.view(np.float32)
    if name == "Q1_0":
        blocks = np.ascontiguousarray(rows).reshape(-1, 18)
        positive = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little").astype(bool)
        d = blocks[:, :2].copy().view("<f2").astype(np.float32)
        return np.where(positive, d, -d).reshape(len(rows), k)
    with np.errstate(all="ignore"):
        return gguf.quants.dequantize(rows, Quant[name]).reshape(len(rows), k)


def matrix(name: str, rows: np.ndarray, k: int, memory: np.ndarray | None = None) -> _kernels.Matrix:
    size = _kernels.Matrix.size(TensorType[name], len(rows), k)
    m = _kernels.Matrix(TensorType[name], len(rows), k, _kernels.aligned(size, np.uint8) if memory is None else memory)
    m.load(np.ascontiguousarray(rows))
    return m


def run(
    plan: _kernels.Plan, n: int, tokens=None, positions=None, sequences=None, outputs=(), page_table=None, **more
) -> None:
    """One pass over n tokens; by default of ids 0 at positions 0, 1, … of sequence 0.

    page_table: of all memory groups (default: each sequence has its own pages), or a tuple with one for each.
    """

    def vector(values):
        return np.ascontiguousarray(values, np.int32)

    n_pages = -(-plan.n_ctx // _kernels.PAGE)
    if page_table is None:
        page_table = np.arange(plan.n_sequences * n_pages, dtype=np.int32).reshape(plan.n_sequences, n_pages)
    plan.run(
        vector(np.zeros(n) if tokens is None else tokens),
        vector(np.arange(n) if positions is None else positions),
        vector(np.zeros(n) if sequences is None else sequences),
        vector(outputs),
        page_table if isinstance(page_table, tuple) else (page_table,) * 4,
        **more,
    )


def value(name: str, k: int, n: int, data=None) -> _kernels.Value:
    """Activations [n, k] in rows, of these numbers."""
    v = _kernels.Value(name, k, n).want("rows")
    if data is not None:
        v.rows[:n] = data
    return v


def multiply(
    weights: list[_kernels.Matrix], x: np.ndarray, n_threads: int = 1, biases=None, scales=None
) -> tuple[list[np.ndarray], np.ndarray]:
    """Products x @ w.T for each weight, [n, rows]; and the activations as the products saw them, float64 [n, k]."""
    n, k = x.shape
    plan = _kernels.Plan(n, n, 1, n_threads)
    source, packed = _kernels.Value("x", k, n), _kernels.Value("packed", k, n)
    outs = [_kernels.Value(f"out{i}", w.n_rows, n) for i, w in enumerate(weights)]
    plan.pack("pack", source, packed)
    biases, scales = biases or [None] * len(weights), scales or [1.0] * len(weights)
    plan.matmul("matmul", packed, list(zip(weights, outs, biases, scales, strict=True)))
    source.rows[:n] = x
    run(plan, n)
    seen = packed.dequantized(n) if any(w.quantized for w in weights) else x.astype(np.float64)
    return [out.rows[:n].copy() for out in outs], seen
