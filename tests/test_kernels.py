"""The operations of a plan, one at a time, against NumPy in float64, on every instruction set."""

import math

import numpy as np
import pytest
from plans import dequantized, matrix, multiply, random_rows, run

from pyinfer import _kernels
from pyinfer.errors import ParameterError
from pyinfer.gguf import TensorType

KV = {
    "f32": (TensorType.F32, 1e-6),
    "f16": (TensorType.F16, 2e-3),
    "bf16": (TensorType.BF16, 2e-2),
    "q8_0": (TensorType.Q8_0, 2e-2),
}


@pytest.fixture(params=_kernels.available_isas(), autouse=True)
def isa(request):
    _kernels.select_isa(request.param)
    yield request.param
    _kernels.select_isa()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def value(name, k, n, data=None):
    v = _kernels.Value(name, k, n).want("rows")
    if data is not None:
        v.rows[:n] = data
    return v


def rms_norm(x, weight, eps):
    x = x.astype(np.float64)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


@pytest.mark.parametrize("k", [1, 7, 33, 576, 5120])
@pytest.mark.parametrize("with_post", [False, True])
def test_norm_adds_what_came_before(rng, k, with_post):
    n = 3
    x, y = rng.standard_normal((2, n, k)).astype(np.float32) * 10
    weight, post = rng.standard_normal((2, k)).astype(np.float32)
    plan = _kernels.Plan(n, n, 1, 2)
    vx, vy, out = value("x", k, n, x), value("y", k, n, y), value("out", k, n)
    plan.norm("norm", vx, weight, out, 1e-5, y=vy, post=post if with_post else None)
    run(plan, n)
    added = x + (rms_norm(y, post, 1e-5) if with_post else y)
    np.testing.assert_allclose(vx.rows[:n], added, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(out.rows[:n], rms_norm(added, weight, 1e-5), rtol=1e-4, atol=1e-4)


def test_a_gathering_norm_takes_the_outputs_only(rng):
    x = rng.standard_normal((5, 64)).astype(np.float32)
    plan = _kernels.Plan(5, 5, 1, 1)
    vx, out = value("x", 64, 5, x), value("out", 64, 5)
    plan.norm("norm", vx, np.ones(64, np.float32), out, 1e-6, rows="outputs")
    run(plan, 5, outputs=[4, 1])
    np.testing.assert_allclose(out.rows[:2], rms_norm(x[[4, 1]], 1, 1e-6), rtol=1e-5)


def layer_norm(x, weight, bias, eps):
    return rms_norm(x - x.mean(-1, keepdims=True, dtype=np.float64), weight, eps) + bias


@pytest.mark.parametrize("k", [1, 7, 33, 384, 1030])
@pytest.mark.parametrize("in_place", [False, True])
def test_a_centered_norm_is_a_layer_norm_and_may_replace_what_it_norms(rng, k, in_place):
    n = 5
    x, y = (rng.standard_normal((2, n, k)) * 3 + 10).astype(np.float32)
    weight, bias = rng.standard_normal((2, k)).astype(np.float32)
    plan = _kernels.Plan(n, n, 1, 2)
    vx, vy = value("x", k, n, x), value("y", k, n, y)
    out = vx if in_place else value("out", k, n)
    plan.norm("norm", vx, weight, out, 1e-5, y=vy, bias=bias, centered=True)
    run(plan, n)
    np.testing.assert_allclose(out.rows[:n], layer_norm(x + y, weight, bias, 1e-5), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
@pytest.mark.parametrize("in_rows", [False, True])
def test_embeddings_take_positions_and_a_vector_on_top(rng, kind, in_rows):
    k, n = 96, 5
    tokens, places = random_rows(rng, kind, 21, k), random_rows(rng, kind, 40, k)
    added = rng.standard_normal(k).astype(np.float32)
    of_rows = _kernels.Matrix.of_rows if in_rows else lambda _, rows, k: matrix(kind, rows, k)
    table, positions = (of_rows(TensorType[kind], rows, k) for rows in (tokens, places))
    plan, out = _kernels.Plan(n, 40, 1, 2), value("out", k, n)
    plan.embed("embed", table, out, 0.5, positions, added)
    ids, at = np.array([20, 0, 7, 7, 3]), np.array([3, 4, 5, 39, 0])
    run(plan, n, tokens=ids, positions=at)
    t, p = dequantized(kind, tokens, k), dequantized(kind, places, k)
    np.testing.assert_allclose(out.rows[:n], 0.5 * t[ids] + p[at] + added, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("in_rows", [False, True])
def test_a_part_of_a_matrix_multiplies_as_its_rows_do(rng, in_rows):
    k = 64
    rows = random_rows(rng, "Q8_0", 53, k)
    whole = _kernels.Matrix.of_rows(TensorType.Q8_0, rows, k) if in_rows else matrix("Q8_0", rows, k)
    x = rng.standard_normal((9, k)).astype(np.float32)
    (expected,), _ = multiply([whole], x)
    parts, _ = multiply([whole.part(0, 16), whole.part(16, 32), whole.part(48, 5)], x)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), expected)
    with pytest.raises(ParameterError, match=r"rows 48\.\.54 of a matrix of 53"):
        whole.part(48, 6)


def test_parts_are_whole_row_groups(rng):
    whole = matrix("F32", random_rows(rng, "F32", 40, 8), 8)
    for first, n_rows in ((8, 16), (0, 24)):
        with pytest.raises(ParameterError, match="not whole groups of 16"):
            whole.part(first, n_rows)


ACTS = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "gelu_erf": lambda x: 0.5 * x * np.vectorize(math.erfc)(-x / np.sqrt(2)),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("k", [5, 512, 1030])
def test_gated_activations(rng, act, k):
    gate, up = (rng.standard_normal((2, 2, k)) * 8).astype(np.float32)
    gate[0, :4] = (-1000, 1000, 0, -88)
    plan = _kernels.Plan(2, 2, 1, 2)
    out = value("out", k, 2)
    x = _kernels.Value("x", 2 * k, 2)
    plan.pack("pack", value("both", 2 * k, 2, np.concatenate([gate, up], axis=1)), x)
    first, second = (matrix("F32", np.eye(k, 2 * k, at, np.float32).view(np.uint8), 2 * k) for at in (0, k))
    plan.glu("glu", x, [(first, None, 1.0), (second, None, 1.0)], out, act)
    run(plan, 2)
    g = gate.astype(np.float64)
    with np.errstate(over="ignore"):
        expected = ACTS[act](g)
    np.testing.assert_allclose(out.rows[:2], expected * up, rtol=1e-5, atol=1e-5)


def test_gated_products_are_the_products_and_then_the_gate(rng):
    k, n_rows = 256, 1040  # several steps, the last one of a single row group
    weights = [matrix("Q4_K", random_rows(rng, "Q4_K", n_rows, k), k) for _ in range(2)]
    biases, scales = rng.standard_normal((2, n_rows)).astype(np.float32), (0.5, 2.0)
    x = rng.standard_normal((21, k)).astype(np.float32)
    (gate, up), _ = multiply(weights, x, 1, list(biases), scales)
    for n, n_threads in ((1, 2), (8, 1), (9, 2), (21, 3)):
        plan, packed, out = _kernels.Plan(n, n, 1, n_threads), _kernels.Value("packed", k, n), value("out", n_rows, n)
        plan.pack("pack", value("x", k, n, x[:n]), packed)
        plan.glu("glu", packed, list(zip(weights, biases, scales, strict=True)), out, "silu")
        plan.glu("act", packed, [(weights[0], biases[0], scales[0])], alone := value("alone", n_rows, n), "silu")
        run(plan, n)
        g = gate[:n].astype(np.float64)
        np.testing.assert_allclose(alone.rows[:n], g / (1 + np.exp(-g)), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(out.rows[:n], alone.rows[:n] * up[:n])


def test_soft_capping(rng):
    x = (rng.standard_normal((2, 600)) * 40).astype(np.float32)
    plan = _kernels.Plan(2, 2, 1, 2)
    v = value("x", 600, 2, x)
    plan.softcap("cap", v, 30.0)
    run(plan, 2)
    np.testing.assert_allclose(v.rows[:2], 30 * np.tanh(x / 30.0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", [1, 3, 8, 11])
def test_packed_activations_are_off_by_half_a_step_at_most(rng, n):
    x = (rng.standard_normal((n, 96)) * np.array([1e-6, 1, 1e6]).repeat(32)).astype(np.float32)
    x[0, :32] = 0
    plan = _kernels.Plan(n, n, 1, 1)
    packed = _kernels.Value("packed", 96, n).want("quants")
    plan.pack("pack", value("x", 96, n, x), packed)
    run(plan, n)
    steps = np.abs(x).reshape(n, 3, 32).max(-1) / 127
    error = np.abs(packed.dequantized(n) - x).reshape(n, 3, 32).max(-1)
    assert (error <= 0.5001 * steps).all()


def rotated(x, positions, inv_freq, mscale, neox):
    """x: [n, heads, dim]"""
    angles = positions[:, None, None] * inv_freq
    cos, sin, n_pairs = np.cos(angles) * mscale, np.sin(angles) * mscale, len(inv_freq)
    first, second = (
        (slice(0, n_pairs), slice(n_pairs, 2 * n_pairs))
        if neox
        else (slice(0, 2 * n_pairs, 2), slice(1, 2 * n_pairs, 2))
    )
    out = x.astype(np.float64)
    a, b = out[..., first].copy(), out[..., second].copy()
    out[..., first], out[..., second] = a * cos - b * sin, a * sin + b * cos
    return out


class Heads:
    """Queries, keys and values of one layer, random; and their attention, by this package or by NumPy."""

    def __init__(self, rng, n, n_heads, n_kv_heads, dim, kv_type="f32", n_sequences=1, n_ctx=None):
        self.n, self.n_heads, self.n_kv_heads, self.dim = n, n_heads, n_kv_heads, dim
        self.q = rng.standard_normal((n, n_heads, dim)).astype(np.float32)
        self.k, self.v = rng.standard_normal((2, n, n_kv_heads, dim)).astype(np.float32)
        self.n_ctx, self.n_sequences = n_ctx or n, n_sequences
        kind = KV[kv_type][0]
        stride = _kernels.Cache.page_bytes(kind, n_kv_heads, dim, dim)
        pages = n_sequences * -(-self.n_ctx // _kernels.PAGE)
        self.cache = _kernels.Cache(kind, n_kv_heads, dim, dim, np.zeros(pages * stride, np.uint8), 0, stride)

    def attend(self, chunks, sequences=None, positions=None, window=0, softcap=0.0, n_threads=2, causal=True, **rope):
        """float32 [n, n_heads, dim]; tokens are passed in chunks."""
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
        out = _kernels.Value("out", self.q[0].size, capacity).want("rows")
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
        return np.concatenate(rows).reshape(n, self.n_heads, self.dim)

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


@pytest.mark.parametrize("neox", [True, False])
@pytest.mark.parametrize("n_rot", [32, 16])
def test_rope_turns_pairs_and_norms_heads_before(rng, neox, n_rot):
    heads = Heads(rng, 9, 4, 2, 32)
    inv_freq = 100.0 ** (-np.arange(n_rot // 2) / (n_rot // 2))
    norms = rng.standard_normal((2, 32)).astype(np.float32)
    found = heads.attend(
        [9], inv_freq=inv_freq, mscale=1.2, neox=neox, q_norm=norms[0], k_norm=norms[1], eps=1e-6, q_scale=0.25
    )
    positions = np.arange(9)
    q = rotated(rms_norm(heads.q, norms[0], 1e-6), positions, inv_freq, 1.2, neox) * 0.25
    k = rotated(rms_norm(heads.k, norms[1], 1e-6), positions, inv_freq, 1.2, neox)
    np.testing.assert_allclose(found, heads.expected(q=q, k=k), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kv_type", KV)
@pytest.mark.parametrize("n_heads, n_kv_heads, dim", [(1, 1, 16), (6, 2, 40), (4, 4, 64), (9, 3, 80), (8, 1, 256)])
def test_attention_equals_numpy(rng, kv_type, n_heads, n_kv_heads, dim):
    heads = Heads(rng, 70, n_heads, n_kv_heads, dim, kv_type)
    heads.q /= np.sqrt(dim)
    found = heads.attend([70])
    np.testing.assert_allclose(found, heads.expected(), rtol=0, atol=10 * KV[kv_type][1])


@pytest.mark.parametrize("window, softcap", [(1, 0.0), (5, 0.0), (64, 0.0), (65, 0.0), (0, 2.0), (20, 2.0)])
def test_windows_and_soft_capping(rng, window, softcap):
    heads = Heads(rng, 150, 4, 2, 32)
    found = heads.attend([100, 50], window=window, softcap=softcap)
    np.testing.assert_allclose(found, heads.expected(window=window, softcap=softcap), rtol=0, atol=1e-5)


@pytest.mark.parametrize("n", [1, 63, 65, 200, 1100])
def test_attention_that_is_not_causal_sees_all_of_its_sequence(rng, n):
    heads = Heads(rng, n, 4, 2, 32)
    heads.q /= 6
    found = heads.attend([n], causal=False)
    np.testing.assert_allclose(found, heads.expected(causal=False), rtol=0, atol=1e-5)
    for n_threads in (1, 3):
        np.testing.assert_array_equal(heads.attend([n], causal=False, n_threads=n_threads), found)


def test_sequences_of_a_pass_see_themselves_only_and_what_they_see_alone(rng):
    lengths = [70, 1, 600, 64]
    sequences = np.repeat(np.arange(4), lengths)
    positions = np.concatenate([np.arange(n) for n in lengths])
    heads = Heads(rng, sum(lengths), 4, 2, 32, n_sequences=4)
    heads.q /= 6
    found = heads.attend([sum(lengths)], sequences, positions, causal=False)
    np.testing.assert_allclose(found, heads.expected(sequences, positions, causal=False), rtol=0, atol=1e-5)
    for s, n in enumerate(lengths):
        alone, of_s = Heads(rng, n, 4, 2, 32), sequences == s
        alone.q, alone.k, alone.v = heads.q[of_s], heads.k[of_s], heads.v[of_s]
        np.testing.assert_array_equal(alone.attend([n], causal=False), found[of_s])


def test_without_angles_nothing_turns(rng):
    n = 9
    heads = Heads(rng, n, 2, 1, 32)
    plan = _kernels.Plan(n, n, 1, 2)
    q, k, v = (
        value(name, a[0].size, n, a.reshape(n, -1)) for name, a in zip("qkv", (heads.q, heads.k, heads.v), strict=True)
    )
    plan.rope("rope", q, k, v, None, heads.cache, True, q_scale=0.25)
    plan.attention("attention", q, heads.cache, out := value("out", q.k, n))
    run(plan, n)
    expected = heads.expected(q=heads.q * 0.25)
    np.testing.assert_allclose(out.rows[:n].reshape(n, 2, 32), expected, rtol=0, atol=1e-5)


def test_a_pass_may_end_after_some_of_its_operations(rng):
    plan, x = _kernels.Plan(1, 1, 1, 1), rng.standard_normal((1, 32)).astype(np.float32)
    v, outs = value("x", 32, 1, x), [value("one", 32, 1), value("two", 32, 1)]
    for out in outs:
        plan.pack("pack", v, out)
    plan.run(*(np.zeros(1, np.int32) for _ in range(3)), np.zeros(0, np.int32), (), n_ops=1)
    np.testing.assert_array_equal(outs[0].rows[0], x[0])
    np.testing.assert_array_equal(outs[1].rows[0], 0)


@pytest.mark.parametrize("kv_type", KV)
def test_any_chunks_and_threads_give_the_same_bits(rng, kv_type):
    heads = Heads(rng, 1100, 4, 2, 40, kv_type)  # three splits
    heads.q /= 6
    whole = heads.attend([1100])
    np.testing.assert_allclose(whole, heads.expected(), rtol=0, atol=10 * KV[kv_type][1])
    for chunks, n_threads in (([1000, 97, 1, 1, 1], 1), ([500, 500, 98, 1, 1], 3), ([1099, 1], 2)):
        np.testing.assert_array_equal(heads.attend(chunks, n_threads=n_threads), whole)


@pytest.mark.parametrize("scale", [0.0, 1e-7, 1e-5, 1e4])
def test_8_bit_keys_and_values_of_any_size_stay_within_half_a_step(rng, scale):
    heads = Heads(rng, 1, 1, 1, 48, "q8_0")  # one position: its values come back as they are stored
    heads.v *= np.float32(scale)
    steps = np.abs(np.pad(heads.v[0, 0], (0, 16)).reshape(2, 32)).max(-1).repeat(32)[:48] / 127
    error = np.abs(heads.attend([1])[0, 0] - heads.v[0, 0])
    assert (error <= 0.51 * steps + 127 * 2.0**-25).all()  # a half float's smallest step is 2^-24


def test_sequences_do_not_see_each_other(rng):
    n = 120
    sequences = rng.integers(0, 3, n)
    positions = np.array([(sequences[:i] == s).sum() for i, s in enumerate(sequences)])
    heads = Heads(rng, n, 4, 2, 32, n_sequences=3)
    found = heads.attend([60, 1, 59], sequences, positions)
    np.testing.assert_allclose(found, heads.expected(sequences, positions), rtol=0, atol=1e-5)


def test_old_contents_of_a_page_do_not_matter(rng):
    heads = Heads(rng, 30, 2, 1, 16)
    expected = heads.attend([30])
    heads.k[:], heads.v[:] = heads.k[:], heads.v[:]
    long = Heads(rng, 64, 2, 1, 16)
    long.k *= 1000
    long.attend([64])
    long.n, long.q, long.k, long.v = 30, heads.q, heads.k, heads.v
    np.testing.assert_array_equal(long.attend([30]), expected)


def test_what_does_not_fit_is_refused():
    plan = _kernels.Plan(4, 64, 1, 1)
    x = _kernels.Value("x", 64, 4)
    with pytest.raises(ParameterError, match="out has 32 columns where 64"):
        plan.norm("n", x, np.ones(64, np.float32), _kernels.Value("out", 32, 4), 1e-5)
    with pytest.raises(ParameterError, match="63 values where 64"):
        plan.norm("n", x, np.ones(63, np.float32), _kernels.Value("out", 64, 4), 1e-5)
    with pytest.raises(ParameterError, match="activation 'relu'"):
        plan.glu("g", x, [], _kernels.Value("out", 64, 4), "relu")
    with pytest.raises(ParameterError, match="LayerNorm of what is added"):
        plan.norm("n", x, np.ones(64), x, 1e-5, y=_kernels.Value("y", 64, 4), post=np.ones(64), centered=True)
    with pytest.raises(ParameterError, match="63 positions of 64 columns where 64 of 64"):
        table = _kernels.Matrix.of_rows(TensorType.F32, np.zeros((63, 256), np.uint8), 64)
        plan.embed("e", table, x, positions=table)
    with pytest.raises(ParameterError, match="window of attention that is not causal"):
        stride = _kernels.Cache.page_bytes(TensorType.F32, 1, 64, 64)
        cache = _kernels.Cache(TensorType.F32, 1, 64, 64, np.zeros(stride, np.uint8), 0, stride)
        plan.attention("a", x, cache, _kernels.Value("out", 64, 4), window=3, causal=False)
    with pytest.raises(ParameterError, match="33 columns cannot be quantized"):
        _kernels.Value("y", 33, 4).want("quants")
    with pytest.raises(ParameterError, match="tensor type 2"):
        _kernels.Cache.head_bytes(2, 64, 64)


def test_isas_are_chosen_by_name():
    with pytest.raises(ParameterError, match=r"'mmx' \(PYINFER_ISA\) is not available here; there are: .*scalar"):
        _kernels.select_isa("mmx")


def cached_keys(memory, kv_type, dim):
    """The keys of a page with one KV head, float64 [PAGE, dim]; csrc/kernels/kv.hpp says how they lie."""
    n = _kernels.PAGE * dim
    if kv_type == "q8_0":
        elements = memory[:n].view(np.int8).astype(np.float64)
        scales = memory[n : n + -(-dim // 32) * _kernels.PAGE * 2].view(np.float16).reshape(-1, _kernels.PAGE)
    elif kv_type == "bf16":
        elements = (memory[: 2 * n].view(np.uint16).astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    else:
        dtype = {"f32": np.float32, "f16": np.float16}[kv_type]
        elements = memory[: n * dtype().itemsize].view(dtype).astype(np.float64)
    keys = elements.reshape(-1, dim, 16).transpose(0, 2, 1).reshape(-1, dim)
    return keys * np.repeat(scales.T, 32, axis=1)[:, :dim] if kv_type == "q8_0" else keys


@pytest.mark.parametrize("kv_type", KV)
@pytest.mark.parametrize("neox, n_pairs", [(True, 20), (False, 20), (True, 16)])
def test_moved_keys_are_those_of_the_other_positions(rng, kv_type, neox, n_pairs):
    kind, bound = KV[kv_type]
    n, dim = _kernels.PAGE, 40
    inv_freq = 100.0 ** -np.linspace(0, 1, n_pairs)
    keys = rng.standard_normal((n, dim))
    stride = _kernels.Cache.page_bytes(kind, 1, dim, dim)
    memory = _kernels.aligned(5 * stride, np.uint8)
    cache = _kernels.Cache(kind, 1, dim, dim, memory, 0, stride)

    plan = _kernels.Plan(n, 5 * n, 1, 1)
    q, k, v = (value(name, dim, n) for name in "qkv")
    angles = value("angles", 2 * n_pairs, n)
    plan.angles("angles", inv_freq, 1.0, angles)
    plan.rope("rope", q, k, v, angles, cache, neox)
    for page in (4, 1):  # the same keys at positions 256… and at 64…
        k.rows[:n] = keys
        run(plan, n, positions=page * n + np.arange(n))
    pages = memory.reshape(5, stride)
    expected, others = cached_keys(pages[1], kv_type, dim), pages[:4].copy()
    assert np.abs(cached_keys(pages[4], kv_type, dim) - expected).max() > 1

    cache.move_keys(np.array([4], np.int32), inv_freq, -3 * n, neox, n_threads=2)
    assert np.abs(cached_keys(pages[4], kv_type, dim) - expected).max() < 2 * bound * np.abs(expected).max()
    np.testing.assert_array_equal(pages[:4], others)
    with pytest.raises(ParameterError, match="page 5 of 5"):
        cache.move_keys(np.array([5], np.int32), inv_freq, 1, neox)
