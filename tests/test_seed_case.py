"""The seed case's writer on a small shape: what the file holds, and that it runs."""

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Quant
from seed_case import Shape, tensors, use_more_bits, write_seed_case

from pyinfer.engine.engine import Engine
from pyinfer.engine.options import EngineOptions
from pyinfer.gguf import GGUFFile, TensorType
from pyinfer.tokenizer import load_tokenizer

SMALL = Shape(n_layers=8, n_embd=256, n_heads=4, n_kv_heads=2, n_ff=512, n_vocab=40_960, n_words=40_000, n_ctx=64)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_seed_case(tmp_path_factory.mktemp("seed") / "small.gguf", SMALL, seed=1)


def test_the_full_shape_is_that_of_the_published_file():
    full = list(tensors(Shape()))
    assert len(full) == 579
    assert sum(tensor.n_bytes for tensor in full) == 10_502_905_856
    types = [tensor.type for tensor in full]
    assert types.count(TensorType.Q6_K) == 1 + 2 * sum(use_more_bits(layer, 48) for layer in range(48))
    assert types.count(TensorType.F32) == 1 + 5 * 48


def test_tensors_have_the_formats_shapes_and_sizes_of_the_mixture(path):
    read = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    assert len(read) == 3 + 12 * SMALL.n_layers
    for tensor in tensors(SMALL):
        found = read[tensor.name]
        assert found.tensor_type.name == tensor.type.name
        assert tuple(found.shape.tolist()[::-1]) == tensor.shape
        assert found.n_bytes == tensor.n_bytes
    large = {name for name, tensor in read.items() if tensor.tensor_type == Quant.Q6_K}
    layers = (0, 3, 6, 7)
    assert large == {"output.weight", *(f"blk.{i}.{m}.weight" for i in layers for m in ("attn_v", "ffn_down"))}


def test_weights_have_the_scale_that_keeps_activations_ordinary(path):
    for tensor in gguf.GGUFReader(path).tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        wanted = next(t for t in tensors(SMALL) if t.name == tensor.name)
        assert np.isfinite(values).all()
        assert abs(values.mean() - wanted.mean) < 0.1 * wanted.deviation + 0.02
        assert values.std() == pytest.approx(wanted.deviation, rel=0.2)


def test_other_tensors_do_not_change_a_tensors_bytes(path, tmp_path):
    shorter = write_seed_case(tmp_path / "short.gguf", Shape(**{**vars(SMALL), "n_layers": 1}), seed=1)
    with GGUFFile(path) as one, GGUFFile(shorter) as two:
        for name in ("output.weight", "blk.0.attn_v.bias"):
            np.testing.assert_array_equal(one.tensors[name].rows(), two.tensors[name].rows())


def test_the_vocabulary_is_whole_and_every_merge_leads_to_a_token(path):
    with GGUFFile(path) as file:
        tokens = [token.decode() for token in map(bytes_of, file.metadata["tokenizer.ggml.tokens"])]
        merges = [merge.decode() for merge in map(bytes_of, file.metadata["tokenizer.ggml.merges"])]
    known = set(tokens)
    assert len(tokens) == len(known) == SMALL.n_vocab
    assert len(merges) == SMALL.n_words - 256
    for merge in merges:
        one, two = merge.split(" ")
        assert {one, two, one + two} <= known
    tokenizer = load_tokenizer(path)
    text = "Nothing that the reader knows, größer, 日本"
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text and len(ids) < len(text.encode())
    assert {tokenizer.bos_id, tokenizer.eos_id} == {SMALL.n_words, SMALL.n_words + 2}


def bytes_of(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def test_it_runs_and_gives_finite_logits_of_ordinary_size(path):
    with GGUFFile(path) as file:
        engine = Engine(file, EngineOptions(n_seqs=1, n_threads=1))
    logits = engine.forward(np.arange(40), np.arange(40), np.zeros(40), [39])[0]
    for position in range(40, 44):
        assert np.isfinite(logits).all()
        assert 0.5 < logits.std() < 2
        logits = engine.forward([int(logits.argmax())], [position], [0], [0])[0]


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("seed_case.shutil.disk_usage", lambda path: type("Usage", (), {"free": 10**9})())
    with pytest.raises(OSError, match=r"needs 10\.5 GB; the disk has 1\.0 GB left"):
        write_seed_case(tmp_path / "large.gguf", Shape())
    assert list(tmp_path.iterdir()) == []
