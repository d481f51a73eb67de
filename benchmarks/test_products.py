"""Matrix products by format, instruction set and tokens: GB/s of weights, GMAC/s, and their shares of the limits.

Weights of 400 MB are read in turn, so that they come from memory and not from a cache.
"""

import numpy as np
import pytest
from limits import THREADS, around, dot_gmacs, read_gbps
from plans import FORMATS, QUANTIZED, run

from pyinfer import _kernels
from pyinfer.gguf import TensorType
from pyinfer.system import allocate

N_ROWS, K = 8960, 1536
BYTES = 400_000_000


@pytest.mark.parametrize("n", [1, 8, 128])
@pytest.mark.parametrize("name", FORMATS)
def test_product(benchmark, isa, name, n):
    kind = TensorType[name]
    size = _kernels.Matrix.size(kind, N_ROWS, K)
    count = max(1, BYTES // size)
    x, packed, out = (_kernels.Value(s, k, n) for s, k in (("x", K), ("packed", K), ("out", N_ROWS)))
    plan = _kernels.Plan(n, n, 1, THREADS)
    plan.pack("pack", x, packed)
    for _ in range(count):
        memory = allocate(size)
        memory[:] = 0x38  # ordinary numbers in every format; denormal ones would take their own time
        plan.matmul("matmul", packed, [(_kernels.Matrix(kind, N_ROWS, K, memory), out, None, 1.0)])
    x.rows[:n] = np.random.default_rng(0).standard_normal((n, K))
    bandwidth = around(read_gbps, lambda: benchmark.pedantic(run, (plan, n), rounds=7, warmup_rounds=1))
    limit = dot_gmacs() if name in QUANTIZED else None
    seconds = benchmark.stats.stats.median
    gbps, gmacs = size * count / seconds / 1e9, N_ROWS * K * n * count / seconds / 1e9
    benchmark.extra_info["GB/s"] = round(gbps, 2)
    benchmark.extra_info["GMAC/s"] = round(gmacs, 1)
    benchmark.extra_info["share of read bandwidth"] = round(gbps / bandwidth, 3)
    if limit is not None:
        benchmark.extra_info["share of dot limit"] = round(gmacs / limit, 3)
