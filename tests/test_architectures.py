"""Every declared architecture: its numbers, and that all of the engine works with it."""

import json

import numpy as np
import pytest
from architecture_files import Cases, with_vocabulary

from pyinfer import LLM, SamplingParams
from pyinfer.engine.engine import Engine
from pyinfer.engine.options import EngineOptions
from pyinfer.gguf import GGUFFile
from pyinfer.models.registry import FILES

GREEDY = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True)
TINY = ("gemma2", "gemma3", "glm4", "granite", "llama", "mistral3", "olmo2", "phi3", "qwen2", "qwen3", "starcoder2")


@pytest.fixture(scope="session")
def cases(reference, tmp_path_factory):
    return Cases(reference, tmp_path_factory.mktemp("architectures"))


def nmse(found, expected):
    finite = np.isfinite(expected)
    return ((found - expected)[finite] ** 2).sum() / (expected[finite] ** 2).sum()


def rows_of(engine, tokens, chunk):
    """Logits, or an encoder's hidden states, of all tokens, from an empty sequence, in passes of so many tokens."""
    engine.truncate(0, 0)
    compute, rows = engine.hidden if engine.config.encoder else engine.forward, []
    for start in range(0, len(tokens), chunk):
        part = tokens[start : start + chunk]
        rows.append(compute(part, np.arange(start, start + len(part)), [0] * len(part), np.arange(len(part))).copy())
    return np.concatenate(rows)


def engine_of(path, **options):
    with GGUFFile(path) as file:
        return Engine(file, EngineOptions(**{"n_ctx": 64, "n_seqs": 1, "kv_type": "f32", "n_threads": 1, **options}))


@pytest.mark.parametrize("architecture", TINY)
def test_logits_equal_llama_cpp(reference, architecture):
    tokens = json.loads((reference / "archs" / "tokens.json").read_text())["tokens"]
    expected = np.load(reference / "archs" / f"{architecture}-dense.logits.npy")
    engine = engine_of(reference / "archs" / f"{architecture}-dense.gguf")
    assert nmse(rows_of(engine, tokens, len(tokens)), expected) < 1e-6


@pytest.mark.parametrize("architecture", FILES)
def test_logits_equal_the_float64_pass_however_they_are_cut(cases, architecture):
    found = cases.of(architecture)
    assert found
    for case in found:
        engine = engine_of(case.path)
        whole = rows_of(engine, case.tokens, len(case.tokens))
        assert nmse(whole, case.expected) < 1e-6, case.label
        if engine.config.causal:
            for chunk in (1, 7):
                np.testing.assert_array_equal(rows_of(engine, case.tokens, chunk), whole, case.label)
        mapped = rows_of(engine_of(case.path, weights="mmap"), case.tokens, len(case.tokens))
        np.testing.assert_array_equal(mapped, whole, case.label)


@pytest.mark.parametrize("architecture", FILES)
def test_the_engine_works_with_the_architecture(cases, architecture, tmp_path):
    case = cases.of(architecture)[0]
    path = with_vocabulary(case.path, tmp_path / "model.gguf")
    prompts = [case.tokens[:n] for n in (30, 9, 30)]
    with LLM(path, n_ctx=64, n_seqs=3, n_threads=1) as llm:
        if llm.engine.config.encoder:
            together, alone = llm.embed(prompts), [llm.embed([prompt]) for prompt in prompts]
            np.testing.assert_array_equal(together, np.concatenate(alone))
            return
        if not llm.engine.config.causal:
            pytest.skip("a diffusion model, which has logits and generates no text")
        alone = [llm.generate(prompt, GREEDY).tokens for prompt in prompts]
        assert [done.tokens for done in llm.generate(prompts, GREEDY)] == alone
        llm.save_state(tmp_path / "state", prompts[0])
    with LLM(path, n_ctx=64, n_threads=1, speculative="lookup", prefix_cache=True) as llm:
        llm.load_state(tmp_path / "state")
        assert [llm.generate(prompt, GREEDY).tokens for prompt in prompts] == alone
        can_shift = llm.engine.can_shift
    n, on_overflow = (60, "shift") if can_shift else (20, "error")
    with LLM(path, n_ctx=64, n_threads=1, kv_type="q8_0", on_overflow=on_overflow) as llm:
        assert len(llm.generate(prompts[0], SamplingParams(temperature=0, max_tokens=n, ignore_eos=True)).tokens) == n
