"""Embeddings: pooling, batches, long texts, decoders, and what is refused."""

import json

import numpy as np
import pytest
from oracle import oracle_states
from test_scheduler import Greedy
from tiny_models import TinyModel, write_tiny_model
from tiny_vocabularies import wordpiece_metadata

from pyinfer import LLM
from pyinfer.cli.main import main
from pyinfer.engine.engine import Engine
from pyinfer.engine.options import EngineOptions
from pyinfer.errors import ContextError, ModelError, ParameterError, TokenizerError
from pyinfer.gguf import GGUFFile, GGUFWriter
from pyinfer.scheduling.scheduler import Scheduler
from pyinfer.tasks.embedding import POOLINGS, Embedding, embed
from pyinfer.tokenizer import tokenizer_from_metadata

RNG = np.random.default_rng(1)
WORDS = [*"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"), "the", "cat", "sat"]
TOKENIZER = tokenizer_from_metadata(wordpiece_metadata(WORDS))
TEXTS = [RNG.integers(0, 96, n).tolist() for n in (40, 1, 100, 7, 7, 64)]


def tiny_engine(tmp_path, model, **kwargs):
    path = write_tiny_model(tmp_path / "m.gguf", model)
    with GGUFFile(path) as file:
        return Scheduler(Engine(file, EngineOptions(**{"n_seqs": 1, "kv_type": "f32", **kwargs}))), path


@pytest.fixture
def encoder(tmp_path):
    engine, _ = tiny_engine(tmp_path, TinyModel("bert", n_layers=1))
    return engine


def expected_of(path, text, pooling):
    states = oracle_states(path, text)
    return {"mean": states.mean(axis=0), "cls": states[0], "last": states[-1]}[pooling]


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("architecture", ["bert", "nomic-bert", "llama", "gemma3"])
def test_states_are_pooled_as_asked(tmp_path, architecture, pooling):
    engine, path = tiny_engine(tmp_path, TinyModel(architecture, n_layers=1), n_seqs=3)
    found = embed(engine, TOKENIZER, TEXTS, pooling, normalize=False)
    assert (found.dtype, found.shape) == (np.float32, (len(TEXTS), 256))
    for text, row in zip(TEXTS, found, strict=True):
        np.testing.assert_allclose(row, expected_of(path, text, pooling), rtol=0, atol=2e-4)


def test_vectors_have_the_length_1_unless_asked_for_as_they_are(encoder):
    raw = embed(encoder, TOKENIZER, TEXTS, normalize=False)
    np.testing.assert_allclose(
        embed(encoder, TOKENIZER, TEXTS), raw / np.linalg.norm(raw, axis=1, keepdims=True), rtol=1e-6
    )


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_what_a_text_gives_does_not_depend_on_the_others(tmp_path, architecture):
    engine, _ = tiny_engine(tmp_path, TinyModel(architecture, n_layers=1), n_batch=128, n_seqs=4)
    together = embed(engine, TOKENIZER, TEXTS, "mean")
    for i in (0, 2, 4):
        np.testing.assert_array_equal(embed(engine, TOKENIZER, [TEXTS[i]], "mean")[0], together[i])
    np.testing.assert_array_equal(together[[3, 0]], embed(engine, TOKENIZER, [TEXTS[3], TEXTS[0]], "mean"))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_texts_longer_than_a_pass_go_through_a_decoder_in_parts(tmp_path, pooling):
    model = TinyModel("llama", n_layers=1)
    whole, _ = tiny_engine(tmp_path, model)
    parts, _ = tiny_engine(tmp_path, model, n_batch=16)
    expected = embed(whole, TOKENIZER, TEXTS, pooling)
    np.testing.assert_allclose(embed(parts, TOKENIZER, TEXTS, pooling), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "architecture, keys, used",
    [
        ("bert", {"pooling_type": 1}, "mean"),
        ("bert", {"pooling_type": 2}, "cls"),
        ("bert", {"pooling_type": None}, "mean"),
        ("llama", {}, "last"),
        ("llama", {"pooling_type": 3}, "last"),
        ("llama", {"pooling_type": 1}, "mean"),
    ],
)
def test_the_file_says_how_to_pool(tmp_path, architecture, keys, used):
    engine, _ = tiny_engine(tmp_path, TinyModel(architecture, n_layers=1, metadata=keys))
    np.testing.assert_array_equal(embed(engine, TOKENIZER, TEXTS), embed(engine, TOKENIZER, TEXTS, used))


def test_a_text_has_the_special_tokens_that_ids_have_only_if_given(encoder):
    ids = TOKENIZER.encode("the cat sat")
    assert (ids[0], ids[-1]) == (TOKENIZER.bos_id, TOKENIZER.eos_id)
    single = embed(encoder, TOKENIZER, "the cat sat")
    assert single.shape == (1, 256)
    np.testing.assert_array_equal(single, embed(encoder, TOKENIZER, [ids]))
    np.testing.assert_array_equal(single, embed(encoder, TOKENIZER, [np.array(ids)]))
    assert embed(encoder, TOKENIZER, []).shape == (0, 256)
    assert np.linalg.norm(embed(encoder, TOKENIZER, [""])) == pytest.approx(1)


def test_a_text_longer_than_the_context_is_an_error_or_cut(encoder):
    long = "the " * 200
    with pytest.raises(ContextError, match=r"text 1 has 202 tokens; the context has 128 \(n_ctx; truncate=True"):
        embed(encoder, TOKENIZER, ["the", long])
    cut = [*TOKENIZER.encode(long)[:127], TOKENIZER.eos_id]
    expected = embed(encoder, TOKENIZER, [cut, [5] * 128])
    np.testing.assert_array_equal(embed(encoder, TOKENIZER, [long, [5] * 130], truncate=True), expected)


@pytest.mark.parametrize(
    "texts, message",
    [
        (["the", []], "text 1 has no tokens"),
        ([[1, 96]], r"text 0: token 1 is 96; expected an id from 0 to 95"),
        ([[-1]], r"text 0: token 0 is -1"),
        ([[1.5]], r"text 0: token 0 is a float"),
        ([[True]], r"text 0: token 0 is a bool"),
        ([None], r"text 0 is a NoneType; expected text or token ids"),
        ([b"the"], r"text 0 is a bytes; expected text"),
        (None, r"texts is None"),
        (b"the", r"texts is b'the'"),
        (np.array(3), r"texts is array\(3\)"),
    ],
)
def test_what_is_no_text_is_refused_and_nothing_breaks(encoder, texts, message):
    expected = embed(encoder, TOKENIZER, TEXTS)
    with pytest.raises(ParameterError, match=message):
        embed(encoder, TOKENIZER, texts)
    np.testing.assert_array_equal(embed(encoder, TOKENIZER, TEXTS), expected)


def test_an_unknown_pooling_is_refused(tmp_path, encoder):
    with pytest.raises(ParameterError, match="pooling is 'max'; expected one of mean, cls, last"):
        embed(encoder, TOKENIZER, TEXTS, "max")
    for wrong in ([], 5, ["mean"]):
        with pytest.raises(ParameterError, match="pooling is"):
            embed(encoder, TOKENIZER, TEXTS, wrong)
    ranker, _ = tiny_engine(tmp_path, TinyModel("bert", n_layers=1, metadata={"pooling_type": 4}))
    with pytest.raises(ParameterError, match="pooling is 'rank' in the model's file"):
        embed(ranker, TOKENIZER, TEXTS)
    assert embed(ranker, TOKENIZER, TEXTS, "cls").shape == (len(TEXTS), 256)


def test_damaged_weights_are_an_error(tmp_path):
    path = write_tiny_model(tmp_path / "m.gguf", TinyModel("bert", n_layers=1))
    damaged = rewritten(path, tmp_path / "d.gguf", {"blk.0.layer_output_norm.bias": np.full(256, np.nan, np.float32)})
    with GGUFFile(damaged) as file, pytest.raises(ModelError, match="embedding of text 0 is not finite"):
        embed(Scheduler(Engine(file)), TOKENIZER, [[1]])


def test_a_decoder_generates_the_same_text_after_embedding(tmp_path):
    path = write_tiny_model(tmp_path / "m.gguf", TinyModel("llama", n_layers=1))
    with LLM(path) as llm:
        before = llm.logits([1, 2, 3])
        assert llm.embed([[1, 2, 3], [4]]).shape == (2, 256)
        np.testing.assert_array_equal(llm.logits([1, 2, 3]), before)
        with pytest.raises(TokenizerError, match="takes and gives token ids only"):
            llm.embed(["a text"])


def test_a_real_decoder_puts_alike_texts_together(real_model):
    with LLM(real_model("smollm2-135m-q4_1"), n_ctx=64) as llm:
        cat, feline, market = llm.embed(
            ["A cat is sleeping on the sofa.", "The cat sleeps on a couch.", "Stock prices fell in Tokyo."], "mean"
        )
    assert cat @ feline > cat @ market


def rewritten(path, target, tensors=None, metadata=None):
    """A copy of a model of floats with other tensors and further metadata."""
    with GGUFFile(path) as file:
        writer = GGUFWriter(target, {**file.metadata, **(metadata or {})})
        for info in file.tensors.values():
            data = info.rows().view(np.float32).reshape(info.shape)
            writer.add_tensor(info.name, (tensors or {}).get(info.name, data))
        writer.write()
    return target


@pytest.fixture
def with_words(tmp_path):
    """The path of a tiny encoder that has a vocabulary."""
    path = write_tiny_model(tmp_path / "m.gguf", TinyModel("bert", n_layers=1))
    return str(rewritten(path, tmp_path / "words.gguf", metadata=wordpiece_metadata(WORDS)))


def test_the_command_prints_a_line_a_text(with_words, tmp_path, capsys):
    file = tmp_path / "texts.txt"
    file.write_text("sat\n\nthe cat\n")
    assert main(["embed", with_words, "the cat", "--file", str(file), "--pooling", "cls"]) == 0
    rows = np.array([line.split() for line in capsys.readouterr().out.splitlines()], np.float32)
    with LLM(with_words) as llm:
        np.testing.assert_array_equal(rows, llm.embed(["the cat", "sat", "", "the cat"], "cls"))


def test_the_command_gives_json_too(with_words, capsys):
    assert main(["embed", with_words, "the cat", "--json", "--no-normalize"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["model"], report["pooling"]) == (with_words, "mean")
    with LLM(with_words) as llm:
        expected = llm.embed(["the cat"], normalize=False)
    np.testing.assert_array_equal(np.array(report["embeddings"], np.float32), expected)


def test_the_command_wants_a_text_and_a_pooling_that_exists(with_words, capsys):
    for args, message in (([], "there is no text"), (["a", "--pooling", "max"], "pooling is 'max'")):
        assert main(["embed", with_words, *args]) == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("architecture", ["llama", "bert"])
def test_a_cache_of_a_page_embeds_texts_one_by_one_and_cuts_them(tmp_path, architecture):
    path = write_tiny_model(tmp_path / "m.gguf", TinyModel(architecture, n_layers=1))
    long = RNG.integers(0, 96, 100).tolist()
    with LLM(path, kv_type="f32") as plenty:
        size = plenty.engine.memory.page_bytes
        expected = plenty.embed([[1, 2, 3], [4], long[:64]])
    with LLM(path, kv_type="f32", kv_cache_memory=size) as llm:
        np.testing.assert_array_equal(llm.embed([[1, 2, 3], [4], long], truncate=True), expected)
        with pytest.raises(ContextError, match="text 1 has 100 tokens; the context has 64"):
            llm.embed([[1], long])


@pytest.mark.parametrize("architecture", ["llama", "bert"])
def test_passes_hold_many_texts_and_no_more_than_a_batch(tmp_path, monkeypatch, architecture):
    scheduler, _ = tiny_engine(tmp_path, TinyModel(architecture, n_layers=1), n_batch=128, n_seqs=16)
    passes, run = [], scheduler.engine.run
    monkeypatch.setattr(scheduler.engine, "run", lambda p: (passes.append(len(p.tokens)), run(p))[1])
    lengths = RNG.integers(1, 60, 40).tolist()
    embed(scheduler, TOKENIZER, [RNG.integers(0, 96, n).tolist() for n in lengths], "mean")
    assert sum(passes) == sum(lengths) and max(passes) <= 128
    assert len(passes) < 2 * sum(lengths) / 128 + 2


def test_embeddings_are_computed_in_the_passes_of_texts(tmp_path, monkeypatch):
    path = write_tiny_model(tmp_path / "m.gguf", TinyModel("llama", n_layers=1))
    with LLM(path, kv_type="f32", n_batch=16) as llm:
        expected = llm.embed([TEXTS[2]], "mean")
        passes, run = [], llm.engine.run
        monkeypatch.setattr(llm.engine, "run", lambda p: (passes.append((len(p.logits), len(p.hidden))), run(p))[1])
        done, task = Greedy([1, 2, 3], 30), Embedding(TEXTS[2], "mean")
        llm.run([done, task])
        vector = task.vector.astype(np.float32)
        np.testing.assert_array_equal(vector / np.linalg.norm(vector), expected[0])
        alone = Greedy([1, 2, 3], 30)
        llm.run([alone])
    assert done.tokens == alone.tokens
    assert (1, 15) in passes and max(n for _, n in passes) <= 16
