"""Writes GGUF files (version 3): metadata, then tensors, one after the other, so that not all need be in memory.

    writer = GGUFWriter("model.gguf", {"general.architecture": "llama"})
    writer.add_tensor("token_embd.weight", embedding)
    writer.write()

The file gets its name when it is whole. With a bound on the tensors or bytes of a part, it is split into
NAME-00001-of-0000N.gguf and so on, as llama.cpp does it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pyinfer.errors import ParameterError
from pyinfer.files import atomic_write, user_path
from pyinfer.gguf.reader import DEFAULT_ALIGNMENT, MAGIC, MAX_ALIGNMENT, MAX_DIMS
from pyinfer.gguf.types import NUMBER_TYPES, TensorType, ValueType

VERSION = 3
Chunks = Callable[[], Iterable[NDArray[Any] | bytes]]
FLOAT_TYPES = {"float32": TensorType.F32, "float16": TensorType.F16, "float64": TensorType.F64}
NUMPY_TYPES = {np.dtype(name): kind for kind, name in NUMBER_TYPES.items()}


@dataclass(frozen=True)
class Entry:
    """A tensor to be written. shape is row-major."""

    name: str
    type: TensorType
    shape: tuple[int, ...]
    chunks: Chunks

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) // self.type.block_size * self.type.block_bytes


class GGUFWriter:
    """Collect metadata and tensors, then write them.

    - `path`: the file to be written.
    - `metadata` (none): values by key: bool, int, float, str, sequences of one of them, NumPy numbers and arrays, or
      (ValueType, value) to choose the type.
    - `alignment` (32): of tensors, in bytes; a power of two of at most 1 MiB.

    Raises ParameterError for another alignment.

        writer = GGUFWriter("new.gguf", {"general.architecture": "llama"})
        writer.add_tensor("token_embd.weight", embedding)
        writer.write()
    """

    def __init__(
        self, path: str | Path, metadata: Mapping[str, Any] | None = None, alignment: int = DEFAULT_ALIGNMENT
    ) -> None:
        if alignment < 1 or alignment > MAX_ALIGNMENT or alignment & (alignment - 1):
            raise ParameterError(f"alignment is {alignment}; expected a power of two of at most {MAX_ALIGNMENT}")
        self.path = user_path(path)
        self.alignment = alignment
        self.metadata: dict[str, Any] = dict(metadata or {})
        self._entries: dict[str, Entry] = {}
        if alignment != DEFAULT_ALIGNMENT:
            self.metadata["general.alignment"] = (ValueType.UINT32, alignment)

    def add_tensor(
        self,
        name: str,
        data: NDArray[Any] | Chunks,
        type: TensorType | None = None,
        shape: Sequence[int] | None = None,
    ) -> None:
        """Add a tensor; its data is read when the file is written.

        - `name`: of the tensor, once a file.
        - `data`: a float array of the tensor's shape; or, with `type` and `shape`, its bytes (uint8 of any shape) or a
          function that returns them in chunks.
        - `type` (that of the array): the format of the bytes.
        - `shape` (that of the array): row-major, 1 to 4 dimensions.

        Raises ParameterError for a name that was added before, for other numbers of dimensions, for rows that are not
        whole blocks, and for bytes that do not match the shape.
        """
        if name in self._entries:
            raise ParameterError(f"tensor {name!r} was added before")
        if isinstance(data, np.ndarray) and type is None:
            if data.dtype.name not in FLOAT_TYPES:
                raise ParameterError(f"tensor {name!r} is of {data.dtype}; name its type, or give floats")
            type, shape = FLOAT_TYPES[data.dtype.name], data.shape
        if type is None or shape is None:
            raise ParameterError(f"tensor {name!r} needs a type and a shape")
        shape = tuple(int(n) for n in shape)
        if not 1 <= len(shape) <= MAX_DIMS or min(shape) < 1:
            raise ParameterError(f"tensor {name!r} has the shape {shape}; expected 1 to {MAX_DIMS} dimensions above 0")
        if shape[-1] % type.block_size:
            raise ParameterError(
                f"tensor {name!r} has rows of {shape[-1]} values, not a multiple of {type.name}'s {type.block_size}"
            )
        if isinstance(data, np.ndarray):
            array = np.ascontiguousarray(data)
            entry = Entry(name, type, shape, lambda: [array])
            if array.nbytes != entry.n_bytes:
                raise ParameterError(
                    f"tensor {name!r} has {array.nbytes} bytes; its shape {shape} takes {entry.n_bytes}"
                )
        else:
            entry = Entry(name, type, shape, data)
        self._entries[name] = entry

    def write(self, max_tensors: int | None = None, max_bytes: int | None = None) -> list[Path]:
        """Write the file, or its parts.

        - `max_tensors` (None: no bound): tensors of a part.
        - `max_bytes` (None: no bound): bytes of a part's tensors; one that is larger has a part of its own.

        Returns the paths. Raises ParameterError where a function of `add_tensor` gives another number of bytes, and
        OSError.
        """
        parts = self._split(max_tensors, max_bytes)
        if len(parts) == 1:
            self._write_part(self.path, self.metadata, parts[0])
            return [self.path]
        stem = self.path.name.removesuffix(".gguf")
        paths = []
        for i, entries in enumerate(parts):
            path = self.path.with_name(f"{stem}-{i + 1:05d}-of-{len(parts):05d}.gguf")
            split = {
                "split.no": (ValueType.UINT16, i),
                "split.count": (ValueType.UINT16, len(parts)),
                "split.tensors.count": (ValueType.INT32, len(self._entries)),
            }
            own = self.metadata if i == 0 else {k: v for k, v in self.metadata.items() if k == "general.alignment"}
            self._write_part(path, {**own, **split}, entries)
            paths.append(path)
        return paths

    def _split(self, max_tensors: int | None, max_bytes: int | None) -> list[list[Entry]]:
        parts: list[list[Entry]] = [[]]
        for entry in self._entries.values():
            size = sum(e.n_bytes for e in parts[-1]) + entry.n_bytes
            full = len(parts[-1]) == max_tensors or (max_bytes is not None and size > max_bytes)
            if full and parts[-1]:
                parts.append([])
            parts[-1].append(entry)
        return parts

    def _write_part(self, path: Path, metadata: Mapping[str, Any], entries: list[Entry]) -> None:
        with atomic_write(path) as f:
            f.write(MAGIC + struct.pack("<IQQ", VERSION, len(entries), len(metadata)))
            for key, value in metadata.items():
                f.write(encode_string(key) + encode_value(key, value))
            self._write_tensors(f, entries)

    def _write_tensors(self, f: BinaryIO, entries: list[Entry]) -> None:
        offset = 0
        for entry in entries:
            f.write(encode_string(entry.name) + struct.pack("<I", len(entry.shape)))
            f.write(struct.pack(f"<{len(entry.shape)}Q", *entry.shape[::-1]))
            f.write(struct.pack("<IQ", entry.type, offset))
            offset += -(-entry.n_bytes // self.alignment) * self.alignment
        f.write(bytes(-f.tell() % self.alignment))
        for entry in entries:
            written = 0
            for chunk in entry.chunks():
                written += f.write(
                    chunk if isinstance(chunk, bytes) else np.ascontiguousarray(chunk).reshape(-1).view(np.uint8).data
                )
            if written != entry.n_bytes:
                raise ParameterError(f"tensor {entry.name!r} gave {written} bytes; its shape takes {entry.n_bytes}")
            f.write(bytes(-written % self.alignment))


def encode_string(text: str | bytes) -> bytes:
    """The length in bytes, then the text."""
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def encode_value(key: str, value: Any) -> bytes:
    """The type, then the value."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], ValueType):
        kind, value = value
    else:
        kind = infer_type(key, value)
    return struct.pack("<I", kind) + encode_payload(key, kind, value)


def encode_payload(key: str, kind: ValueType, value: Any) -> bytes:
    """The value alone. Raises ParameterError, which names the key, for an array of several types."""
    if kind == ValueType.STRING:
        return encode_string(value)
    if kind in NUMBER_TYPES:
        return encode_numbers(key, kind, value)
    kinds = {infer_type(key, element) for element in value} if not isinstance(value, np.ndarray) else set()
    if isinstance(value, np.ndarray):
        element = NUMPY_TYPES[value.dtype]
    elif kinds <= {ValueType.INT32, ValueType.UINT32, ValueType.INT64, ValueType.UINT64} and len(kinds) > 1:
        element = ValueType.INT64
    elif len(kinds) > 1:
        raise ParameterError(f"{key} is an array of several types: {', '.join(sorted(k.name for k in kinds))}")
    else:
        element = next(iter(kinds), ValueType.INT32)
    head = struct.pack("<IQ", element, len(value))
    if element in NUMBER_TYPES:
        return head + encode_numbers(key, element, value)
    return head + b"".join(encode_payload(key, element, item) for item in value)


def encode_numbers(key: str, kind: ValueType, value: Any) -> bytes:
    """A number or an array of numbers. Raises ParameterError, which names the key, for one out of the type's range."""
    try:
        return np.asarray(value, NUMBER_TYPES[kind]).tobytes()
    except (OverflowError, ValueError, TypeError) as error:
        raise ParameterError(f"{key} does not fit into {kind.name}: {error}") from None


def infer_type(key: str, value: Any) -> ValueType:
    """The type for a value: the first of UINT32, INT32, INT64, UINT64 that has a whole number; FLOAT32 for floats."""
    if isinstance(value, bool | np.bool_):
        return ValueType.BOOL
    if isinstance(value, np.generic):
        return NUMPY_TYPES[value.dtype]
    if isinstance(value, int):
        for kind in (ValueType.UINT32, ValueType.INT32, ValueType.INT64, ValueType.UINT64):
            limits = np.iinfo(NUMBER_TYPES[kind])
            if limits.min <= value <= limits.max:
                return kind
        raise ParameterError(f"{key} is {value}, which no type of 64 bits holds")
    if isinstance(value, float):
        return ValueType.FLOAT32
    if isinstance(value, str | bytes):
        return ValueType.STRING
    if isinstance(value, Sequence | np.ndarray):
        return ValueType.ARRAY
    raise ParameterError(f"{key} is of type {type(value).__name__}, which GGUF has no value type for")
