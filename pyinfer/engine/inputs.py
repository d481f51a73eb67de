"""The input and the output of a forward pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NO_ROWS: NDArray[np.int32] = np.zeros(0, np.int32)


@dataclass
class Pass:
    """The n rows of a forward pass, each a token (or an embedding) at a position of a sequence.

    - `tokens`: int32 [n], ids; -1: the row is the next one of `embeddings`.
    - `positions`: int32 [n], or [n_axes, n] where the model rotates by several axes; the first is the position in the
      sequence.
    - `slots`: int32 [n], the sequence of each row.
    - `logits`, `hidden`: int32 [m], the rows whose logits, or hidden states after the last norm, are wanted.
    - `embeddings`: float32 [n_embedded, n_embd].
    - `adapters`: int32 [n], the adapter of each row; 0: none.
    """

    tokens: NDArray[np.int32]
    positions: NDArray[np.int32]
    slots: NDArray[np.int32]
    logits: NDArray[np.int32] = field(default_factory=lambda: NO_ROWS)
    hidden: NDArray[np.int32] = field(default_factory=lambda: NO_ROWS)
    embeddings: NDArray[np.float32] | None = None
    adapters: NDArray[np.int32] | None = None


class Rows(NamedTuple):
    """The results of a forward pass, in the order in which a Pass asks for them; valid until the next one.

    `logits`: float32 [m, n_vocab]; `hidden`: float32 [h, n_embd].
    """

    logits: NDArray[np.float32]
    hidden: NDArray[np.float32]
