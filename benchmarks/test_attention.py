"""Attention by KV type and instruction set, behind 4096 positions: of one token, and of 128 tokens of a prompt.

The heads are those of Qwen2.5-Coder-14B. Several layers are gone through in turn, so that one token's keys and values
come from memory and not from a cache.
"""

import numpy as np
import pytest
from limits import THREADS, around, float_gmacs, read_gbps
from plans import run

from pyinfer import _kernels
from pyinfer.memory.attention import KV_TYPES
from pyinfer.memory.spec import PAGE
from pyinfer.system import allocate

N_HEADS, N_KV_HEADS, DIM = 40, 8, 128
DEPTH, N_PROMPT = 4096, 128
N_CTX = DEPTH + N_PROMPT
BYTES = 200_000_000


def page_bytes(kv_type: str) -> int:
    return _kernels.Cache.page_bytes(KV_TYPES[kv_type], N_KV_HEADS, DIM, DIM)


def full_caches(kv_type: str, n_layers: int) -> list[_kernels.Cache]:
    """Caches of N_CTX random positions, the same ones in each layer."""
    size = N_CTX // PAGE * page_bytes(kv_type)
    memories = [allocate(size) for _ in range(n_layers)]
    caches = [_kernels.Cache(KV_TYPES[kv_type], N_KV_HEADS, DIM, DIM, m, 0, page_bytes(kv_type)) for m in memories]
    q, k, v = (_kernels.Value(name, N_KV_HEADS * DIM, N_PROMPT) for name in "qkv")
    angles = _kernels.Value("angles", DIM, N_PROMPT)
    plan = _kernels.Plan(N_PROMPT, N_CTX, 1, THREADS)
    plan.angles("angles", 1e6 ** -np.linspace(0, 1, DIM // 2), 1.0, angles)
    plan.rope("rope", q, k, v, angles, caches[0], True)
    rng = np.random.default_rng(0)
    for start in range(0, N_CTX, N_PROMPT):
        for value in (k, v):
            value.rows[:N_PROMPT] = rng.standard_normal((N_PROMPT, N_KV_HEADS * DIM))
        run(plan, N_PROMPT, positions=np.arange(start, start + N_PROMPT))
    for memory in memories[1:]:
        memory[:] = memories[0]
    return caches


@pytest.mark.parametrize("n", [1, N_PROMPT], ids=["decode", "prefill"])
@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_attention(benchmark, isa, kv_type, n):
    read_bytes = page_bytes(kv_type) / PAGE * (DEPTH + n)  # by a layer
    n_layers = max(1, int(BYTES / read_bytes)) if n == 1 else 1
    q, out = (_kernels.Value(name, N_HEADS * DIM, n).want("rows") for name in ("q", "out"))
    q.rows[:n] = np.random.default_rng(1).standard_normal((n, N_HEADS * DIM)) / np.sqrt(DIM)
    plan = _kernels.Plan(n, N_CTX, 1, THREADS)
    for cache in full_caches(kv_type, n_layers):
        plan.attention("attention", q, cache, out)
    positions = np.arange(DEPTH, DEPTH + n)

    def work() -> None:
        run(plan, n, positions=positions)

    bandwidth = around(read_gbps, lambda: benchmark.pedantic(work, rounds=7, warmup_rounds=1))
    seconds = benchmark.stats.stats.median / n_layers
    gbps = read_bytes / seconds / 1e9
    gmacs = 2 * N_HEADS * DIM * (positions + 1).sum() / seconds / 1e9  # scores, and sums of values
    benchmark.extra_info["us a layer"] = round(seconds * 1e6, 1)
    benchmark.extra_info["GB/s"] = round(gbps, 2)
    benchmark.extra_info["GMAC/s"] = round(gmacs, 1)
    benchmark.extra_info["share of read bandwidth"] = round(gbps / bandwidth, 3)
    benchmark.extra_info["share of NumPy's float32 product"] = round(gmacs / float_gmacs(), 3)
