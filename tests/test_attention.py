"""Attention, rotary positions and the cache of keys, against NumPy in float64, on every instruction set."""

import numpy as np
import pytest
from heads import KV, Heads, rms_norm
from plans import run, value

from pyinfer import _kernels
from pyinfer.errors import ParameterError


@pytest.fixture(params=_kernels.available_isas(), autouse=True)
def isa(request):
    _kernels.select_isa(request.param)
    yield request.param
    _kernels.select_isa()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


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


@pytest.mark.parametrize("neox", [True, False])
@pytest.mark.parametrize("n_rot", [32, 16])
def test_rope_turns_pairs_and_norms_heads_before(rng, neox, n_rot):
    heads = Heads(rng, 9, 4, 2, 32)
    inv_freq = 100.0 ** (-np.arange(n_rot // 2) / (n_rot // 2))
    norms = rng.standard_normal((2, 32)).astype(np.float32)
    found = heads.attend(
        [9],
        inv_freq=inv_freq,
        mscale=1.2,
        neox=neox,
        q_norm=(norms[0], None, False),
        k_norm=(norms[1], None, False),
        eps=1e-6,
        q_scale=0.25,
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


@pytest.mark.parametrize("kv_type", KV)
@pytest.mark.parametrize(
    "n_heads, n_kv_heads, k_dim, v_dim", [(2, 1, 24, 40), (6, 2, 72, 16), (8, 1, 96, 64), (4, 4, 33, 7)]
)
def test_keys_and_values_may_differ_in_size(rng, kv_type, n_heads, n_kv_heads, k_dim, v_dim):
    heads = Heads(rng, 1100, n_heads, n_kv_heads, k_dim, kv_type, v_dim=v_dim)
    heads.q /= np.sqrt(k_dim)
    rope = {"inv_freq": np.zeros(k_dim // 2)}
    found = heads.attend([1100], **rope)
    np.testing.assert_allclose(found, heads.expected(), rtol=0, atol=10 * KV[kv_type][1])
    np.testing.assert_array_equal(heads.attend([1000, 98, 1, 1], n_threads=3, **rope), found)  # merged splits


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
