"""The operations of a plan, one at a time, against NumPy in float64, on every instruction set."""

import math

import numpy as np
import pytest
from heads import rms_norm
from plans import dequantized, matrix, multiply, random_rows, run, value

from pyinfer import _kernels
from pyinfer.errors import ParameterError
from pyinfer.gguf import TensorType


@pytest.fixture(params=_kernels.available_isas(), autouse=True)
def isa(request):
    _kernels.select_isa(request.param)
    yield request.param
    _kernels.select_isa()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


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


@pytest.mark.parametrize("with_post", [False, True])
def test_what_a_norm_adds_may_be_scaled(rng, with_post):
    n, k = 3, 96
    x, y = rng.standard_normal((2, n, k)).astype(np.float32)
    weight, post = rng.standard_normal((2, k)).astype(np.float32)
    plan, vx, out = _kernels.Plan(n, n, 1, 2), value("x", k, n, x), value("out", k, n)
    plan.norm("n", vx, weight, out, 1e-5, y=value("y", k, n, y), post=post if with_post else None, y_scale=-0.22)
    run(plan, n)
    added = x - 0.22 * (rms_norm(y, post, 1e-5) if with_post else y)
    np.testing.assert_allclose(vx.rows[:n], added, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(out.rows[:n], rms_norm(added, weight, 1e-5), rtol=1e-4, atol=1e-4)


def test_without_a_weight_a_norm_only_adds(rng):
    x, y = rng.standard_normal((2, 2, 40)).astype(np.float32)
    plan, vx, out = _kernels.Plan(2, 2, 1, 1), value("x", 40, 2, x), value("out", 40, 2)
    plan.norm("n", vx, None, out, 1e-5, y=value("y", 40, 2, y), y_scale=2.0)
    run(plan, 2)
    np.testing.assert_allclose(vx.rows[:2], x + 2 * y, rtol=1e-6)
    assert not out.rows.any()


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


def test_rows_of_the_caller_take_the_place_of_ids(rng):
    k, n = 48, 6
    table, places = (random_rows(rng, "F32", rows, k) for rows in (9, 20))
    added, embeddings = rng.standard_normal(k).astype(np.float32), rng.standard_normal((3, k)).astype(np.float32)
    plan, out = _kernels.Plan(n, 20, 1, 2), value("out", k, n)
    plan.embed("embed", matrix("F32", table, k), out, 3.0, matrix("F32", places, k), added)
    ids = np.array([4, -1, -1, 8, 0, -1])
    run(plan, n, tokens=ids, embeddings=embeddings)
    expected = 3 * dequantized("F32", table, k)[ids]
    expected[ids < 0] = embeddings  # which are not scaled
    expected = expected + dequantized("F32", places, k)[:n] + added
    np.testing.assert_allclose(out.rows[:n], expected, rtol=1e-6, atol=1e-6)
    run(plan, 1, tokens=[4])  # without any
    np.testing.assert_allclose(out.rows[0], expected[0], rtol=1e-6, atol=1e-6)
    for tokens, rows in (([4, -1], 2), ([-1, -1], 1), ([1, 2], 1)):
        with pytest.raises(ParameterError, match=f"{rows} rows of embeddings for {tokens.count(-1)} tokens of id -1"):
            run(plan, 2, tokens=tokens, embeddings=embeddings[:rows])
    with pytest.raises(ParameterError, match=r"token 1 is id -1; the vocabulary has 0\.\.8"):
        run(plan, 2, tokens=[1, -1])
    with pytest.raises(ParameterError, match="embeddings of 47 columns where 48"):
        run(plan, 1, tokens=[-1], embeddings=np.zeros((1, 47), np.float32))


def test_pairs_turn_by_an_axis_of_the_positions_each(rng):
    inv_freq, axes = 10.0 ** -np.arange(6), [0, 1, 2, 0, 1, 2]
    plan, out = _kernels.Plan(4, 100, 1, 1), value("out", 12, 4)
    plan.angles("angles", inv_freq, 1.5, out, axes=axes)
    positions = np.array([[5, 6, 7, 8], [5, 90, 90, 3], [5, 0, 1, 70]])
    for given, of_axes in ((positions, positions), (positions[0], positions[[0, 0, 0]])):
        run(plan, 4, positions=given)
        turns = of_axes[axes].T * inv_freq
        expected = 1.5 * np.concatenate([np.cos(turns), np.sin(turns)], axis=1)
        np.testing.assert_allclose(out.rows[:4], expected, rtol=0, atol=1e-6)
    with pytest.raises(ParameterError, match="positions of 2 axes; the plan reads 3"):
        run(plan, 4, positions=positions[:2])
    with pytest.raises(ParameterError, match="expected one of 0 to 15 for each of 6 pairs"):
        plan.angles("more", inv_freq, 1.0, out, axes=[0, 1])


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


def test_a_pass_may_end_after_some_of_its_operations(rng):
    plan, x = _kernels.Plan(1, 1, 1, 1), rng.standard_normal((1, 32)).astype(np.float32)
    v, outs = value("x", 32, 1, x), [value("one", 32, 1), value("two", 32, 1)]
    for out in outs:
        plan.pack("pack", v, out)
    plan.run(*(np.zeros(1, np.int32) for _ in range(3)), np.zeros(0, np.int32), (), n_ops=1)
    np.testing.assert_array_equal(outs[0].rows[0], x[0])
    np.testing.assert_array_equal(outs[1].rows[0], 0)


def test_what_does_not_fit_is_refused():
    plan = _kernels.Plan(4, 64, 1, 1)
    x = _kernels.Value("x", 64, 4)
    with pytest.raises(ParameterError, match="out has 32 columns where 64"):
        plan.norm("n", x, np.ones(64, np.float32), _kernels.Value("out", 32, 4), 1e-5)
    with pytest.raises(ParameterError, match="63 values where 64"):
        plan.norm("n", x, np.ones(63, np.float32), _kernels.Value("out", 64, 4), 1e-5)
    with pytest.raises(ParameterError, match="activation 'tanh'"):
        plan.glu("g", x, [], _kernels.Value("out", 64, 4), "tanh")
    with pytest.raises(ParameterError, match="LayerNorm of what is added"):
        plan.norm("n", x, np.ones(64), x, 1e-5, y=_kernels.Value("y", 64, 4), post=np.ones(64), centered=True)
    with pytest.raises(ParameterError, match="63 positions of 64 columns where 64 of 64"):
        table = _kernels.Matrix.of_rows(TensorType.F32, np.zeros((63, 256), np.uint8), 64)
        plan.embed("e", table, x, positions=table)
    with pytest.raises(ParameterError, match="a window of -1 positions"):
        stride = _kernels.Cache.page_bytes(TensorType.F32, 1, 64, 64)
        cache = _kernels.Cache(TensorType.F32, 1, 64, 64, np.zeros(stride, np.uint8), 0, stride)
        plan.attention("a", x, cache, _kernels.Value("out", 64, 4), window=-1)
    with pytest.raises(ParameterError, match="33 columns cannot be quantized"):
        _kernels.Value("y", 33, 4).want("quants")
    with pytest.raises(ParameterError, match="tensor type 2"):
        _kernels.Cache.head_bytes(2, 64, 64)


def test_isas_are_chosen_by_name():
    with pytest.raises(ParameterError, match=r"'mmx' \(PYINFER_ISA\) is not available here; there are: .*scalar"):
        _kernels.select_isa("mmx")
