"""Operations between the products, by instruction set, for one token and for 512: norm, RoPE, GLU, soft-capping.

The widths are Qwen2.5-Coder-14B's, soft-capping's that of Gemma's vocabulary. An operation is recorded many times in a
plan, as in a model, so that the way in and out of a pass does not count.

GB/s are of what it reads and writes. The limit is what one thread gets when it reads its part of as much memory again
and again (out of a cache, where it fits into one), times the threads: to wait for each other would take longer than
such short reading.
"""

from collections.abc import Callable

import numpy as np
import pytest
from limits import THREADS, around, read_gbps
from plans import run

from pyinfer import _kernels
from pyinfer.gguf import TensorType
from pyinfer.system import allocate

N_EMBD, N_VOCAB = 5120, 262_144
N_HEADS, N_KV_HEADS, DIM = 40, 8, 128
LEAST_READ = 256 << 10  # bytes of a thread; with less the call itself would count
PACKED = 1.5  # bytes of an activation as products read it: 8 bits, and scales and sums of each 32

Record = Callable[[_kernels.Plan], None]


def filled(name: str, k: int, n: int) -> _kernels.Value:
    value = _kernels.Value(name, k, n).want("rows")
    value.rows[:n] = np.random.default_rng(len(name)).standard_normal((n, k))
    return value


def norm(n: int) -> tuple[Record, float]:
    x, y, out = filled("x", N_EMBD, n), filled("sum", N_EMBD, n), _kernels.Value("out", N_EMBD, n).want("quants")
    weight = np.ones(N_EMBD, np.float32)
    return lambda plan: plan.norm("norm", x, weight, out, 1e-6, y=y), N_EMBD * (12 + PACKED)


def rope(n: int) -> tuple[Record, float]:
    q, k, v = filled("q", N_HEADS * DIM, n), filled("k", N_KV_HEADS * DIM, n), filled("v", N_KV_HEADS * DIM, n)
    angles = filled("angles", DIM, n)
    page_bytes = _kernels.Cache.page_bytes(TensorType.F16, N_KV_HEADS, DIM, DIM)
    memory = allocate(-(-n // _kernels.PAGE) * page_bytes)
    cache = _kernels.Cache(TensorType.F16, N_KV_HEADS, DIM, DIM, memory, 0, page_bytes)
    n_bytes = N_HEADS * DIM * 8 + N_KV_HEADS * DIM * (8 + 4 + 2 * 2)  # q and k both ways, v, the cache
    # angles that are no cosines and sines would let q grow from pass to pass
    angles.rows[:n] = np.repeat(np.array([[0.8, 0.6]], np.float32), DIM // 2, axis=1)
    return lambda plan: plan.rope("rope", q, k, v, angles, cache, True), n_bytes


def softcap(n: int) -> tuple[Record, float]:
    x = filled("x", N_VOCAB, n)
    return lambda plan: plan.softcap("softcap", x, 30.0), N_VOCAB * 8


@pytest.mark.parametrize("n", [1, 512])
@pytest.mark.parametrize("operation", [norm, rope, softcap], ids=lambda f: f.__name__)
def test_elementwise(benchmark, isa, operation, n):
    if operation is softcap and n > 1:
        n = 16  # of logits there are few rows
    count = 100 if n == 1 else 4
    record, bytes_of_token = operation(n)
    plan = _kernels.Plan(n, n, 1, THREADS)
    for _ in range(count):
        record(plan)
    n_bytes = round(n * bytes_of_token)

    def limit_gbps() -> float:
        return THREADS * read_gbps(max(n_bytes // THREADS, LEAST_READ), 1)

    limit = around(limit_gbps, lambda: benchmark.pedantic(run, (plan, n), rounds=15, warmup_rounds=2))
    seconds = benchmark.stats.stats.median / count
    benchmark.extra_info["us an operation"] = round(seconds * 1e6, 2)
    benchmark.extra_info["GB/s"] = round(n_bytes / seconds / 1e9, 2)
    benchmark.extra_info["share of reading as much"] = round(n_bytes / seconds / 1e9 / limit, 3)
