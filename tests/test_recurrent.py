"""Every kind of sequence memory through every path of the scheduler: the same bits as a sequence computed alone.

Models: all layers see everything (llama); windows that pages leave (gemma3); a recurrent state beside both, and nothing
but recurrent states (recurrent_model.py).
"""

import threading
import time
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from idle import is_idle
from recurrent_model import ATTENTION, RECURRENT, WINDOW, hybrid, plain_logits, registered
from tiny_models import TinyModel, write_text_model

from pyinfer import LLM, SamplingParams
from pyinfer.errors import PassStopped

SIZES = {"n_vocab": 128, "n_ctx": 2048, "n_embd": 128, "n_ff": 256, "n_heads": 2, "n_kv_heads": 1}
MODELS = {
    "llama": TinyModel("llama", **SIZES),
    "gemma3-8": TinyModel("gemma3", sliding_window=8, **SIZES),
    "gemma3-100": TinyModel("gemma3", sliding_window=100, n_layers=3, sliding_pattern=3, **SIZES),
    "hybrid": hybrid([ATTENTION, RECURRENT, WINDOW], **SIZES),
    "recurrent": hybrid([RECURRENT, RECURRENT], **SIZES),
}
STATEFUL = ("hybrid", "recurrent")
PAGE = 64


@pytest.fixture
def prompt_of():
    """A function that gives other random tokens with each call, the same in each run."""
    rng = np.random.default_rng(0)
    return lambda n: rng.integers(33, 127, n).tolist()


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("memories")
    with registered():
        yield {name: write_text_model(folder / f"{name}.gguf", model) for name, model in MODELS.items()}


@pytest.fixture(params=MODELS)
def name(request):
    return request.param


@pytest.fixture
def path(paths, name):
    return paths[name]


@pytest.fixture
def load(load):
    return lambda **options: load(**{"n_ctx": 1024, **options})


@pytest.fixture
def alone(load):
    """A function that gives what a prompt gives alone, in a memory of its own."""

    def alone(prompt, params, **options):
        llm = load(n_seqs=1, prefix_cache=False, **options)
        return texts(llm, [prompt], [params])[0]

    return alone


def texts(llm, prompts, params, beside=False):
    """(tokens, logits) of each of several requests that run together, and beside none or some others."""
    rows = [[] for _ in prompts]
    noting = [noted(p, own) for p, own in zip(params, rows, strict=True)]
    done = llm.generate(prompts, noting)
    assert beside or is_idle(llm)
    return [(d.tokens, [row.tobytes() for row in own]) for d, own in zip(done, rows, strict=True)]


def noted(params, rows):
    """The same parameters, where the logits of each token are noted."""
    return replace(params, logits_processors=[lambda tokens, logits: rows.append(logits.copy()) or logits])


def drawn(seed, n):
    return SamplingParams(seed=seed, temperature=1.0, max_tokens=n, ignore_eos=True)


def counted(llm, monkeypatch):
    """A list that each later pass adds its number of tokens to."""
    passes, run = [], llm.engine.run
    monkeypatch.setattr(llm.engine, "run", lambda forward: passes.append(len(forward.tokens)) or run(forward))
    return passes


def test_logits_are_those_of_a_plain_pass(paths, prompt_of):
    tokens = prompt_of(300)
    for name in STATEFUL:
        with LLM(paths[name], n_ctx=512, kv_type="f32", n_threads=1) as llm:
            np.testing.assert_allclose(llm.logits(tokens), plain_logits(paths[name], tokens), atol=1e-4)


@pytest.mark.parametrize("n_batch", [7, 64, 100])
def test_chunks_of_a_prompt(load, n_batch, prompt_of):
    prompt = prompt_of(650)
    expected = load(n_seqs=1, prefix_cache=False).logits(prompt)
    llm = load(n_seqs=2, n_batch=n_batch)
    np.testing.assert_array_equal(llm.logits(prompt), expected)
    np.testing.assert_array_equal(llm.logits(prompt), expected)  # with what is cached


def test_texts_together(load, alone, prompt_of):
    prompts = [prompt_of(n) for n in (3, 40, 150, 64, 590)]
    params = [drawn(i, 20 + 20 * i) for i in range(len(prompts))]
    expected = [alone(*request) for request in zip(prompts, params, strict=True)]
    for options in ({}, {"n_seqs": 3, "n_batch": 24}):
        assert texts(load(**options), prompts, params) == expected


@pytest.mark.parametrize("n_shared", [128, 200, 600])
def test_a_shared_prefix(load, alone, monkeypatch, name, n_shared, prompt_of):
    llm = load(n_seqs=4)
    prefix, tails = prompt_of(n_shared), [[40 + i, *prompt_of(9)] for i in range(4)]
    prompts = [prefix + tail for tail in tails]
    params = [drawn(i, 12) for i in range(4)]
    expected = [alone(*request) for request in zip(prompts, params, strict=True)]
    passes = counted(llm, monkeypatch)
    assert texts(llm, prompts[:3], params[:3]) == expected[:3]  # together
    assert texts(llm, prompts[3:], params[3:]) == expected[3:]  # later
    reached = n_shared // PAGE * PAGE if name in STATEFUL else n_shared  # states: the last checkpoint before
    assert sum(passes) == n_shared + 10 + 3 * (n_shared - reached + 10) + 4 * 11


def test_turns_of_a_chat(load, alone, monkeypatch, prompt_of):
    llm = load()
    passes = counted(llm, monkeypatch)
    history, n_before = prompt_of(370), 0
    for turn in range(5):
        params = drawn(turn, 45)
        expected = alone(history, params)
        passes.clear()
        assert texts(llm, [history], [params]) == [expected]
        assert sum(passes) == len(history) + 44 - n_before  # no token twice
        n_before = len(history) + 44
        history = [*history, *expected[0], *prompt_of(9)]


class Drafter:
    """Drafts what texts will be, with mistakes. texts: their tokens by prompt."""

    def __init__(self, prompts, expected, seed):
        self._texts = {tuple(prompt): tokens for prompt, (tokens, _) in zip(prompts, expected, strict=True)}
        self._rng = np.random.default_rng(seed)

    def start(self, sequence):
        sequence.drafting = [self._texts[tuple(sequence.items)], 0]  # and tokens so far

    def note(self, sequence, tokens):
        sequence.drafting[1] += len(tokens)

    def propose(self, sequences, most):
        return [self._draft(*sequence.drafting, n) for sequence, n in zip(sequences, most, strict=True)]

    def _draft(self, text, at, most):
        found = list(text[at : at + min(most, int(self._rng.integers(0, 20)))])
        return [token if self._rng.random() < 0.9 else int(self._rng.integers(128)) for token in found]

    def drop(self, sequence):
        pass


def test_draft_tokens(load, alone, monkeypatch, prompt_of):
    prompt, params = prompt_of(450), drawn(1, 200)
    expected = alone(prompt, params)
    for seed in range(2):
        llm = load()
        passes = counted(llm, monkeypatch)
        llm.scheduler.drafter = Drafter([prompt], [expected], seed)
        assert texts(llm, [prompt], [params]) == [expected]
        assert len(passes) < 120
        monkeypatch.undo()


def test_drafts_by_lookup(load, alone):
    prompts = [[*b"abcdefgh, " * 6], [*b"abcdefgh, " * 7]]
    params = [SamplingParams(temperature=0, max_tokens=150, ignore_eos=True), drawn(2, 100)]
    expected = [alone(*request) for request in zip(prompts, params, strict=True)]
    assert texts(load(speculative="lookup"), prompts, params) == expected


def small(llm, share):
    """Bytes of a memory of so small a share of a model's."""
    memory = llm.engine.memory
    n_bytes = sum(group.pool.n_pages * group.page_bytes for group in memory.groups)
    if memory.states:
        n_bytes += sum(rows.nbytes for rows in memory.states.rows)
    return int(n_bytes * share)


def preemptions(llm, monkeypatch):
    orders, preempt = [], llm.scheduler._preempt
    monkeypatch.setattr(llm.scheduler, "_preempt", lambda s: (orders.append(s.order), preempt(s)))
    return orders


@pytest.mark.parametrize("drafts", [False, True])
def test_preemption(load, alone, monkeypatch, name, drafts, prompt_of):
    options = {"n_seqs": 4, "n_ctx": 700, "n_batch": 64}
    share = 0.4 if name == "recurrent" else 0.2
    llm = load(kv_cache_memory=small(load(**options), share), **options)
    prompts = [prompt_of(n) for n in (60, 100, 30, 240)]
    params = [drawn(i, 150) for i in range(4)]
    expected = [alone(*request) for request in zip(prompts, params, strict=True)]
    orders = preemptions(llm, monkeypatch)
    if drafts:
        llm.scheduler.drafter = Drafter(prompts, expected, 0)
    assert texts(llm, prompts, params) == expected
    assert orders or name == "recurrent"  # whose slots are all it needs
    assert 0 not in orders


def test_a_paused_stream_gives_its_slot_away(load, alone, prompt_of):
    llm = load(n_seqs=1)
    prompt, params, rows = prompt_of(90), drawn(3, 260), []
    stream = llm.stream(prompt, noted(params, rows))
    next(stream)
    for seed in range(2):
        request = prompt_of(150), drawn(seed, 20)
        assert texts(llm, [request[0]], [request[1]], beside=True) == [alone(*request)]
        for _ in range(70):
            next(stream)
    for _ in stream:
        pass
    assert (stream.completion.tokens, [row.tobytes() for row in rows]) == alone(prompt, params)


SHIFT = {"n_ctx": 256, "on_overflow": "shift", "n_keep": 3}


def test_shift(load, alone, prompt_of):
    prompt, params = prompt_of(100), drawn(4, 500)
    expected = alone(prompt, params, **SHIFT)
    prompts, others = [prompt, prompt_of(200), prompt], [params, drawn(5, 100), params]
    found = texts(load(**SHIFT), prompts, others)
    assert found[0] == expected and found[2] == expected and found[1] == alone(prompts[1], others[1], **SHIFT)
    llm = load(**SHIFT)
    llm.scheduler.drafter = Drafter([prompt], [expected], 0)
    assert texts(llm, [prompt], [params]) == [expected]


def test_shift_and_preemption(load, alone, monkeypatch, prompt_of):
    options = {"n_seqs": 3, "n_batch": 64, **SHIFT}
    llm = load(kv_cache_memory=small(load(**options), 0.5), **options)
    prompts = [prompt_of(n) for n in (60, 150, 100)]
    params = [drawn(i, 400) for i in range(3)]
    expected = [alone(*request, n_batch=64, **SHIFT) for request in zip(prompts, params, strict=True)]
    assert texts(llm, prompts, params) == expected


def test_a_shifted_stream_that_gives_its_slot_away(load, alone, prompt_of):
    llm = load(n_seqs=1, **SHIFT)
    prompt, params, rows = prompt_of(100), drawn(6, 500), []
    stream = llm.stream(prompt, noted(params, rows))
    for _ in range(250):
        next(stream)
    llm.generate(prompt_of(20), drawn(0, 10))
    for _ in stream:
        pass
    assert (stream.completion.tokens, [row.tobytes() for row in rows]) == alone(prompt, params, **SHIFT)


@pytest.mark.parametrize("n", [20, 40, 128, 600])
def test_session_files(load, alone, monkeypatch, tmp_path, n, prompt_of):
    prompt, params = prompt_of(n), drawn(7, 30)
    first = load()
    done = first.generate(prompt, params)
    saved = first.save_state(tmp_path / "session", done)
    assert saved == n + 29
    more = [*prompt, *done.tokens, *prompt_of(20)]
    for llm in (load(), first):  # where it is new, and where it is there still
        assert llm.load_state(tmp_path / "session") == more[:saved]
        passes = counted(llm, monkeypatch)
        assert texts(llm, [more], [params]) == [alone(more, params)]
        assert sum(passes) == 1 + 20 + 29
        monkeypatch.undo()


def test_cancellation(load, alone, prompt_of):
    llm = load(n_seqs=2, n_batch=16)
    prompt = prompt_of(300)
    request = prompt_of(90), drawn(8, 60)
    expected, again = alone(*request), alone(prompt, drawn(0, 5))
    for delay in (0, 0.003, 0.006, 0.012):
        stream = llm.stream(prompt, drawn(9, 1000))
        threading.Timer(delay, stream.close).start()
        assert texts(llm, [request[0]], [request[1]], beside=True) == [expected]
        stream.close()
        assert texts(llm, [prompt], [drawn(0, 5)]) == [again]  # with what the cancelled one has left


def stopping(llm, monkeypatch, seed, share):
    """Let such a share of passes be stopped when all is computed, which is when most is to be undone."""
    run, rng, stops = llm.engine.run, np.random.default_rng(seed), []

    def stopped(forward):
        rows = run(forward)
        if rng.random() < share:
            stops.append(len(forward.tokens))
            raise PassStopped
        return rows

    monkeypatch.setattr(llm.engine, "run", stopped)
    return stops


@pytest.mark.parametrize("options", [{}, {"prefix_cache": False}])
def test_a_stopped_pass_is_run_again(load, alone, monkeypatch, options, prompt_of):
    prompts = [prompt_of(n) for n in (30, 90, 150)]
    params = [drawn(i, 60) for i in range(3)]
    expected = [alone(*request) for request in zip(prompts, params, strict=True)]
    llm = load(n_batch=32, **options)
    stops = stopping(llm, monkeypatch, 0, 0.05 if options else 0.2)
    assert texts(llm, prompts, params) == expected
    llm.scheduler.drafter = Drafter(prompts, expected, 0)
    assert texts(llm, prompts, params) == expected
    assert len(stops) > 5


def test_a_stopped_pass_after_a_shift(load, alone, monkeypatch, prompt_of):
    prompts, params = [prompt_of(100), prompt_of(200)], [drawn(1, 330), drawn(2, 100)]
    expected = [alone(*request, **SHIFT) for request in zip(prompts, params, strict=True)]
    llm = load(**SHIFT)
    stops = stopping(llm, monkeypatch, 0, 0.015)
    assert texts(llm, prompts, params) == expected
    llm.scheduler.drafter = Drafter(prompts, expected, 0)
    assert texts(llm, prompts, params) == expected
    assert stops


def test_a_stopped_pass_of_whole_texts(tmp_path, monkeypatch):
    path = write_text_model(tmp_path / "bert.gguf", TinyModel("bert", **{**SIZES, "n_ctx": 128}))
    texts = ["x" * n for n in (98, 30, 90, 70, 60)]  # of which a pass has room for the first two, just so
    with LLM(path, n_batch=128, n_threads=1) as llm:
        expected = llm.embed(texts)
        stops = stopping(llm, monkeypatch, 2, 0.4)
        np.testing.assert_array_equal(llm.embed(texts), expected)
        assert stops


def test_passes_that_are_stopped_in_the_middle(load, alone, prompt_of):
    request = prompt_of(400), drawn(1, 120)
    expected = alone(*request)
    llm, done = load(n_batch=64), threading.Event()

    def stop():
        while not done.wait(0.002):
            with suppress(Exception):
                llm.engine.stop()

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        end = time.monotonic() + 20
        assert texts(llm, [request[0]], [request[1]]) == [expected] and time.monotonic() < end
    finally:
        done.set()
        thread.join()


BASES = [np.random.default_rng(i).integers(33, 127, 400).tolist() for i in range(2)]
REQUESTS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(1, 200), st.lists(st.integers(33, 126), max_size=9), st.integers(1, 80)),
    min_size=1,
    max_size=4,
)


@settings(
    max_examples=5, phases=[Phase.generate], deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(
    waves=st.lists(REQUESTS, min_size=1, max_size=2),
    n_seqs=st.integers(1, 4),
    n_batch=st.sampled_from([5, 16, 64, 200]),
    share=st.floats(0.3, 1),
    drafts=st.booleans(),
    stopped=st.sampled_from([0, 0.03]),
    shift=st.booleans(),
)
def test_any_schedule(path, name, waves, n_seqs, n_batch, share, drafts, stopped, shift):
    context = {"n_ctx": 192, "on_overflow": "shift", "n_keep": 70} if shift else {"n_ctx": 320}
    options = {"kv_type": "f32", "n_threads": 1, **context}
    made = [[([*BASES[base][:n], *tail][:180], drawn(n, m)) for base, n, tail, m in wave] for wave in waves]
    with LLM(path, n_seqs=1, prefix_cache=False, **options) as llm:
        expected = [[texts(llm, [prompt], [params])[0] for prompt, params in wave] for wave in made]
    options |= {"n_seqs": n_seqs, "n_batch": n_batch}
    with LLM(path, **options) as llm:
        size = small(llm, 1 if name == "recurrent" else max(share, 1.3 / n_seqs))  # a whole context at least
    with pytest.MonkeyPatch.context() as patch, LLM(path, kv_cache_memory=size, **options) as llm:
        assert llm.n_ctx == context["n_ctx"]
        if drafts:
            prompts = [prompt for wave in made for prompt, _ in wave]
            llm.scheduler.drafter = Drafter(prompts, [text for wave in expected for text in wave], n_batch)
        stopping(llm, patch, n_batch, stopped)
        for wave, own in zip(made, expected, strict=True):
            assert texts(llm, *zip(*wave, strict=True)) == own
