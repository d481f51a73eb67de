"""Traces: a model's activations by name, as arrays.

Activations that play the same role in every layer share memory, and most exist only in the quantized form that the next
product reads. So a model is recorded once more, on a plan that copies what is wanted behind each operation; the
operations themselves are those of any pass, to the bit.

A name is that of the operation, and of its result where it has several:
    embed                                      the residual stream before the first layer
    blk.N.attn_norm                            what the layer's attention reads
    blk.N.qkv.q, .k, .v                        queries, keys and values, as the products give them
    blk.N.rope.q, .k                           rotated (and normed, where the model does); q times the attention's scale
    blk.N.attention, blk.N.attn_output         the heads' outputs, side by side, and their projection
    blk.N.mid                                  the residual stream between attention and feed-forward
    blk.N.ffn_norm, blk.N.ffn_gate_up          what the feed-forward reads, and act(gate) * up
    blk.N.ffn_down                             its result
    blk.N.out                                  the residual stream after the layer
    output_norm, logits
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyinfer._kernels import Plan, Value
from pyinfer.errors import ParameterError
from pyinfer.runtime.params import shown
from pyinfer.runtime.token_ids import items_of

if TYPE_CHECKING:
    from pyinfer._kernels import _Rows

STREAM_AFTER = {"attn_output": "mid", "ffn_down": "out"}  # the residual stream, once the result of these is in it


class TracedPlan(Plan):
    """A plan that keeps a copy of each result whose name one of the globs matches; None: of all.

    Arguments as of Plan. n_ops: operations up to the last copy, as many as a pass needs.
    """

    def __init__(
        self, capacity: int, n_ctx: int, n_sequences: int, n_threads: int, globs: Sequence[str] | None
    ) -> None:
        super().__init__(capacity, n_ctx, n_sequences, n_threads)
        self.n_ops = 0
        if globs is not None and not all(isinstance(glob, str) for glob in items_of(globs) or [None]):
            raise ParameterError(f"names is {shown(globs)}; expected a glob, a list of globs or None")
        self._globs = globs
        self._copying = False
        self._found: list[str] = []  # all names, wanted or not
        self._copies: dict[str, Value] = {}
        self._stream: Value | None = None  # the residual stream: what the first operation writes
        self._last_product = ""  # of those that are added to the stream
        self._added = False  # whether a norm has just added it
        self._post_norm = False  # whether norms write the stream itself

    def keep(self, name: str, value: Value, rows: _Rows = "tokens") -> None:
        """Copy a value here, if it is wanted; rows: as of operations."""
        self._found.append(name)
        if self._globs is not None and not any(fnmatchcase(name, glob) for glob in self._globs):
            return
        self._copies[name] = Value(name, value.k, self.capacity).want("rows")
        self._copying = True
        self.pack(f"{name}.copy", value, self._copies[name], rows)
        self._copying = False
        self.n_ops = len(self.names)

    def check_globs(self) -> None:
        """ParameterError for globs that match nothing."""
        for glob in self._globs or ():
            if not any(fnmatchcase(name, glob) for name in self._found):
                raise ParameterError(f"names has {glob!r}, which matches none of {', '.join(self._found)}")

    def kept(self, n: int) -> dict[str, NDArray[np.float32]]:
        """After a pass over n tokens: the copies, float32 [n, width]."""
        return {name: value.rows[:n] for name, value in self._copies.items()}

    def wrote(self, name: str, part: str, value: Value, rows: _Rows) -> None:
        if self._copying or rows == "logits" or name == "angles":  # logits may have to be capped yet
            return
        block, _, last = name.rpartition(".")
        if self._stream is None:
            self._stream = value
        if part == "x":
            self._added = True
            return
        self._post_norm = self._post_norm or (value is self._stream and name != "embed")
        if self._added:
            block, _, last_product = self._last_product.rpartition(".")
            stream = f"{block}.{STREAM_AFTER[last_product]}"
            if self._post_norm:
                self.keep(stream, value, rows)
            else:
                self.keep(stream, self._stream)
            self._added = False
        if last in STREAM_AFTER:
            self._last_product = name
        self.keep(f"{name}.{part}" if part else name, value, rows)
