"""Hyper-parameters: llama.cpp's defaults, and an error that names file, key, found and expected for each bad value."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import pytest
from tiny_models import ENCODERS, TinyModel, write_tiny_model

from pyinfer.errors import ModelError
from pyinfer.memory.spec import AttentionSpec
from pyinfer.models.registry import read_model


@dataclass
class Shape:
    shape: tuple[int, ...]


@dataclass
class FakeFile:
    """The part of a GGUF file that read_model reads."""

    metadata: dict[str, Any]
    tensors: dict[str, Shape] = field(default_factory=lambda: {"token_embd.weight": Shape((96, 256))})
    path: str = "m.gguf"

    def get_int(self, key: str) -> int:
        assert isinstance(self.metadata[key], int), key
        return self.metadata[key]

    def get_float(self, key: str) -> float:
        assert isinstance(self.metadata[key], float), key
        return self.metadata[key]

    def get_str(self, key: str) -> str:
        assert isinstance(self.metadata[key], str), key
        return self.metadata[key]

    def get_bool(self, key: str) -> bool:
        assert isinstance(self.metadata[key], bool), key
        return self.metadata[key]


def fake(architecture: str, **keys: Any) -> FakeFile:
    """The keys every file has; more by name with `__` for `.`, None leaves one out."""
    least = {
        "block_count": 12,
        "context_length": 128,
        "embedding_length": 256,
        "feed_forward_length": 512,
        "attention.head_count": 4,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "attention.layer_norm_epsilon": 1e-5,
    }
    least |= {key.replace("__", "."): value for key, value in keys.items()}
    metadata = {f"{architecture}.{key}": value for key, value in least.items() if value is not None}
    return FakeFile({"general.architecture": architecture, **metadata})


def config_of(file: FakeFile):
    return read_model(file).config


def by_layer(parts, name: str) -> tuple[Any, ...]:
    """An attribute of each layer's part."""
    return tuple(getattr(part, name) for part in parts)


def only(parts, name: str) -> Any:
    """An attribute that is the same in all layers."""
    (value,) = set(by_layer(parts, name))
    return value


def read_file(path: Path) -> FakeFile:
    """A file as the third-party gguf package reads it."""
    reader = gguf.GGUFReader(path)
    skipped = ("tokenizer.", "xielu.")
    metadata = {k: f.contents() for k, f in reader.fields.items() if not k.startswith(skipped)}
    return FakeFile(metadata, {t.name: Shape(tuple(t.shape.tolist()[::-1])) for t in reader.tensors}, str(path))


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3", "bert", "nomic-bert"])
def test_absent_keys_take_llama_cpp_defaults(architecture):
    config = config_of(fake(architecture))
    heads = config.attention
    encoder = architecture in ENCODERS

    assert by_layer(heads, "n_kv_heads") == by_layer(heads, "n_heads") == (4,) * 12
    assert only(heads, "k_dim") == only(heads, "v_dim") == 64
    assert config.n_vocab == config.embedding.n_vocab == 96
    assert only(heads, "scale") == 1 / 8
    assert (only(heads, "softcap"), only(heads, "window")) == (0, 0)
    assert (config.encoder, config.causal, config.norm.centered, config.pooling) == (
        encoder,
        not encoder,
        encoder,
        None,
    )
    if encoder:
        assert config.output is None
    else:
        assert (config.output.matrix, config.output.n_vocab, config.output.softcap) == ("token_embd", 96, 0)
    assert config.embedding.scale == (16 if architecture == "gemma3" else 1)
    assert config.n_positions == (128 if architecture == "bert" else 0)
    rope = only(heads, "rope")
    assert (rope is None) == (architecture == "bert")
    if rope is None:
        return
    assert (rope.n_rot, rope.freq_base, rope.factor, rope.attn_factor, rope.n_ctx_orig) == (64, 10000, 1, 1, 128)
    assert rope.neox == (architecture != "llama")


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3"])
def test_reference_files_are_read_despite_keys_of_other_architectures(reference, architecture):
    config = config_of(read_file(reference / "archs" / f"{architecture}-dense.gguf"))

    heads, blocks, ropes = config.attention, config.feed_forward, by_layer(config.attention, "rope")
    assert (config.n_layers, config.n_embd) == (2, 256)
    assert (by_layer(heads, "n_heads"), by_layer(blocks, "n_ff")) == ((2, 2), (384, 384))
    assert (config.n_vocab, config.n_ctx_train, only(heads, "k_dim")) == (128, 256, 128)
    assert {(rope.scaling, rope.factor) for rope in ropes} == {("linear", 1)}
    assert (only(heads, "softcap"), config.output.softcap) == (0, 0), "both keys are in the file, neither is defined"
    assert by_layer(heads, "window") == ((32, 0) if architecture == "gemma3" else (0, 0))
    expected = ("rope_freqs.weight",) if architecture == "llama" else ()
    assert {rope.factor_tensors for rope in ropes} == {expected}
    assert config.output.matrix == "output"


def test_gemma3_slides_in_all_but_every_sixth_layer():
    model = read_model(fake("gemma3", attention__sliding_window=32, rope__freq_base=1e6))
    heads = model.config.attention
    assert by_layer(heads, "window") == by_layer(model.memory, "window") == (32, 32, 32, 32, 32, 0) * 2
    assert tuple(a.rope.freq_base for a in heads) == (10000, 10000, 10000, 10000, 10000, 1e6) * 2


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [(3, (True, True, False) * 4), (1, (False,) * 12), (0, (True,) * 12), ([0, 1] * 6, (False, True) * 6)],
)
def test_the_file_says_which_layers_slide(pattern, expected):
    file = fake("gemma3", attention__sliding_window=32, attention__sliding_window_pattern=pattern)
    assert by_layer(config_of(file).attention, "window") == tuple(32 * slides for slides in expected)


def test_architectures_without_a_window_ignore_its_keys():
    config = config_of(fake("llama", attention__sliding_window=32, attention__sliding_window_pattern=2))
    assert only(config.attention, "window") == 0


def test_gemma3_27b_scales_attention_by_the_width_of_its_queries():
    of_27b = {"block_count": 62, "attention__key_length": 128, "attention__value_length": 128}
    assert only(config_of(fake("gemma3", **of_27b)).attention, "scale") == 1 / math.sqrt(256 // 4)
    assert only(config_of(fake("gemma3", **of_27b | {"block_count": 48})).attention, "scale") == 1 / math.sqrt(128)


def test_head_counts_may_differ_by_layer():
    file = fake("llama", block_count=2, attention__head_count=[4, 8], attention__head_count_kv=[2, 1])
    model = read_model(file)
    heads = model.config.attention
    assert (by_layer(heads, "n_heads"), by_layer(heads, "n_kv_heads")) == ((4, 8), (2, 1))
    assert model.memory == (AttentionSpec(2, 64, 64), AttentionSpec(1, 64, 64))


def test_a_head_may_be_wider_than_its_share_of_the_embedding():
    heads = config_of(
        fake("qwen2", attention__head_count=3, attention__key_length=80, attention__value_length=96)
    ).attention
    assert (only(heads, "k_dim"), only(heads, "v_dim"), only(heads, "rope").n_rot) == (80, 96, 80)


def test_yarn_parameters_are_read():
    keys = {
        "type": "yarn",
        "factor": 4.0,
        "original_context_length": 32,
        "attn_factor": 0.5,
        "yarn_ext_factor": -1.0,
        "yarn_beta_fast": 16.0,
    }
    rope = only(config_of(fake("qwen2", **{f"rope__scaling__{k}": v for k, v in keys.items()})).attention, "rope")
    assert (rope.scaling, rope.factor, rope.n_ctx_orig, rope.attn_factor) == ("yarn", 4, 32, 0.5)
    assert (rope.ext_factor, rope.beta_fast, rope.beta_slow) == (1, 16, 1)


@pytest.mark.parametrize(("kind", "factor", "expected"), [("linear", 0.0, 1), ("none", 4.0, 1), ("linear", 4.0, 4)])
def test_factor_zero_and_type_none_mean_no_scaling(kind, factor, expected):
    rope = only(config_of(fake("llama", rope__scaling__type=kind, rope__scaling__factor=factor)).attention, "rope")
    assert rope.factor == expected


def test_the_old_name_of_the_linear_factor_is_read():
    assert only(config_of(fake("llama", rope__scale_linear=2.0)).attention, "rope").factor == 2


def test_a_written_file_is_read_back(tmp_path):
    model = TinyModel("llama", n_heads=[4, 2], n_kv_heads=[2, 1], tied=True, rope_factors=[1.0] * 32)
    config = config_of(read_file(write_tiny_model(tmp_path / "m.gguf", model)))
    assert (by_layer(config.attention, "n_heads"), config.output.matrix) == ((4, 2), "token_embd")
    assert only(config.attention, "rope").factor_tensors == ("rope_freqs.weight",)


BAD_KEYS = {
    "no layers": ({"block_count": 0}, "block_count is 0, expected 1 to"),
    "absurd layers": ({"block_count": 1 << 31}, "block_count is 2147483648, expected 1 to"),
    "no width": ({"embedding_length": 0}, "embedding_length is 0"),
    "missing width": ({"embedding_length": None}, "the key qwen2.embedding_length is missing"),
    "heads do not divide the width": ({"attention__head_count": 3}, "head_count is 3, expected a divisor of"),
    "no heads": ({"attention__head_count": 0}, "head_count is 0"),
    "key heads do not divide heads": (
        {"attention__head_count_kv": 3},
        "head_count_kv is 3, expected a divisor of the 4",
    ),
    "no key heads": ({"attention__head_count_kv": 0}, "head_count_kv is 0"),
    "heads of too few layers": (
        {"attention__head_count": [4, 4]},
        "head_count is an array of 2, expected 12, one a layer",
    ),
    "zero heads in a layer": ({"attention__head_count": [4] * 11 + [0]}, "head_count is 0"),
    "heads that are no integers": ({"attention__head_count": [0.5] * 12}, "expected integers"),
    "negative head size": ({"attention__key_length": -64}, "key_length is -64"),
    "odd rotation": ({"rope__dimension_count": 63}, "dimension_count is 63, expected 64"),
    "rotation wider than a head": ({"rope__dimension_count": 66}, "dimension_count is 66"),
    "no rotation": ({"rope__dimension_count": 0}, "dimension_count is 0"),
    "unknown scaling": ({"rope__scaling__type": "ntk"}, "type is 'ntk', expected one of none, linear, yarn, longrope"),
    "negative factor": ({"rope__scaling__factor": -1.0}, "factor is -1.0"),
    "infinite factor": ({"rope__scaling__factor": math.inf}, "factor is inf"),
    "base of one": ({"rope__freq_base": 1.0}, "freq_base is 1.0, expected more than 1"),
    "base not a number": ({"rope__freq_base": math.nan}, "freq_base is nan"),
    "epsilon not a number": ({"attention__layer_norm_rms_epsilon": math.nan}, "epsilon is nan"),
    "no epsilon": ({"attention__layer_norm_rms_epsilon": None}, "layer_norm_rms_epsilon is missing"),
    "beta of zero": ({"rope__scaling__type": "yarn", "rope__scaling__yarn_beta_slow": 0.0}, "beta_slow is 0.0"),
    "no context": ({"context_length": 0}, "context_length is 0"),
    "experts": ({"expert_count": 8}, "expert_count is 8, expected 0"),
}


@pytest.mark.parametrize("bad", BAD_KEYS)
def test_bad_values_are_named_with_file_and_key(bad):
    keys, message = BAD_KEYS[bad]
    with pytest.raises(ModelError) as error:
        config_of(fake("qwen2", **keys))
    assert message in str(error.value)
    assert str(error.value).startswith("m.gguf: ")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"attention__sliding_window_pattern": [1, 0]}, "sliding_window_pattern is [1, 0], expected 12 zeros and ones"),
        ({"attention__sliding_window_pattern": [2] * 12}, "zeros and ones"),
        ({"attention__key_length_swa": 0}, "key_length_swa is 0"),
        ({"rope__dimension_count_swa": 66}, "dimension_count_swa is 66, expected an even number up to 64"),
        ({"rope__freq_base_swa": 0.0}, "freq_base_swa is 0.0"),
    ],
)
def test_bad_sliding_windows_are_named(keys, message):
    with pytest.raises(ModelError) as error:
        config_of(fake("gemma3", attention__sliding_window=32, **keys))
    assert message in str(error.value)


def test_layers_with_a_window_may_have_other_heads_and_rotations():
    keys = {"attention__key_length_swa": 32, "rope__dimension_count_swa": 16}
    heads = config_of(fake("gemma3", attention__sliding_window=32, **keys)).attention
    assert (heads[0].k_dim, heads[0].rope.n_rot, heads[5].k_dim, heads[5].rope.n_rot) == (32, 16, 64, 64)


def test_layers_share_keys_and_values_of_their_kind_only():
    keys = {"attention__sliding_window": 8, "attention__shared_kv_layers": 4}
    good = [1, 0] * 6
    heads = config_of(fake("gemma4", attention__sliding_window_pattern=good, **keys)).attention
    assert by_layer(heads, "kv_from") == (*[None] * 8, 6, 7, 6, 7)
    with pytest.raises(ModelError, match="shared_kv_layers is 4, expected as many as leave a sliding layer"):
        config_of(fake("gemma4", attention__sliding_window_pattern=[0, 1] * 6, **keys))


def test_a_message_does_not_repeat_megabytes_of_a_bad_file():
    with pytest.raises(ModelError) as error:
        config_of(fake("qwen2", rope__scaling__type="x" * 1_000_000))
    assert len(str(error.value)) < 300


def test_llama_rotates_whole_heads():
    with pytest.raises(ModelError, match="dimension_count is 32, expected 64"):
        config_of(fake("llama", rope__dimension_count=32))


def test_an_unknown_architecture_is_named_with_the_nearest_one_and_where_to_read_on():
    with pytest.raises(ModelError, match=r"'qwen33' is not known \(the nearest one is 'qwen3'\).*docs/extending\.md"):
        config_of(fake("qwen33"))


def test_the_architecture_may_not_be_missing():
    with pytest.raises(ModelError, match=r"general\.architecture is missing"):
        config_of(FakeFile({}))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("token_embd.weight", (96, 128), "token_embd.weight has shape (96, 128), expected"),
        ("token_embd.weight", (256,), "token_embd.weight has shape (256,)"),
        ("token_embd.weight", (0, 256), "token_embd.weight has shape (0, 256)"),
        ("rope_freqs.weight", (16,), "rope_freqs.weight has shape (16,), expected (32,)"),
    ],
)
def test_tensors_that_contradict_the_keys_are_named(name, shape, message):
    file = fake("llama")
    file.tensors[name] = Shape(shape)
    with pytest.raises(ModelError) as error:
        config_of(file)
    assert message in str(error.value)


def test_a_missing_embedding_is_named():
    file = fake("llama")
    del file.tensors["token_embd.weight"]
    with pytest.raises(ModelError, match=r"token_embd\.weight is missing"):
        config_of(file)


def test_more_tokens_than_embedding_rows_are_an_error():
    file = fake("llama")
    file.metadata["tokenizer.ggml.tokens"] = ["x"] * 97
    with pytest.raises(ModelError, match="97 tokens, expected at most 96"):
        config_of(file)
