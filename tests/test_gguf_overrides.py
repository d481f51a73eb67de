"""Values in place of a file's metadata: what they must be, and that a model with them is the one that has them."""

import numpy as np
import pytest
from tiny_models import TinyModel, linear_keys, write_text_model, write_tiny_model

from pyinfer import LLM, ParameterError
from pyinfer.cli.main import main
from pyinfer.gguf.overrides import overridden, parse_override


@pytest.mark.parametrize(
    "text, expected",
    [
        ("llama.rope.freq_base=float:1e6", ("llama.rope.freq_base", 1e6)),
        ("llama.context_length=int:4096", ("llama.context_length", 4096)),
        ("tokenizer.ggml.add_bos_token=bool:False", ("tokenizer.ggml.add_bos_token", False)),
        ("tokenizer.ggml.pre=str:a=b:c", ("tokenizer.ggml.pre", "a=b:c")),
    ],
)
def test_an_override_is_written_as_llama_cpps_commands_take_it(text, expected):
    assert parse_override(text) == expected


@pytest.mark.parametrize("text", ["", "a", "a=1", "a=int:x", "a=int8:1", "=int:1", "a=bool:maybe"])
def test_what_is_no_override_is_named(text):
    with pytest.raises(ParameterError, match="expected KEY=TYPE:VALUE"):
        parse_override(text)


def test_a_value_has_the_type_of_the_files():
    metadata = {"n": 1, "x": 0.5, "flag": True, "name": "a", "list": [1, 2]}
    assert overridden(metadata, None) is metadata
    changed = overridden(metadata, {"x": 2, "flag": False, "new": "b"})
    assert changed == {**metadata, "x": 2.0, "flag": False, "new": "b"} and isinstance(changed["x"], float)
    for key, value in (("n", 1.5), ("n", True), ("flag", 1), ("name", 1), ("x", "1"), ("list", 1), ("n", None)):
        with pytest.raises(ParameterError, match=f"overrides: {key} is"):
            overridden(metadata, {key: value})
    for overrides in (5, {1: 2}, {"": 2}):
        with pytest.raises(ParameterError, match="overrides"):
            overridden(metadata, overrides)
    with pytest.raises(ParameterError, match="nan"):
        overridden(metadata, {"x": float("nan")})


def test_a_model_with_overrides_is_the_model_that_has_these_values(tmp_path):
    plain = write_tiny_model(tmp_path / "plain.gguf", TinyModel("llama"))
    scaled = write_tiny_model(tmp_path / "scaled.gguf", TinyModel("llama", metadata=linear_keys(4.0)))
    overrides = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    ids = list(range(40))
    with LLM(plain, n_ctx=64, overrides=overrides) as changed, LLM(scaled, n_ctx=64) as own:
        np.testing.assert_array_equal(changed.logits(ids), own.logits(ids))
        changed.save_state(tmp_path / "state", ids)  # sessions know the model by its hyper-parameters
        own.load_state(tmp_path / "state")
    with LLM(plain, n_ctx=64) as usual:
        assert not np.array_equal(usual.logits(ids)[-1], own_last(scaled, ids))


def own_last(path, ids):
    with LLM(path, n_ctx=64) as llm:
        return llm.logits(ids)[-1]


def test_a_command_takes_overrides(tmp_path, capsys):
    path = str(write_text_model(tmp_path / "m.gguf", TinyModel("llama", n_layers=1, n_vocab=128)))
    assert main(["run", "ab", "-m", path, "-n", "1", "--override-kv", "tokenizer.ggml.add_bos_token=bool:true"]) == 0
    assert main(["run", "ab", "-m", path, "-n", "1", "--override-kv", "llama.block_count=int:9"]) == 1
    assert "blk.1" in capsys.readouterr().err  # of a layer that the file does not have
    assert main(["run", "ab", "-m", path, "--override-kv", "x=1"]) == 1
    assert "expected KEY=TYPE:VALUE" in capsys.readouterr().err
