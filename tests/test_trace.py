"""Traces against the float64 oracle's values between its steps, and that they leave everything as it was."""

import math

import numpy as np
import oracle
import pytest
from tiny_models import TinyModel, write_text_model, write_tiny_model

from pyinfer import LLM, ContextError, ParameterError, SamplingParams

TOKENS = np.random.default_rng(1).integers(0, 96, 20).tolist()


def oracle_trace(path, tokens):
    """What the oracle has at the points that a decoder's trace names."""
    model = oracle.Model(path)
    gemma, eps = model.architecture == "gemma3", model.get("attention.layer_norm_rms_epsilon")
    at, of = np.arange(len(tokens), dtype=np.float64), np.zeros(len(tokens))

    def norm(name, x):
        return oracle.rms_norm(x, model.vector(f"{name}.weight"), eps)

    x = model.rows("token_embd.weight", np.asarray(tokens))
    x = x * math.sqrt(x.shape[1]) if gemma else x
    found = {"embed": x}
    for layer in range(model.get("block_count")):
        blk = f"blk.{layer}"
        found[f"{blk}.attn_norm"] = y = norm(f"{blk}.attn_norm", x)
        for part in "qkv":
            found[f"{blk}.qkv.{part}"] = model.linear(f"{blk}.attn_{part}", y)
        found[f"{blk}.attn_output"] = y = oracle.attention(model, layer, y, at, of)
        found[f"{blk}.mid"] = x = x + (norm(f"{blk}.post_attention_norm", y) if gemma else y)
        found[f"{blk}.ffn_norm"] = y = norm(f"{blk}.ffn_norm", x)
        activation = oracle.gelu_tanh if gemma else oracle.silu
        gate, up = (model.feed_forward_linear(f"{blk}.ffn_{part}", y) for part in ("gate", "up"))
        found[f"{blk}.ffn_gate_up"] = activation(gate) * up
        found[f"{blk}.ffn_down"] = y = oracle.feed_forward(model, layer, y)
        found[f"{blk}.out"] = x = x + (norm(f"{blk}.post_ffw_norm", y) if gemma else y)
    return found | {"output_norm": norm("output_norm", x), "logits": oracle.oracle_logits(path, tokens)}


def tiny_llm(tmp_path, model, **kwargs):
    path = write_tiny_model(tmp_path / "m.gguf", model)
    return LLM(path, **{"kv_type": "f32", **kwargs}), path


@pytest.mark.parametrize(
    "model",
    [
        TinyModel("llama", types={"ffn_down": "F16"}),
        TinyModel("qwen2"),
        TinyModel("gemma3", n_layers=3, metadata={"final_logit_softcapping": 5.0}),
    ],
    ids=lambda model: model.architecture,
)
def test_activations_equal_the_oracle(tmp_path, model):
    llm, path = tiny_llm(tmp_path, model)
    found, expected = llm.trace(TOKENS), oracle_trace(path, TOKENS)
    inner = {f"blk.{i}.{name}" for i in range(model.n_layers) for name in ("rope.q", "rope.k", "attention")}
    assert set(found) == set(expected) | inner
    for name, values in expected.items():
        assert (found[name].dtype, found[name].shape) == (np.float32, values.shape)
        np.testing.assert_allclose(found[name], values, rtol=0, atol=2e-4 * np.abs(values).max(), err_msg=name)


def test_the_heads_outputs_are_what_is_projected(tmp_path):
    llm, path = tiny_llm(tmp_path, TinyModel("llama"))
    found = llm.trace(TOKENS)
    projected = oracle.Model(path).linear("blk.1.attn_output", found["blk.1.attention"])
    np.testing.assert_allclose(found["blk.1.attn_output"], projected, rtol=0, atol=1e-4)
    q, k = (found[f"blk.1.rope.{part}"].reshape(len(TOKENS), -1, 64) for part in "qk")
    unrotated = (found[f"blk.1.qkv.{part}"].reshape(len(TOKENS), -1, 64) for part in "qk")
    for rotated, before, scale in zip((q, k), unrotated, (1 / 8, 1), strict=True):  # a rotation keeps lengths
        lengths = np.linalg.norm(before, axis=-1) * scale
        np.testing.assert_allclose(np.linalg.norm(rotated, axis=-1), lengths, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["bert", "nomic-bert"])
def test_encoders_stream_ends_in_the_states(tmp_path, architecture):
    llm, path = tiny_llm(tmp_path, TinyModel(architecture))
    found = llm.trace(TOKENS, ["blk.*.out", "blk.*.layer_output_norm"])
    np.testing.assert_allclose(found["blk.1.out"], oracle.oracle_states(path, TOKENS), rtol=0, atol=2e-4)
    for layer in range(2):
        np.testing.assert_array_equal(found[f"blk.{layer}.out"], found[f"blk.{layer}.layer_output_norm"])


@pytest.mark.parametrize("weights", ["copy", "mmap"])
def test_logits_are_those_of_a_pass_to_the_bit(tmp_path, weights):
    llm, path = tiny_llm(tmp_path, TinyModel("llama", types={"": "Q4_0"}), weights=weights)
    path.unlink()  # nothing is read again
    np.testing.assert_array_equal(llm.trace(TOKENS, "logits")["logits"], llm.logits(TOKENS))


def test_names_are_globs(tmp_path):
    llm, _ = tiny_llm(tmp_path, TinyModel("llama"))
    assert list(llm.trace(TOKENS, "blk.*.out")) == ["blk.0.out", "blk.1.out"]
    assert list(llm.trace(TOKENS, ["embed", "blk.1.ffn_*"])) == [
        "embed",
        "blk.1.ffn_norm",
        "blk.1.ffn_gate_up",
        "blk.1.ffn_down",
    ]


def test_generation_goes_on_undisturbed(tmp_path):
    path = write_text_model(tmp_path / "m.gguf", TinyModel("llama", n_vocab=128))
    params = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)
    with LLM(path) as llm:
        expected = llm.generate("abc", params).tokens
        with llm.stream("abc", params) as stream:
            next(stream)
            llm.trace("something else")
            for _ in stream:
                pass
            assert stream.completion.tokens == expected


def test_what_cannot_be_traced_is_refused(tmp_path):
    llm, _ = tiny_llm(tmp_path, TinyModel("llama"), n_ctx=64)
    with pytest.raises(ParameterError, match=r"names has 'blk.7.out', which matches none of embed, blk.0.attn_norm"):
        llm.trace(TOKENS, "blk.7.out")
    for names in (5, [5], b"logits", [["logits"]], []):
        with pytest.raises(ParameterError, match=r"names is .*; expected a glob, a list of globs or None"):
            llm.trace(TOKENS, names)
    with pytest.raises(ContextError, match="65 tokens"):
        llm.trace([1] * 65)
    with pytest.raises(ParameterError):
        llm.trace([])
