"""Logits of a sequence's tokens, before any sampler."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pyinfer.scheduling.task import Next, Task


class Logits(Task):
    """A task that computes the logits at the last n_rows tokens (None: all): `out`, float32 [n_rows, n_vocab]."""

    def __init__(self, tokens: Sequence[int], n_vocab: int, n_rows: int | None = None) -> None:
        n = len(tokens) if n_rows is None else n_rows
        super().__init__(tokens, len(tokens) - n)
        self.out = np.empty((n, n_vocab), np.float32)
        self._n_filled = 0

    def process(self, rows: NDArray[np.float32], draft: Sequence[int]) -> Next:
        self.out[self._n_filled : self._n_filled + len(rows)] = rows
        self._n_filled += len(rows)
        return Next(done=self._n_filled == len(self.out))
