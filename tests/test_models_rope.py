"""RoPE frequencies, against formulas written down independently: the oracle's, and those Hugging Face publishes."""

import math
from dataclasses import replace

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_models_config import read_file
from tiny_models import TinyModel, linear_keys, longrope_keys, write_tiny_model, yarn_keys

from pyinfer.errors import ModelError
from pyinfer.models.registry import read_model
from pyinfer.models.rope import Rope, rope_frequencies

PLAIN = Rope(
    n_rot=64,
    neox=True,
    freq_base=10000.0,
    scaling="none",
    factor=1.0,
    n_ctx_orig=4096,
    attn_factor=1.0,
    ext_factor=1.0,
    beta_fast=32.0,
    beta_slow=1.0,
    factor_tensors=(),
)

ropes = st.builds(
    replace,
    st.just(PLAIN),
    n_rot=st.integers(1, 128).map(lambda pairs: 2 * pairs),
    freq_base=st.floats(2, 1e8),
    factor=st.floats(1, 64),
    n_ctx_orig=st.integers(1, 1 << 20),
    beta_fast=st.floats(1, 64),
    beta_slow=st.floats(0.1, 1),
)


def huggingface_yarn(rope):
    """`_compute_yarn_parameters` of transformers, as published."""

    def correction_dim(rotations):
        return rope.n_rot * math.log(rope.n_ctx_orig / (rotations * 2 * math.pi)) / (2 * math.log(rope.freq_base))

    low = max(math.floor(correction_dim(rope.beta_fast)), 0)
    high = min(math.ceil(correction_dim(rope.beta_slow)), rope.n_rot - 1)
    high = high + 0.001 if high == low else high
    ramp = np.clip((np.arange(rope.n_rot // 2) - low) / (high - low), 0, 1)
    pos_freqs = rope.freq_base ** (np.arange(0, rope.n_rot, 2) / rope.n_rot)
    inv_freq = 1 / (rope.factor * pos_freqs) * ramp + 1 / pos_freqs * (1 - ramp)
    return inv_freq, 0.1 * math.log(rope.factor) + 1


def test_plain_frequencies_are_powers_of_the_base():
    inv_freq, mscale = rope_frequencies(replace(PLAIN, n_rot=4, freq_base=100.0))
    np.testing.assert_allclose(inv_freq, [1, 0.1])
    assert inv_freq.dtype == np.float64
    assert mscale == 1


@given(ropes)
def test_linear_scaling_divides_every_frequency(rope):
    scaled, mscale = rope_frequencies(replace(rope, scaling="linear"))
    np.testing.assert_allclose(scaled * rope.factor, rope_frequencies(replace(rope, factor=1.0))[0], rtol=1e-12)
    assert mscale == 1


@given(ropes)
def test_yarn_equals_the_published_formula(rope):
    inv_freq, mscale = rope_frequencies(replace(rope, scaling="yarn"))
    low = rope.n_rot * math.log(rope.n_ctx_orig / (rope.beta_fast * 2 * math.pi)) / (2 * math.log(rope.freq_base))
    if math.floor(max(low, 0)) < rope.n_rot - 1:  # beyond it the published ramp runs backwards
        expected, expected_mscale = huggingface_yarn(rope)
        if rope.n_ctx_orig > 2 * math.pi * rope.beta_slow:  # a range below pair 0 does too
            np.testing.assert_allclose(inv_freq, expected, rtol=1e-12)
        assert mscale == pytest.approx(expected_mscale)


@given(ropes)
def test_yarn_lies_between_none_and_linear(rope):
    inv_freq, _ = rope_frequencies(replace(rope, scaling="yarn"))
    plain, _ = rope_frequencies(replace(rope, factor=1.0))
    assert (inv_freq <= plain * (1 + 1e-12)).all()
    assert (inv_freq >= plain / rope.factor * (1 - 1e-12)).all()


@given(ropes)
def test_yarn_by_factor_one_is_no_scaling(rope):
    inv_freq, mscale = rope_frequencies(replace(rope, scaling="yarn", factor=1.0))
    np.testing.assert_allclose(inv_freq, rope_frequencies(replace(rope, factor=1.0))[0], rtol=1e-12)
    assert mscale == 1


def test_yarn_without_extrapolation_is_linear():
    yarn, mscale = rope_frequencies(replace(PLAIN, scaling="yarn", factor=8.0, ext_factor=0.0))
    np.testing.assert_allclose(yarn, rope_frequencies(replace(PLAIN, scaling="linear", factor=8.0))[0])
    assert mscale == 1


def test_yarn_keeps_fast_pairs_and_stretches_slow_ones():
    yarn, _ = rope_frequencies(replace(PLAIN, scaling="yarn", factor=4.0))
    plain, _ = rope_frequencies(PLAIN)
    assert yarn[0] == plain[0]
    assert yarn[-1] == pytest.approx(plain[-1] / 4)


@pytest.mark.parametrize("scaling", ["none", "linear", "yarn", "longrope"])
def test_the_attention_factor_multiplies_with_any_scaling(scaling):
    _, once = rope_frequencies(replace(PLAIN, scaling=scaling, factor=4.0))
    _, twice = rope_frequencies(replace(PLAIN, scaling=scaling, factor=4.0, attn_factor=2.0))
    assert twice == pytest.approx(2 * once)


def test_sliding_layers_have_their_own_base_and_no_scaling():
    rope = replace(PLAIN, scaling="yarn", factor=8.0, freq_base=1e6)
    inv_freq, mscale = rope_frequencies(rope.unscaled(5000.0))
    np.testing.assert_allclose(inv_freq, 5000.0 ** (-np.arange(0, 64, 2) / 64))
    assert mscale == 1


def test_llama_3_factors_reproduce_its_published_scaling():
    """Llama 3.1: keep wavelengths under 8192/4, divide those over 8192 by 8, blend in between."""
    plain, _ = rope_frequencies(replace(PLAIN, n_rot=128, freq_base=500000.0))
    wavelength = 2 * np.pi / plain
    smooth = (8192 / wavelength - 1) / (4 - 1)
    blend = (1 - smooth) * plain / 8 + smooth * plain
    expected = np.where(wavelength < 8192 / 4, plain, np.where(wavelength > 8192, plain / 8, blend))

    inv_freq, _ = rope_frequencies(replace(PLAIN, n_rot=128, freq_base=500000.0), factors=plain / expected)

    np.testing.assert_allclose(inv_freq, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        (np.ones(31), r"shape \(31,\), expected \(32,\)"),
        (np.where(np.arange(32) == 7, 0, 1), "factor 7 is 0.0, expected a finite number other than 0"),
        (np.where(np.arange(32) == 9, np.nan, 1), "factor 9 is nan"),
    ],
)
def test_bad_factors_are_named(factors, message):
    with pytest.raises(ModelError, match=message):
        rope_frequencies(PLAIN, factors=factors)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        linear_keys(4.0),
        yarn_keys(4.0, 64),
        yarn_keys(4.0, 64, yarn_beta_fast=8.0, yarn_beta_slow=0.5, attn_factor=0.9),
        yarn_keys(4.0, 64, yarn_ext_factor=0.5),
        {"rope.scaling.type": "none", "rope.scaling.factor": 4.0},
    ],
)
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3"])
def test_frequencies_of_a_file_equal_the_oracles(tmp_path, architecture, metadata):
    factors = np.linspace(1, 8, 32) if architecture == "llama" else None
    model = TinyModel(architecture, rope_factors=factors, metadata=metadata)
    path = write_tiny_model(tmp_path / "m.gguf", model)
    layers = read_model(read_file(path)).config.attention
    assert {bool(a.window) for a in layers} == ({False, True} if architecture == "gemma3" else {False})
    for a in layers:
        inv_freq, mscale = rope_frequencies(a.rope, factors)
        angles, magnitude = oracle.rope_angles(oracle.Model(path), np.ones(1), a.rope.n_rot, bool(a.window))
        np.testing.assert_allclose(inv_freq, angles[0], rtol=1e-6)  # the oracle reads factors as float32
        assert mscale == pytest.approx(magnitude)


@pytest.mark.parametrize(("n_ctx", "length"), [(64, 0), (65, 1)])
def test_longrope_takes_other_factors_for_contexts_beyond_the_original_one(tmp_path, n_ctx, length):
    factors = np.linspace(1, 2, 32), np.linspace(1, 9, 32)
    model = TinyModel("llama", longrope_factors=factors, metadata=longrope_keys(64, attn_factor=1.2))
    path = write_tiny_model(tmp_path / "m.gguf", model)
    rope = read_model(read_file(path)).config.attention[0].rope
    assert rope.factors_of(n_ctx) == ("rope_factors_short.weight", "rope_factors_long.weight")[length]
    inv_freq, mscale = rope_frequencies(rope, factors[length])
    of_oracle = oracle.Model(path)
    of_oracle.n_ctx = n_ctx
    angles, magnitude = oracle.rope_angles(of_oracle, np.ones(1), rope.n_rot, sliding=False)
    np.testing.assert_allclose(inv_freq, angles[0], rtol=1e-6)
    assert mscale == magnitude == np.float32(1.2)


def test_half_of_longropes_factors_are_refused(tmp_path):
    model = TinyModel("llama", longrope_factors=(np.ones(32), np.ones(32)), metadata=longrope_keys(64))
    file = read_file(write_tiny_model(tmp_path / "m.gguf", model))
    del file.tensors["rope_factors_long.weight"]
    with pytest.raises(ModelError, match=r"the tensor rope_factors_long\.weight is missing"):
        read_model(file)
