"""Tokens a second with and without guesses, in turn: a text that is copied, code that is edited, prose.

Each case is a chat turn, and each round generates the text without guesses and with them, the one or the other first.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_models import FOLDER

from pyinfer import LLM, Completion, SamplingParams

QWEN = sorted(FOLDER.glob("qwen2.5-coder-*.gguf"))  # the smallest, which drafts for the others, first
MODELS = [*sorted(FOLDER.glob("SmolLM2-135M-*.gguf")), *QWEN]  # whose chats are written alike
ROUNDS = 5
CODE = Path(__file__).with_name("limits.py").read_text()[:2400]
TEXT = Path(__file__).with_name("README.md").read_text()[:2000]
CASES = {
    "copy": f"Repeat this text word by word, without any comment:\n\n{TEXT}",
    "edit": f"Rewrite this file with `seconds` renamed to `elapsed`. Only the file:\n\n```python\n{CODE}\n```",
    "essay": "Explain in detail how a sailing ship works and what its crew does on a long voyage.",
    "prose": "Write a story of 500 words about a lighthouse keeper who finds a letter in a bottle.",
}
GUESSES = {"lookup": {"speculative": "lookup"}, "draft": {"draft_model": QWEN[0] if QWEN else ""}}


@pytest.fixture(scope="module", params=MODELS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    chosen: Path = request.param
    return chosen


@pytest.fixture(scope="module", params=GUESSES)
def models(request: pytest.FixtureRequest, path: Path) -> Iterator[tuple[LLM, LLM]]:
    """Without guesses, and with them."""
    if request.param == "draft" and path not in QWEN[1:]:
        pytest.skip("there is no smaller model of the same tokens")
    with LLM(path, n_seqs=1) as plain, LLM(path, n_seqs=1, **GUESSES[request.param]) as guessing:
        yield plain, guessing


@pytest.mark.parametrize("temperature", [0, 0.8, 1.1])
@pytest.mark.parametrize("case", CASES)
def test_speed(benchmark, models, case, temperature):
    prompt = f"<|im_start|>user\n{CASES[case]}<|im_end|>\n<|im_start|>assistant\n"
    params = SamplingParams(temperature=temperature, seed=3, max_tokens=400)
    ids = models[0].tokenizer.encode(prompt, parse_special=True)
    rounds: list[list[Completion]] = []
    for model in models:
        model.generate(ids, SamplingParams(max_tokens=1))

    def generate() -> None:
        order = models if len(rounds) % 2 else models[::-1]
        done = {model: model.generate(ids, params) for model in order}
        rounds.append([done[model] for model in models])

    benchmark.pedantic(generate, rounds=ROUNDS)
    speeds = [[done.tokens_per_second for done in pair] for pair in rounds]
    assert all(one.tokens == other.tokens for one, other in rounds)
    done = rounds[-1][1]
    benchmark.extra_info["tokens"] = done.completion_tokens
    benchmark.extra_info["tokens/s without"] = round(statistics.median(pair[0] for pair in speeds), 1)
    benchmark.extra_info["tokens/s with"] = round(statistics.median(pair[1] for pair in speeds), 1)
    benchmark.extra_info["times as fast"] = round(statistics.median(pair[1] / pair[0] for pair in speeds), 3)
    benchmark.extra_info["drafted, accepted"] = [done.drafted_tokens, done.accepted_tokens]
