"""Encoders: against sentence-transformers, Hugging Face and the float64 oracle; sequences of a pass, refusals."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from minilm import fetch_minilm, write_minilm
from oracle import oracle_states
from tiny_models import ENCODERS, TinyModel, write_tiny_model

from pyinfer import LLM, _kernels
from pyinfer.engine.engine import Engine
from pyinfer.engine.options import EngineOptions
from pyinfer.errors import ContextError, ModelError, ParameterError
from pyinfer.gguf import GGUFFile
from pyinfer.models.registry import read_model

DATA = Path(__file__).parent / "data"
RNG = np.random.default_rng(1)
TOKENS = RNG.integers(0, 96, 40).tolist()


def nmse(found, expected):
    return float(((found - expected) ** 2).mean() / (expected**2).mean())


def open_engine(path, **kwargs):
    with GGUFFile(path) as file:
        return Engine(file, EngineOptions(**{"n_seqs": 1, "kv_type": "f32", **kwargs}))


def tiny_engine(tmp_path, model, **kwargs):
    path = write_tiny_model(tmp_path / "model.gguf", model)
    return open_engine(path, **kwargs), path


def states_of(engine, *texts):
    """States of all tokens of texts that are passed together, [n_tokens, n_embd]."""
    lengths = [len(text) for text in texts]
    positions = np.concatenate([np.arange(n) for n in lengths])
    sequences = np.repeat(np.arange(len(texts)), lengths)
    return engine.hidden(np.concatenate(texts), positions, sequences, np.arange(sum(lengths))).copy()


@pytest.fixture(scope="module")
def minilm(tmp_path_factory):
    """A function from a type of weights to the path of all-MiniLM-L6-v2 in it."""
    files, folder = fetch_minilm(), tmp_path_factory.mktemp("minilm")
    return lambda kind: write_minilm(files, folder / f"{kind}.gguf", kind)


# with 8-bit weights and activations float64 gives 0.998 for the shortest texts, too
@pytest.mark.parametrize("kind, least, mean", [("F32", 0.99999, 0.99999), ("Q8_0", 0.998, 0.999)])
def test_minilm_gives_the_embeddings_of_sentence_transformers(minilm, kind, least, mean):
    texts = json.loads((DATA / "minilm" / "texts.json").read_text(encoding="utf-8"))
    expected = np.load(DATA / "minilm" / "embeddings.npy")
    with LLM(minilm(kind)) as llm:
        found = llm.embed(texts)
    cosines = (found * expected).sum(axis=1)
    assert len(cosines) > 20
    assert cosines.min() >= least
    assert cosines.mean() >= mean


def test_nomic_bert_gives_the_states_of_hugging_face():
    tokens = [(7 * i * i + 3 * i + 1) % 40 for i in range(24)]
    path, expected = DATA / "nomic-bert" / "model.gguf", np.load(DATA / "nomic-bert" / "states.npy")
    assert nmse(oracle_states(path, tokens), expected) < 1e-13
    assert nmse(states_of(open_engine(path), tokens), expected) < 1e-10


MODELS = {
    "bert": TinyModel("bert"),
    "bert, fused": TinyModel("bert", fused_qkv=True, n_heads=6, n_kv_heads=3, head_dim=32),
    "bert, no biases": TinyModel("bert", biases=False),
    "bert, odd sizes": TinyModel("bert", n_embd=120, n_heads=3, n_kv_heads=3, head_dim=40, n_ff=200),
    "nomic-bert": TinyModel("nomic-bert"),
    "nomic-bert, biases": TinyModel("nomic-bert", fused_qkv=True, biases=True),
    "nomic-bert, base": TinyModel("nomic-bert", metadata={"rope.freq_base": 1000.0}),
    "causal": TinyModel("bert", metadata={"attention.causal": True}),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_float_models_equal_the_oracle(tmp_path, model):
    engine, path = tiny_engine(tmp_path, model)
    assert nmse(states_of(engine, TOKENS), oracle_states(path, TOKENS)) < 1e-8


@pytest.mark.parametrize("isa", _kernels.available_isas())
@pytest.mark.parametrize("architecture", ENCODERS)
def test_quantized_models_differ_from_the_oracle_by_8_bit_activations_only(tmp_path, architecture, isa):
    _kernels.select_isa(isa)
    try:
        model = TinyModel(architecture, types={"ffn_down": "Q6_K", "": "Q8_0"}, fused_qkv=True)
        engine, path = tiny_engine(tmp_path, model, kv_type="f16")
        assert nmse(states_of(engine, TOKENS), oracle_states(path, TOKENS)) < 1e-3
    finally:
        _kernels.select_isa()


@pytest.mark.parametrize("architecture", ENCODERS)
def test_texts_of_a_pass_give_the_bits_that_each_gives_alone(tmp_path, architecture):
    model = TinyModel(architecture, types={"": "Q8_0"}, n_ctx=700)
    engine, path = tiny_engine(tmp_path, model, n_batch=1024, n_threads=2)
    texts = [RNG.integers(0, 96, n).tolist() for n in (70, 1, 600, 33)]
    together = states_of(engine, *texts)
    assert nmse(together[:70], oracle_states(path, texts[0])) < 1e-3
    start = 0
    for text in texts:
        alone = open_engine(path, n_threads=1)
        np.testing.assert_array_equal(states_of(alone, text), together[start : start + len(text)])
        start += len(text)


@pytest.mark.parametrize("architecture", ENCODERS)
def test_weights_in_the_mapped_file_give_the_same_bits(tmp_path, architecture):
    engine, path = tiny_engine(tmp_path, TinyModel(architecture, types={"ffn": "Q4_K"}, fused_qkv=True))
    mapped = open_engine(path, weights="mmap")
    np.testing.assert_array_equal(states_of(mapped, TOKENS), states_of(engine, TOKENS))


def test_earlier_tokens_see_later_ones(tmp_path):
    engine, _ = tiny_engine(tmp_path, TinyModel("bert"))
    first = states_of(engine, TOKENS)[0]
    assert nmse(states_of(engine, TOKENS[:-1])[0], first) > 1e-6


def test_states_come_only_for_the_rows_that_were_asked_for(tmp_path):
    engine, _ = tiny_engine(tmp_path, TinyModel("bert"))
    whole, n = states_of(engine, TOKENS), len(TOKENS)
    np.testing.assert_array_equal(engine.hidden(TOKENS, np.arange(n), [0] * n, [n - 1, 3]), whole[[n - 1, 3]])


def test_an_encoder_generates_no_text_and_says_what_it_does(tmp_path):
    path = write_tiny_model(tmp_path / "m.gguf", TinyModel("bert", n_layers=1))
    with LLM(path) as llm:
        for call in (llm.generate, llm.logits):
            with pytest.raises(ModelError, match=r"'bert' is an encoder: it embeds texts \(LLM.embed\)"):
                call([1, 2])
        assert llm.embed([[1, 2]]).shape == (1, 256)


@pytest.mark.parametrize("positions", [[1, 2], [0, 2], [1, 0]])
def test_a_part_of_a_text_is_refused(tmp_path, positions):
    engine, _ = tiny_engine(tmp_path, TinyModel("bert", n_layers=1))
    with pytest.raises(ParameterError, match="expected a whole text, from 0 on"):
        engine.hidden([1, 2], positions, [0, 0], [0])


def test_no_more_positions_than_were_learned(tmp_path):
    with pytest.raises(ParameterError, match="n_ctx is 129; the model has 128 learned positions"):
        tiny_engine(tmp_path, TinyModel("bert", n_layers=1), n_ctx=129)
    engine, _ = tiny_engine(tmp_path, TinyModel("bert", n_layers=1))
    with pytest.raises(ContextError, match=r"129 positions.* 128"):
        engine.hidden([1] * 129, np.arange(129), [0] * 129, [0])


def test_what_a_file_says_of_an_encoder(tmp_path):
    def config(**metadata):
        model = TinyModel("bert", n_layers=1)
        path = write_tiny_model(tmp_path / "m.gguf", replace(model, metadata=metadata))
        with GGUFFile(path) as file:
            return read_model(file).config

    usual = config()
    assert (usual.encoder, usual.causal, usual.norm.centered, usual.pooling) == (True, False, True, "mean")
    assert [a.rope for a in usual.attention] == [None]
    for number, name in ((0, None), (1, "mean"), (2, "cls"), (3, "last"), (4, "rank"), ((1 << 32) - 1, None)):
        assert config(pooling_type=number).pooling == name
    assert config(**{"attention.causal": None}).causal is False
    with pytest.raises(ModelError, match=r"bert\.pooling_type is 5, expected 0 to 4"):
        config(pooling_type=5)
    with pytest.raises(ModelError, match=r"bert\.attention\.layer_norm_epsilon is missing"):
        config(**{"attention.layer_norm_epsilon": None})
