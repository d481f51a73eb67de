"""Traces: a model's activations by name, as arrays.

Activations of the same role share memory across layers, and most exist only in the quantized form that the next product
reads. So the model is recorded once more, on a plan that copies what is wanted after each operation. The operations
themselves are those of any forward pass, bit for bit.

A name is that of the operation, followed by that of its result where it has several:
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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyinfer._kernels import Plan, Value
from pyinfer.arguments import as_list_or_none, quoted
from pyinfer.errors import ParameterError

STREAM_AFTER = {"attn_output": "mid", "ffn_down": "out"}  # the residual stream, once the result of these is in it


class TracedPlan(Plan):
    """A plan that keeps a copy of each result whose name one of the globs matches (None: of all results).

    The other arguments are Plan's. `n_ops`: how many operations a pass has to run, which are those up to the last copy.
    """

    def __init__(
        self, capacity: int, n_ctx: int, n_sequences: int, n_threads: int, globs: Sequence[str] | None
    ) -> None:
        super().__init__(capacity, n_ctx, n_sequences, n_threads)
        self.n_ops = 0
        if globs is not None and not all(isinstance(glob, str) for glob in as_list_or_none(globs) or [None]):
            raise ParameterError(f"names is {quoted(globs)}; expected a glob, a list of globs or None")
        self._globs = globs
        self._copying = False
        self._found: list[str] = []  # all names, wanted or not
        self._copies: dict[str, Value] = {}
        self._writers: dict[Value, str] = {}  # the last operation that wrote each value
        self._stream: Value | None = None  # the residual stream: what the first operation writes
        self._stream_name = ""  # the stream's name, after a norm has added to it
        self._post_norm = False  # whether norms write to the stream itself

    def keep(self, name: str, value: Value, rows: Any = "tokens") -> None:
        """Record a copy of a value here, if it is wanted. `rows` is as for operations."""
        self._found.append(name)
        if self._globs is not None and not any(fnmatchcase(name, glob) for glob in self._globs):
            return
        self._copies[name] = Value(name, value.k, self.capacity).want("rows")
        self._copying = True
        self.pack(f"{name}.copy", value, self._copies[name], rows)
        self._copying = False
        self.n_ops = len(self.names)

    def check_globs(self) -> None:
        """Raise ParameterError for globs that match nothing."""
        for glob in self._globs or ():
            if not any(fnmatchcase(name, glob) for name in self._found):
                raise ParameterError(f"names has {glob!r}, which matches none of {', '.join(self._found)}")

    def kept(self, n: int) -> dict[str, NDArray[np.float32]]:
        """Return the copies after a pass over n tokens: float32 [n, width] each."""
        return {name: value.rows[:n] for name, value in self._copies.items()}

    def wrote(self, name: str, part: str, value: Value, rows: Any, added: Value | None = None) -> None:
        if self._copying or rows == "logits" or name == "angles":  # logits may have to be capped yet
            return
        if self._stream is None:
            self._stream = value
        if part == "x":
            block, _, product = ("" if added is None else self._writers.get(added, "")).rpartition(".")
            self._stream_name = f"{block}.{STREAM_AFTER[product]}" if product in STREAM_AFTER else ""
            if name.endswith(".add"):  # an addition without a norm
                self._keep_stream(value, rows)
            return
        self._writers[value] = name
        self._post_norm = self._post_norm or (value is self._stream and name != "embed")
        self._keep_stream(value if self._post_norm else self._stream, rows if self._post_norm else "tokens")
        self.keep(f"{name}.{part}" if part else name, value, rows)

    def _keep_stream(self, value: Value, rows: Any) -> None:
        name, self._stream_name = self._stream_name, ""
        if name:
            self.keep(name, value, rows)
