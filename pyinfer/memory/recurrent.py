"""States of recurrent layers: a row for each slot, which forward passes update, and rows of checkpoints.

A state belongs to one position and can't be shortened to an earlier one. So copies are kept where a sequence may go on
again: as checkpoints of the prefix index's nodes (these are idle, and the least recently used one is evicted first) and
before draft tokens (these the slot references). All layers' states of a sequence have the same row number.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from pyinfer import _kernels
from pyinfer.memory.pages import PagePool
from pyinfer.memory.prefix_index import PrefixIndex
from pyinfer.memory.spec import StateSpec
from pyinfer.system import allocate


def row_bytes(specs: Sequence[StateSpec]) -> int:
    """Return the bytes of the states of a sequence."""
    return sum(4 * prod(spec.shape) for spec in specs)


class RecurrentGroup:
    """The states of a group of layers. `number` is the index of its table, whose entries are the rows of slots."""

    def __init__(self, number: int, specs: Sequence[StateSpec], n_slots: int, n_checkpoints: int) -> None:
        n_rows = n_slots + n_checkpoints
        self.number = number
        self.row_bytes = row_bytes(specs)
        self.rows: list[NDArray[np.float32]] = [  # a layer's, [n_rows, size]
            allocate(n_rows * 4 * prod(spec.shape)).view(np.float32).reshape(n_rows, -1) for spec in specs
        ]
        self.layers = [_kernels.State(rows, number) for rows in self.rows]
        self.table: NDArray[np.int32] = np.arange(n_slots, dtype=np.int32).reshape(-1, 1)
        self.pool = PagePool(n_checkpoints)
        self.index: PrefixIndex | None = None  # where checkpoints are evicted from
        self._n_slots = n_slots

    def allocate(self) -> int | None:
        """Return a checkpoint's row with one reference, evicted if need be; None if all have references."""
        row = self.pool.allocate()
        if row is None and self.index is not None and self.index.evict_checkpoint():
            row = self.pool.allocate()
        return row

    def save(self, slot: int, row: int) -> None:
        """Copy a slot's state to a checkpoint's row."""
        for rows in self.rows:
            rows[self._n_slots + row] = rows[slot]

    def touch(self, row: int) -> None:
        """Note that a checkpoint is used, so that it is evicted last."""
        self.pool.acquire(row)
        self.pool.release(row)

    def load(self, slot: int, row: int) -> None:
        """Copy a checkpoint's state to a slot."""
        self.touch(row)
        for rows in self.rows:
            rows[slot] = rows[self._n_slots + row]

    def read(self, row: int) -> NDArray[np.uint8]:
        """Return a checkpoint's states of all layers, uint8 [row_bytes]."""
        return np.concatenate([rows[self._n_slots + row].view(np.uint8) for rows in self.rows])

    def write(self, row: int, states: NDArray[np.uint8]) -> None:
        """Write a checkpoint's states, as `read` returned them."""
        start = 0
        for rows in self.rows:
            target = rows[self._n_slots + row].view(np.uint8)
            target[:] = states[start : start + len(target)]
            start += len(target)
