"""One thread runs the steps; callers wait for it, are interrupted at once, and never wait in vain."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest
from conftest import ROOT

from pyinfer import ParameterError, PyinferError
from pyinfer.scheduling.loop import Loop
from pyinfer.scheduling.waiter import Waiter


class Counter:
    """Steps that count up to a target, and which threads ran them."""

    def __init__(self, seconds=0.0):
        self.n = self.target = 0
        self.seconds, self.threads, self.recovered, self.ended, self.stopped = seconds, [], [], 0, 0
        self.fails = None
        self.loop = Loop(self)

    def step(self):
        if self.n >= self.target:
            return False
        if self.fails is not None:
            error, self.fails = self.fails, None
            raise error
        time.sleep(self.seconds)
        self.n += 1
        self.threads.append(threading.get_ident())
        return True

    def recover(self, error):
        self.recovered.append(error)

    def stop(self):
        self.stopped += 1

    def end(self):
        self.ended += 1

    def count_to(self, n):
        waiter = Waiter(1)

        def go_on(counter):
            counter.target = n
            counter.loop.put_late(lambda counter: waiter.ended(False))

        self.loop.put(go_on)
        waiter.wait_for(1)


def soon(condition):
    end = time.perf_counter() + 10
    while not condition():
        assert time.perf_counter() < end
        time.sleep(0.001)
    return True


def test_one_thread_runs_all_steps_whoever_asks():
    counter = Counter()
    callers = [threading.Thread(target=counter.count_to, args=(10 * i,)) for i in range(1, 6)]
    for caller in callers:
        caller.start()
        caller.join(timeout=20)
    assert soon(lambda: counter.n == 50)
    assert len(set(counter.threads)) == 1 and counter.threads[0] != threading.get_ident()
    counter.loop.close()
    assert counter.ended and counter.threads[0] not in [thread.ident for thread in threading.enumerate()]


def test_commands_are_carried_out_between_steps_in_their_order():
    counter, seen, done = Counter(0.001), [], threading.Event()
    counter.count_to(50)
    for i in range(20):
        counter.loop.put(lambda counter, i=i: (seen.append(i), counter.loop.is_own_thread or seen.append("elsewhere")))
    counter.loop.put(lambda counter: done.set())
    assert done.wait(20) and seen == list(range(20))
    counter.loop.close()


@pytest.mark.parametrize("error", [OSError("once"), MemoryError(), KeyboardInterrupt()])
def test_an_error_in_a_step_or_a_command_is_handed_over_and_steps_go_on(error):
    counter = Counter()
    counter.fails = error
    counter.count_to(3)
    assert soon(lambda: counter.n == 3) and counter.recovered == [error]

    def fail(counter):
        raise error

    counter.loop.put(fail)
    counter.count_to(5)
    assert soon(lambda: counter.n == 5) and counter.recovered == [error, error]
    counter.loop.close()


def test_a_step_can_neither_wait_nor_close():
    counter, errors, done = Counter(), [], threading.Event()

    def within(counter):
        for call in (counter.loop.refuse_within_step, counter.loop.close):
            try:
                call()
            except ParameterError as error:
                errors.append(str(error))
        done.set()

    counter.loop.put(within)
    assert done.wait(20)
    assert len(errors) == 2 and all("within one of its steps" in error for error in errors)
    counter.loop.close()


def test_one_that_is_closed_takes_nothing_more_and_may_be_closed_again():
    counter = Counter()
    counter.loop.close()  # before any work
    counter.loop.close()
    assert counter.ended
    with pytest.raises(PyinferError, match="the model is closed"):
        counter.loop.put(lambda counter: None)
    counter.loop.put_late(lambda counter: None)


def test_a_worker_that_is_dropped_is_freed_and_its_thread_ends():
    counter = Counter()
    counter.count_to(5)
    reference = weakref.ref(counter)
    assert soon(lambda: reference().n == 5)
    thread = counter.threads[0]
    gc.disable()
    try:
        del counter
        assert soon(lambda: reference() is None)  # by its reference count
    finally:
        gc.enable()
    assert soon(lambda: thread not in [thread.ident for thread in threading.enumerate()])


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals of POSIX")
def test_ctrl_c_reaches_a_waiting_thread_at_once():
    waiter, started = Waiter(1), time.perf_counter()
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    with pytest.raises(KeyboardInterrupt):
        waiter.wait_for(1)
    assert time.perf_counter() - started < 0.05 + 0.1


def test_a_waiter_is_woken_once_for_all_its_requests_or_for_the_first_failure():
    waiter, woken = Waiter(3), []
    thread = threading.Thread(target=waiter.wait, args=(lambda: woken.append(waiter.n_ended) or waiter.n_ended == 3,))
    thread.start()
    soon(lambda: woken == [0])
    for _ in range(3):
        waiter.stepped()
        waiter.ended(failed=False)
        time.sleep(0.01)
    thread.join(20)
    assert woken == [0, 3]
    failing = Waiter(3)
    failing.ended(failed=True)
    failing.wait_for(3)


END = """
import sys, threading, time
from pyinfer import LLM, SamplingParams
llm = LLM(sys.argv[1], n_threads=2)
stream = llm.stream("abc", SamplingParams(ignore_eos=True, logits_processors=PROCESSORS))
next(stream)
threading.Thread(target=lambda: llm.generate("x", SamplingParams(ignore_eos=True)), daemon=True).start()
time.sleep(0.1)
print("end")
"""


@pytest.mark.parametrize("processors", ["[]", "[lambda t, x: time.sleep(0.2) or x]"])
def test_the_interpreter_may_end_while_a_text_runs(path, processors):
    code = END.replace("PROCESSORS", processors)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60, env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
