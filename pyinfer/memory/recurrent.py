"""States of recurrent layers: a row for each slot, which passes go on from, and rows of checkpoints.

A state is that of one position and can't be cut, so copies of it are kept where a sequence may go on again: as
checkpoints of the prefix index's nodes (idle, evicted least recently used first) and for a slot that draft tokens are
computed for (referenced by it). All layers' states of a sequence are in the rows of one number.
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
    """Bytes of the states of a sequence."""
    return sum(4 * prod(spec.shape) for spec in specs)


class RecurrentGroup:
    """The states of layers; `number` is the group's among a model's tables, whose entries are the rows of slots."""

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
        self.index: PrefixIndex | None = None  # of which checkpoints are evicted
        self._n_slots = n_slots

    def allocate(self) -> int | None:
        """A checkpoint's row, referenced once; None if all are referenced."""
        row = self.pool.allocate()
        if row is None and self.index is not None and self.index.evict_checkpoint():
            row = self.pool.allocate()
        return row

    def save(self, slot: int, row: int) -> None:
        """Copy a slot's state into a checkpoint's row."""
        for rows in self.rows:
            rows[self._n_slots + row] = rows[slot]

    def touch(self, row: int) -> None:
        """A checkpoint is used: it is the last to be evicted."""
        self.pool.acquire(row)
        self.pool.release(row)

    def load(self, slot: int, row: int) -> None:
        """Go on in a slot from a checkpoint."""
        self.touch(row)
        for rows in self.rows:
            rows[slot] = rows[self._n_slots + row]

    def read(self, row: int) -> NDArray[np.uint8]:
        """A checkpoint's states of all layers, uint8 [row_bytes]."""
        return np.concatenate([rows[self._n_slots + row].view(np.uint8) for rows in self.rows])

    def write(self, row: int, states: NDArray[np.uint8]) -> None:
        """As `read` gave them."""
        start = 0
        for rows in self.rows:
            target = rows[self._n_slots + row].view(np.uint8)
            target[:] = states[start : start + len(target)]
            start += len(target)
