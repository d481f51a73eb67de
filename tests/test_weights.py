"""Weights: which shapes are taken, and which tensors of a file were."""

import numpy as np
import plans
import pytest
from tiny_models import TinyModel, write_tiny_model

from pyinfer import _kernels
from pyinfer.engine.engine import Engine
from pyinfer.engine.options import EngineOptions
from pyinfer.errors import ModelError
from pyinfer.gguf import GGUFFile, GGUFWriter
from pyinfer.weights.store import MODES, Weights

MODEL = TinyModel("llama", n_layers=1, n_embd=64, n_heads=2, n_kv_heads=1, head_dim=32, n_ff=96, n_ctx=128)


def rewrite(path, target, change=lambda name, data: data, more=()):
    """Copies a model of floats; change(name, array) gives the array to write; more: further tensors."""
    with GGUFFile(path) as file:
        writer = GGUFWriter(target, dict(file.metadata.items()))
        for info in file.tensors.values():
            writer.add_tensor(info.name, change(info.name, info.rows().view(np.float32).reshape(info.shape)))
        for name, data in dict(more).items():
            writer.add_tensor(name, data)
        writer.write()
    return target


@pytest.fixture
def path(tmp_path):
    return write_tiny_model(tmp_path / "m.gguf", MODEL)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "name, found, expected",
    [
        ("blk.0.attn_k", (64, 32), (32, 64)),
        ("blk.0.ffn_up", (64, 96), (96, 64)),
        ("blk.0.ffn_down", (96, 64), (64, 96)),
        ("output", (64, 96), (96, 64)),
    ],
)
def test_a_transposed_matrix_is_refused_by_name_and_shapes(path, tmp_path, name, found, expected, mode):
    def turn(n, data):
        return data.T.copy() if n == f"{name}.weight" else data

    turned = rewrite(path, tmp_path / "turned.gguf", turn)
    with GGUFFile(turned) as file, pytest.raises(ModelError) as error:
        Engine(file, EngineOptions(n_seqs=1, weights=mode))
    assert f"{name}.weight has shape {found}, expected {expected}" in str(error.value)


def test_an_embedding_may_be_stored_transposed_if_it_is_not_square(path, tmp_path):
    values = np.random.default_rng(0).standard_normal((96, 64)).astype(np.float32)
    for data, n_vocab in ((values, 96), (values.T.copy(), 96), (values[:64].copy(), 64)):
        target = rewrite(path, tmp_path / "m2.gguf", lambda n, old, new=data: new if n == "token_embd.weight" else old)
        with GGUFFile(target) as file:
            weights = Weights(file)
            matrix = weights.embedding("token_embd.weight", n_vocab, 64)
            weights.load(1)
        plan, rows = _kernels.Plan(n_vocab, n_vocab, 1, 1), _kernels.Value("x", 64, n_vocab).want("rows")
        plan.embed("embed", matrix, rows)
        plans.run(plan, n_vocab, tokens=np.arange(n_vocab))
        np.testing.assert_array_equal(rows.rows[:n_vocab], values[:n_vocab])


def test_one_tensor_has_one_shape(path):
    with GGUFFile(path) as file:
        weights = Weights(file)
        assert weights.matrix("blk.0.attn_k.weight", 32, 64) is weights.matrix("blk.0.attn_k.weight", 32, 64)
        with pytest.raises(ModelError, match=r"attn_k\.weight has shape \(32, 64\), expected \(64, 32\)"):
            weights.matrix("blk.0.attn_k.weight", 64, 32)


ARCHITECTURES = ("llama", "qwen2", "gemma3", "bert", "nomic-bert")


def engine_of(path, mode="copy"):
    with GGUFFile(path) as file:
        return Engine(file, EngineOptions(n_seqs=1, kv_type="f32", weights=mode))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    "name",
    [
        "blk.0.unknown.weight",
        "blk.0.ffn_up_exps.weight",
        "blk.2.attn_q.weight",
        "blk.0.attn_sinks.weight",
        "blk.0.attn_q_norm.bias",
        "rope_factors_long.weight",
        "output.weight.extra",
    ],
)
def test_a_tensor_that_the_architecture_does_not_use_is_refused_by_name(tmp_path, architecture, name, mode):
    path = write_tiny_model(tmp_path / "m.gguf", TinyModel(architecture))
    more = rewrite(path, tmp_path / "more.gguf", more={name: np.zeros((3, 17, 32), np.float32)})
    message = rf"more\.gguf: the architecture '{architecture}' does not use 1 of the file's \d+ tensors: {name};"
    with pytest.raises(ModelError, match=message):
        engine_of(more, mode)


@pytest.mark.parametrize("architecture", ["qwen2", "gemma3"])
def test_factors_of_frequencies_are_refused_where_they_are_not_applied(tmp_path, architecture):
    model = TinyModel(architecture, rope_factors=np.linspace(1, 8, 32))
    with pytest.raises(ModelError, match=r"does not use 1 of .*: rope_freqs\.weight"):
        engine_of(write_tiny_model(tmp_path / "m.gguf", model))


def test_an_error_names_a_few_of_many_tensors(path, tmp_path):
    more = {f"blk.0.t{i:03}.weight": np.zeros(32, np.float32) for i in range(400)}
    with pytest.raises(ModelError, match=r"400 of the file's \d+ tensors: blk.*and 394 more") as error:
        engine_of(rewrite(path, tmp_path / "more.gguf", more=more))
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("architecture", "names"),
    [
        ("llama", ["blk.0.attn_q.input_scale", "blk.1.attn_rot_embd.weight"]),
        ("qwen2", ["blk.0.ffn_up.scale", "blk.1.ffn_gate.scale"]),
        ("gemma3", ["blk.0.ffn_down.scale", "v.blk.0.attn_q.weight", "mm.input_projection.weight"]),
        ("bert", ["cls.weight", "cls.bias", "cls.output.weight", "cls.output.bias"]),
    ],
)
def test_tensors_that_change_no_result_are_left_out(tmp_path, architecture, names):
    path = write_tiny_model(tmp_path / "m.gguf", TinyModel(architecture))
    engine_of(rewrite(path, tmp_path / "more.gguf", more={name: np.full(1, 3, np.float32) for name in names}))


@pytest.mark.parametrize("tied", [False, True])
def test_the_bias_of_the_output_is_added_to_the_logits(tmp_path, tied):
    path = write_tiny_model(tmp_path / "m.gguf", TinyModel("qwen2", tied=tied))
    bias = np.random.default_rng(0).standard_normal(96).astype(np.float32)
    with_bias = rewrite(path, tmp_path / "bias.gguf", more={"output.bias": bias})
    arguments = [1, 2, 3], [0, 1, 2], [0, 0, 0], [0, 1, 2]
    plain, biased = engine_of(path).forward(*arguments).copy(), engine_of(with_bias).forward(*arguments)
    np.testing.assert_allclose(biased, plain + bias, rtol=0, atol=1e-4)
