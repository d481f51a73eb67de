"""Requests that run together: each gets what it gets alone; all get their turn; what ends gives everything back."""

import os
import signal
import threading
import time
from itertools import zip_longest

import numpy as np
import pytest
from idle import is_idle

from pyinfer import ContextError, ParameterError, PyinferError, SamplingParams
from pyinfer.scheduling.task import Next, Task

GREEDY = SamplingParams(temperature=0, max_tokens=12)
LONG = SamplingParams(temperature=0, max_tokens=4000, ignore_eos=True)
RNG = np.random.default_rng(7)


def random_prompt(n):
    return RNG.integers(33, 127, n).tolist()


def passes_of(llm, monkeypatch):
    """A list that each later pass adds its (tokens, rows of logits) to."""
    passes, run = [], llm.engine.run

    def counted(forward):
        passes.append((len(forward.tokens), len(forward.logits)))
        return run(forward)

    monkeypatch.setattr(llm.engine, "run", counted)
    return passes


@pytest.mark.parametrize("options", [{}, {"n_seqs": 3, "n_batch": 16}, {"prefix_cache": False}, {"kv_type": "q8_0"}])
def test_prompts_together_give_what_each_gives_alone(load, options):
    llm = load(**options)
    prompts = [random_prompt(n) for n in (3, 40, 150, 1, 90, 64, 128, 20)]
    prompts += [prompts[2][:100] + prompts[1], prompts[2]]
    params = [SamplingParams(seed=i, temperature=1.5, max_tokens=5 + 3 * i, logprobs=2) for i in range(len(prompts))]
    together = llm.generate(prompts, params)
    fresh = load(n_seqs=1, prefix_cache=False, kv_type=options.get("kv_type", "f32"))
    for prompt, own, found in zip(prompts, params, together, strict=True):
        alone = fresh.generate(prompt, own)
        assert (found.tokens, found.text, found.logprobs) == (alone.tokens, alone.text, alone.logprobs)
    assert is_idle(llm)


def test_texts_go_on_beside_a_long_prompt_and_passes_are_bounded(load, monkeypatch):
    llm = load(n_batch=16)
    passes = passes_of(llm, monkeypatch)
    params = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)
    llm.generate(["abc", random_prompt(150)], [params, SamplingParams(temperature=0, max_tokens=1)])
    # the short prompt (2 tokens) and 14 of the long one, then 15 at a time beside the text
    assert passes == [*[(16, 1)] * 10, (2, 2), *[(1, 1)] * 9]


def test_requests_beyond_the_slots_are_served_in_the_order_of_arrival(load):
    llm, begun = load(n_seqs=2), []

    def noting(i):
        return lambda tokens, logits: begun.append(i) or logits

    params = [SamplingParams(max_tokens=3, ignore_eos=True, logits_processors=[noting(i)]) for i in range(5)]
    llm.generate(["x" * (i + 1) for i in range(5)], params)
    assert list(dict.fromkeys(begun)) == [0, 1, 2, 3, 4]
    assert begun.index(2) > 2 and begun.index(4) > begun.index(1) + 2  # no more than two at once


def test_a_common_beginning_is_passed_once_within_a_batch(load, monkeypatch):
    llm = load()
    passes = passes_of(llm, monkeypatch)
    system = random_prompt(200)
    done = llm.generate([[*system, *random_prompt(10)] for _ in range(4)], SamplingParams(temperature=0, max_tokens=1))
    assert [d.cached_tokens for d in done] == [0, 200, 200, 200]
    assert sum(n for n, _ in passes) == 210 + 3 * 10


def test_the_next_turn_of_a_chat_passes_only_what_is_new(load):
    llm, fresh = load(), load(prefix_cache=False)
    history = random_prompt(70)
    params = SamplingParams(temperature=0, max_tokens=30, ignore_eos=True, logprobs=3)
    for turn in range(4):
        done, expected = llm.generate(history, params), fresh.generate(history, params)
        assert (done.tokens, done.logprobs) == (expected.tokens, expected.logprobs)
        # all of the turn before, but the last token of its text, which was never passed
        assert done.cached_tokens == (len(history) - 10 if turn else 0)
        history = [*history, *done.tokens, *random_prompt(9)]


def test_logits_are_the_same_bits_with_and_without_a_cached_beginning(load):
    llm, fresh = load(), load(prefix_cache=False)
    prompt = random_prompt(300)
    scored = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=1)
    expected = fresh.logits(prompt)
    for n in (64, 65, 130, 300):
        llm.generate(prompt[:n], GREEDY)
        np.testing.assert_array_equal(llm.logits(prompt), expected)
    assert llm.generate(prompt, scored).prompt_logprobs == fresh.generate(prompt, scored).prompt_logprobs


def test_n_samples_share_the_prompt_and_differ(load, monkeypatch):
    llm = load()
    passes = passes_of(llm, monkeypatch)
    prompt = random_prompt(100)
    done = llm.generate(prompt, SamplingParams(n=4, seed=5, temperature=2.0, top_k=0, max_tokens=8, ignore_eos=True))
    assert len(done.choices) == 4 and done.choices[0].text == done.text
    assert len({choice.tokens for choice in done.choices}) == 4
    assert sum(n for n, _ in passes) == 100 + 3 + 4 * 7  # the others pass the prompt's last token again, for its logits
    one = llm.generate(prompt, SamplingParams(seed=5, temperature=2.0, top_k=0, max_tokens=8, ignore_eos=True))
    assert one.tokens == done.choices[0].tokens


def test_best_of_keeps_the_texts_of_the_highest_mean_logprob(load):
    llm = load()
    params = {"seed": 1, "temperature": 2.0, "top_k": 0, "max_tokens": 6, "logprobs": 0}
    every = llm.generate("abc", SamplingParams(n=5, **params)).choices
    best = llm.generate("abc", SamplingParams(n=2, best_of=5, **params))
    means = sorted((np.mean([c.logprob for c in choice.logprobs]) for choice in every), reverse=True)
    assert [np.mean([c.logprob for c in choice.logprobs]) for choice in best.choices] == means[:2]
    quiet = llm.generate("abc", SamplingParams(n=1, best_of=5, **{**params, "logprobs": None}))
    assert quiet.tokens == best.tokens and quiet.logprobs is None and quiet.choices == ()


def test_requests_that_need_more_pages_than_there_are_take_turns(load, monkeypatch):
    size = load().engine.memory.page_bytes
    llm, fresh = load(kv_cache_memory=5 * size, n_ctx=4096), load(n_seqs=1, n_ctx=4096)
    assert llm.n_ctx == 5 * 64
    preempted = []
    preempt = llm.scheduler._preempt
    monkeypatch.setattr(llm.scheduler, "_preempt", lambda r: (preempted.append(r.order), preempt(r)))
    prompts = [random_prompt(n) for n in (60, 100, 30, 120)]
    params = SamplingParams(seed=3, temperature=1.0, max_tokens=150, ignore_eos=True)
    together = llm.generate(prompts, params)
    assert [d.tokens for d in together] == [fresh.generate(p, params).tokens for p in prompts]
    assert preempted and 0 not in preempted  # the oldest never
    assert is_idle(llm)


def test_a_prompt_that_can_never_fit_is_refused_with_both_numbers(load):
    size = load().engine.memory.page_bytes
    llm = load(kv_cache_memory=2 * size)
    with pytest.raises(ContextError, match="128 tokens; the context of 128"):
        llm.generate(random_prompt(128))
    done = llm.generate(random_prompt(120), SamplingParams(temperature=0, ignore_eos=True))
    assert (done.finish_reason, done.completion_tokens) == ("length", 8)


def test_a_stream_that_nobody_reads_holds_up_nobody(load):
    llm, fresh = load(n_seqs=1), load()
    stream = llm.stream("Hello", SamplingParams(seed=4, max_tokens=300, ignore_eos=True))
    first = next(stream)
    expected = {text: fresh.generate(text, GREEDY).tokens for text in ("one", "two")}
    for text, tokens in expected.items():
        assert llm.generate(text, GREEDY).tokens == tokens
    whole = first.text + "".join(piece.text for piece in stream)
    assert whole == stream.completion.text
    assert whole == fresh.generate("Hello", SamplingParams(seed=4, max_tokens=300, ignore_eos=True)).text


def test_streams_of_one_thread_take_turns(load):
    llm = load()
    texts = ["Hello", "world", "again"]
    params = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)
    streams = [llm.stream(text, params) for text in texts]
    found = ["", "", ""]
    for pieces in zip_longest(*streams):
        found = [text + (piece.text if piece else "") for text, piece in zip(found, pieces, strict=True)]
    assert found == [llm.generate(text, params).text for text in texts]


@pytest.mark.parametrize("state", ["waiting", "prefilling", "running", "finished"])
def test_a_request_ends_in_any_state_and_gives_everything_back(load, state, monkeypatch):
    llm = load(n_seqs=1, n_batch=16)
    other = llm.stream("other", LONG)
    other_first = next(other) if state == "waiting" else other.close()
    passing, go_on = threading.Event(), threading.Event()
    if state == "prefilling":
        run = llm.engine.run

        def slow(forward):
            rows = run(forward)
            if forward.positions[0] == 32:  # in the middle of the prompt
                passing.set()
                go_on.wait(20)
            return rows

        monkeypatch.setattr(llm.engine, "run", slow)
    stream = llm.stream(random_prompt(200), LONG)
    if state == "prefilling":
        assert passing.wait(20)
    if state == "running":
        next(stream)
    if state == "finished":
        stream.close()
        stream = llm.stream("x", GREEDY)
        list(stream)
    stream.close()
    go_on.set()
    assert list(stream) == []
    if state == "waiting":
        assert other_first.text and next(other).text
        other.close()
    assert is_idle(llm)
    assert llm.generate("x", GREEDY).tokens


def test_a_stream_that_is_dropped_ends_with_the_next_step(load):
    llm = load()
    stream = llm.stream("x", LONG)
    next(stream)
    del stream
    assert llm.generate("y", GREEDY).tokens
    assert is_idle(llm)


def test_threads_get_what_they_get_alone(load):
    llm, fresh = load(n_seqs=3, n_threads=2), load(n_seqs=1)
    prompts = [random_prompt(n) for n in (5, 100, 30, 64, 200, 7)]
    params = SamplingParams(seed=1, max_tokens=40, temperature=1.2)
    expected = [fresh.generate(prompt, params).tokens for prompt in prompts]
    found = {}

    def work(i):
        if i % 2:
            found[i] = llm.generate(prompts[i], params).tokens
        else:
            stream = llm.stream(prompts[i], params)
            list(stream)
            found[i] = stream.completion.tokens

    run_in_threads([lambda i=i: work(i) for i in range(len(prompts))])
    assert [found[i] for i in range(len(prompts))] == expected
    assert is_idle(llm)


def run_in_threads(tasks):
    threads = [threading.Thread(target=task) for task in tasks]
    for t in threads:
        t.start()
    for t in threads:
        t.join(timeout=60)
        assert not t.is_alive()


def failing(tokens, logits):
    if len(tokens) > 6:
        raise RuntimeError("no more")
    return logits


@pytest.mark.parametrize(
    "processor, message", [(failing, "RuntimeError: no more"), (lambda tokens, logits: logits[:3], "returned")]
)
def test_a_processor_that_fails_ends_its_own_request_only(load, processor, message):
    llm = load()
    stream = llm.stream("other", SamplingParams(temperature=0, max_tokens=30, ignore_eos=True))
    next(stream)
    with pytest.raises(ParameterError, match=message):
        llm.generate("abc", SamplingParams(logits_processors=[processor], max_tokens=20, ignore_eos=True))
    list(stream)
    assert stream.completion.completion_tokens == 30
    assert is_idle(llm)


def test_the_error_of_one_of_many_prompts_reaches_their_caller(load):
    llm = load()
    bad = SamplingParams(logits_processors=[failing], max_tokens=50, ignore_eos=True)
    with pytest.raises(ParameterError, match="no more"):
        llm.generate(["a", "b", "c"], [LONG, bad, LONG])
    assert is_idle(llm)


def test_a_processor_can_not_call_the_model_that_calls_it(load):
    llm = load()
    with pytest.raises(ParameterError, match="within one of its steps"):
        llm.generate("abc", SamplingParams(logits_processors=[lambda t, x: llm.generate("x", GREEDY)]))
    assert llm.generate("abc", GREEDY).tokens and is_idle(llm)


@pytest.mark.parametrize(
    "prompts, params, error, message",
    [
        (["a", ""], None, ParameterError, "empty"),
        (["a", [65, 900]], None, ParameterError, "token 1 is 900"),
        (["a", 65], None, ParameterError, "prompt 1 is 65; expected text or token ids"),
        ([[65] * 600, "a"], None, ContextError, "600 tokens; the context of 512"),
        (["a", "b"], [GREEDY], ParameterError, "1 params for 2 prompts"),
        (["a", "b"], [GREEDY, None], ParameterError, "params is a NoneType"),
        ("a", [GREEDY], ParameterError, "params is a list"),
    ],
)
def test_bad_requests_are_refused_before_anything_runs(load, monkeypatch, prompts, params, error, message):
    llm = load()
    passes = passes_of(llm, monkeypatch)
    with pytest.raises(error, match=message):
        llm.generate(prompts, params)
    assert passes == [] and is_idle(llm)


def test_a_prompt_of_control_tokens_only_is_a_prompt(load):
    assert load().generate([2, 1, 2], GREEDY).completion_tokens > 0


def test_closing_ends_what_runs_in_other_threads(load):
    llm = load(n_ctx=8192)
    errors = []

    def work():
        try:
            llm.generate(["a", "b"], LONG)
        except PyinferError as error:
            errors.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    while llm.scheduler.n_running < 2:
        time.sleep(0.001)
    llm.close()
    thread.join(timeout=20)
    assert errors == ["the model is closed"]


def test_progress_is_drawn_on_a_terminal(load, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    done = load().generate(["a", "b", "c"], GREEDY, progress=True)
    assert len(done) == 3
    assert "generating" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals of POSIX")
def test_ctrl_c_ends_the_callers_requests_and_no_others(load):
    llm = load(n_ctx=8192)
    params = SamplingParams(temperature=1.0, seed=2, max_tokens=400, ignore_eos=True)
    expected = llm.generate("abc", params).tokens
    found = []

    def other():
        found.append(llm.generate("abc", params).tokens)

    for delay in (0.01, 0.03, 0.1):
        threads = [threading.Thread(target=other) for _ in range(2)]
        for t in threads:
            t.start()
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
        signal.setitimer(signal.ITIMER_REAL, delay)
        started = time.perf_counter()
        with pytest.raises(KeyboardInterrupt):
            llm.generate(["x", "y"], LONG)
        assert time.perf_counter() - started < delay + 2  # a second, and what a busy machine adds
        for t in threads:
            t.join(timeout=60)
            assert not t.is_alive()
    assert found == [expected] * 6
    assert is_idle(llm)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals of POSIX")
def test_ctrl_c_in_a_stream_ends_it(load):
    llm = load(n_ctx=8192)
    for delay in (0.003, 0.02, 0.05):
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
        signal.setitimer(signal.ITIMER_REAL, delay)
        with pytest.raises(KeyboardInterrupt), llm.stream("x", LONG) as stream:
            for _ in stream:
                pass
            time.sleep(1)
        assert is_idle(llm)
    assert llm.generate("abc", GREEDY).tokens


class Greedy(Task):
    """Another kind of task: the n likeliest tokens."""

    max_draft = 4

    def __init__(self, prompt, n):
        super().__init__(prompt, len(prompt) - 1)
        self.tokens, self.n = [], n

    def process(self, rows, draft):
        new = []
        for row, guessed in zip_longest(rows, draft):
            new.append(int(row.argmax()))
            if guessed != new[-1]:
                break
        new = new[: self.n - len(self.tokens)]
        self.tokens += new
        return Next(new, len(self.tokens) == self.n)


class Guesser:
    """A drafter that guesses by a function of all tokens so far."""

    def __init__(self, guess):
        self.guess, self.n_notes, self.dropped = guess, 0, 0

    def start(self, sequence):
        sequence.drafting = list(sequence.items)

    def note(self, sequence, tokens):
        sequence.drafting += tokens
        self.n_notes += 1

    def propose(self, sequences, most):
        return [self.guess(sequence.drafting)[:n] for sequence, n in zip(sequences, most, strict=True)]

    def drop(self, sequence):
        self.dropped += 1


def test_kinds_of_tasks_and_drafters_are_classes_that_the_scheduler_does_not_know(load):
    llm = load()
    prompt = random_prompt(60)
    expected = Greedy(prompt, 40)
    llm.run([expected])
    whole = [*prompt, *expected.tokens]
    for guess, n_steps in (
        (lambda known: whole[len(known) : len(known) + 4], 8),
        (lambda known: [*whole[len(known) : len(known) + 2], 5, 5], (13, 14)),
        (lambda known: [5], (20, 40)),
        (lambda known: [], 40),
    ):
        drafter = llm.scheduler.drafter = Guesser(guess)
        tasks = [Greedy(prompt, 40), Greedy(prompt, 40)]
        llm.run(tasks)
        assert [task.tokens for task in tasks] == [expected.tokens] * 2
        fewest, most = n_steps if isinstance(n_steps, tuple) else (n_steps, n_steps)
        assert 2 * fewest <= drafter.n_notes <= 2 * most + 2 and drafter.dropped == 2
    assert is_idle(llm)


def test_embeddings_are_computed_between_the_steps_of_texts(load):
    llm, fresh = load(n_seqs=2), load()
    params = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True)
    streams = [llm.stream(text, params) for text in ("Hello", "world", "again")]
    next(streams[0])
    vectors = llm.embed(["one text", "another"])
    np.testing.assert_array_equal(vectors, fresh.embed(["one text", "another"]))
    for stream, text in zip(streams, ("Hello", "world", "again"), strict=True):
        list(stream)
        assert stream.completion.tokens == fresh.generate(text, params).tokens
    assert is_idle(llm)


def test_embeddings_wait_for_the_step_of_another_thread_only(load):
    llm = load(n_ctx=8192)
    thread = threading.Thread(target=lambda: llm.generate("abc", SamplingParams(max_tokens=700, ignore_eos=True)))
    thread.start()
    while llm.scheduler.n_running == 0:
        time.sleep(0.001)
    found = [llm.embed("text") for _ in range(3)]
    assert thread.is_alive()
    thread.join()
    np.testing.assert_array_equal(found[0], found[2])
