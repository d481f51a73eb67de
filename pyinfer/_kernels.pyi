"""Types of the compiled kernels; csrc/kernels.pyx and what it includes have the documentation."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

_Floats = NDArray[np.float32]
_Bytes = NDArray[np.uint8]
_Ints = NDArray[np.int32]
_Segment = tuple[Matrix, Value, _Floats | None, float]

PAGE: int
SPLIT: int

def available_isas() -> list[str]: ...
def select_isa(name: str | None = None) -> str: ...
def current_isa() -> str: ...
def has_kernels(format: int) -> bool: ...
def is_quantized(format: int) -> bool: ...
def dequantize(rows: _Bytes, format: int, k: int) -> _Floats: ...
def aligned(n: int, dtype: Any) -> NDArray[Any]: ...
def read_bandwidth(memory: _Bytes, n_threads: int) -> float: ...
def read_limit(memory: _Bytes, n_threads: int) -> float: ...
def dot_limit(n_threads: int, seconds: float = 0.2) -> float: ...
def end_threads() -> None: ...

@disjoint_base
class Matrix:
    format: int
    n_rows: int
    k: int
    def __init__(self, format: int, n_rows: int, k: int, memory: _Bytes) -> None: ...
    @staticmethod
    def of_rows(format: int, rows: _Bytes, k: int) -> Matrix: ...
    @staticmethod
    def size(format: int, n_rows: int, k: int) -> int: ...
    def load(self, rows: _Bytes, first: int = 0, n_threads: int = 1) -> None: ...
    def part(self, first: int, n_rows: int) -> Matrix: ...
    @property
    def quantized(self) -> bool: ...
    @property
    def n_bytes(self) -> int: ...

@disjoint_base
class Value:
    name: str
    k: int
    capacity: int
    def __init__(self, name: str, k: int, capacity: int) -> None: ...
    def want(self, *forms: str) -> Value: ...
    @property
    def rows(self) -> _Floats: ...
    def dequantized(self, n: int) -> NDArray[np.float64]: ...

@disjoint_base
class Cache:
    def __init__(
        self, format: int, n_kv_heads: int, head_dim: int, memory: _Bytes, offset: int, page_stride: int
    ) -> None: ...
    @staticmethod
    def head_bytes(format: int, head_dim: int) -> tuple[int, int]: ...
    @staticmethod
    def page_bytes(format: int, n_kv_heads: int, head_dim: int) -> int: ...
    @property
    def n_pages(self) -> int: ...
    def move_keys(
        self, pages: _Ints, inv_freq: NDArray[np.float64], distance: int, neox: bool, n_threads: int = 1
    ) -> None: ...

class OpCost(NamedTuple):
    of_outputs: bool
    weight_bytes: int
    macs_per_row: int
    kv_bytes_per_position: int
    macs_per_position: int
    window: int

@disjoint_base
class Plan:
    names: list[str]
    capacity: int
    n_ctx: int
    n_sequences: int
    n_threads: int
    def __init__(self, capacity: int, n_ctx: int, n_sequences: int, n_threads: int) -> None: ...
    def embed(
        self,
        name: str,
        weight: Matrix,
        out: Value,
        scale: float = 1.0,
        positions: Matrix | None = None,
        added: _Floats | None = None,
    ) -> None: ...
    def norm(
        self,
        name: str,
        x: Value,
        weight: _Floats,
        out: Value,
        eps: float,
        y: Value | None = None,
        post: _Floats | None = None,
        gather: bool = False,
        outputs: bool = False,
        bias: _Floats | None = None,
        centered: bool = False,
    ) -> None: ...
    def matmul(self, name: str, src: Value, segments: Sequence[_Segment], outputs: bool = False) -> None: ...
    def angles(self, name: str, inv_freq: NDArray[np.float64], mscale: float, out: Value) -> None: ...
    def rope(
        self,
        name: str,
        q: Value,
        k: Value,
        v: Value,
        angles: Value | None,
        cache: Cache,
        neox: bool,
        q_norm: _Floats | None = None,
        k_norm: _Floats | None = None,
        eps: float = 0.0,
        q_scale: float = 1.0,
    ) -> None: ...
    def attention(
        self,
        name: str,
        q: Value,
        cache: Cache,
        out: Value,
        window: int = 0,
        softcap: float = 0.0,
        causal: bool = True,
    ) -> None: ...
    def glu(self, name: str, src: Value, segments: list[tuple[Matrix, Any, float]], out: Value, act: str) -> None: ...
    def softcap(self, name: str, x: Value, cap: float, outputs: bool = False) -> None: ...
    def pack(self, name: str, x: Value, out: Value, outputs: bool = False) -> None: ...
    def costs(self) -> list[OpCost]: ...
    def profile(self) -> NDArray[np.int64]: ...
    def run(
        self, tokens: _Ints, positions: _Ints, sequences: _Ints, outputs: _Ints, page_table: _Ints, n_ops: int = -1
    ) -> None: ...
