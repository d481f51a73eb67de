"""Scores of continuations and perplexity against the softmax of the oracle's logits in float64."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from oracle import oracle_logits
from tiny_models import TinyModel, write_model_over
from tiny_vocabularies import CONTROL, bpe_metadata

from pyinfer import LLM
from pyinfer.cli.main import main
from pyinfer.errors import ContextError, ParameterError
from pyinfer.tasks.scoring import score_tokens

SPECIAL = {"<s>": CONTROL, "</s>": CONTROL}
BOS, EOS, N_VOCAB = 257, 258, 259
# bytes, and two of them joined that no text here has
BYTES = bpe_metadata(["Ā ā"], SPECIAL, bos_token_id=BOS, eos_token_id=EOS, add_bos_token=True)
RNG = np.random.default_rng(3)
TEXT = "".join(chr(c) for c in RNG.integers(32, 127, 200))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A random model over bytes, with both special tokens."""
    model = TinyModel("llama", n_vocab=N_VOCAB, n_layers=1)
    return write_model_over(tmp_path_factory.mktemp("scoring") / "model.gguf", model, BYTES)


@pytest.fixture(scope="module")
def llm(path):
    with LLM(path, kv_type="f32", n_batch=16) as model:
        yield model


def log_softmax(logits):
    below = logits - logits.max(-1, keepdims=True)
    return below - np.log(np.exp(below).sum(-1, keepdims=True))


def expected_logprobs(path, tokens, first):
    """Of the tokens from `first` on, by definition."""
    rows = log_softmax(np.asarray(oracle_logits(path, tokens[:-1]), np.float64))[first - 1 :]
    return rows[np.arange(len(rows)), tokens[first:]]


def test_scores_are_the_log_probabilities_of_each_token_given_all_before(path, llm):
    prompt, continuations = "a prompt of some length, ", ["one", " ", "another that is longer than a pass"]

    scores = llm.score(prompt, continuations)

    for text, found in zip(continuations, scores, strict=True):
        tokens = [BOS, *prompt.encode(), *text.encode()]
        assert found.tokens == tuple(text.encode())
        expected = expected_logprobs(path, tokens, 1 + len(prompt))
        np.testing.assert_allclose(found.logprobs, expected, rtol=0, atol=2e-5)
        assert found.logprob == pytest.approx(expected.sum(), abs=1e-4)


def test_a_continuation_is_greedy_if_each_token_is_the_likeliest(path, llm):
    tokens = [BOS, *b"abc"]
    for _ in range(3):
        tokens.append(int(np.argmax(oracle_logits(path, tokens)[-1])))
    other = [*tokens[4:6], (tokens[6] + 1) % N_VOCAB]

    greedy, worse = llm.score(tokens[:4], [tokens[4:], other])

    assert greedy.greedy and not worse.greedy
    assert greedy.logprobs[:2] == worse.logprobs[:2]
    assert greedy.logprobs[2] > worse.logprobs[2]


def test_the_prompt_is_passed_once(path, monkeypatch):
    with LLM(path) as llm:
        passed = []
        run = llm.engine.run
        monkeypatch.setattr(llm.engine, "run", lambda p: passed.append(len(p.tokens)) or run(p))
        prompt = "x" * 99

        together = llm.score(prompt, ["abc", "abd", "b"])

        # with its first token; the logits of its last one are for each continuation to compute
        assert sum(passed) == 99 + (1 + 2) + (1 + 2) + 1
        assert together == [llm.score(prompt, [text])[0] for text in ("abc", "abd", "b")]


def test_the_length_of_a_pass_and_what_runs_beside_do_not_change_the_scores(path):
    scores = []
    for n_batch, n_seqs in ((1, 1), (7, 2), (512, 8)):
        with LLM(path, n_batch=n_batch, n_seqs=n_seqs) as llm:
            scores.append(llm.score("prompt", ["one continuation", "two", "three"]))

    assert scores[0] == scores[1] == scores[2]


def test_a_text_may_fill_the_context_and_its_last_token_lie_beyond(llm):
    tokens = RNG.integers(0, N_VOCAB, llm.n_ctx + 1).tolist()

    assert len(score_tokens(llm.scheduler, [(tokens, 1)])[0].logprobs) == llm.n_ctx
    with pytest.raises(ContextError, match="130 tokens; the context of 128 has room for 129"):
        score_tokens(llm.scheduler, [([*tokens, 0], 1)])


@pytest.mark.parametrize("first", [0, 3, -1])
def test_a_text_is_scored_behind_its_first_token(llm, first):
    with pytest.raises(ParameterError, match=f"from position {first} on; expected 1 to 2"):
        score_tokens(llm.scheduler, [([1, 2, 3], first)])


@pytest.mark.parametrize(
    ("prompt", "continuations", "says"),
    [
        ("a", [""], "continuation 0 has no tokens"),
        ("a", ["b", []], "continuation 1 has no tokens"),
        ([], ["b"], "there are no tokens"),
        ("a", "b", "continuations is a str; expected a list"),
        ("a", 5, "continuations is a int; expected a list"),
        ("a", b"b", "continuations is a bytes; expected a list"),
        ("a", np.array(1), "continuations is a ndarray; expected a list"),
        ("a", ["b", 5], "continuation 1 is a int; expected text or token ids"),
        ("a", [b"b"], "continuation 0 is a bytes; expected text"),
        (b"a", ["b"], "the prompt is a bytes; expected text"),
        ([1, 259], ["b"], "token 1 is 259; expected an id from 0 to 258"),
        ([1], [[-1]], "continuation 0: token 0 is -1"),
    ],
)
def test_what_can_not_be_scored_is_refused(llm, prompt, continuations, says):
    with pytest.raises(ParameterError, match=says):
        llm.score(prompt, continuations)


def test_perplexity_scores_the_second_half_of_each_chunk(path, llm):
    tokens = llm.tokenizer.encode(TEXT)
    assert (tokens[0], len(tokens)) == (BOS, 201)
    expected = []
    for start in range(0, 192, 32):
        chunk = [BOS, *tokens[start + 1 : start + 32]]  # begins as a text does
        expected += expected_logprobs(path, chunk, 17).tolist()

    found = llm.perplexity(TEXT, n_ctx=32)

    assert (found.n_chunks, found.n_scored) == (6, 6 * 15)
    assert found.value == pytest.approx(math.exp(-np.mean(expected)), rel=1e-5)
    deviation = np.std(expected) / math.sqrt(len(expected) - 1)
    assert found.error == pytest.approx(found.value * deviation, rel=1e-4)


def test_with_a_stride_chunks_overlap_and_their_ends_are_scored(path, llm):
    tokens = llm.tokenizer.encode(TEXT)
    expected = []
    for start in range(0, 201 - 32 + 1, 10):
        expected += expected_logprobs(path, [BOS, *tokens[start + 1 : start + 32]], 22).tolist()

    found = llm.perplexity(TEXT, n_ctx=32, stride=10)

    assert found.n_scored == len(expected) == 17 * 10
    assert found.value == pytest.approx(math.exp(-np.mean(expected)), rel=1e-5)


def test_progress_is_told_after_each_chunk(llm):
    told = []

    found = llm.perplexity(TEXT, n_ctx=32, n_chunks=3, progress=lambda *news: told.append(news))

    assert [(so_far.n_chunks, n) for so_far, n in told] == [(1, 3), (2, 3), (3, 3)]
    assert told[-1][0] == found


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"n_ctx": 3}, "n_ctx is 3; expected a whole number of at least 4"),
        ({"n_ctx": 32.0}, "n_ctx is 32.0; expected"),
        ({"n_ctx": None}, "n_ctx is None; expected"),
        ({"n_ctx": 32, "stride": 2.5}, "stride is 2.5; expected"),
        ({"n_ctx": 32, "stride": True}, "stride is True; expected"),
        ({"n_ctx": 32, "n_chunks": "2"}, "n_chunks is '2'; expected"),
        ({"n_ctx": 202}, "the text has 201 tokens; a chunk needs 202"),
        ({"n_ctx": 32, "stride": 0}, "stride is 0; expected a whole number from 1 to n_ctx - 1 = 31"),
        ({"n_ctx": 32, "stride": 32}, "stride is 32"),
        ({"n_ctx": 32, "n_chunks": 0}, "n_chunks is 0; expected a whole number of at least 1"),
    ],
)
def test_arguments_out_of_range_are_refused(llm, arguments, says):
    with pytest.raises(ParameterError, match=says):
        llm.perplexity(TEXT, **arguments)


def test_a_model_scores_and_generates_in_turn(path):
    with LLM(path) as llm:
        before = llm.generate("abc").tokens
        scores = llm.score("abc", [list(before[:4]) or [97], "x"])
        assert llm.perplexity(TEXT, n_ctx=64).n_chunks == 3
        assert llm.score("abc", [list(before[:4]) or [97], "x"]) == scores


def test_the_examples_of_the_docs_run(path, tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "scoring.md").read_text()
    (tmp_path / "model.gguf").symlink_to(path)
    (tmp_path / "book.txt").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    names = {}

    for example in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(example, names)
    names["llm"].close()

    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"-?\d+\.\d+ (True|False)", first)
    assert second.endswith(", 63 tokens")


def test_the_command_reads_standard_input_as_it_reads_files(path, tmp_path):
    file = tmp_path / "text.txt"
    file.write_bytes(TEXT.encode()[:120] + b"\xff\xfe" + "é".encode()[:1])
    command = [sys.executable, "-m", "pyinfer", "perplexity", str(path), "-c", "32", "--json", "-f"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

    of_file = subprocess.run([*command, file], capture_output=True, env=env, check=True).stdout
    with file.open("rb") as text:
        of_input = subprocess.run([*command, "-"], stdin=text, capture_output=True, env=env, check=True).stdout

    assert of_input == of_file and json.loads(of_file)["chunks"] > 2


def test_the_command_prints_the_running_figure_and_the_final_one(path, tmp_path, capsys):
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    arguments = ["perplexity", str(path), "-f", str(file), "-c", "32", "--chunks", "2"]

    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)

    value, error = f"{result['perplexity']:.4f}", f"{result['error']:.5f}"
    assert lines[0].startswith("[1]") and lines[0].endswith(f",[2]{value},")
    assert lines[1] == f"Final estimate: PPL = {value} +/- {error}"
    assert (result["scored"], result["chunks"], result["n_ctx"]) == (30, 2, 32)


# The text of the GPL, 8 chunks of 512: llama-perplexity's figure, and ours with the weights dequantized to float32.
# Quantized activations move it away from the latter; ours less than llama.cpp's.
REAL = {"smollm2-135m-q4_1": (18.49, 18.341), "gemma-3-270m-q4_k_m": (15.00, 14.893)}


@pytest.mark.parametrize("name", REAL)
def test_real_models_have_llama_perplexitys_figure_but_for_its_rounding(real_model, name):
    text = Path("/usr/share/common-licenses/GPL-3")
    if not text.is_file():
        pytest.skip(f"no {text}")
    theirs, exact = REAL[name]
    with LLM(real_model(name), n_ctx=512) as llm:
        found = llm.perplexity(text.read_text(), 512, n_chunks=8).value

    assert found == pytest.approx(theirs, rel=0.006)
    assert abs(found - exact) < abs(theirs - exact)
