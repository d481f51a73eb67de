"""Types of the compiled kernels; csrc/kernels.pyx and what it includes have the documentation."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

_Floats = NDArray[np.float32]
_Bytes = NDArray[np.uint8]
_Ints = NDArray[np.int32]
_Rows: TypeAlias = "Literal['tokens', 'outputs', 'logits'] | Counts"
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
class Counts:
    name: str
    capacity: int
    def __init__(self, name: str, capacity: int) -> None: ...
    @property
    def n(self) -> int: ...
    @property
    def rows(self) -> _Ints: ...

@disjoint_base
class Cache:
    n_pages: int
    def __init__(
        self,
        format: int,
        n_kv_heads: int,
        k_dim: int,
        v_dim: int,
        memory: _Bytes,
        offset: int,
        page_stride: int,
        table: int = 0,
    ) -> None: ...
    @staticmethod
    def head_bytes(format: int, k_dim: int, v_dim: int) -> tuple[int, int]: ...
    @staticmethod
    def page_bytes(format: int, n_kv_heads: int, k_dim: int, v_dim: int) -> int: ...
    def move_keys(
        self, pages: _Ints, inv_freq: NDArray[np.float64], distance: int, neox: bool, n_threads: int = 1
    ) -> None: ...

@disjoint_base
class State:
    table: int
    n_rows: int
    k: int
    def __init__(self, memory: _Floats, table: int = 0) -> None: ...

class OpCost(NamedTuple):
    of_outputs: bool = ...
    weight_bytes: int = ...
    macs_per_row: int = ...
    kv_bytes_per_position: int = ...
    macs_per_position: int = ...
    window: int = ...

class Plan:
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
        weight: _Floats | None,
        out: Value,
        eps: float,
        y: Value | None = None,
        post: _Floats | None = None,
        rows: _Rows = "tokens",
        gather: bool = True,
        bias: _Floats | None = None,
        centered: bool = False,
        y_scale: float = 1.0,
        x_scale: float = 1.0,
    ) -> None: ...
    def matmul(self, name: str, src: Value, segments: Sequence[_Segment], rows: _Rows = "tokens") -> None: ...
    def angles(self, name: str, inv_freq: NDArray[np.float64], mscale: float, out: Value, axes: Any = None) -> None: ...
    def rope(
        self,
        name: str,
        q: Value,
        k: Value | None,
        v: Value | None,
        angles: Value | None,
        cache: Cache,
        neox: bool,
        q_norm: tuple[_Floats | None, _Floats | None, bool] | None = None,
        k_norm: tuple[_Floats | None, _Floats | None, bool] | None = None,
        eps: float = 0.0,
        q_scale: float = 1.0,
        norm_after: bool = False,
        norm_v: bool = False,
        clamp: float = 0.0,
        temperature: float = 0.0,
        n_ctx_orig: int = 1,
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
        slopes: _Floats | None = None,
        sinks: _Floats | None = None,
        gate: Value | None = None,
    ) -> None: ...
    def glu(
        self,
        name: str,
        src: Value,
        segments: list[tuple[Matrix, Any, float]],
        out: Value,
        act: str | tuple[str, float, float, float, float],
        rows: _Rows = "tokens",
        factors: _Floats | None = None,
    ) -> None: ...
    def gated(
        self,
        name: str,
        gate: Value,
        up: Value,
        out: Value,
        act: str | tuple[str, float, float, float, float],
        first: int = 0,
        sparsity: float = 0.0,
        rows: _Rows = "tokens",
    ) -> None: ...
    def scan(self, name: str, x: Value, decay: float | _Floats, state: State, out: Value) -> None: ...
    def softcap(self, name: str, x: Value, cap: float, rows: _Rows = "tokens") -> None: ...
    def pack(self, name: str, x: Value, out: Value, rows: _Rows = "tokens") -> None: ...
    def select(
        self, name: str, scores: Value, column: int, threshold: float, out: Counts, rows: _Rows = "tokens"
    ) -> None: ...
    def gather(self, name: str, x: Value, chosen: Counts, out: Value) -> None: ...
    def wrote(self, name: str, part: str, value: Value, rows: _Rows, added: Value | None = None) -> None: ...
    def multiplies(self, name: str, src: Value, rows: _Rows) -> None: ...
    @property
    def names(self) -> list[str]: ...
    def costs(self) -> list[OpCost]: ...
    def profile(self) -> NDArray[np.int64]: ...
    def run(
        self,
        tokens: _Ints,
        positions: _Ints,
        sequences: _Ints,
        outputs: _Ints,
        tables: tuple[_Ints, ...],
        n_logits: int = -1,
        embeddings: _Floats | None = None,
        n_ops: int = -1,
    ) -> None: ...
    def stop(self) -> None: ...
