"""Reports the progress of a download to a caller."""

from __future__ import annotations

import time
from collections.abc import Callable

Progress = Callable[[int, int], None]  # called with (bytes done, bytes in all)

REPORT_SECONDS = 0.1  # between two reports: a bar moves smoothly, and costs nothing


class Counter:
    """Counts the bytes of several files, and reports them to `progress` about ten times a second and at the end."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total = total
        self._progress = progress
        self._finished = 0  # bytes of the files before this one
        self._next = 0.0  # time.monotonic() of the next report

    def show(self, n_bytes: int) -> None:
        """Report that n_bytes of the present file have arrived."""
        now = time.monotonic()
        if self._progress is not None and now >= self._next:
            self._next = now + REPORT_SECONDS
            self._progress(min(self._finished + n_bytes, self.total), self.total)

    def finish(self, n_bytes: int) -> None:
        """Report that the present file, of n_bytes, is whole."""
        self._finished += n_bytes
        if self._progress is not None:
            self._progress(min(self._finished, self.total), self.total)
