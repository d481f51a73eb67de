"""Reads GGUF files: metadata, the index of tensors, and zero-copy views of their bytes.

A file is mapped into memory, not read. When it is opened, everything that the index says is checked: types, sizes, that
tensors lie within the file and do not overlap. A text of the metadata that is not UTF-8, and a truth value other than 0
and 1, matter only to those who need them: a warning names them, and the typed getters refuse them. A view of a tensor
keeps its mapping alive: after the file was closed, the view can still be read.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyinfer.errors import GGUFError
from pyinfer.files import advice, user_path
from pyinfer.gguf.cursor import Cursor
from pyinfer.gguf.foreign import LONGEST_MAGIC, foreign_file, foreign_folder
from pyinfer.gguf.overrides import Override, overridden
from pyinfer.gguf.strings import StringArray
from pyinfer.gguf.types import TensorType, ValueType
from pyinfer.system import drop_pages

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_DIMS = 4  # ggml's bound
DEFAULT_ALIGNMENT = 32  # bytes; the format's default
MAX_ALIGNMENT = 1 << 20  # bytes; far above what files have, and small enough that padding stays harmless
MAX_TENSOR_BYTES = 1 << 50  # larger than any file, so that sums of offsets and sizes fit int64
SPLIT_NAME = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")
MAX_REMARKS = 4  # that a warning quotes, each cut to MAX_REMARK characters
MAX_REMARK = 120
SMALLEST_ENTRY = 8 + 4  # bytes: the length of a key or of a tensor's name, and the type after it

MISSING: Any = object()  # the default of a key that must be there


@dataclass(frozen=True)
class TensorInfo:
    """What a file says of a tensor. `file_shape` has the fastest dimension first, `shape` is row-major."""

    name: str
    type: TensorType
    file_shape: tuple[int, ...]
    n_bytes: int
    offset: int  # bytes from the beginning of its part of the file
    part: int  # index of the part
    _file: GGUFFile = field(repr=False, compare=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.file_shape[::-1]

    @property
    def n_elements(self) -> int:
        return math.prod(self.file_shape)

    @property
    def row_bytes(self) -> int:
        return self.file_shape[0] // self.type.block_size * self.type.block_bytes

    def rows(self) -> NDArray[np.uint8]:
        """View the tensor's bytes: uint8 [n_rows, row_bytes], read-only; rows run along the fastest dimension.

        Raises GGUFError after the file was closed; a view that was taken before stays valid.
        """
        return self._file._bytes(self).reshape(-1, self.row_bytes)


class Part:
    """One mapped file of a model."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as f:
                size = f.seek(0, 2)
                if size == 0:
                    raise GGUFError(f"{path}: the file is empty")
                self.mapping = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            hint = foreign_folder(path) if path.is_dir() else advice(error)
            raise GGUFError(f"{path}: cannot be read: {reason}{hint and '; '}{hint}") from None
        self.bytes = np.frombuffer(self.mapping, np.uint8)


class GGUFFile:
    """Open a GGUF file, or all parts of a split one.

    - `path`: the file; of a split one, any part.

    Attributes: `path`, `version`, `alignment` (bytes), `metadata` of the first part, and `tensors` of all parts by
    name, in the order of the file. Raises GGUFError, which says what is wrong and where. It is a context manager;
    `close` releases the mappings.

        with GGUFFile("model.gguf") as file:
            print(file.get_str("general.architecture"), len(file.tensors))
    """

    def __init__(self, path: str | Path) -> None:
        self.path = user_path(path)
        self.metadata: Mapping[str, Any] = {}
        self.tensors: dict[str, TensorInfo] = {}
        self._parts: list[Part] | None = []
        paths = split_paths(self.path)
        for index, part_path in enumerate(paths):
            metadata, remarks = self._read_part(Part(part_path), index)
            if index == 0:
                self.metadata = metadata
                warn_of(part_path, remarks)
            self._check_split(metadata, part_path, index, len(paths))
        n_tensors = self.metadata.get("split.tensors.count", len(self.tensors))
        if not isinstance(n_tensors, int) or n_tensors != len(self.tensors):
            raise GGUFError(
                f"{self.path}: split.tensors.count is {n_tensors!s:.80}, the parts have {len(self.tensors)} tensors"
            )

    def __enter__(self) -> GGUFFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the mappings; each is unmapped when its last view is gone."""
        self._parts = None

    def override(self, overrides: Mapping[str, Override] | None) -> None:
        """Replace values of the metadata. Raises ParameterError as `overridden` does."""
        self.metadata = overridden(self.metadata, overrides)

    def get_int(self, key: str, default: int = MISSING) -> int:
        """Get a whole number of the metadata; GGUFError if it is missing without a default, or of another type."""
        value: int = self._get(key, int, default)
        return value

    def get_float(self, key: str, default: float = MISSING) -> float:
        """Get a number; otherwise as get_int."""
        value = self._get(key, (int, float), default)
        return float(value)

    def get_str(self, key: str, default: str = MISSING) -> str:
        """Get a string; otherwise as get_int."""
        value: str = self._get(key, str, default)
        return value

    def get_bool(self, key: str, default: bool = MISSING) -> bool:
        """Get a truth value; otherwise as get_int."""
        value: bool = self._get(key, bool, default)
        return value

    def drop_pages(self, info: TensorInfo, start: int = 0, length: int | None = None) -> None:
        """Tell the system not to keep bytes [start, start + length) of a tensor in memory; None: to its end."""
        length = info.n_bytes - start if length is None else min(length, info.n_bytes - start)
        drop_pages(self._part(info.part).mapping, info.offset + start, length)

    def _get(self, key: str, kinds: Any, default: Any) -> Any:
        if key not in self.metadata:
            if default is MISSING:
                raise GGUFError(f"{self.path}: the key {key} is missing")
            return default
        value = self.metadata[key]
        if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
            found = "text that is not UTF-8" if isinstance(value, bytes) else f"of type {describe(value)}"
            names = " or ".join(k.__name__ for k in (kinds if isinstance(kinds, tuple) else (kinds,)))
            raise GGUFError(f"{self.path}: {key} is {found}, expected {names}")
        return value

    def _part(self, index: int) -> Part:
        if self._parts is None:
            raise GGUFError(f"{self.path}: the file is closed")
        return self._parts[index]

    def _bytes(self, info: TensorInfo) -> NDArray[np.uint8]:
        return self._part(info.part).bytes[info.offset : info.offset + info.n_bytes]

    def _read_part(self, part: Part, index: int) -> tuple[dict[str, Any], list[str]]:
        cursor = Cursor(part.path, part.bytes)
        version = read_header(cursor)
        n_tensors = read_count(cursor, "the number of tensors", SMALLEST_ENTRY + 8 + 8)
        n_keys = read_count(cursor, "the number of metadata keys", SMALLEST_ENTRY + 1)
        metadata: dict[str, Any] = {}
        for i in range(n_keys):
            key = cursor.key(f"metadata key {i}")
            if key in metadata:
                cursor.fail(f"the metadata key {key!r} stands twice")
            metadata[key] = cursor.value(cursor.kind(f"the key {key!r}"), f"the key {key!r}")
        alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or not 1 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
            cursor.fail(f"general.alignment is {alignment!r}, expected a power of two of at most {MAX_ALIGNMENT}")
        entries = [read_tensor(cursor, i) for i in range(n_tensors)]
        base = -(-cursor.position // alignment) * alignment
        for name, kind, file_shape, n_bytes, offset in entries:
            if name in self.tensors:
                cursor.fail(f"the tensor {name!r} stands twice")
            if offset % alignment:
                cursor.fail(f"tensor {name!r} begins at offset {offset}, not a multiple of the alignment {alignment}")
            if base + offset + n_bytes > len(part.bytes):
                cursor.fail(
                    f"tensor {name!r} takes bytes {base + offset} to {base + offset + n_bytes}, "
                    f"the file ends at {len(part.bytes)}"
                )
            self.tensors[name] = TensorInfo(name, kind, file_shape, n_bytes, base + offset, index, self)
        check_overlap(cursor, sorted(entries, key=lambda entry: entry[4]))
        if index == 0:
            self.version, self.alignment = version, alignment
        assert self._parts is not None
        self._parts.append(part)
        return metadata, cursor.remarks

    def _check_split(self, metadata: Mapping[str, Any], path: Path, index: int, n_parts: int) -> None:
        for key, expected in (("split.count", n_parts), ("split.no", index)):
            found = metadata.get(key, 0 if n_parts == 1 else expected)
            allowed = (0, 1, expected) if n_parts == 1 else (expected,)
            if not isinstance(found, int) or found not in allowed:
                raise GGUFError(f"{path}: {key} is {found!s:.80}, expected {expected} by the file's name")


def warn_of(path: Path, remarks: list[str]) -> None:
    """Warn of what is wrong with values of the metadata that perhaps nobody needs."""
    if remarks:
        shown = [remark if len(remark) <= MAX_REMARK else f"{remark[:MAX_REMARK]}…" for remark in remarks[:MAX_REMARKS]]
        more = f" (and {len(remarks) - MAX_REMARKS} more)" if len(remarks) > MAX_REMARKS else ""
        warnings.warn(f"{path}: {'; '.join(shown)}{more}", stacklevel=4)  # of who opens the file


def describe(value: object) -> str:
    """The type of a metadata value, in words for errors."""
    if isinstance(value, StringArray):
        return f"array of {len(value)} strings"
    if isinstance(value, np.ndarray):
        return f"array of {len(value)} {value.dtype.name}"
    return f"array of {len(value)} arrays" if isinstance(value, list) else type(value).__name__


def split_paths(path: Path) -> list[Path]:
    """The parts of a split file, of which `path` is one; or `path` alone. Raises GGUFError if a part is missing."""
    match = SPLIT_NAME.fullmatch(path.name)
    if match is None:
        return [path]
    n_parts = int(match[3])
    if not 1 <= int(match[2]) <= n_parts:
        raise GGUFError(f"{path}: part {int(match[2])} of {n_parts}, by its name")
    paths = [path.with_name(f"{match[1]}-{i + 1:05d}-of-{match[3]}.gguf") for i in range(n_parts)]
    for part in paths:
        if not part.exists():
            raise GGUFError(f"{path}: the file is split into {n_parts} parts, of which {part.name} is missing")
    return paths


def read_header(cursor: Cursor) -> int:
    """Check that the file is GGUF in this byte order; returns its version."""
    magic = cursor.take(min(4, len(cursor.buffer)), "the magic").tobytes()
    if magic != MAGIC:
        hint = foreign_file(cursor.path, cursor.buffer[:LONGEST_MAGIC].tobytes())
        cursor.fail(f"not a GGUF file: it begins with {magic!r}, expected {MAGIC!r}{hint and '; '}{hint}")
    version = cursor.number(ValueType.UINT32, "the version")
    if version not in VERSIONS:
        swapped = int.from_bytes(int(version).to_bytes(4, "little"), "big")
        if swapped in (1, *VERSIONS):
            cursor.fail("a big-endian GGUF file, which is not supported; convert it to little-endian")
        cursor.fail(f"GGUF version {version} is not supported, expected {' or '.join(map(str, VERSIONS))}")
    return int(version)


def read_count(cursor: Cursor, what: str, smallest: int) -> int:
    """The next number of entries; GGUFError if so many, of at least `smallest` bytes each, do not fit the file."""
    n = cursor.count(what)
    left = len(cursor.buffer) - cursor.position
    if n * smallest > left:
        cursor.fail(f"{what} is {n}, which take at least {n * smallest} bytes; {left} are left")
    return n


def read_tensor(cursor: Cursor, index: int) -> tuple[str, TensorType, tuple[int, ...], int, int]:
    """The next tensor of the index: name, type, shape in file order, size in bytes, offset in bytes."""
    name = cursor.name(f"the name of tensor {index}")
    where = f"tensor {name!r}"
    n_dims = cursor.number(ValueType.UINT32, f"the number of dimensions of {where}")
    if not 1 <= n_dims <= MAX_DIMS:
        cursor.fail(f"{where} has {n_dims} dimensions, expected 1 to {MAX_DIMS}")
    shape = tuple(cursor.count(f"dimension {i} of {where}") for i in range(n_dims))
    number = cursor.number(ValueType.UINT32, f"the type of {where}")
    offset = cursor.count(f"the offset of {where}")
    if number not in TensorType._value2member_map_:
        known = ", ".join(f"{t.value} {t.name}" for t in TensorType)
        cursor.fail(f"{where} has the unknown type {number}; there are: {known}")
    kind = TensorType.of(number)
    if 0 in shape:
        cursor.fail(f"{where} has the shape {shape}, expected no zero")
    if shape[0] % kind.block_size:
        cursor.fail(
            f"{where} has rows of {shape[0]} values, not a multiple of {kind.name}'s block of {kind.block_size}"
        )
    n_bytes = math.prod(shape) // kind.block_size * kind.block_bytes
    if n_bytes > MAX_TENSOR_BYTES:
        cursor.fail(f"{where} has the shape {shape}: {n_bytes} bytes, expected at most {MAX_TENSOR_BYTES}")
    return name, kind, shape, n_bytes, offset


def check_overlap(cursor: Cursor, entries: list[tuple[str, TensorType, tuple[int, ...], int, int]]) -> None:
    """Raise GGUFError if two tensors share bytes. entries: as read_tensor gives them, in the order of their offsets."""
    for one, two in pairwise(entries):
        if one[4] + one[3] > two[4]:
            cursor.fail(
                f"tensors {one[0]!r} and {two[0]!r} overlap: one ends at offset {one[4] + one[3]}, "
                f"the other begins at {two[4]}"
            )
