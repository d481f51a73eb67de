"""`pyinfer run`: which words are the model and which the prompt, standard input, where a text ends, and JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_models import TinyModel, write_text_model, write_tiny_model

import pyinfer
from pyinfer.cli import run
from pyinfer.cli.main import main
from pyinfer.errors import ParameterError
from pyinfer.hub.catalogue import DEFAULT_MODEL

PACKAGE = Path(pyinfer.__file__).parent.parent
# of which the count of tokens tells the prompt: one a character
TEMPLATE = "{% for m in messages %}{{ m.role[0] }}{{ m.content }}{% endfor %}"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    tiny = TinyModel("llama", n_layers=1, n_vocab=128, n_ctx=4096)
    return str(write_text_model(tmp_path_factory.mktemp("run") / "tiny.gguf", tiny))


def result(capsys, *args: str) -> dict:
    assert main(["run", *args, "--json", "--seed", "1", "-t", "1"]) == 0
    return json.loads(capsys.readouterr().out)


def piped(text: str, *args: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    command = [sys.executable, "-m", "pyinfer", "run", *args]
    return subprocess.run(command, input=text, capture_output=True, text=True, env=env, timeout=120)


@pytest.mark.parametrize(
    "words, model, prompt",
    [
        (["Hello there"], DEFAULT_MODEL, ["Hello there"]),
        (["smollm2:360m", "Hello there"], "smollm2:360m", ["Hello there"]),
        (["hf:org/repo", "Hello", "there"], "hf:org/repo", ["Hello", "there"]),
        (["org/repo:Q4_K_M", "Hello"], "org/repo:Q4_K_M", ["Hello"]),
        (["missing.gguf", "Hello"], "missing.gguf", ["Hello"]),
        (["-"], DEFAULT_MODEL, ["-"]),
        (["Sum up:", "-"], DEFAULT_MODEL, ["Sum up:", "-"]),
    ],
)
def test_a_model_may_stand_before_the_prompt(words, model, prompt):
    assert run.model_and_prompt(DEFAULT_MODEL, words) == (model, prompt)


def test_with_m_all_words_are_the_prompt():
    assert run.model_and_prompt("x.gguf", ["smollm2:360m", "is", "small"]) == (
        "x.gguf",
        ["smollm2:360m", "is", "small"],
    )


@pytest.mark.parametrize(
    "words, says",
    [
        (
            ["tell", "me", "more"],
            r"3 words, .*'tell', is no model; expected MODEL .* pyinfer run 'tell me more'$",
        ),
        (["llama3.2", "Hi"], r"is no model; .*; did you mean llama3.2:1b or llama3.2:3b\?$"),
    ],
)
def test_words_that_are_neither_are_explained(words, says):
    with pytest.raises(ParameterError, match=says):
        run.model_and_prompt(DEFAULT_MODEL, words)


def test_a_model_without_a_prompt_is_explained(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert main(["run", "smollm2:135m"]) == 1
    assert (
        "smollm2:135m is a model, and there is no prompt; expected pyinfer run smollm2:135m PROMPT, or pyinfer chat"
        in (capsys.readouterr().err)
    )


def test_options_may_stand_between_model_and_prompt(model, capsys):
    assert result(capsys, model, "-n", "2", "xyz")["prompt_tokens"] == 3


@pytest.mark.parametrize(
    "text, words, n_characters",
    [("xyz\n", ["-"], 3), ("xyz", [], 3), ("xyz\n", ["vw"], 7), ("xyz", ["vw", "-"], 7), ("", ["xyz"], 3)],
)
def test_standard_input_is_the_prompt_or_comes_before_it(model, text, words, n_characters):
    done = piped(text, "-m", model, "-n", "1", "--json", *words)
    assert json.loads(done.stdout)["prompt_tokens"] == n_characters


def test_a_pipe_that_nobody_writes_to_is_not_waited_for(model):
    reading, writing = os.pipe()
    env = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    command = [sys.executable, "-m", "pyinfer", "run", "-m", model, "xyz", "-n", "1", "--json"]
    done = subprocess.run(command, stdin=reading, capture_output=True, text=True, env=env, timeout=120)
    os.close(reading)
    os.close(writing)
    assert json.loads(done.stdout)["prompt_tokens"] == 3


def test_without_a_limit_a_text_ends_with_the_context_and_says_so(model, capsys):
    assert main(["run", "-m", model, "hhh", "-c", "256", "--temp", "0"]) == 0
    out, err = capsys.readouterr()
    assert len(out) > 150  # it has tokens that are no characters, too
    assert err == "pyinfer: the text was cut: the context of 256 tokens is full; -c 1024 has more room\n"


def test_a_text_of_n_tokens_says_that_it_was_cut(model, capsys):
    assert main(["run", "-m", model, "xyz", "--seed", "1", "-n", "3", "--temp", "0"]) == 0
    assert capsys.readouterr().err == "pyinfer: the text was cut after 3 tokens, as -n says; -n -1 has no limit\n"


def test_json_has_the_text_the_reason_of_its_end_counts_and_speeds(model, capsys):
    done = result(capsys, "-m", model, "wxyz", "-n", "5", "--temp", "0")
    assert main(["run", "-m", model, "wxyz", "-n", "5", "--temp", "0"]) == 0
    assert done.pop("text") + "\n" == capsys.readouterr().out
    assert done.pop("prompt_tokens_per_second") > 0 and done.pop("tokens_per_second") > 0
    assert done == {"model": model, "finish_reason": "length", "prompt_tokens": 4, "completion_tokens": 5}


def test_the_system_message_comes_first(model, capsys):
    chat = (model, "xyz", "-n", "1", "--template", TEMPLATE)
    assert result(capsys, *chat)["prompt_tokens"] == len("uxyz")
    assert result(capsys, *chat, "--system", "vw")["prompt_tokens"] == len("svw" + "uxyz")


def test_raw_has_no_place_for_a_system_message(model, capsys):
    assert main(["run", model, "xyz", "--raw", "--system", "vw"]) == 1
    assert "--raw leaves out the chat template; expected it without --system" in capsys.readouterr().err


def test_a_system_message_needs_a_template(model, capsys):
    assert main(["run", model, "xyz", "--system", "vw"]) == 1
    assert "the model's file has no chat template" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_once(model):
    command = f'"{sys.executable}" -m pyinfer run -m "{model}" xyz -n 5 >/dev/full'
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(PACKAGE)}
    )
    assert done.returncode == 1
    assert done.stderr == (
        "pyinfer: error: the output: No space left on device; free some space, or use another file or folder\n"
    )


@pytest.mark.parametrize(
    "make, says",
    [
        (
            lambda p: p.with_suffix(".safetensors").write_bytes(b"\x40" + bytes(7) + b"{}" * 32),
            "is a safetensors file; ",
        ),
        (lambda p: p.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "`git lfs pull` fetches the file"),
        (lambda p: p.write_bytes(b"<!doctype html><html>"), "it is a web page, saved in place of the file"),
        (lambda p: p.write_bytes(b"PK\x03\x04" + bytes(90)), "it is a ZIP archive, as PyTorch's weights are"),
    ],
)
def test_files_of_other_formats_are_recognized(tmp_path, capsys, make, says):
    make(tmp_path / "model.gguf")
    (file,) = tmp_path.iterdir()
    assert main(["run", str(file), "hi"]) == 1
    err = capsys.readouterr().err
    assert "not a GGUF file" in err and says in err


@pytest.mark.parametrize(
    "names, says",
    [
        (["config.json", "model.safetensors"], "it holds a model for transformers; pyinfer reads GGUF files: "),
        (["b.gguf", "a.gguf"], "expected one of its files: a.gguf, b.gguf"),
        ([], "expected a GGUF file"),
    ],
)
def test_of_a_folder_it_is_said_what_it_holds(tmp_path, capsys, names, says):
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    assert main(["run", "-m", str(tmp_path), "hi"]) == 1
    err = capsys.readouterr().err
    assert "cannot be read: Is a directory; " in err and says in err


def test_a_file_that_may_not_be_read_says_what_to_do(tmp_path, capsys, monkeypatch):
    path = write_tiny_model(tmp_path / "tiny.gguf", TinyModel("llama"))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert main(["run", "-m", str(path), "hi"]) == 1
    assert "Permission denied; let its owner give you the permission, or use another file" in capsys.readouterr().err
