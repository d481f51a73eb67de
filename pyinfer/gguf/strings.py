"""Arrays of strings that stay in the bytes that they were read from: a vocabulary of 150,000 makes no objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from pyinfer.errors import GGUFError


@dataclass(frozen=True)
class ByteStrings:
    """Byte strings in a buffer. buffer: uint8; offsets, lengths: int64 [n], where each string lies in it, in bytes."""

    buffer: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, i: int) -> bytes:
        start = int(self.offsets[i])
        return self.buffer[start : start + int(self.lengths[i])].tobytes()


class StringArray(Sequence[str]):
    """The strings of an array of metadata, each decoded when it is asked for.

    where: how errors name the array. buffer, offsets, lengths: as `ByteStrings` has them.
    """

    def __init__(self, where: str, strings: ByteStrings) -> None:
        self.buffer, self.offsets, self.lengths = strings.buffer, strings.offsets, strings.lengths
        self._strings = strings
        self._where = where

    def __len__(self) -> int:
        return len(self._strings)

    def raw(self, index: int) -> bytes:
        """The bytes of one string."""
        return self._strings[index]

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        try:
            return self.raw(index).decode()
        except UnicodeDecodeError as error:
            raise GGUFError(f"{self._where}: string {index} is not UTF-8 ({error})") from None

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"<StringArray of {len(self)}>"
