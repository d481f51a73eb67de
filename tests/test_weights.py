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
from pyinfer.models.registry import read_model
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


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3", "bert", "nomic-bert"])
def test_every_tensor_of_a_model_is_used(tmp_path, architecture):
    path = write_tiny_model(tmp_path / "m.gguf", TinyModel(architecture))
    more = {
        "blk.0.unknown.weight": np.zeros((64, 32), np.float32),
        "blk.0.ffn_up_exps.weight": np.zeros((3, 17, 32), np.float32),  # stacks of matrices do no harm
    }
    with GGUFFile(rewrite(path, tmp_path / "more.gguf", more=more)) as file:
        weights = Weights(file)
        engine = Engine(file)
        read_model(file).record(_kernels.Plan(8, 128, 1, 1), weights, engine.memory.layers)
        assert weights.unused() == sorted(more)
