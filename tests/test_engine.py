"""The engine against llama.cpp's logits, the float64 oracle, and itself: how a prompt is cut up must not matter."""

import json
import threading

import numpy as np
import pytest
from oracle import oracle_logits
from tiny_models import TinyModel, linear_keys, longrope_keys, write_tiny_model, yarn_keys

from pyinfer import _kernels
from pyinfer.engine.engine import Engine
from pyinfer.engine.options import EngineOptions
from pyinfer.errors import ContextError, ModelError, ParameterError, PyinferError
from pyinfer.gguf import GGUFFile, GGUFWriter, TensorType

ARCHITECTURES = ("llama", "qwen2", "gemma3")
RNG = np.random.default_rng(1)
TOKENS = RNG.integers(0, 96, 40).tolist()


def nmse(found, expected):
    return float(((found - expected) ** 2).mean() / (expected**2).mean())


def logits_of(engine, tokens, chunk=None, sequence=0):
    """Logits of all tokens, from an empty sequence, passed in chunks of the given size."""
    engine.truncate(sequence, 0)
    rows = []
    step = chunk or len(tokens)
    for start in range(0, len(tokens), step):
        part = tokens[start : start + step]
        n = len(part)
        rows.append(engine.forward(part, np.arange(start, start + n), [sequence] * n, np.arange(n)).copy())
    return np.concatenate(rows)


def tiny_engine(tmp_path, model, **kwargs):
    path = write_tiny_model(tmp_path / "model.gguf", model)
    with GGUFFile(path) as file:
        return Engine(file, EngineOptions(**{"n_seqs": 1, "kv_type": "f32", **kwargs})), path


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_equal_llama_cpp(reference, architecture):
    tokens = json.loads((reference / "archs" / "tokens.json").read_text())["tokens"]
    expected = np.load(reference / "archs" / f"{architecture}-dense.logits.npy")
    with GGUFFile(reference / "archs" / f"{architecture}-dense.gguf") as file:
        engine = Engine(file, EngineOptions(n_seqs=1, kv_type="f32"))
    whole = logits_of(engine, tokens)
    assert nmse(whole, expected) < 1e-6
    for chunk in (1, 7, 16):
        np.testing.assert_array_equal(logits_of(engine, tokens, chunk), whole)


@pytest.mark.parametrize(
    "model",
    [
        TinyModel("llama"),
        TinyModel("llama", n_heads=8, n_kv_heads=1, head_dim=32, biases=True, output_scales=True, tied=True),
        TinyModel("llama", n_heads=4, n_kv_heads=4, rope_factors=np.linspace(1, 8, 32).tolist()),
        TinyModel("llama", metadata=linear_keys(4.0)),
        TinyModel("llama", n_heads=(4, 8), n_kv_heads=(2, 8), head_dim=40, n_ff=160),
        TinyModel("qwen2", n_heads=7, n_kv_heads=1, metadata=yarn_keys(4.0, 32)),
        TinyModel("qwen2", types={"ffn_": "F16", "attn_": "BF16"}),
        TinyModel("gemma3", n_layers=4, head_dim=96, n_kv_heads=1),
        TinyModel("gemma3", metadata={"final_logit_softcapping": 5.0}),
    ],
    ids=lambda m: f"{m.architecture}-{m.n_heads}x{m.head_dim}",
)
def test_float_models_equal_the_oracle(tmp_path, model):
    engine, path = tiny_engine(tmp_path, model)
    assert nmse(logits_of(engine, TOKENS), oracle_logits(path, TOKENS)) < 1e-8


@pytest.mark.parametrize("n_ctx", [64, 65])
def test_longrope_equals_the_oracle_in_short_and_long_contexts(tmp_path, n_ctx):
    factors = np.linspace(1, 2, 32), np.linspace(1, 9, 32)
    model = TinyModel("llama", longrope_factors=factors, metadata=longrope_keys(64, attn_factor=1.2))
    engine, path = tiny_engine(tmp_path, model, n_ctx=n_ctx)
    assert nmse(logits_of(engine, TOKENS), oracle_logits(path, TOKENS, n_ctx=n_ctx)) < 1e-8
    other = oracle_logits(path, TOKENS, n_ctx=65 if n_ctx == 64 else 64)
    assert nmse(logits_of(engine, TOKENS), other) > 1e-3


@pytest.mark.parametrize("isa", _kernels.available_isas())
@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"])
def test_quantized_models_differ_from_the_oracle_by_8_bit_activations_only(tmp_path, kind, isa):
    _kernels.select_isa(isa)
    try:
        engine, path = tiny_engine(tmp_path, TinyModel("qwen2", types={"": kind}, n_layers=1))
        assert nmse(logits_of(engine, TOKENS), oracle_logits(path, TOKENS)) < 1e-3
    finally:
        _kernels.select_isa()


@pytest.mark.parametrize("kv_type, bound", [("f32", 1e-9), ("f16", 1e-5), ("bf16", 1e-3), ("q8_0", 1e-3)])
def test_the_cache_loses_no_more_than_its_type(tmp_path, kv_type, bound):
    engine, path = tiny_engine(tmp_path, TinyModel("llama"), kv_type=kv_type)
    assert nmse(logits_of(engine, TOKENS), oracle_logits(path, TOKENS)) < bound


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_chunks_and_threads_do_not_change_a_bit(tmp_path, architecture):
    model = TinyModel(architecture, types={"ffn_down": "Q6_K", "": "Q4_K"})
    engine, _ = tiny_engine(tmp_path, model, n_threads=1, kv_type="f16")
    whole = logits_of(engine, TOKENS)
    for n_threads in (1, 2, 3):
        other, _ = tiny_engine(tmp_path, model, n_threads=n_threads, kv_type="f16")
        for chunk in (1, 3, 8, 17):
            np.testing.assert_array_equal(logits_of(other, TOKENS, chunk), whole)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_weights_in_the_mapped_file_give_the_same_bits(tmp_path, architecture):
    model = TinyModel(architecture, types={"ffn": "Q4_K"}, tied=True)
    copied, path = tiny_engine(tmp_path, model)
    with GGUFFile(path) as file:
        mapped = Engine(file, EngineOptions(n_seqs=1, kv_type="f32", weights="mmap"))
    for chunk in (None, 1):
        np.testing.assert_array_equal(logits_of(mapped, TOKENS, chunk), logits_of(copied, TOKENS, chunk))


def test_interleaved_sequences_give_what_each_gives_alone(tmp_path):
    model = TinyModel("llama", types={"": "Q4_0"}, n_ctx=256)
    engine, _ = tiny_engine(tmp_path, model, n_seqs=3, n_ctx=200)
    texts = [RNG.integers(0, 96, n).tolist() for n in (150, 90, 30)]
    alone = [logits_of(engine, text) for text in texts]
    for sequence in range(3):
        engine.truncate(sequence, 0)
    order = RNG.permutation([s for s, text in enumerate(texts) for _ in text])
    done, found = [0, 0, 0], [[], [], []]
    for start in range(0, len(order), 37):
        batch = order[start : start + 37].tolist()
        tokens, positions = [], []
        for s in batch:
            tokens.append(texts[s][done[s]])
            positions.append(done[s])
            done[s] += 1
        rows = engine.forward(tokens, positions, batch, np.arange(len(batch)))
        for s, row in zip(batch, rows, strict=True):
            found[s].append(row.copy())
    for s in range(3):
        np.testing.assert_array_equal(np.array(found[s]), alone[s])


def test_logits_come_only_for_the_rows_that_were_asked_for(tmp_path):
    engine, _ = tiny_engine(tmp_path, TinyModel("qwen2"))
    whole = logits_of(engine, TOKENS)
    engine.truncate(0, 0)
    n = len(TOKENS)
    np.testing.assert_array_equal(engine.forward(TOKENS, np.arange(n), [0] * n, [n - 1, 3]), whole[[n - 1, 3]])
    engine.truncate(0, 0)
    assert engine.forward(TOKENS, np.arange(n), [0] * n, []).shape == (0, 96)


def test_a_truncated_sequence_goes_on_as_if_the_rest_had_never_been(tmp_path):
    engine, _ = tiny_engine(tmp_path, TinyModel("llama", n_ctx=256), n_ctx=256)
    long = RNG.integers(0, 96, 200).tolist()
    other = long[:70] + RNG.integers(0, 96, 20).tolist()
    expected = logits_of(engine, other)[70:]
    logits_of(engine, long)
    engine.truncate(0, 70)
    np.testing.assert_array_equal(engine.forward(other[70:], np.arange(70, 90), [0] * 20, np.arange(20)), expected)


def test_splits_of_a_long_context_do_not_change_a_bit(tmp_path):
    model = TinyModel("llama", n_layers=1, n_ctx=2048)
    text = RNG.integers(0, 96, 1300).tolist()
    engine, path = tiny_engine(tmp_path, model, n_ctx=2048, n_threads=2)
    whole = logits_of(engine, text, 512)
    engine.truncate(0, 1298)
    for i in (1298, 1299):  # one token at a time: few tiles, so splits go to several threads
        np.testing.assert_array_equal(engine.forward([text[i]], [i], [0], [0])[0], whole[i])
    assert nmse(whole[-20:], oracle_logits(path, text)[-20:]) < 1e-8


def test_transposed_embeddings_are_understood(tmp_path):
    plain, path = tiny_engine(tmp_path, TinyModel("llama"))
    turned = tmp_path / "turned.gguf"
    with GGUFFile(path) as file:
        writer = GGUFWriter(turned, {k: v for k, v in file.metadata.items() if not k.startswith("tokenizer")})
        for info in file.tensors.values():
            data = info.rows().view(np.float32).reshape(info.shape)
            writer.add_tensor(info.name, data.T.copy() if info.name == "token_embd.weight" else data)
        writer.write()
    with GGUFFile(turned) as file:
        other = Engine(file, EngineOptions(n_seqs=1, kv_type="f32"))
    np.testing.assert_array_equal(logits_of(other, TOKENS), logits_of(plain, TOKENS))


@pytest.mark.parametrize(
    "batch, message",
    [
        (([96], [0], [0], [0]), "id 96"),
        (([-1], [0], [0], [0]), "id -1"),
        (([1], [0], [1], [0]), "sequence 1 of 1"),
        (([1], [-1], [0], [0]), "position -1"),
        (([1], [0], [0], [1]), "output 0 is row 1 of 1"),
        (([1, 2], [0], [0], [0]), "2 tokens, 1 positions"),
    ],
)
def test_values_out_of_range_are_refused_and_nothing_breaks(tmp_path, batch, message):
    engine, _ = tiny_engine(tmp_path, TinyModel("llama", n_layers=1))
    expected = logits_of(engine, TOKENS)
    with pytest.raises(ParameterError, match=message):
        engine.forward(*batch)
    np.testing.assert_array_equal(logits_of(engine, TOKENS), expected)


def test_more_than_the_context_is_an_error_with_both_numbers(tmp_path):
    engine, _ = tiny_engine(tmp_path, TinyModel("llama", n_layers=1), n_ctx=64)
    with pytest.raises(ContextError, match=r"70 positions.* 64"):
        engine.forward([1], [69], [0], [0])


def test_a_closed_engine_says_so(tmp_path):
    engine, _ = tiny_engine(tmp_path, TinyModel("llama", n_layers=1))
    engine.close()
    engine.close()
    with pytest.raises(PyinferError, match="closed"):
        engine.forward([1], [0], [0], [0])


@pytest.mark.parametrize(
    "option",
    [
        {"n_ctx": 0},
        {"n_ctx": 1.5},
        {"n_ctx": 10**30},
        {"n_threads": 0},
        {"n_threads": 1025},
        {"n_batch": -1},
        {"n_seqs": 4097},
        {"kv_type": "q3"},
        {"kv_type": ["f16"]},
        {"weights": "disk"},
    ],
)
def test_bad_options_are_refused_by_name(tmp_path, option):
    with pytest.raises(ParameterError, match=next(iter(option))):
        tiny_engine(tmp_path, TinyModel("llama", n_layers=1), **option)


def rewrite(path, target, change):
    """Copies a model of floats; change(name, array) returns the array to write or None to leave it out."""
    with GGUFFile(path) as file:
        writer = GGUFWriter(target, dict(file.metadata.items()))
        for info in file.tensors.values():
            data = change(info.name, info.rows().view(np.float32).reshape(info.shape))
            if data is not None:
                writer.add_tensor(info.name, data)
        writer.write()
    return target


def test_missing_and_misshapen_tensors_are_named(tmp_path):
    path = write_tiny_model(tmp_path / "m.gguf", TinyModel("llama", n_layers=1))
    name = "blk.0.ffn_up.weight"
    missing = rewrite(path, tmp_path / "a.gguf", lambda n, d: None if n == name else d)
    with GGUFFile(missing) as file, pytest.raises(ModelError, match=f"{name} is missing"):
        Engine(file)
    short = rewrite(path, tmp_path / "b.gguf", lambda n, d: d[:-16].copy() if n == name else d)
    with (
        GGUFFile(short) as file,
        pytest.raises(ModelError, match=rf"{name} has shape \(496, 256\), expected \(512, 256\)"),
    ):
        Engine(file)


def test_a_tensor_type_without_kernels_is_named(tmp_path):
    path = write_tiny_model(tmp_path / "m.gguf", TinyModel("llama", n_layers=1))
    target = tmp_path / "i.gguf"
    with GGUFFile(path) as file:
        writer = GGUFWriter(target, dict(file.metadata.items()))
        for info in file.tensors.values():
            if info.name == "blk.0.ffn_up.weight":
                writer.add_tensor(info.name, np.zeros(info.shape, np.int8), TensorType.I8, info.shape)
            else:
                writer.add_tensor(info.name, info.rows().view(np.float32).reshape(info.shape))
        writer.write()
    with GGUFFile(target) as file, pytest.raises(ModelError, match=r"blk\.0\.ffn_up\.weight is of type I8"):
        Engine(file)


def test_several_engines_and_threads_do_not_disturb_each_other(tmp_path):
    one, _ = tiny_engine(tmp_path, TinyModel("llama"), n_threads=2)
    two, _ = tiny_engine(tmp_path, TinyModel("qwen2"), n_threads=2)
    expected = {id(e): logits_of(e, TOKENS) for e in (one, two)}
    wrong = []

    def work(engine):
        for _ in range(10):
            if not np.array_equal(logits_of(engine, TOKENS, 5), expected[id(engine)]):
                wrong.append(engine)

    threads = [threading.Thread(target=work, args=(e,)) for e in (one, two)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
