"""Processes that fork while they have a model: the child goes on with it, or is told why it can't."""

import os
import signal
import threading
import time

import pytest
from idle import is_idle

from pyinfer import PyinferError, SamplingParams

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
GREEDY = SamplingParams(temperature=0, max_tokens=12)
LONG = SamplingParams(temperature=0, max_tokens=4000, ignore_eos=True)


def in_child(task):
    """What task() returns in a forked child: an exit status, or 99 if it raises; -1 if it hangs."""
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            status = task()
        finally:
            os._exit(status)
    for _ in range(1000):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -1


def test_a_forked_child_goes_on_with_the_model(load):
    llm = load(n_threads=2)
    expected = llm.generate("abc", GREEDY).tokens
    stream = llm.stream("x", LONG)
    next(stream)

    def task():
        try:
            for _ in stream:
                pass
        except PyinferError as error:
            return int(llm.generate("abc", GREEDY).tokens != expected or "forked" not in str(error))
        return 2

    assert in_child(task) == 0
    assert next(stream).text and llm.generate("abc", GREEDY).tokens == expected


def test_a_fork_waits_for_the_end_of_another_threads_step(load):
    llm = load(n_ctx=8192, n_threads=2)
    expected = llm.generate("abc", GREEDY).tokens
    thread = threading.Thread(target=lambda: llm.generate("abc", SamplingParams(max_tokens=200, ignore_eos=True)))
    thread.start()
    while llm.scheduler.n_running == 0:
        time.sleep(0.001)
    statuses = [in_child(lambda: int(llm.generate("abc", GREEDY).tokens != expected)) for _ in range(3)]
    thread.join()
    assert statuses == [0] * 3
    assert llm.generate("abc", GREEDY).tokens == expected


def test_a_fork_in_the_middle_of_a_step_that_does_not_end_is_an_error_in_the_child(load, monkeypatch):
    monkeypatch.setattr("pyinfer.engine.forks.FORK_TIMEOUT_S", 0.01)
    llm = load()
    within, go_on = threading.Event(), threading.Event()

    def blocks(tokens, logits):
        within.set()
        go_on.wait(20)
        return logits

    thread = threading.Thread(target=lambda: llm.generate("abc", SamplingParams(logits_processors=[blocks])))
    thread.start()
    within.wait()

    def task():
        for call in (lambda: llm.generate("abc", GREEDY), lambda: llm.logits([1]), lambda: llm.embed("x")):
            try:
                call()
                return 2
            except PyinferError as error:
                if "was forked while another thread" not in str(error):
                    return 1
        llm.close()
        return 0

    assert in_child(task) == 0
    go_on.set()
    thread.join()
    assert llm.generate("abc", GREEDY).tokens


def test_a_processor_may_fork(load):
    llm = load()
    statuses = []

    def forks(tokens, logits):
        statuses.append(in_child(lambda: 0))
        return logits

    assert llm.generate("abc", SamplingParams(logits_processors=[forks], max_tokens=2, ignore_eos=True)).tokens
    assert statuses == [0, 0]
    assert is_idle(llm)
