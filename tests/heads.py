"""One layer's attention over random queries, keys and values, by this package and by NumPy."""

import numpy as np
from plans import run

from pyinfer import _kernels
from pyinfer.gguf import TensorType

KV = {
    "f32": (TensorType.F32, 1e-6),
    "f16": (TensorType.F16, 2e-3),
    "bf16": (TensorType.BF16, 2e-2),
    "q8_0": (TensorType.Q8_0, 2e-2),
}


def rms_norm(x, weight, eps):
    x = x.astype(np.float64)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


class Heads:
    """Queries, keys and values of one layer, random; and their attention, by this package or by NumPy."""

    def __init__(self, rng, n, n_heads, n_kv_heads, dim, kv_type="f32", n_sequences=1, n_ctx=None, v_dim=None):
        self.n, self.n_heads, self.n_kv_heads, self.dim, self.v_dim = n, n_heads, n_kv_heads, dim, v_dim or dim
        self.q = rng.standard_normal((n, n_heads, dim)).astype(np.float32)
        self.k, self.v = (rng.standard_normal((n, n_kv_heads, d)).astype(np.float32) for d in (dim, self.v_dim))
        self.n_ctx, self.n_sequences = n_ctx or n, n_sequences
        kind = KV[kv_type][0]
        stride = _kernels.Cache.page_bytes(kind, n_kv_heads, dim, self.v_dim)
        pages = n_sequences * -(-self.n_ctx // _kernels.PAGE)
        memory = np.zeros(pages * stride, np.uint8)
        self.cache = _kernels.Cache(kind, n_kv_heads, dim, self.v_dim, memory, 0, stride)

    def attend(self, chunks, sequences=None, positions=None, window=0, softcap=0.0, n_threads=2, causal=True, **rope):
        """float32 [n, n_heads, v_dim]; tokens are passed in chunks."""
        n, capacity = self.n, max(chunks)
        sequences = np.zeros(n, int) if sequences is None else np.asarray(sequences)
        positions = np.arange(n) if positions is None else np.asarray(positions)
        plan = _kernels.Plan(capacity, self.n_ctx, self.n_sequences, n_threads)
        q, k, v = (
            _kernels.Value(s, w, capacity).want("rows")
            for s, w in (("q", self.q[0].size), ("k", self.k[0].size), ("v", self.v[0].size))
        )
        inv_freq = rope.pop("inv_freq", np.zeros(self.dim // 2))
        angles = _kernels.Value("angles", 2 * len(inv_freq), capacity)
        out = _kernels.Value("out", self.n_heads * self.v_dim, capacity).want("rows")
        plan.angles("angles", inv_freq, rope.pop("mscale", 1.0), angles)
        plan.rope("rope", q, k, v, angles, self.cache, rope.pop("neox", True), **rope)
        plan.attention("attention", q, self.cache, out, window=window, softcap=softcap, causal=causal)
        rows, start = [], 0
        for size in chunks:
            part = slice(start, start + size)
            for target, source in ((q, self.q), (k, self.k), (v, self.v)):
                target.rows[:size] = source[part].reshape(size, -1)
            run(plan, size, positions=positions[part], sequences=sequences[part])
            rows.append(out.rows[:size].copy())
            start += size
        return np.concatenate(rows).reshape(n, self.n_heads, self.v_dim)

    def expected(self, sequences=None, positions=None, window=0, softcap=0.0, causal=True, q=None, k=None):
        n, group = self.n, self.n_heads // self.n_kv_heads
        sequences = np.zeros(n, int) if sequences is None else np.asarray(sequences)
        positions = np.arange(n) if positions is None else np.asarray(positions)
        q, k = (self.q if q is None else q), (self.k if k is None else k)
        keys, values = (a.astype(np.float64).repeat(group, axis=1) for a in (k, self.v))
        scores = np.einsum("qhd,khd->hqk", q.astype(np.float64), keys)
        scores = softcap * np.tanh(scores / softcap) if softcap else scores
        age = positions[:, None] - positions[None, :]
        visible = ((age >= 0) | (not causal)) & (sequences[:, None] == sequences[None, :])
        visible &= age < window if window else True
        scores = np.where(visible, scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        return np.einsum("hqk,khd->qhd", weights / weights.sum(-1, keepdims=True), values)
