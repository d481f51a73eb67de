"""Speculative decoding: texts are the same to the bit whatever is guessed, and guesses are passed where they pay."""

import gc
import time
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from idle import is_idle
from tiny_models import TinyModel, write_text_model, write_tiny_model

from pyinfer import LLM, Guide, ModelError, ParameterError, PyinferError, SamplingParams
from pyinfer.engine.costs import FIRST_COSTS, SIZES, PassCosts
from pyinfer.speculation.ngrams import MAX_MATCH, MIN_MATCH, Lookup
from pyinfer.speculation.policy import LAST_PROBE, Speculation, n_worth

RNG = np.random.default_rng(3)
REPEATED = [*b"abcdefgh, abcdefgh, abcdefgh, ab"]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    model = TinyModel("llama", n_layers=1, n_vocab=128, n_ctx=4096)
    return write_text_model(tmp_path_factory.mktemp("speculation") / "model.gguf", model)


@pytest.fixture(scope="module")
def draft_path(tmp_path_factory):
    """A model that often says something else."""
    model = TinyModel("llama", n_layers=2, n_vocab=128, n_ctx=4096)
    return write_text_model(tmp_path_factory.mktemp("draft") / "model.gguf", model)


class Oracle:
    """Drafts what a plain run said, with a mistake here and there."""

    def __init__(self, text, seed):
        self._text, self._rng = text, np.random.default_rng(seed)

    def start(self, sequence):
        sequence.drafting = 0  # tokens so far

    def note(self, sequence, tokens):
        sequence.drafting += len(tokens)

    def propose(self, sequences, most):
        return [self._draft(sequence.drafting, n) for sequence, n in zip(sequences, most, strict=True)]

    def _draft(self, at, most):
        found = list(self._text[at : at + min(most, int(self._rng.integers(0, 12)))])
        for i in range(len(found)):
            if self._rng.random() < 0.1:
                found[i] = int(self._rng.integers(128))
        return found

    def drop(self, sequence):
        pass


def essence(completion):
    parts = (completion.text, completion.tokens, completion.finish_reason, completion.logprobs)
    return (*parts, completion.prompt_logprobs, [essence(choice) for choice in completion.choices])


PARAMS = {
    "greedy": SamplingParams(temperature=0, max_tokens=60),
    "sampled": SamplingParams(seed=1, temperature=1.2, max_tokens=60),
    "logprobs": SamplingParams(seed=2, max_tokens=40, logprobs=3, prompt_logprobs=1),
    "penalties": SamplingParams(
        seed=3, repetition_penalty=1.3, frequency_penalty=0.2, dry_multiplier=0.8, max_tokens=60
    ),
    "mirostat": SamplingParams(seed=4, mirostat=True, max_tokens=60),
    "xtc": SamplingParams(seed=5, xtc_probability=0.5, temperature=1.5, max_tokens=60),
    "stop string": SamplingParams(seed=6, stop=["e", "Q"], max_tokens=200, min_tokens=3),
    "stop token": SamplingParams(seed=6, stop_token_ids=[70, 71, 72], max_tokens=200, min_tokens=5),
    "several": SamplingParams(seed=7, n=2, best_of=3, max_tokens=30),
    "full context": SamplingParams(temperature=0, ignore_eos=True),
    "guide": SamplingParams(seed=8, guide=Guide.regex(r"(one|two|three|four)(, (one|two|three|four)){8}\.")),
    "guided JSON": SamplingParams(seed=9, guide=Guide.json({"enum": [[1, "two"], {"three": [4, 5]}]})),
    "processor": SamplingParams(seed=10, max_tokens=40, logits_processors=[lambda t, x: x - (np.arange(128) == t[-1])]),
}


@pytest.fixture(scope="module")
def plain(path):
    """What plain decoding gives for each of PARAMS."""
    with LLM(path, n_ctx=512, kv_type="f32", n_threads=1) as llm:
        return {name: llm.generate(REPEATED, params) for name, params in PARAMS.items()}


@pytest.mark.parametrize("kind", PARAMS)
def test_texts_are_those_of_plain_decoding(load, plain, kind, draft_path):
    for options in ({"speculative": "lookup"}, {"draft_model": draft_path, "speculative": "lookup"}):
        assert essence(load(**options).generate(REPEATED, PARAMS[kind])) == essence(plain[kind])


@pytest.mark.parametrize("kind", sorted(set(PARAMS) - {"several"}))
def test_any_drafts_lead_to_the_same_text(load, plain, kind):
    llm, expected = load(), plain[kind]
    for seed in range(3):
        llm.scheduler.drafter = Oracle(expected.tokens, seed)
        done = llm.generate(REPEATED, PARAMS[kind])
        assert essence(done) == essence(expected)
        if len(done.tokens) > 20:
            assert 0 < done.accepted_tokens < done.drafted_tokens


def test_drawn_tokens_have_the_distribution_of_plain_decoding(load):
    llm = load(speculative="lookup", n_seqs=1)
    params = [SamplingParams(seed=i, max_tokens=3, temperature=2, top_k=3, ignore_eos=True) for i in range(300)]
    counts = {}
    for done in llm.generate([REPEATED] * len(params), params):
        counts[done.tokens] = counts.get(done.tokens, 0) + 1
    surprise = 0.0
    for tokens, n in counts.items():
        p = 1.0
        for i, row in enumerate(llm.logits([*REPEATED, *tokens[:-1]])[-3:]):
            likeliest = np.sort(row)[-3:].astype(float)
            p *= np.exp(float(row[tokens[i]]) / 2) / np.exp(likeliest / 2).sum()
        surprise += (n - len(params) * p) ** 2 / (len(params) * p)
    assert surprise < 27 + 4 * np.sqrt(2 * 27)  # chi squared of 27 outcomes


def drafts_nothing(llm):
    """Whether the draft model holds no text."""
    assert is_idle(llm)  # after which the draft model has heard of every end
    memory = llm._draft.engine.memory
    return memory.n_available == memory.n_pages


def test_a_draft_model_that_agrees_gives_several_tokens_a_pass(load, path):
    llm = load(draft_model=path)
    done = llm.generate("Hello", SamplingParams(temperature=0, max_tokens=100, ignore_eos=True))
    assert done.accepted_tokens == done.drafted_tokens > 0
    drawn = llm.generate("Hello", SamplingParams(seed=1, temperature=1.5, max_tokens=100, ignore_eos=True))
    assert drawn.accepted_tokens == drawn.drafted_tokens > 0  # the same random numbers, the same draws
    assert drafts_nothing(llm)


def test_requests_together_in_little_memory_give_what_each_gives_alone(load, draft_path):
    prompts = [RNG.integers(33, 127, n).tolist() + REPEATED for n in (3, 70, 150, 1, 20)]
    params = [SamplingParams(seed=i, max_tokens=60 + 9 * i) for i in range(len(prompts))]
    expected = load().generate(prompts, params)
    cache = load().engine.memory
    for options in ({"speculative": "lookup"}, {"draft_model": draft_path}):
        llm = load(n_seqs=4, n_batch=16, kv_cache_memory=9 * cache.page_bytes, **options)
        assert [essence(done) for done in llm.generate(prompts, params)] == [essence(done) for done in expected]
        assert llm.engine.memory.n_available == llm.engine.memory.n_pages


@pytest.mark.parametrize("drafts", [False, True])
def test_a_shifted_context_is_that_of_plain_decoding(load, draft_path, drafts):
    options = {"n_ctx": 128, "on_overflow": "shift", "n_keep": 5}
    params = SamplingParams(seed=1, max_tokens=400, ignore_eos=True)
    expected = load(**options).generate(REPEATED, params)
    llm = load(**options, **({"draft_model": draft_path} if drafts else {"speculative": "lookup"}))
    assert essence(llm.generate(REPEATED, params)) == essence(expected)
    llm.scheduler.drafter = Oracle(expected.tokens, 0)
    assert essence(llm.generate(REPEATED, params)) == essence(expected)


def test_only_tokens_of_the_text_are_found_in_the_cache(load, plain, monkeypatch):
    llm, expected = load(), plain["sampled"]
    llm.scheduler.drafter = Oracle(expected.tokens, 1)
    published, publish = [], llm.engine.memory.publish
    monkeypatch.setattr(
        llm.engine.memory,
        "publish",
        lambda slot, key, n: (published.append(list(key.items[:n])), publish(slot, key, n))[1],
    )
    llm.generate(REPEATED, PARAMS["sampled"])
    whole = [*REPEATED, *expected.tokens]
    assert published and all(tokens == whole[: len(tokens)] for tokens in published)


def test_a_stream_that_is_left_gives_back_its_place_in_the_draft_model(load, draft_path):
    llm = load(draft_model=draft_path)
    stream = llm.stream("abc", SamplingParams(ignore_eos=True, temperature=0))
    for _ in range(10):
        next(stream)
    stream.close()
    assert drafts_nothing(llm)
    fails = [lambda tokens, logits: 1 / 0 if len(tokens) > 9 else logits]
    with pytest.raises(PyinferError, match="division"):
        llm.generate("abc", SamplingParams(logits_processors=fails, ignore_eos=True))
    assert drafts_nothing(llm)


def test_vocabularies_that_differ_are_refused(path, tmp_path):
    model = TinyModel("llama", n_layers=1, n_vocab=128)
    other = write_text_model(tmp_path / "other.gguf", model, texts={70: "P", 80: "F"})
    unknown = write_tiny_model(tmp_path / "unknown.gguf", model)
    for draft, what in (
        (other, r"other.gguf: the draft model's token 70 is b'P'; expected b'F', as the model has it"),
        (unknown, r"unknown.gguf: the draft model has 0 known tokens; the model has 128"),
    ):
        with pytest.raises(ModelError, match=what):
            LLM(path, draft_model=draft)
        with LLM(draft) as opened, pytest.raises(ModelError, match=what):
            LLM(path, draft_model=opened)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"speculative": "magic"}, "speculative is 'magic'; expected 'lookup'"),
        ({"n_draft": 0}, "n_draft is 0; expected a whole number"),
        ({"draft_model": 5}, "the model is a int; expected a GGUF file"),
    ],
)
def test_values_of_no_use_are_refused(path, option, message):
    with pytest.raises(ParameterError, match=message):
        LLM(path, **option)


def test_an_open_model_drafts_and_goes_on_with_its_own_texts(load, plain, draft_path):
    params = PARAMS["greedy"]
    with LLM(draft_path, n_ctx=512, kv_type="f32", n_threads=1) as small:
        own = essence(small.generate(REPEATED, params))
        large, second = load(draft_model=small), load(draft_model=small, speculative="lookup")
        with small.stream(REPEATED, params) as beside:
            next(beside)
            for llm in (large, second):
                assert essence(llm.generate(REPEATED, params)) == essence(plain["greedy"])
            assert essence([*beside] and beside.completion) == own
        large.close()
        assert essence(small.generate(REPEATED, params)) == own
        assert essence(second.generate(REPEATED, params)) == essence(plain["greedy"])
        assert small.engine._weights is second._draft.engine._weights


def test_weights_of_a_draft_model_stay_until_all_who_share_them_are_closed(load, path):
    small = LLM(path, n_ctx=512, n_threads=1)
    weights = weakref.ref(small.engine._weights)
    llm = load(draft_model=small)
    small.close()
    done = llm.generate("Hello", SamplingParams(temperature=0, max_tokens=100, ignore_eos=True))
    assert done.accepted_tokens == done.drafted_tokens > 0
    assert weights() is not None
    llm.close()
    gc.collect()
    assert weights() is None
    with pytest.raises(PyinferError, match="model is closed"):
        load(draft_model=small)


def longest_match(tokens):
    """(place, length) by comparing with every place."""
    n, best = len(tokens), (0, 0)
    for at in range(n - 1, MIN_MATCH - 1, -1):
        length = 0
        while length < min(at, MAX_MATCH) and tokens[at - 1 - length] == tokens[n - 1 - length]:
            length += 1
        if length >= MIN_MATCH and length > best[1]:
            best = (at, length)
    return best


@given(st.lists(st.integers(0, 1), max_size=24))
def test_lookup_finds_the_longest_match(tokens):
    lookup = Lookup(tokens)
    place, length = lookup.find()
    assert (place, length) == longest_match(tokens)
    if length:
        found = lookup.after(place, 40)
        assert len(found) == 40
        assert found == ([*tokens, *found])[place : place + 40]


def worth(rate, most=31, n_own=1, price=0.0, n_tokens=1, n_texts=1):
    costs = PassCosts()
    costs.note(n_tokens, n_texts, 0.01)
    return n_worth(costs, rate, most, n_own, price)


def test_good_guesses_fill_a_pass_and_bad_ones_are_left_out():
    assert worth(1.0) == 31 and worth(0.999, most=5) == 5
    assert worth(0.02) == 0 and worth(0.5, price=0.6) == 0
    assert 0 < worth(0.6) < worth(0.9) < 31
    assert worth(0.5, n_tokens=32, n_texts=32) < worth(0.5)


def test_costs_of_passes_are_learned_beside_the_speed_of_the_machine():
    costs, rng = PassCosts(), np.random.default_rng(0)
    true = dict(zip(SIZES, (1, 1.5, 2, 3, 5, 9, 17), strict=True))
    for i in range(600):
        n = int(rng.choice([1, 4, 8, 16]))
        costs.note(n, 1, true[n] * (0.01 if i < 300 else 0.02) * rng.uniform(0.9, 1.1))
    assert costs.seconds == pytest.approx(0.02, rel=0.25)
    assert [costs.of(n) for n in (1, 4, 8, 16)] == pytest.approx([1, 2, 3, 5], rel=0.25)
    assert costs.of(2) == FIRST_COSTS[1] and costs.of(128) == 2 * costs.of(64)


class Text:
    """A sequence as drafters see it."""

    def __init__(self, tokens=()):
        self.items, self.task, self.n_rows, self.drafting = list(tokens), self, 1, None
        self.drawing = True


class BadModel:
    """Drafts that are never right, and take as long as half a pass."""

    seconds = 0.005

    def __init__(self):
        self.n_drafts = 0

    def start(self, prompt, drawing):
        return self

    def add(self, token):
        pass

    def propose(self, texts, most):
        self.n_drafts += 1
        return [[5] * n for n in most]


def test_a_draft_model_that_is_no_use_is_hardly_asked():
    costs, model, text = PassCosts(), BadModel(), Text()
    speculation = Speculation(costs, 31, model=model)
    speculation.start(text)
    for _ in range(2000):
        costs.note(1, 1, 0.01)
        speculation.propose([text], [31])
        speculation.note(text, [6])
    assert 2000 / LAST_PROBE < model.n_drafts < 25


def test_lookup_takes_microseconds():
    tokens = RNG.integers(0, 50, 4000).tolist()
    costs, text = PassCosts(), Text(tokens)
    costs.note(1, 1, 0.01)
    speculation = Speculation(costs, 31, lookup=True)
    speculation.start(text)
    started = time.perf_counter()
    for token in tokens:
        speculation.note(text, [token])
        speculation.propose([text], [31])
    assert (time.perf_counter() - started) / len(tokens) < 200e-6


def test_a_draft_model_computes_one_batch_a_step_for_all_texts(load, draft_path, monkeypatch):
    llm = load(draft_model=draft_path, n_seqs=4)
    passes, run = [], llm._draft.engine.run
    monkeypatch.setattr(llm._draft.engine, "run", lambda p: (passes.append(sorted(set(p.slots.tolist()))), run(p))[1])
    monkeypatch.setattr("pyinfer.speculation.policy.n_worth", lambda costs, rate, most, *rest: min(most, 3))
    params = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)
    done = llm.generate([RNG.integers(33, 127, n).tolist() for n in (20, 9, 30, 14)], params)
    monkeypatch.undo()
    n_steps = max(text.drafted_tokens for text in done) / 3  # at least
    assert passes[0] == [0, 1, 2, 3] or len(passes[0]) == 4
    assert len(passes) < 3 * (20 + 1)  # a pass a token of a draft, not one for each text
    assert sum(len(slots) for slots in passes) > 2.5 * len(passes) and n_steps > 4
