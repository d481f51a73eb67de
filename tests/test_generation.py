"""Generation: stop strings, ends, counts, the prompt in chunks; on a small random model and on a real one."""

import re
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import oracle_logits
from tiny_models import TinyModel, write_text_model

import pyinfer
from pyinfer import LLM, ContextError, ParameterError, PyinferError, SamplingParams
from pyinfer.tasks.generation import MAX_AHEAD
from pyinfer.tasks.stop import StopText, overlap

GREEDY = SamplingParams(temperature=0, max_tokens=12)


@given(st.lists(st.text("abc", max_size=4), max_size=12), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_text_stops_before_the_first_stop_string_however_it_is_cut(pieces, stops):
    stop, passed = StopText(stops), ""
    for piece in pieces:
        passed += stop.push(piece)
        assert not any(s in passed for s in stops)
        if stop.stopped:
            break
    whole = "".join(pieces)
    found = [whole.find(s) for s in stops if s in whole]
    assert stop.stopped == bool(found)
    if stop.stopped:
        # the first to be complete, not the first to begin, ends the text
        assert any(whole.startswith(passed + s) for s in stops)
    else:
        assert passed + stop.finish() == whole


@pytest.mark.parametrize(
    "text, stop, n", [("ab", "bc", 1), ("ab", "abc", 2), ("abc", "abc", 0), ("x", "y", 0), ("aa", "aab", 2)]
)
def test_overlap_is_the_longest_beginning_of_a_stop_string_at_the_end(text, stop, n):
    assert overlap(text, stop) == n


@pytest.fixture(scope="module")
def llm(tmp_path_factory):
    """A random model whose tokens are characters."""
    path = write_text_model(tmp_path_factory.mktemp("llm") / "model.gguf", TinyModel("llama", n_vocab=128, n_ctx=96))
    with LLM(path, kv_type="f32", n_batch=16) as model:
        yield model


def test_greedy_text_is_what_the_oracle_would_say(llm):
    ids = llm.tokenizer.encode("Hello world")
    done = llm.generate("Hello world", GREEDY)
    assert done.prompt_tokens == len(ids) == 11
    for i, token in enumerate(done.tokens[:4]):
        logits = oracle_logits(llm.path, ids + list(done.tokens[:i]))[-1]
        assert logits.max() - logits[token] < 1e-4
    assert done.text == llm.tokenizer.decode(done.tokens, skip_special=True)


def test_a_stream_is_the_completion_in_pieces(llm):
    stream = llm.stream("abc", GREEDY)
    parts = list(stream)
    assert "".join(p.text for p in parts) == stream.completion.text == llm.generate("abc", GREEDY).text
    assert stream.completion.completion_tokens == len(stream.completion.tokens) <= 12
    assert stream.completion.prompt_seconds > 0 and stream.completion.generation_seconds > 0


@pytest.mark.parametrize("n", [3, 20])  # more than run at once
def test_a_stream_of_several_texts_gives_them_together(llm, n):
    params = SamplingParams(n=n, seed=5, max_tokens=12, logprobs=1, ignore_eos=True)
    expected = llm.generate("abc", params).choices
    stream = llm.stream("abc", params)
    pieces = [next(stream)]
    assert stream.completion is None
    pieces += stream
    for i, choice in enumerate(expected):
        assert "".join(piece.text for piece in pieces if piece.index == i) == choice.text
    assert [choice.tokens for choice in stream.completion.choices] == [choice.tokens for choice in expected]
    assert stream.completion.logprobs == expected[0].logprobs
    indices = [piece.index for piece in pieces]
    assert indices != sorted(indices) and set(indices) == set(range(n))


def test_a_stream_of_several_texts_pauses_and_ends_as_one(llm):
    several = SamplingParams(n=3, seed=5, max_tokens=400, ignore_eos=True)
    stream = llm.stream("abc", several)
    next(stream)
    llm.generate("Hello", SamplingParams(max_tokens=200, ignore_eos=True))
    assert MAX_AHEAD <= len(stream._streamed.pieces) < MAX_AHEAD + 3
    stream.close()
    assert list(stream) == [] and stream.completion is None and llm.scheduler.n_running == 0
    failing = replace(several, logits_processors=[lambda tokens, logits: 1 / 0 if len(tokens) > 9 else logits])
    with pytest.raises(PyinferError, match="division"):
        list(llm.stream("abc", failing))
    assert llm.scheduler.n_running == 0


def test_a_stream_cannot_choose_the_best_texts(llm):
    with pytest.raises(ParameterError, match="best_of is 3; a stream gives all texts that are made, and n is 2"):
        llm.stream("abc", SamplingParams(n=2, best_of=3))


def test_a_prompt_longer_than_a_batch_gives_the_same_text(llm):
    prompt = np.random.default_rng(0).integers(33, 127, 50).tolist()
    with LLM(llm.path, kv_type="f32", n_batch=64) as other:
        assert other.generate(prompt, GREEDY).tokens == llm.generate(prompt, GREEDY).tokens


def test_stop_strings_end_the_text(llm):
    whole = llm.generate("Hello", SamplingParams(temperature=0, max_tokens=40))
    stop = whole.text[5:7]
    done = llm.generate("Hello", SamplingParams(temperature=0, max_tokens=40, stop=stop))
    assert done.finish_reason == "stop" and done.text == whole.text[: whole.text.find(stop)]


def test_the_end_token_ends_the_text_and_is_not_in_it(llm):
    tokenizer = llm.tokenizer
    whole = llm.generate("Hello", GREEDY)
    before = tokenizer.eog_ids
    try:
        tokenizer.eog_ids = frozenset({whole.tokens[6]})
        done = llm.generate("Hello", GREEDY)
    finally:
        tokenizer.eog_ids = before
    first = whole.tokens.index(whole.tokens[6])
    assert done.finish_reason == "stop" and done.tokens == whole.tokens[:first]


def test_the_context_bounds_the_text(llm):
    done = llm.generate([65] * 90, SamplingParams(temperature=0))
    assert done.finish_reason in ("length", "stop") and done.completion_tokens <= 6
    assert llm.generate([65] * 95, SamplingParams(temperature=0)).completion_tokens <= 1
    with pytest.raises(ContextError, match="96 tokens; the context of 96"):
        llm.generate([65] * 96)
    with pytest.raises(ContextError, match="97 tokens do not fit into the context of 96"):
        llm.logits([65] * 97)


def test_a_seed_gives_the_same_text_again(llm):
    params = SamplingParams(seed=3, max_tokens=20, temperature=1.5)
    assert llm.generate("x", params).tokens == llm.generate("x", params).tokens
    others = {llm.generate("x", SamplingParams(seed=s, max_tokens=20, temperature=1.5)).tokens for s in range(5)}
    assert len(others) == 5


def test_logits_are_those_of_the_oracle_and_stay(llm):
    ids = np.random.default_rng(1).integers(0, 128, 70)
    logits = llm.logits(ids)
    kept = logits.copy()
    assert logits.shape == (70, 128) and logits.dtype == np.float32
    expected = oracle_logits(llm.path, ids.tolist())
    assert ((logits - expected) ** 2).mean() < 1e-8 * (expected**2).mean()
    llm.generate("other", GREEDY)
    np.testing.assert_array_equal(logits, kept)


def test_stop_tokens_end_the_text_once_it_has_min_tokens(llm):
    whole = llm.generate("Hello", SamplingParams(temperature=0, max_tokens=30, ignore_eos=True))
    stop = whole.tokens[4]
    first = whole.tokens.index(stop)
    done = llm.generate("Hello", SamplingParams(temperature=0, max_tokens=30, ignore_eos=True, stop_token_ids=[stop]))
    assert (done.finish_reason, done.tokens) == ("stop", whole.tokens[:first])
    later = SamplingParams(temperature=0, max_tokens=30, ignore_eos=True, stop_token_ids=[stop], min_tokens=10)
    done = llm.generate("Hello", later)
    assert done.completion_tokens >= 10 and stop not in done.tokens


@pytest.mark.parametrize(("stop", "min_tokens", "n"), [("a", 4, 4), ("a", 6, 6), ("aaa", 4, 6), ("aaa", 0, 3)])
def test_stop_strings_end_the_text_once_it_has_min_tokens(llm, stop, min_tokens, n):
    params = SamplingParams(max_tokens=12, logit_bias={97: 1000.0}, min_tokens=min_tokens, stop=stop)
    done = llm.generate("Hello", params)  # "aaaaaaaaaaaa" without the stop string
    assert (done.finish_reason, done.completion_tokens) == ("stop", n)
    assert done.text == "a" * (n - len(stop))
    assert "".join(piece.text for piece in llm.stream("Hello", params)) == done.text


def test_ignore_eos_goes_on_until_max_tokens(llm):
    params = {"seed": 1, "logit_bias": {1: 20.0}, "max_tokens": 40}
    assert llm.generate("Hello", SamplingParams(**params)).finish_reason == "stop"
    done = llm.generate("Hello", SamplingParams(**params, ignore_eos=True))
    assert (done.finish_reason, done.completion_tokens) == ("length", 40)
    later = llm.generate("Hello", SamplingParams(**params, min_tokens=7))
    assert (later.finish_reason, later.tokens) == ("stop", done.tokens[:7])


def test_logprobs_are_those_of_the_models_logits(llm):
    params = SamplingParams(seed=2, max_tokens=10, logprobs=3, prompt_logprobs=2, ignore_eos=True)
    done = llm.generate("Hello", params)
    tokens = [*done.prompt, *done.tokens]
    logits = llm.logits(tokens).astype(np.float64)
    expected = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    assert done.prompt_logprobs[0] is None
    found = [*done.prompt_logprobs[1:], *done.logprobs]
    assert [choice.token for choice in found] == tokens[1:]
    for i, choice in enumerate(found):
        assert abs(choice.logprob - expected[i, choice.token]) < 1e-4
        best = np.argsort(-expected[i], kind="stable")[: len(choice.top)]
        assert [token for token, _ in choice.top] == best.tolist()
        assert len(choice.top) == (2 if i < len(done.prompt) - 1 else 3)
    pieces = [choice for piece in llm.stream("Hello", params) for choice in piece.logprobs]
    assert pieces == list(done.logprobs[: len(pieces)])


class Phrase:
    """A guide whose texts are all the same: `free` tokens, then those of a phrase, each certain."""

    def __init__(self, phrase, free=1):
        self.phrase, self.free, self.given = phrase, free, []

    def matcher(self, tokenizer):
        return Phrase(self.phrase, self.free)

    @property
    def finished(self):
        return len(self.given) == self.free + len(self.phrase)

    def mask(self):
        rest = [ord("a"), ord("b")] if len(self.given) < self.free else self.forced()[:1]
        bits = np.zeros(4, np.uint32)
        for token in rest:
            bits[token // 32] |= np.uint32(1 << token % 32)
        return bits

    def forced(self):
        return [ord(c) for c in self.phrase[len(self.given) - self.free :]] if len(self.given) >= self.free else []

    def accept(self, token):
        assert self.mask()[token // 32] >> np.uint32(token % 32) & 1
        self.given.append(token)

    def ending(self, most, known=()):
        return None

    def rollback(self, n):
        del self.given[len(self.given) - n :]


def test_forced_tokens_are_appended_without_a_pass_each(llm, monkeypatch):
    passes, run = [], llm.engine.run
    monkeypatch.setattr(llm.engine, "run", lambda p: (passes.append(len(p.tokens)), run(p))[1])
    guide = Phrase("(the whole rest)")
    prompt = llm.tokenizer.encode("Hello")
    done = llm.generate(prompt, SamplingParams(temperature=0, guide=guide))
    assert done.text[0] in "ab" and done.text[1:] == guide.phrase and done.finish_reason == "stop"
    assert len(passes) == 1
    scored = llm.generate(prompt, SamplingParams(temperature=0, guide=guide, logprobs=0))  # each one by its logits
    assert scored.tokens == done.tokens == tuple(choice.token for choice in scored.logprobs)
    short = llm.generate(prompt, SamplingParams(temperature=0, guide=guide, max_tokens=5))
    assert short.tokens == done.tokens[:5] and short.finish_reason == "length"


def test_guides_bind_texts_in_a_batch(llm):
    pytest.importorskip("llguidance")
    import json

    from pyinfer import Guide

    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    guides = [Guide.json(schema, whitespace=False), Guide.regex("[0-9]{3}-[a-f]{2}"), Guide.choice(["yes", "no"])]
    params = [SamplingParams(guide=guide, seed=i, max_tokens=40) for i, guide in enumerate(guides)]
    done = llm.generate(["Hello"] * 4, [*params, GREEDY])
    assert json.loads(done[0].text)["ok"] in (True, False)
    assert re.fullmatch(guides[1].source, done[1].text) and done[2].text in ("yes", "no")
    assert [d.finish_reason for d in done[:3]] == ["stop"] * 3
    assert done[3].tokens == llm.generate("Hello", GREEDY).tokens
    # where a text can only end, min_tokens does not keep it
    short = llm.generate("Hello", SamplingParams(guide=guides[2], min_tokens=10, seed=0))
    assert short.text in ("yes", "no")
    with pytest.raises(ParameterError, match="regex guide"):
        llm.generate("Hello", SamplingParams(guide=Guide.regex("(")))


def test_a_forced_run_and_what_is_drawn_after_it_see_all_tokens(llm):
    class Twice(Phrase):
        """Forced in the middle: the phrase, then free text for ever."""

        def matcher(self, tokenizer):
            return Twice(self.phrase, self.free)

        finished = False

        def mask(self):
            return super().mask() if self.forced() or len(self.given) < self.free else np.full(4, ~np.uint32(0))

    prompt = llm.tokenizer.encode("Hello")
    params = {"temperature": 0, "ignore_eos": True}
    done = llm.generate(prompt, SamplingParams(guide=Twice("xyz"), max_tokens=12, **params))
    begun = list(done.tokens[:4])
    assert begun[1:] == [ord(c) for c in "xyz"]
    assert llm.generate(prompt + begun, SamplingParams(max_tokens=8, **params)).tokens == done.tokens[4:]


@pytest.mark.parametrize(
    "prompt, error, message",
    [
        ("", ParameterError, "empty"),
        ([], ParameterError, "no tokens"),
        ([128], ParameterError, "token 0 is 128; expected an id from 0 to 127"),
        ([65, -1], ParameterError, "token 1 is -1"),
        ([65, True], ParameterError, "token 1 is a bool"),
        ([10**5000], ParameterError, "token 0 is a int"),
        (b"Hello", ParameterError, r"the prompt is a bytes; expected text \(decode it\) or token ids"),
        (["a", bytearray(b"Hello")], ParameterError, "the prompt is a bytearray; expected text"),
        (memoryview(b"Hello"), ParameterError, "the prompt is a memoryview; expected text"),
        (np.array(65), ParameterError, "the prompt is a ndarray"),
        (np.array([65.0]), ParameterError, "token 0 is a float64"),
        (np.array([[[65]]]), ParameterError, "token 0 is a ndarray"),
        ([65, "x"], ParameterError, "token 1 is a str"),
        ([65, 1.5], ParameterError, "token 1 is a float"),
        ("\ud800", PyinferError, "surrogate"),
    ],
)
def test_bad_prompts_are_refused_and_the_model_goes_on(llm, prompt, error, message):
    with pytest.raises(error, match=message):
        llm.generate(prompt)
    assert llm.generate("ok", GREEDY).tokens


def test_params_of_another_type_are_refused(llm):
    with pytest.raises(ParameterError, match="params is a dict"):
        llm.generate("x", {"temperature": 0})


def test_a_stream_left_early_gives_back_its_place(llm):
    pieces = llm.stream("Hello", SamplingParams(temperature=0))
    next(pieces)
    assert llm.generate("x", GREEDY).tokens  # beside it
    pieces.close()
    assert (llm.scheduler.n_running, llm.scheduler.n_waiting) == (0, 0)
    assert list(pieces) == [] and pieces.completion is None


def test_threads_share_a_model(llm):
    expected = {text: llm.generate(text, GREEDY).tokens for text in ("one", "two", "three")}
    found = {}

    def work(text):
        found[text] = llm.generate(text, GREEDY).tokens

    threads = [threading.Thread(target=work, args=(text,)) for text in expected]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == expected


def test_a_closed_model_says_so(llm):
    with LLM(llm.path) as other:
        pass
    for call in (lambda: other.generate("x"), lambda: other.logits([1]), lambda: list(other.stream("x"))):
        with pytest.raises(PyinferError, match="closed"):
            call()
    other.close()


def test_a_file_may_be_removed_once_its_model_is_loaded(llm, tmp_path):
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(llm.path.read_bytes())
    with LLM(copy, kv_type="f32") as other:
        copy.write_bytes(b"")
        assert other.generate("Hello", GREEDY).tokens == llm.generate("Hello", GREEDY).tokens


def test_importing_the_package_imports_next_to_nothing():
    import subprocess
    import sys

    code = "import sys, pyinfer; print(sorted({'numpy', 'jinja2', 'regex'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_every_public_name_is_there():
    for name in pyinfer.__all__:
        assert getattr(pyinfer, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pyinfer.nothing


def test_a_real_model_answers(real_model):
    with LLM(real_model("qwen2.5-coder-0.5b-q4_k_m"), n_ctx=256) as model:
        started = time.perf_counter()
        done = model.generate("The capital of France is", SamplingParams(temperature=0, max_tokens=8))
        assert "Paris" in done.text
        assert done.prompt_seconds + done.generation_seconds <= time.perf_counter() - started
