"""What one thread that computes must hold to: cancellation, errors, signals, memory, threads, and the event loop."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from idle import is_idle
from test_scheduler import Greedy
from tiny_models import TinyModel, write_text_model

from pyinfer import LLM, AsyncLLM, ParameterError, SamplingParams

GREEDY = SamplingParams(temperature=0, max_tokens=12)
LONG = SamplingParams(temperature=0, max_tokens=4000, ignore_eos=True)
RNG = np.random.default_rng(3)


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="figures of Linux")
def test_closing_gives_all_memory_back(tmp_path):
    model = TinyModel("llama", n_layers=1, n_kv_heads=4, n_vocab=128, n_ctx=8192)
    path = write_text_model(tmp_path / "model.gguf", model)
    with LLM(path, n_ctx=256) as first:  # whatever is allocated once
        first.generate("x", GREEDY)
    gc.collect()
    before = resident_bytes()
    llm = LLM(path, n_ctx=1024, kv_type="f32", n_seqs=32)
    llm.generate([RNG.integers(33, 127, 1000).tolist() for _ in range(32)], SamplingParams(max_tokens=1))
    grown = resident_bytes() - before
    assert grown > 48e6  # of 64 MB of keys and values
    llm.close()
    gc.collect()
    assert resident_bytes() - before < 0.25 * grown  # what the allocator keeps


def test_a_cancellation_is_never_lost(load):
    llm = load(n_ctx=8192)

    def submit_and_cancel():
        llm.stream("x", LONG).close()  # before the engine thread has heard of it

    llm.scheduler.call(submit_and_cancel)
    assert is_idle(llm)

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(40):
            stream = llm.stream("x", LONG)
            time.sleep(float(rng.random()) * 0.002)
            stream.close()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert is_idle(llm)


@pytest.mark.skipif(not hasattr(os, "kill") or sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_is_not_swallowed_by_another_error(load):
    llm = load()

    def interrupted(tokens, logits):
        os.kill(os.getpid(), signal.SIGINT)
        raise RuntimeError("at the same time")

    with pytest.raises(KeyboardInterrupt):
        try:
            llm.generate("abc", SamplingParams(logits_processors=[interrupted]))
        except ParameterError:
            time.sleep(2)
    assert is_idle(llm)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals of POSIX")
def test_ctrl_c_does_not_wait_for_the_pass_under_way(load, monkeypatch):
    llm = load()
    run = llm.engine.run
    monkeypatch.setattr(llm.engine, "run", lambda p: (time.sleep(1), run(p))[1])
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    started = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        llm.generate("abc", LONG)
    assert time.perf_counter() - started < 0.1 + 0.1
    assert is_idle(llm)


def test_a_pass_for_cancelled_requests_only_is_stopped(load, monkeypatch):
    llm = load()
    passing, stopped, run = threading.Event(), threading.Event(), llm.engine.run
    monkeypatch.setattr(llm.engine, "stop", stopped.set)
    monkeypatch.setattr(llm.engine, "run", lambda p: (passing.set(), stopped.wait(0.5), run(p))[2])
    stream, other = llm.stream("x", LONG), llm.stream("y", LONG)
    passing.wait(20)
    time.sleep(0.6)  # both run now
    stream.close()
    assert not stopped.is_set()
    other.close()
    assert stopped.is_set() and is_idle(llm)


@pytest.mark.parametrize("method", ["reserve", "publish", "begin", "release"])
def test_an_error_between_passes_ends_what_is_under_way_and_frees_its_slots(load, monkeypatch, method):
    llm = load(n_seqs=2)
    expected = llm.generate("abc", GREEDY).tokens
    real, calls = getattr(llm.engine.memory, method), count()

    def fails(*args):
        if next(calls) == 1:
            raise MemoryError("no pages")
        return real(*args)

    async def main():
        model = AsyncLLM(llm)
        tasks = [model.generate(RNG.integers(33, 127, 100).tolist(), GREEDY) for _ in range(4)]
        found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
        await asyncio.to_thread(model.close)
        return found

    monkeypatch.setattr(llm.engine.memory, method, fails)
    found = asyncio.run(main())
    monkeypatch.undo()
    assert any(isinstance(result, MemoryError) for result in found) or method == "release"
    assert all(isinstance(result, MemoryError) or result.tokens for result in found)
    assert is_idle(llm) and llm.generate("abc", GREEDY).tokens == expected


TEAMS = """
import os, sys, threading
from pyinfer import LLM, SamplingParams
llm = LLM(sys.argv[1], n_threads=8)
done, end = threading.Barrier(11), threading.Event()
def work():
    llm.generate("abc", SamplingParams(max_tokens=3))
    done.wait()
    end.wait()
for _ in range(10):
    threading.Thread(target=work, daemon=True).start()
done.wait()
print(len(os.listdir("/proc/self/task")))
end.set()
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="figures of Linux")
def test_many_calling_threads_have_one_team(path):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", TEAMS, path], capture_output=True, text=True, timeout=60, env=env)
    assert int(done.stdout) <= 1 + 10 + 8  # the main thread, the callers, the engine thread and its 7 workers


class Pausing(Greedy):
    is_paused = False

    @property
    def paused(self):
        return self.is_paused


def test_nobody_waits_for_the_prefix_of_a_paused_request(load, monkeypatch):
    llm, fresh = load(n_batch=16, n_seqs=2), load()
    prompt = RNG.integers(33, 127, 200).tolist()
    paused, run, begun = Pausing(prompt, 5), llm.engine.run, threading.Event()

    def pausing(forward):
        paused.is_paused = not begun.is_set()
        begun.set()
        return run(forward)

    monkeypatch.setattr(llm.engine, "run", pausing)
    thread = threading.Thread(target=llm.run, args=([paused],))
    thread.start()
    assert begun.wait(20)
    longer = [*prompt, 65, 66]
    assert llm.generate(longer, GREEDY).tokens == fresh.generate(longer, GREEDY).tokens
    paused.is_paused = False
    llm.scheduler.resume()
    thread.join(20)
    expected = Greedy(prompt, 5)
    fresh.run([expected])
    assert paused.tokens == expected.tokens and is_idle(llm)


def test_the_event_loop_reads_no_prompt_no_template_and_no_guide(load, monkeypatch):
    llm, threads = load(), {}

    def noting(module, name):
        owner, function = module, getattr(module, name)

        def noted(*args, **kwargs):
            threads.setdefault(name, set()).add(threading.get_ident())
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, noted)

    noting(llm, "generation")
    noting(type(llm.tokenizer), "encode")
    monkeypatch.setattr("pyinfer.api.async_llm.prepare_turn", lambda *a, **k: prepare(*a, **k))
    from pyinfer.chat.calls import prepare_turn

    def prepare(*args, **kwargs):
        threads.setdefault("prepare", set()).add(threading.get_ident())
        return prepare_turn(*args, **kwargs)

    hello = [{"role": "user", "content": "Hello"}]

    async def main():
        model = AsyncLLM(llm)
        await model.generate("abc", GREEDY)
        _ = [piece async for piece in model.stream("abc", GREEDY)]
        await model.chat(hello, GREEDY, template="chatml")
        _ = [delta async for delta in model.stream_chat(hello, GREEDY, template="chatml")]

    asyncio.run(main())
    assert set(threads) == {"generation", "encode", "prepare"}
    assert threading.get_ident() not in set().union(*threads.values())
