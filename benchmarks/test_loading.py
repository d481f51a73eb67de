"""Loading a model: rows to row groups, dequantization, and whole engines of the real models at hand."""

import numpy as np
import pytest
from limits import THREADS, around, read_gbps
from plans import FORMATS, QUANTIZED, random_rows
from real_models import REAL_MODELS

from pyinfer import _kernels
from pyinfer.engine.engine import Engine
from pyinfer.engine.options import EngineOptions
from pyinfer.gguf import GGUFFile, TensorType
from pyinfer.quants import dequantize
from pyinfer.system import allocate
from pyinfer.weights.store import MODES


@pytest.mark.parametrize("name", FORMATS)
def test_interleave(benchmark, name):
    n_rows, k = 4096, 4096
    rows = random_rows(np.random.default_rng(0), name, n_rows, k)
    m = _kernels.Matrix(TensorType[name], n_rows, k, allocate(_kernels.Matrix.size(TensorType[name], n_rows, k)))
    benchmark.pedantic(m.load, (rows, 0, THREADS), rounds=5, warmup_rounds=1)
    benchmark.extra_info["GB/s"] = round(rows.nbytes / benchmark.stats.stats.median / 1e9, 2)


@pytest.mark.parametrize("name", QUANTIZED)
def test_dequantize(benchmark, name):
    rows = random_rows(np.random.default_rng(0), name, 256, 4096)
    benchmark.pedantic(dequantize, (rows, TensorType[name], 4096), rounds=5, warmup_rounds=1)
    benchmark.extra_info["Mvalues/s"] = round(256 * 4096 / benchmark.stats.stats.median / 1e6)


@pytest.mark.parametrize("weights", MODES)
@pytest.mark.parametrize("path", REAL_MODELS, ids=lambda path: path.stem)
def test_engine(benchmark, path, weights):
    """A file in the page cache to an engine that is ready."""

    def load() -> None:
        with GGUFFile(path) as file:
            Engine(file, EngineOptions(n_seqs=1, n_ctx=64, weights=weights)).close()

    bandwidth = around(read_gbps, lambda: benchmark.pedantic(load, rounds=3, warmup_rounds=1))
    seconds = benchmark.stats.stats.median
    benchmark.extra_info["ms"] = round(seconds * 1e3, 1)
    if weights == "copy":  # otherwise little of the file is read
        gbps = path.stat().st_size / seconds / 1e9
        benchmark.extra_info["GB/s"] = round(gbps, 2)
        benchmark.extra_info["share of read bandwidth"] = round(gbps / bandwidth, 3)
