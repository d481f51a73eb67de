"""The adapter for lm-evaluation-harness, run by the harness on tasks made of local data."""

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
from test_scoring import BOS, BYTES, N_VOCAB, expected_logprobs
from tiny_models import TinyModel, write_model_over

from pyinfer import LLM, SamplingParams
from pyinfer.errors import ParameterError
from pyinfer.version import pip_install

MISSING = f"lm_eval is not installed ({pip_install('lm-eval')})"
registry = pytest.importorskip("lm_eval.api.registry", reason=MISSING)
COMMAND = str(Path(sys.executable).with_name("lm_eval"))
DOCUMENTS = [
    {"question": "Is water wet?", "choices": ["yes", "no", "perhaps"], "answer": 0},
    {"question": "Is a stone alive?", "choices": ["yes", "no", "perhaps"], "answer": 1},
    {"question": "Will it rain?", "choices": ["yes, surely", "no", "perhaps"], "answer": 2},
]
COMMON = """
dataset_path: json
dataset_kwargs: {data_files: {test: %s}}
test_split: test
doc_to_text: "Q: {{question}} A:"
"""
TASKS = {
    "local_choice": """
task: local_choice
output_type: multiple_choice
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list: [{metric: acc}, {metric: acc_norm}]
""",
    "local_text": """
task: local_text
output_type: loglikelihood_rolling
doc_to_target: "{{question}}"
metric_list: [{metric: byte_perplexity}]
""",
    "local_writing": """
task: local_writing
output_type: generate_until
doc_to_target: "{{choices[answer]}}"
generation_kwargs: {until: ["\\n", "zz"], max_gen_toks: 8, do_sample: false}
metric_list: [{metric: exact_match}]
""",
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    model = TinyModel("llama", n_vocab=N_VOCAB, n_layers=1, n_ctx=48)
    return write_model_over(tmp_path_factory.mktemp("lm_eval") / "model.gguf", model, BYTES)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    data = folder / "documents.jsonl"
    data.write_text("".join(json.dumps(document) + "\n" for document in DOCUMENTS))
    for name, text in TASKS.items():
        (folder / f"{name}.yaml").write_text(text + COMMON % data)
    return folder


@pytest.fixture(scope="module")
def results(path, tasks, tmp_path_factory):
    """What the harness makes of all tasks, with each document's answers."""
    os.environ["HF_DATASETS_CACHE"] = str(tmp_path_factory.mktemp("datasets"))
    os.environ["HF_DATASETS_OFFLINE"] = "1"
    import lm_eval
    from lm_eval.tasks import TaskManager

    import pyinfer.compat.lm_eval  # noqa: F401

    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    return lm_eval.simple_evaluate(
        "pyinfer",
        model_args={"path": str(path), "kv_type": "f32"},
        tasks=list(TASKS),
        task_manager=manager,
        bootstrap_iters=0,
        log_samples=True,
    )


@pytest.fixture(scope="module")
def model(path):
    from pyinfer.compat.lm_eval import PyinferLM

    return PyinferLM(path=str(path), kv_type="f32", batch_size=1, device="cpu")


def samples(results, name):
    return sorted(results["samples"][name], key=lambda sample: sample["doc_id"])


def test_choices_have_their_log_probabilities(path, results):
    for document, sample in zip(DOCUMENTS, samples(results, "local_choice"), strict=True):
        context = [BOS, *f"Q: {document['question']} A:".encode()]
        for choice, ((logprob, _),) in zip(document["choices"], sample["resps"], strict=True):
            expected = expected_logprobs(path, [*context, *f" {choice}".encode()], len(context)).sum()
            assert logprob == pytest.approx(expected, abs=1e-3)
    assert 0 <= results["results"]["local_choice"]["acc,none"] <= 1


def test_whole_texts_have_theirs(path, results):
    total = 0.0
    for document, sample in zip(DOCUMENTS, samples(results, "local_text"), strict=True):
        ((found,),) = sample["resps"]
        total += found
        assert found == pytest.approx(expected_logprobs(path, [BOS, *document["question"].encode()], 1).sum(), abs=1e-3)
    n_bytes = sum(len(document["question"]) for document in DOCUMENTS)
    assert results["results"]["local_text"]["byte_perplexity,none"] == pytest.approx(np.exp(-total / n_bytes), rel=1e-4)


def test_texts_are_those_of_generate(path, results):
    with LLM(path, kv_type="f32") as llm:
        for document, sample in zip(DOCUMENTS, samples(results, "local_writing"), strict=True):
            params = SamplingParams(temperature=0, max_tokens=8, stop=["\n", "zz"])
            expected = llm.generate(f"Q: {document['question']} A:", params).text
            assert sample["resps"] == [[expected]]


def test_texts_longer_than_the_context_are_scored_in_windows(path, model):
    from lm_eval.api.instance import Instance

    text = "a text that is longer than what the model has positions for, by far and a half"
    tokens = [BOS, *text.encode()]
    first = expected_logprobs(path, tokens[:49], 1).sum()
    # each later window ends 48 tokens on, and what it shares with the one before is not scored again
    rest = expected_logprobs(path, tokens[len(tokens) - 49 :], 49 - (len(tokens) - 49)).sum()

    (found,) = model.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (text,), 0)])

    assert found == pytest.approx(first + rest, abs=1e-3)


def test_a_context_that_is_too_long_loses_its_beginning(path, model):
    context, continuation = "x" * 30 + "the end of a long context is kept", " as it is"
    kept = [*(context + continuation).encode()][-49:]

    ((found, _),) = model._loglikelihood_tokens(
        [((context, continuation), model.tok_encode(context), [*continuation.encode()])]
    )

    assert found == pytest.approx(expected_logprobs(path, kept, 49 - len(continuation)).sum(), abs=1e-3)


def test_the_first_token_is_never_there_twice(model):
    assert model.tok_encode("a") == [BOS, 97]
    assert model.tok_encode("<s>a") == [BOS, 97]
    assert model.tok_encode("a", add_special_tokens=False) == [97]


def test_chats_are_rendered_by_the_chosen_template(path):
    from pyinfer.compat.lm_eval import PyinferLM

    model = PyinferLM(pretrained=str(path), chat_template="chatml")

    text = model.apply_chat_template([{"role": "user", "content": "Hello"}])

    assert text == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    assert model.chat_template(True) and not model.chat_template(False)


def test_wishes_of_tasks_become_sampling_params():
    from pyinfer.compat.lm_eval import sampling_params

    assert sampling_params({"until": ["\n", ""]}, 5) == SamplingParams(
        temperature=0.0, top_k=0, top_p=1.0, min_p=0.0, stop=["\n"], max_tokens=5
    )
    sampled = sampling_params({"until": "x", "do_sample": True, "top_p": 0.9, "max_gen_toks": 7}, 5)
    assert (sampled.temperature, sampled.top_p, sampled.top_k, sampled.max_tokens) == (1.0, 0.9, 0, 7)
    assert sampling_params({"temperature": 0.7, "do_sample": False}, 5).temperature == 0.0
    with pytest.warns(UserWarning, match="num_beams"):
        sampling_params({"num_beams": 4}, 5)


def test_a_model_must_be_named():
    from pyinfer.compat.lm_eval import PyinferLM

    with pytest.raises(ParameterError, match="expected path=MODEL"):
        PyinferLM()


@pytest.fixture
def table_of(path, tmp_path):
    """What a command of the harness prints when it is asked to run a task on the model."""

    def run(command, *arguments):
        done = subprocess.run(
            [*command, "--model", "pyinfer", "--model_args", f"path={path}", *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**os.environ, "HF_DATASETS_CACHE": str(tmp_path / "cache"), "HF_DATASETS_OFFLINE": "1"},
            timeout=120,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    return run


def test_the_command_of_the_harness_runs_by_this_module(table_of, tasks):
    table = table_of(
        [sys.executable, "-m", "pyinfer.compat.lm_eval"], "--tasks", "local_choice", "--include_path", tasks
    )

    assert "local_choice" in table and "acc_norm" in table


def test_a_task_that_names_the_model_brings_it_along(table_of, tasks, tmp_path):
    task = tmp_path / "own.yaml"
    line = "metadata: {needs: !function pyinfer.compat.lm_eval.PyinferLM}\n"
    task.write_text((tasks / "local_choice.yaml").read_text() + line)

    table = table_of([COMMAND], "--tasks", task)

    assert "local_choice" in table and "acc_norm" in table


def test_the_harness_is_told_of_the_model_when_pyinfer_is_installed():
    from pyinfer.compat.lm_eval import PyinferLM

    (entry,) = entry_points(group="lm_eval.models", name="pyinfer")

    assert entry.load() is PyinferLM


@pytest.mark.skipif(not hasattr(registry, "import_plugins"), reason="this lm_eval does not look for installed models")
def test_the_command_of_the_harness_finds_the_model(table_of, tasks):
    table = table_of([COMMAND], "--tasks", "local_choice", "--include_path", tasks)

    assert "local_choice" in table and "acc_norm" in table
