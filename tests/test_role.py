"""One of the threads that wait runs the steps; the role passes on whoever leaves, and however."""

import signal
import threading
import time

import pytest

from pyinfer import ParameterError
from pyinfer.scheduling.interrupts import Interrupts
from pyinfer.scheduling.role import Role


class Counter:
    """Steps that count, and who ran them."""

    def __init__(self, seconds=0.0):
        self.n, self.drivers, self.tidied, self.seconds = 0, [], 0, seconds
        self.inside = False
        self.role = Role(self.step, self.tidy)

    def step(self, interrupts):
        assert not self.inside
        self.inside = True
        time.sleep(self.seconds)
        self.n += 1
        self.drivers.append(threading.get_ident())
        self.inside = False
        return True

    def tidy(self):
        self.tidied += 1


def in_threads(tasks):
    threads = [threading.Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    return threads


def test_a_single_thread_runs_its_own_steps():
    counter = Counter()
    counter.role.wait(lambda: counter.n == 5)
    counter.role.wait(lambda: True)
    assert counter.drivers == [threading.get_ident()] * 5


def test_each_thread_waits_for_its_own_and_one_runs_at_a_time():
    counter = Counter(0.001)
    ends = {}

    def work(i):
        counter.role.wait(lambda: counter.n >= 10 * i)
        ends[i] = counter.n

    for thread in in_threads([lambda i=i: work(i) for i in range(1, 6)]):
        thread.join(timeout=20)
        assert not thread.is_alive()
    assert counter.n == 50 and all(ends[i] >= 10 * i for i in ends)
    assert counter.drivers == sorted(counter.drivers, key=counter.drivers.index)  # it changes hands only at an end


def test_who_holds_the_role_is_alone_and_steps_go_on_afterwards():
    counter = Counter(0.001)
    (thread,) = in_threads([lambda: counter.role.wait(lambda: counter.n >= 100)])
    for _ in range(5):
        with counter.role.held():
            n = counter.n
            time.sleep(0.005)
            assert counter.n == n
    thread.join(timeout=20)
    assert counter.n == 100


def test_an_error_in_a_step_reaches_the_driver_and_the_next_one_takes_over():
    counter = Counter(0.001)
    failures = []

    def fail(interrupts):
        failures.append(threading.get_ident())
        counter.role._step = counter.step
        raise OSError("once")

    counter.role._step = fail
    raised = []

    def work():
        try:
            counter.role.wait(lambda: counter.n >= 3)
        except OSError:
            raised.append(threading.get_ident())

    for thread in in_threads([work] * 3):
        thread.join(timeout=20)
        assert not thread.is_alive()
    assert raised == failures and counter.n >= 3


def test_a_step_can_neither_wait_nor_hold():
    role = Role(lambda interrupts: role.wait(lambda: False), lambda: None)
    with pytest.raises(ParameterError, match="within one of its steps"):
        role.wait(lambda: False)
    with role.held(), pytest.raises(ParameterError, match="within one of its steps"), role.held():
        pass


def test_tidying_is_done_at_once_or_when_the_driver_leaves():
    counter = Counter(0.001)
    counter.role.tidy_soon()
    assert counter.tidied == 1
    with counter.role.held():
        counter.role.tidy_soon()
        assert counter.tidied == 1
    assert counter.tidied == 2


@pytest.mark.skipif(not hasattr(signal, "raise_signal"), reason="signals of POSIX")
def test_ctrl_c_waits_until_it_is_allowed():
    def interrupt():
        signal.raise_signal(signal.SIGINT)

    before, reached = signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        interrupt()
        reached.append("after the signal")
        interrupts.deliver()
        reached.append("after its delivery")
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        interrupts.allowed = True
        interrupt()
        reached.append("where it is allowed")
    with pytest.raises(KeyboardInterrupt), Interrupts():
        interrupt()
        reached.append("at the end of the block")
    assert reached == ["after the signal", "at the end of the block"]
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_have_no_signals_to_hold_back():
    handlers = []

    def work():
        with Interrupts():
            handlers.append(signal.getsignal(signal.SIGINT))

    in_threads([work])[0].join()
    assert handlers == [signal.getsignal(signal.SIGINT)]
