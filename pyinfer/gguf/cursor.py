"""Reads the values of GGUF from bytes. Every length is checked against the bytes that are left before it is used.

Arithmetic on lengths uses Python's integers, which do not overflow.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from pyinfer._gguf_index import index_strings
from pyinfer.errors import GGUFError
from pyinfer.gguf.strings import ByteStrings, StringArray
from pyinfer.gguf.types import NUMBER_TYPES, ValueType

MAX_DEPTH = 4  # arrays within arrays; no known file nests them at all, and recursion must have an end
MAX_KEY_BYTES = 65535  # the bound of the specification


class Cursor:
    """A position in a file's bytes, which moves forward as values are read.

    `remarks`: what is wrong with values, but only matters to those who need them.
    """

    def __init__(self, path: Path, buffer: NDArray[np.uint8]) -> None:
        self.path = path
        self.buffer = buffer
        self.position = 0
        self.remarks: list[str] = []

    def fail(self, what: str) -> NoReturn:
        """Raise GGUFError for what is wrong with the file."""
        raise GGUFError(f"{self.path}: {what}")

    def take(self, n_bytes: int, what: str) -> NDArray[np.uint8]:
        """A view of the next bytes, uint8 [n_bytes]. GGUFError, which calls them `what`, if the file ends before."""
        left = len(self.buffer) - self.position
        if n_bytes > left:
            self.fail(f"the file is cut short: {what} at byte {self.position} takes {n_bytes} bytes, {left} are left")
        self.position += n_bytes
        return self.buffer[self.position - n_bytes : self.position]

    def number(self, kind: ValueType, what: str) -> Any:
        """The next number or truth value; of the latter, an int where its byte is neither 0 nor 1."""
        dtype = np.dtype(NUMBER_TYPES[kind])
        raw = self.take(dtype.itemsize, what)
        if kind == ValueType.BOOL and raw[0] > 1:
            self.remarks.append(f"{what} is the byte {raw[0]}, expected a truth value of 0 or 1")
            return int(raw[0])
        return raw.view(dtype)[0].item()

    def count(self, what: str) -> int:
        """The next uint64."""
        return int.from_bytes(self.take(8, what).tobytes(), "little")

    def raw_string(self, what: str, maximum: int | None = None) -> bytes:
        """The bytes of the next string, at most `maximum` of them (None: any number)."""
        length = self.count(f"the length of {what}")
        if maximum is not None and length > maximum:
            self.fail(f"{what} at byte {self.position} is {length} bytes long, expected at most {maximum}")
        return self.take(length, what).tobytes()

    def name(self, what: str) -> str:
        """The next string, the name of a tensor. GGUFError if it is too long or not UTF-8."""
        raw = self.raw_string(what, MAX_KEY_BYTES)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            self.fail(f"{what} at byte {self.position - len(raw)} is not UTF-8 ({error})")

    def key(self, what: str) -> str:
        r"""The next string, a key of the metadata; bytes that are not UTF-8 become text such as \xff."""
        raw = self.raw_string(what, MAX_KEY_BYTES)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self.remarks.append(f"{what} is not UTF-8")
            return raw.decode(errors="backslashreplace")

    def text(self, what: str) -> str | bytes:
        """The next string, a value of the metadata; bytes where it is not UTF-8."""
        raw = self.raw_string(what)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self.remarks.append(f"{what} is not UTF-8")
            return raw

    def kind(self, what: str) -> ValueType:
        """The next value type: that of `what`."""
        number = self.number(ValueType.UINT32, f"the type of {what}")
        if number not in ValueType._value2member_map_:
            known = ", ".join(f"{t.value} {t.name}" for t in ValueType)
            self.fail(f"{what} has the value type {number}; there are: {known}")
        return ValueType(number)

    def value(self, kind: ValueType, what: str, depth: int = 0) -> Any:
        """The next value: bool, int, float, str, read-only array of numbers, StringArray or list of arrays.

        A text that is not UTF-8 is bytes, a truth value other than 0 and 1 an int; `remarks` says so.
        """
        if kind == ValueType.STRING:
            return self.text(what)
        if kind != ValueType.ARRAY:
            return self.number(kind, what)
        if depth == MAX_DEPTH:
            self.fail(f"{what} has arrays nested more than {MAX_DEPTH} deep")
        element = self.kind(f"the elements of {what}")
        n = self.count(f"the number of elements of {what}")
        smallest = np.dtype(NUMBER_TYPES[element]).itemsize if element in NUMBER_TYPES else 8
        left = len(self.buffer) - self.position
        if n * smallest > left:
            self.fail(f"the file is cut short: {what} has {n} elements of {element.name}, {left} bytes are left")
        if element in NUMBER_TYPES:
            raw = self.take(n * smallest, what)
            if element == ValueType.BOOL and (raw > 1).any():
                self.remarks.append(f"{what} holds bytes other than the truth values 0 and 1")
                return raw
            return raw.view(NUMBER_TYPES[element])
        if element == ValueType.STRING:
            found = index_strings(self.buffer, self.position, n)
            if found is None:
                self.fail(f"the file is cut short: a string of {what} reaches beyond its end")
            offsets, lengths, self.position = found
            return StringArray(f"{self.path}: {what}", ByteStrings(self.buffer, offsets, lengths))
        return [self.value(element, what, depth + 1) for _ in range(n)]
