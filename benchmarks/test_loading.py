"""Loading a model: rows to row groups, and dequantization."""

import numpy as np
import pytest
from plans import FORMATS, QUANTIZED, random_rows

from pyinfer import _kernels
from pyinfer.gguf import TensorType
from pyinfer.quants import dequantize
from pyinfer.system import allocate, default_threads


@pytest.mark.parametrize("name", FORMATS)
def test_interleave(benchmark, name):
    n_rows, k = 4096, 4096
    rows = random_rows(np.random.default_rng(0), name, n_rows, k)
    m = _kernels.Matrix(TensorType[name], n_rows, k, allocate(_kernels.Matrix.size(TensorType[name], n_rows, k)))
    benchmark.pedantic(m.load, (rows, 0, default_threads()), rounds=5, warmup_rounds=1)
    benchmark.extra_info["GB/s"] = round(rows.nbytes / benchmark.stats.stats.median / 1e9, 2)


@pytest.mark.parametrize("name", QUANTIZED)
def test_dequantize(benchmark, name):
    rows = random_rows(np.random.default_rng(0), name, 256, 4096)
    benchmark.pedantic(dequantize, (rows, TensorType[name], 4096), rounds=5, warmup_rounds=1)
    benchmark.extra_info["Mvalues/s"] = round(256 * 4096 / benchmark.stats.stats.median / 1e6)
