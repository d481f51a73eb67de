"""Telling a caller how far a download is."""

from __future__ import annotations

import time
from collections.abc import Callable

Progress = Callable[[int, int], None]  # bytes done, bytes in all

SECONDS_BETWEEN = 0.1


class Counter:
    """Bytes of several files, told to `progress` about ten times a second and at the end."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total = total
        self._progress = progress
        self._finished = 0  # of the files before this one
        self._next = 0.0

    def show(self, n_bytes: int) -> None:
        """So many bytes of the present file are there."""
        now = time.monotonic()
        if self._progress is not None and now >= self._next:
            self._next = now + SECONDS_BETWEEN
            self._progress(min(self._finished + n_bytes, self.total), self.total)

    def finish(self, n_bytes: int) -> None:
        """The present file is whole."""
        self._finished += n_bytes
        if self._progress is not None:
            self._progress(min(self._finished, self.total), self.total)
