"""The oracle and the tiny models are right: against llama.cpp's logits, and by laws that hold for the mathematics."""

import json
from dataclasses import replace

import gguf
import numpy as np
import pytest
from oracle import oracle_logits
from tiny_models import RANDOM_BLOCKS, TinyModel, linear_keys, random_blocks, write_tiny_model, yarn_keys

ARCHITECTURES = ["llama", "qwen2", "gemma3"]
TOKENS = list(np.random.default_rng(1).integers(0, 96, 20))


def nmse(found, expected):
    return np.mean((found - expected) ** 2) / np.mean(np.square(expected, dtype=np.float64))


def logits_of(tmp_path, model, **kwargs):
    return oracle_logits(write_tiny_model(tmp_path / "m.gguf", model), TOKENS, **kwargs)


# gemma3's figure is that of llama.cpp's GELU, a table in float16; the others agree to float32 rounding.
@pytest.mark.parametrize(("architecture", "limit"), [("llama", 1e-13), ("qwen2", 1e-13), ("gemma3", 1e-8)])
def test_logits_equal_llama_cpp(reference, architecture, limit):
    tokens = json.loads((reference / "archs" / "tokens.json").read_text())["tokens"]
    expected = np.load(reference / "archs" / f"{architecture}-dense.logits.npy")
    logits = oracle_logits(reference / "archs" / f"{architecture}-dense.gguf", tokens)
    assert logits.dtype == np.float64
    assert nmse(logits, expected) < limit


def test_a_real_model_gives_the_reference_probabilities(reference, real_model):
    name, n = "smollm2-135m-q4_1", 8
    known = np.load(reference / "real" / f"{name}.npz")
    logits = oracle_logits(real_model(name), known["tokens"][:n])
    logprobs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    found = np.take_along_axis(logprobs, known["f32_top_ids"][:n].astype(np.int64), axis=1)
    expected = known["f32_top_logprobs"][:n]
    assert np.abs(found - expected)[expected > -8].max() < 0.02  # the reference's KV cache was float16
    assert (logits.argmax(axis=1) == known["f32_top_ids"][:n, 0]).all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("scaling", [{}, linear_keys(4.0), yarn_keys(4.0, 32)])
def test_only_distances_between_positions_matter(tmp_path, architecture, scaling):
    model = TinyModel(architecture, metadata=scaling)
    positions = np.arange(len(TOKENS))
    here, there = (logits_of(tmp_path, model, positions=positions + shift) for shift in (0, 50))
    np.testing.assert_allclose(here, there, atol=1e-9)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_later_tokens_do_not_change_earlier_logits(tmp_path, architecture):
    path = write_tiny_model(tmp_path / "m.gguf", TinyModel(architecture))
    np.testing.assert_allclose(oracle_logits(path, TOKENS[:7]), oracle_logits(path, TOKENS)[:7], atol=1e-10)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sequences_in_one_batch_do_not_see_each_other(tmp_path, architecture):
    path = write_tiny_model(tmp_path / "m.gguf", TinyModel(architecture))
    sequences = np.arange(len(TOKENS)) % 3
    together = oracle_logits(path, TOKENS, np.arange(len(TOKENS)) // 3, sequences)
    for sequence in range(3):
        alone = oracle_logits(path, TOKENS[sequence::3])
        np.testing.assert_allclose(together[sequences == sequence], alone, atol=1e-10)


def test_a_window_of_n_keys_counts_the_query_itself(tmp_path):
    model = TinyModel("gemma3", n_layers=1, sliding_window=5, sliding_pattern=[1])
    path = write_tiny_model(tmp_path / "m.gguf", model)
    everything = oracle_logits(path, TOKENS)[-1]
    np.testing.assert_allclose(oracle_logits(path, TOKENS[-5:])[-1], everything, atol=1e-10)
    assert nmse(oracle_logits(path, TOKENS[-4:])[-1], everything) > 1e-3


VARIANTS = {
    "linear": TinyModel("llama", metadata=linear_keys(4.0)),
    "yarn": TinyModel("llama", metadata=yarn_keys(4.0, 32)),
    "yarn without extrapolation": TinyModel("llama", metadata=yarn_keys(4.0, 32, yarn_ext_factor=0.0)),
    "factors": TinyModel("llama", rope_factors=np.linspace(1, 8, 32)),
    "biases": TinyModel("llama", biases=True),
    "output scales": TinyModel("llama", output_scales=True),
    "tied": TinyModel("llama", tied=True),
    "one key head": TinyModel("llama", n_kv_heads=1),
    "heads by layer": TinyModel("llama", n_heads=[4, 2], n_kv_heads=[2, 2]),
    "base": TinyModel("llama", metadata={"rope.freq_base": 500.0}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_option_changes_the_logits(tmp_path, variant):
    assert nmse(logits_of(tmp_path, VARIANTS[variant]), logits_of(tmp_path, TinyModel("llama"))) > 1e-4


@pytest.mark.parametrize(
    "option", [{"sliding_window": 6}, {"sliding_pattern": [0, 1]}, {"metadata": {"rope.freq_base_swa": 500.0}}]
)
def test_every_option_of_sliding_layers_changes_the_logits(tmp_path, option):
    plain = TinyModel("gemma3")
    assert nmse(logits_of(tmp_path, replace(plain, **option)), logits_of(tmp_path, plain)) > 1e-4


def test_soft_capping_bounds_the_logits(tmp_path):
    plain = logits_of(tmp_path, TinyModel("gemma3"))
    capped = logits_of(tmp_path, TinyModel("gemma3", metadata={"final_logit_softcapping": 2.0}))
    np.testing.assert_allclose(capped, 2 * np.tanh(plain / 2), atol=1e-10)


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_a_quantized_model_stays_near_its_float32_original(tmp_path, kind):
    limit = {"F16": 1e-5, "BF16": 1e-3, "Q8_0": 1e-3}.get(kind, 0.5)
    error = nmse(logits_of(tmp_path, TinyModel("qwen2", types={"": kind})), logits_of(tmp_path, TinyModel("qwen2")))
    assert 0 < error < limit


@pytest.mark.parametrize("kind", RANDOM_BLOCKS)
def test_random_blocks_have_the_spread_that_was_asked_for(kind):
    blocks = random_blocks(np.random.default_rng(0), (64, 512), kind, std=0.1)
    values = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[kind])
    assert values.shape == (64, 512)
    assert values.std() == pytest.approx(0.1, rel=0.15)
    assert abs(values.mean()) < 0.05


def test_formats_are_chosen_by_parts_of_names(tmp_path):
    types = {"ffn_down": "Q6_K", "token_embd": "Q8_0", "blk.1.attn": "Q4_K", "": "Q4_0"}
    path = write_tiny_model(tmp_path / "m.gguf", TinyModel("llama", types=types))
    found = {t.name: t.tensor_type.name for t in gguf.GGUFReader(path).tensors}
    assert found["blk.0.ffn_down.weight"] == "Q6_K"
    assert found["token_embd.weight"] == "Q8_0"
    assert (found["blk.0.attn_q.weight"], found["blk.1.attn_q.weight"]) == ("Q4_0", "Q4_K")
    assert found["output_norm.weight"] == "F32"
    assert np.isfinite(oracle_logits(path, TOKENS)).all()
