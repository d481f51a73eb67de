"""The commands, as a person runs them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_models import TinyModel, write_text_model, write_tiny_model

import pyinfer
from pyinfer.cli.main import build_parser, main
from pyinfer.hub.catalogue import DEFAULT_MODEL

PACKAGE = Path(pyinfer.__file__).parent.parent


def start(*args: str, **kwargs) -> subprocess.Popen:
    env = {**os.environ, "PYTHONPATH": str(PACKAGE), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "pyinfer", *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, **kwargs)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    return str(write_tiny_model(tmp_path_factory.mktemp("cli") / "tiny.gguf", TinyModel("qwen2", n_ctx=64)))


@pytest.fixture(scope="module")
def text_model(tmp_path_factory) -> str:
    model = TinyModel("llama", n_layers=1, n_vocab=128, n_ctx=4096)
    return str(write_text_model(tmp_path_factory.mktemp("cli") / "text.gguf", model))


@pytest.fixture(scope="module")
def smollm(real_model) -> str:
    return str(real_model("smollm2-135m-q4_1"))


def test_inspect_shows_metadata_sizes_and_tensors(tiny, capsys):
    assert main(["inspect", tiny, "--tensors"]) == 0
    out = capsys.readouterr().out
    assert "general.architecture = 'qwen2'" in out and "blk.1.ffn_down.weight" in out and "bits a weight" in out


def test_inspect_as_json_is_complete(tiny, capsys):
    assert main(["inspect", tiny, "--tensors", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["metadata"]["general.architecture"] == "qwen2"
    assert report["n_tensors"] == len(report["tensors"])
    assert sum(kind["bytes"] for kind in report["types"].values()) == report["tensor_bytes"]
    assert sum(t["bytes"] for t in report["tensors"]) == report["tensor_bytes"]


def test_bench_gives_every_figure(tiny, capsys):
    assert main(["bench", tiny, "-p", "16", "-n", "4", "-d", "8", "-r", "2", "-t", "1", "--json", "--profile"]) == 0
    result = json.loads(capsys.readouterr().out)
    for key in ("prefill_tps", "decode_tps", "load_s", "peak_rss_bytes", "read_gbps", "decode_bandwidth_fraction"):
        assert result[key] > 0, key
    assert result["threads"] == 1 and result["isa"] and result["cpu"]
    assert set(result["decode_profile"]) >= {"qkv", "attention", "ffn_down", "output"}
    assert result["decode_profile"]["qkv"]["gbps"] > 0 and result["prefill_profile"]["qkv"]["gmacs"] > 0
    assert main(["bench", tiny, "-p", "0", "-n", "2", "-r", "1"]) == 0
    out = capsys.readouterr().out
    assert "decode" in out and "prefill" not in out


def test_bench_draws_the_roofline(tiny, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    path = tmp_path / "roof.png"
    assert main(["bench", tiny, "-p", "8", "-n", "4", "-r", "1", "-t", "1", "--plot", str(path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["dot_limit_gmacs"] > 0 and result["read_limit_gbps"] > 0
    assert path.read_bytes().startswith(b"\x89PNG")
    assert main(["bench", tiny, "-p", "0", "-n", "0", "--plot", str(path)]) == 1
    assert "no operations" in capsys.readouterr().err
    for bad in (tmp_path / "roof.gguf", tmp_path / "nowhere" / "roof.png"):
        assert main(["bench", tiny, "--plot", str(bad)]) == 1
        assert f"--plot is {bad}" in capsys.readouterr().err


def test_bench_says_how_to_get_plots(tiny, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["bench", tiny, "--plot", "roof.png"]) == 1
    assert capsys.readouterr().err == "pyinfer: error: --plot needs matplotlib: pip install 'pyinfer-gguf[plot]'\n"


def test_bench_decodes_sequences_together(tiny, capsys):
    arguments = ["bench", tiny, "-p", "0", "-n", "3", "-d", "5", "-r", "1", "--parallel", "1,4"]
    assert main([*arguments, "--json"]) == 0
    parallel = json.loads(capsys.readouterr().out)["parallel"]
    assert list(parallel) == ["1", "4"] and min(parallel.values()) > 0
    assert main(arguments) == 0
    assert "decode, 4 at once" in capsys.readouterr().out


@pytest.mark.parametrize("options", [["--parallel", "0"], ["--parallel", "2", "-n", "0"]])
def test_bench_needs_sequences_and_tokens_to_decode_together(tiny, capsys, options):
    assert main(["bench", tiny, *options]) == 1
    assert "--parallel is" in capsys.readouterr().err


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda p: None, "No such file"),
        (lambda p: p.mkdir(), "directory"),
        (lambda p: p.write_bytes(b""), "empty"),
        (lambda p: p.write_bytes(b"garbage" * 100), "not a GGUF file"),
        (lambda p: p.write_bytes(b"GGUF\x03\0\0\0" + b"\xff" * 16), "the number of tensors"),
    ],
)
@pytest.mark.parametrize("command", ["run", "bench", "inspect"])
def test_bad_files_are_one_line(tmp_path, capsys, command, make, message):
    path = tmp_path / "model.gguf"
    make(path)
    arguments = {"run": ["run", "--model", str(path), "hi"]}.get(command, [command, str(path)])
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert err.startswith("pyinfer: error: ") and err.count("\n") == 1
    assert message in err and "model.gguf" in err


@pytest.mark.parametrize(
    "options, message",
    [
        (["--temp", "-1"], "temperature is -1.0"),
        (["--top-p", "2"], "top_p is 2.0"),
        (["-n", "0"], "max_tokens is 0"),
        (["--threads", "0"], "n_threads is 0"),
        (["--ctx", "-5"], "n_ctx is -5"),
    ],
)
def test_bad_arguments_are_one_line(tiny, capsys, options, message):
    assert main(["run", "--model", tiny, "hi", *options]) == 1
    assert message in capsys.readouterr().err


def test_a_bug_is_one_line_without_a_traceback(monkeypatch, tiny, capsys):
    monkeypatch.delenv("PYINFER_TRACEBACK", raising=False)
    monkeypatch.setattr("pyinfer.cli.inspect.describe", lambda file, tensors: {}["metadata"])
    assert main(["inspect", tiny]) == 1
    err = capsys.readouterr().err
    assert err.startswith("pyinfer: error: KeyError: 'metadata'") and err.count("\n") == 1


def test_a_terminal_without_a_character_shows_another(tmp_path):
    model = TinyModel("qwen2", metadata={"name": "größe"})
    path = write_tiny_model(tmp_path / "tiny.gguf", model)
    env = {**os.environ, "PYTHONPATH": str(PACKAGE), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-m", "pyinfer", "inspect", path], capture_output=True, env=env)
    assert done.returncode == 0 and b"gr??e" in done.stdout


@pytest.mark.parametrize(
    "options", [["--speculative", "lookup"], ["--draft-model", "{}"], ["-md", "{}", "--n-draft", "2"]]
)
def test_draft_tokens_change_the_speed_of_a_text_only(text_model, capsys, options):
    arguments = ["run", "--model", text_model, "--raw", "abcdefgh, " * 9, "-n", "90", "--temp", "0", "-c", "512"]
    assert main(arguments) == 0
    plain = capsys.readouterr()
    assert main([*arguments, "--stats", *(option.format(text_model) for option in options)]) == 0
    drafted = capsys.readouterr()
    assert drafted.out == plain.out
    assert re.search(r"draft tokens: \d+ of [1-9]\d* accepted", drafted.err) and "draft" not in plain.err


@pytest.mark.parametrize(
    "arguments",
    [["run", "-m", "x", "Hello"], ["run", "--model", "x", "Hello"], ["chat", "-m", "x"], ["chat", "x"]],
)
def test_m_is_the_model_and_md_the_draft_model(arguments):
    parser = build_parser()
    args = parser.parse_args(arguments)
    assert (args.model, args.draft_model) == ("x", None)
    args = parser.parse_args([*arguments, "-md", "y"])
    assert (args.model, args.draft_model) == ("x", "y")
    assert parser.parse_args([word for word in arguments if word not in ("-m", "--model", "x")]).model == DEFAULT_MODEL


@pytest.mark.skipif(sys.platform == "win32", reason="redirections of POSIX")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_inputs_and_outputs_may_be_closed(tiny, closed):
    command = f'"{sys.executable}" -m pyinfer inspect "{tiny}" {closed}'
    done = subprocess.run(command, shell=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(PACKAGE)})
    assert (done.returncode, done.stderr) == (0, b"")


def test_usage_errors_end_with_2(capsys):
    for arguments in ([], ["nothing"], ["run"], ["bench", "x", "-p", "many"], ["bench", "x", "--parallel", "1,b"]):
        with pytest.raises(SystemExit) as error:
            main(arguments)
        assert error.value.code == 2
    capsys.readouterr()


def test_run_continues_a_raw_prompt(smollm, capsys):
    assert main(["run", "--model", smollm, "--raw", "The capital of France is", "-n", "4", "--temp", "0"]) == 0
    first = capsys.readouterr().out
    assert "Paris" in first
    assert (
        main(["run", "--model", smollm, "--raw", "The capital of France is", "-n", "4", "--temp", "0", "--stats"]) == 0
    )
    again = capsys.readouterr()
    assert again.out == first and "prompt: 5 new of 5 tokens" in again.err


def test_run_takes_the_chat_template(smollm, capsys):
    assert main(["run", "--model", smollm, "Hello", "-n", "1", "--temp", "0", "--stats"]) == 0
    assert "prompt: 31 new of 31 tokens" in capsys.readouterr().err


def test_a_seed_repeats_a_run(smollm, capsys):
    arguments = ["run", "--model", smollm, "--raw", "Once", "-n", "12", "--seed", "5"]
    assert main(arguments) == 0 == main(arguments)
    out = capsys.readouterr().out
    assert out[: len(out) // 2] == out[len(out) // 2 :]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_ends_a_long_prompt_within_a_second(smollm):
    process = start("bench", smollm, "-p", "30000", "-n", "0", "-t", "1")
    time.sleep(4)
    assert process.poll() is None
    sent = time.perf_counter()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, "", "")
    assert time.perf_counter() - sent < 3  # a second, and what a busy machine adds


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_ends_a_text(smollm):
    process = start("run", "--model", smollm, "--raw", "Once upon a time", "--temp", "1.5", "--ctx", "8000")
    assert process.stdout.read(20)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_nobody_reading_on_is_quiet(smollm):
    process = start("run", "--model", smollm, "--raw", "Once upon a time", "--temp", "1.5", "--ctx", "8000")
    process.stdout.read(1)
    process.stdout.close()
    assert process.wait(timeout=20) == 1
    assert process.stderr.read() == ""
