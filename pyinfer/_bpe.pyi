"""Types of csrc/bpe.pyx."""

from numpy import float32, int16, int32, int64, uint8, uint32
from numpy.typing import NDArray
from typing_extensions import disjoint_base

@disjoint_base
class BytePairs:
    n_tokens: int
    def __new__(
        cls,
        alphabet: NDArray[int16],
        buffer: NDArray[uint8],
        offsets: NDArray[int64],
        lengths: NDArray[int64],
        types: NDArray[int32],
        byte_values: NDArray[int16] | None = None,
    ) -> BytePairs: ...
    def add_merges(self, buffer: NDArray[uint8], offsets: NDArray[int64], lengths: NDArray[int64]) -> int: ...
    def encode(self, words: list[str], whole: bool) -> list[int]: ...
    def find(self, text: bytes) -> int: ...
    def token_bytes(self, token: int) -> bytes: ...

@disjoint_base
class ScoredPieces:
    n_tokens: int
    def __new__(
        cls,
        buffer: NDArray[uint8],
        offsets: NDArray[int64],
        lengths: NDArray[int64],
        types: NDArray[int32],
        byte_values: NDArray[int16],
        scores: NDArray[float32],
    ) -> ScoredPieces: ...
    def encode(self, text: bytes, unknown: int) -> tuple[list[int], int]: ...
    def find(self, text: bytes) -> int: ...
    def token_bytes(self, token: int) -> bytes: ...

@disjoint_base
class UnigramPieces:
    n_tokens: int
    def __new__(
        cls,
        buffer: NDArray[uint8],
        offsets: NDArray[int64],
        lengths: NDArray[int64],
        types: NDArray[int32],
        byte_values: NDArray[int16],
        scores: NDArray[float32],
    ) -> UnigramPieces: ...
    def set_charsmap(self, nodes: NDArray[uint32], replacements: NDArray[uint8]) -> None: ...
    def normalize(self, text: bytes, prefix: bool, merge: bool, continues: bool, max_bytes: int) -> bytes | None: ...
    def encode(self, text: bytes, unknown: int) -> tuple[list[int], int]: ...
    def token_bytes(self, token: int) -> bytes: ...

@disjoint_base
class SpecialTokens:
    def __init__(self) -> None: ...
    def add(self, text: bytes, token: int, control: bool, strip_left: bool, strip_right: bool) -> None: ...
    def split(self, text: bytes, control: bool) -> list[tuple[int, int, int]]: ...
