"""Dequantization of every format, bit for bit what the gguf package gives."""

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import FORMATS, HALVES, QUANTIZED, dequantized, random_rows

from pyinfer import _kernels
from pyinfer.errors import ParameterError
from pyinfer.gguf import TensorType
from pyinfer.quants import dequantize


def assert_same_bits(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal to the bit; NaN where the other is NaN."""
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(found), nan)
    np.testing.assert_array_equal(found[~nan].view(np.uint32), np.ascontiguousarray(expected)[~nan].view(np.uint32))


def test_every_weight_format_of_the_gguf_package_has_kernels():
    no_weights = {"I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K"}
    assert set(FORMATS) == {t.name for t in gguf.GGMLQuantizationType} - no_weights


@pytest.mark.parametrize("name", FORMATS)
def test_random_blocks_equal_the_gguf_package(name):
    rows = random_rows(np.random.default_rng(0), name, 33, 1024)
    assert_same_bits(dequantize(rows, TensorType[name], 1024), dequantized(name, rows, 1024))


@pytest.mark.parametrize("name", QUANTIZED)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_any_bytes_equal_the_gguf_package(name, seed):
    """All scales occur: subnormal, huge, negative, infinite, NaN."""
    kind = TensorType[name]
    rows = np.random.default_rng(seed).integers(0, 256, (64, 2 * kind.block_bytes), dtype=np.uint8)
    k = 2 * kind.block_size
    assert_same_bits(dequantize(rows, kind, k), dequantized(name, rows, k))


@pytest.mark.parametrize("name, n_scales", [("MXFP4", 1), ("NVFP4", 4)])
def test_all_eight_bit_scales_equal_the_gguf_package(name, n_scales):
    kind = TensorType[name]
    rows = np.random.default_rng(2).integers(0, 256, (256, kind.block_bytes), dtype=np.uint8)
    rows[:, :n_scales] = np.arange(256)[:, None]
    k = kind.block_size
    assert_same_bits(dequantize(rows, kind, k), dequantized(name, rows, k))


@pytest.mark.parametrize("name", [name for name in QUANTIZED if name in HALVES])
@pytest.mark.parametrize("scale", [0.0, -0.0, 6e-8, -65504.0, 65504.0, np.inf, np.nan])
def test_extreme_scales_are_kept(name, scale):
    rng = np.random.default_rng(1)
    kind = TensorType[name]
    rows = random_rows(rng, name, 16, 2 * kind.block_size)
    for offset in HALVES[name]:
        rows[:, offset : offset + 2] = np.array([scale], "<f2").view(np.uint8)
    k = 2 * kind.block_size
    assert_same_bits(dequantize(rows, kind, k), dequantized(name, rows, k))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((np.zeros((2, 33), np.uint8), TensorType.Q8_0, 32), "34 bytes, not 33"),
        ((np.zeros((2, 34), np.uint8), TensorType.Q8_0, 33), "not a multiple of the block of 32"),
        ((np.zeros((2, 34), np.uint8), TensorType.Q8_0, 0), "not a multiple"),
        ((np.zeros((2, 8), np.uint8), TensorType.I64, 1), "I64"),
    ],
)
def test_rows_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ParameterError, match=message):
        dequantize(*arguments)


def test_an_unknown_type_has_no_kernels():
    assert not _kernels.has_kernels(9999)
