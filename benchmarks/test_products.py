"""Matrix products by format, instruction set and tokens: GB/s of weights, GMAC/s, and the share of the read bandwidth.

Weights of 400 MB are read in turn, so that products with few tokens come from memory and not from a cache.
"""

import numpy as np
import pytest
from plans import FORMATS, run

from pyinfer import _kernels
from pyinfer.gguf import TensorType
from pyinfer.system import allocate, default_threads

N_ROWS, K = 8960, 1536
BYTES = 400_000_000
THREADS = default_threads()


@pytest.fixture(scope="module")
def bandwidth() -> float:
    memory = allocate(1 << 30)
    memory[:] = 1
    return max(_kernels.read_bandwidth(memory, THREADS) for _ in range(10))


@pytest.mark.parametrize("n", [1, 8, 128])
@pytest.mark.parametrize("isa", [isa for isa in _kernels.available_isas() if isa != "scalar"])
@pytest.mark.parametrize("name", FORMATS)
def test_product(benchmark, bandwidth, name, isa, n):
    _kernels.select_isa(isa)
    kind = TensorType[name]
    size = _kernels.Matrix.size(kind, N_ROWS, K)
    count = max(1, BYTES // size) if n <= 8 else 2
    x, packed, out = (_kernels.Value(s, k, n) for s, k in (("x", K), ("packed", K), ("out", N_ROWS)))
    plan = _kernels.Plan(n, n, 1, THREADS)
    plan.pack("pack", x, packed)
    for _ in range(count):
        memory = allocate(size)
        memory[:] = 1
        plan.matmul("matmul", packed, [(_kernels.Matrix(kind, N_ROWS, K, memory), out, None, 1.0)])
    x.rows[:n] = np.random.default_rng(0).standard_normal((n, K))
    benchmark.pedantic(run, (plan, n), rounds=7, warmup_rounds=1)
    _kernels.select_isa()
    seconds = benchmark.stats.stats.median
    benchmark.extra_info["GB/s"] = round(size * count / seconds / 1e9, 2)
    benchmark.extra_info["GMAC/s"] = round(N_ROWS * K * n * count / seconds / 1e9, 1)
    benchmark.extra_info["share of read bandwidth"] = round(size * count / seconds / 1e9 / bandwidth, 3)
