"""Products of every format on every instruction set, against float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import FORMATS, QUANTIZED, dequantized, matrix, multiply, random_rows, run

from pyinfer import _kernels
from pyinfer.errors import ParameterError
from pyinfer.gguf import TensorType

ISAS = _kernels.available_isas()


@pytest.fixture(params=ISAS, autouse=True)
def isa(request):
    _kernels.select_isa(request.param)
    yield request.param
    _kernels.select_isa()


def error(found, expected, weights, x) -> float:
    """The largest error, by the size of the sums: |w| · |x|."""
    return float((np.abs(found - expected) / (np.abs(x) @ np.abs(weights).T + 1e-30)).max())


@pytest.mark.parametrize("name", FORMATS)
def test_products_equal_float64_on_the_same_activations(name):
    @given(st.integers(1, 40), st.integers(1, 4), st.sampled_from([1, 2, 3, 5, 8, 9, 21]), st.integers(0, 2**31))
    @settings(max_examples=12, deadline=None)
    def check(n_rows, n_blocks, n, seed):
        rng = np.random.default_rng(seed)
        k = n_blocks * max(TensorType[name].block_size, 32 if name in QUANTIZED else 7)
        rows = random_rows(rng, name, n_rows, k)
        weights = dequantized(name, rows, k).astype(np.float64)
        x = (rng.standard_normal((n, k)) * rng.choice([1e-3, 1, 100])).astype(np.float32)
        (found,), seen = multiply([matrix(name, rows, k)], x)
        expected = seen @ weights.T
        assert (
            np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
            or error(found, expected, weights, seen) < 1e-6
        )
        # a quant is off by at most half a step of its 32 values' scale
        steps = np.abs(x).reshape(n, -1, 32).max(-1) / 127 if name in QUANTIZED else np.zeros((n, 1))
        bound = np.repeat(steps, k // steps.shape[1], -1) @ np.abs(weights).T * 0.5001
        assert (np.abs(found - x @ weights.T) <= bound + 1e-5 * (np.abs(x) @ np.abs(weights).T)).all()

    check()


@pytest.mark.parametrize("name", FORMATS)
def test_a_token_gives_the_same_bits_in_any_batch_and_on_any_threads(name):
    rng = np.random.default_rng(3)
    k = 2 * max(TensorType[name].block_size, 32)
    w = matrix(name, random_rows(rng, name, 50, k), k)
    x = rng.standard_normal((21, k)).astype(np.float32)
    (whole,), _ = multiply([w], x)
    for n, n_threads in ((1, 1), (2, 2), (3, 1), (7, 3), (8, 2), (9, 2), (17, 4)):
        (part,), _ = multiply([w], x[:n], n_threads)
        np.testing.assert_array_equal(part, whole[:n])


def test_more_columns_than_a_panel_holds(isa):
    rng = np.random.default_rng(4)
    k = 4352  # a panel's columns, twice, and a rest
    rows = random_rows(rng, "Q4_K", 40, k)
    x = rng.standard_normal((20, k)).astype(np.float32)
    (found,), seen = multiply([matrix("Q4_K", rows, k)], x, 2)
    weights = dequantized("Q4_K", rows, k).astype(np.float64)
    assert error(found, seen @ weights.T, weights, seen) < 1e-6
    (alone,), _ = multiply([matrix("Q4_K", rows, k)], x[:1])
    np.testing.assert_array_equal(alone, found[:1])


@pytest.mark.parametrize("n", [1, 12])
def test_several_weights_with_biases_and_scales_in_one_operation(n):
    rng = np.random.default_rng(5)
    names, sizes, k = ("Q4_K", "Q6_K", "Q8_0"), (33, 16, 5), 256
    rows = [random_rows(rng, name, size, k) for name, size in zip(names, sizes, strict=True)]
    weights = [matrix(name, r, k) for name, r in zip(names, rows, strict=True)]
    biases = [rng.standard_normal(33).astype(np.float32), None, rng.standard_normal(5).astype(np.float32)]
    scales = [2.0, -0.5, 1.0]
    x = rng.standard_normal((n, k)).astype(np.float32)
    found, seen = multiply(weights, x, 2, biases, scales)
    for name, r, bias, scale, out in zip(names, rows, biases, scales, found, strict=True):
        expected = scale * (seen @ dequantized(name, r, k).astype(np.float64).T) + (0 if bias is None else bias)
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", FORMATS)
def test_embedding_rows_come_out_of_row_groups(name):
    rng = np.random.default_rng(6)
    k = max(TensorType[name].block_size, 32)
    rows = random_rows(rng, name, 37, k)
    plan = _kernels.Plan(5, 64, 1, 1)
    out = _kernels.Value("out", k, 5).want("rows")
    plan.embed("embed", matrix(name, rows, k), out, 2.0)
    tokens = [0, 36, 15, 16, 31]
    run(plan, 5, tokens=tokens)
    np.testing.assert_array_equal(out.rows[:5], 2 * dequantized(name, rows, k)[tokens])


@pytest.mark.parametrize("name", FORMATS)
def test_rows_as_the_file_has_them_give_the_same_bits(name):
    rng = np.random.default_rng(8)
    k = 4608  # more than are interleaved at a time
    rows = random_rows(rng, name, 37, k)
    unaligned = np.zeros(rows.nbytes + 1, np.uint8)[1:].reshape(rows.shape)
    unaligned[:] = rows
    in_place, copied = _kernels.Matrix.of_rows(TensorType[name], unaligned, k), matrix(name, rows, k)
    x = rng.standard_normal((21, k)).astype(np.float32)
    for n in (1, 3, 8, 21):
        (found,), _ = multiply([in_place], x[:n], 2)
        (expected,), _ = multiply([copied], x[:n])
        np.testing.assert_array_equal(found, expected)
    plan, out = _kernels.Plan(3, 64, 1, 1), _kernels.Value("out", k, 3).want("rows")
    plan.embed("embed", in_place, out)
    run(plan, 3, tokens=[0, 36, 15])
    np.testing.assert_array_equal(out.rows[:3], dequantized(name, rows, k)[[0, 36, 15]])


def test_zero_activations_give_zero():
    rng = np.random.default_rng(7)
    (found,), _ = multiply([matrix("Q4_K", random_rows(rng, "Q4_K", 16, 256), 256)], np.zeros((3, 256), np.float32))
    assert not found.any()


def test_what_does_not_fit_is_refused():
    memory = np.zeros(16 * 144, np.uint8)
    m = _kernels.Matrix(TensorType.Q4_K, 16, 256, memory)
    for arguments in (
        (TensorType.Q4_K, 17, 256, memory),
        (TensorType.Q4_K, 16, 250, memory),
        (TensorType.Q4_K, 0, 256, memory),
    ):
        with pytest.raises(ParameterError):
            _kernels.Matrix(*arguments)
    for rows, first in (
        (np.zeros((16, 143), np.uint8), 0),
        (np.zeros((16, 144), np.uint8), 16),
        (np.zeros((1, 144), np.uint8), 0),
    ):
        with pytest.raises(ParameterError):
            m.load(rows, first)
    with pytest.raises(ParameterError, match="143"):
        _kernels.Matrix.of_rows(TensorType.Q4_K, np.zeros((16, 143), np.uint8), 256)
    with pytest.raises(ParameterError, match="not loaded"):
        _kernels.Matrix.of_rows(TensorType.Q4_K, np.zeros((16, 144), np.uint8), 256).load(np.zeros((16, 144), np.uint8))
    plan, x, out = _kernels.Plan(1, 1, 1, 1), _kernels.Value("x", 512, 1), _kernels.Value("out", 16, 1)
    with pytest.raises(ParameterError, match="x has 512 columns where 256"):
        plan.matmul("m", x, [(m, out, None, 1.0)])
    with pytest.raises(ParameterError, match=r"16 columns where 15|15 values where 16"):
        plan.matmul("m", _kernels.Value("x", 256, 1), [(m, out, np.zeros(15, np.float32), 1.0)])
