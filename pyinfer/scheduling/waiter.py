"""How a thread waits for requests, and how it is woken."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

# seconds until a waiting thread looks for signals; -1: never, where a signal interrupts the wait for a lock
SIGNALS_AFTER_S = 0.05 if sys.platform == "win32" else -1


class Waiter:
    """A thread that waits for its requests. It calls `wait`; the engine thread calls `stepped` and `ended`.

    - `n_requests`: how many requests there are.
    - `each_step` (False): wake the thread whenever a request has something new. Otherwise it wakes only when a request
      has failed or all that it waits for have ended, so that a batch of texts needs one change of threads.
    """

    def __init__(self, n_requests: int, each_step: bool = False) -> None:
        self.n_ended = 0
        self.failed = False
        self._n_requests = self._n_wanted = n_requests
        self._each_step = each_step
        self._news = threading.Lock()  # held while there is nothing new
        self._news.acquire()

    def expect(self, n_requests: int) -> None:
        """Set how many requests there are, before they are submitted."""
        self._n_requests = self._n_wanted = n_requests

    def stepped(self) -> None:
        """Note that a request has something new."""
        if self._each_step:
            self.wake()

    def ended(self, failed: bool) -> None:
        """Note that a request has ended."""
        self.n_ended += 1
        self.failed = self.failed or failed
        if self._each_step or self.failed or self.n_ended >= self._n_wanted:
            self.wake()

    def wake(self) -> None:
        """Have `wait` call `ready` again."""
        if self._news.locked():  # only the engine thread releases it
            self._news.release()

    def wait(self, ready: Callable[[], bool]) -> None:
        """Return once `ready()` is true. It is asked again at each wake-up. A signal's handler may raise at once."""
        while not ready():
            self._news.acquire(timeout=SIGNALS_AFTER_S)
        if self.n_ended >= self._n_requests and self._news.locked():
            self._news.release()  # for another thread that waits for the same requests

    def wait_for(self, n_requests: int) -> None:
        """Return once so many requests have ended, or one has failed."""
        self._n_wanted = n_requests
        self.wait(lambda: self.failed or self.n_ended >= n_requests)
