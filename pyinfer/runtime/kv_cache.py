"""The paged KV cache: which pages of keys and values belong to which sequence.

A page holds PAGE positions of all layers. `page_table[sequence, position // PAGE]` is the page of a position; entries
beyond a sequence's length mean nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyinfer import _kernels
from pyinfer.errors import ContextError, ParameterError
from pyinfer.gguf import TensorType
from pyinfer.models.config import ModelConfig
from pyinfer.system import allocate

KV_TYPES = {"f32": TensorType.F32, "f16": TensorType.F16, "bf16": TensorType.BF16, "q8_0": TensorType.Q8_0}
PAGE: int = _kernels.PAGE


class KVCache:
    """Pages for n_seqs sequences of up to n_ctx positions; memory is taken as pages are first written."""

    def __init__(self, config: ModelConfig, n_seqs: int, n_ctx: int, kv_type: str = "f16") -> None:
        if kv_type not in KV_TYPES:
            raise ParameterError(f"kv_type is {kv_type!r}; expected one of {', '.join(KV_TYPES)}")
        if config.head_dim != config.head_dim_v:
            raise ParameterError(f"keys of {config.head_dim} and values of {config.head_dim_v} dimensions differ")
        kind = KV_TYPES[kv_type]
        sizes = [_kernels.Cache.page_bytes(kind, n, config.head_dim) for n in config.n_kv_heads]
        # without causality no later pass reads what is cached, so all layers can use the same memory
        self.page_bytes = sum(sizes) if config.causal else max(sizes)
        pages_each = -(-n_ctx // PAGE)
        memory = allocate(self.page_bytes * n_seqs * pages_each)
        offsets = np.cumsum([0, *sizes]).tolist() if config.causal else [0] * len(sizes)
        self.layers = [
            _kernels.Cache(kind, n, config.head_dim, memory, offset, self.page_bytes)
            for n, offset in zip(config.n_kv_heads, offsets, strict=False)
        ]
        self.n_ctx = n_ctx
        self.page_table: NDArray[np.int32] = np.zeros((n_seqs, pages_each), np.int32)
        self._n_pages = [0] * n_seqs
        self._free = list(range(n_seqs * pages_each - 1, -1, -1))

    def reserve(self, sequence: int, n_positions: int) -> None:
        """See that the first n_positions of a sequence have pages; ContextError beyond n_ctx."""
        if n_positions > self.n_ctx:
            raise ContextError(f"sequence {sequence} needs {n_positions} positions; the context has {self.n_ctx}")
        while self._n_pages[sequence] * PAGE < n_positions:
            self.page_table[sequence, self._n_pages[sequence]] = self._free.pop()
            self._n_pages[sequence] += 1

    def truncate(self, sequence: int, n_keep: int) -> None:
        """Give back the pages of positions from n_keep on."""
        while self._n_pages[sequence] > -(-n_keep // PAGE):
            self._n_pages[sequence] -= 1
            self._free.append(int(self.page_table[sequence, self._n_pages[sequence]]))
