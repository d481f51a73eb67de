"""A model's weights, as matrices and vectors for the kernels.

"copy": matrices are interleaved into row groups, one after the other, in one region of huge pages. The file's pages are
dropped as soon as they were read, so that resident memory stays near the file's size. "mmap": matrices stay in the
mapped file, whose pages all processes share and the system may drop; each product interleaves the rows that it reads.
Vectors (norms, biases) become float32 in both modes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from pyinfer import _kernels
from pyinfer.errors import ModelError, ParameterError
from pyinfer.gguf import GGUFFile, TensorInfo, TensorType
from pyinfer.system import allocate

CHUNK_BYTES = 16 << 20  # of the file, interleaved at a time; they are resident twice, and Ctrl-C waits for them
ALIGNMENT = 64
MODES = ("copy", "mmap")
MAX_LISTED, MAX_SHOWN = 6, 80  # names in an error, and characters of each


class Weights:
    """Returns a file's tensors as matrices and vectors; `load` then fills the matrices that were returned.

    `mode`: "copy" or "mmap". Matrices in the mapped file keep the mapping alive. A tensor that was returned once is
    the same object at the next call, also after the file was closed.
    """

    def __init__(self, file: GGUFFile, mode: str = "copy") -> None:
        if mode not in MODES:
            raise ParameterError(f"weights is {mode!r}; expected {' or '.join(map(repr, MODES))}")
        self._path = file.path
        self._names = frozenset(file.tensors)
        self._file: GGUFFile | None = file  # None after `load`
        self._mode = mode
        self._matrices: dict[str, _kernels.Matrix] = {}
        self._vectors: dict[str, NDArray[np.float32]] = {}
        self._to_load: list[str] = []
        self._transposed: set[str] = set()  # matrices that are transposed in the file
        self._handed_out: set[str] = set()
        room = sum(self._room(info) for info in file.tensors.values()) if mode == "copy" else 0
        self._region = allocate(room)
        self._used = 0

    @property
    def n_bytes(self) -> int:
        """Bytes of all matrices."""
        return sum(matrix.n_bytes for matrix in self._matrices.values())

    def hide(self, patterns: Iterable[str]) -> None:
        """Take tensors for not there, whose names match a pattern of fnmatch."""
        self._names -= {name for pattern in patterns for name in self._names if fnmatchcase(name, pattern)}

    def has(self, name: str) -> bool:
        return name in self._names

    def unused(self) -> list[str]:
        """Return the names of the file's tensors that were not asked for, sorted."""
        return sorted(self._names - self._handed_out)

    def check_used(self, user: str) -> None:
        """Raise ModelError if some tensors were neither asked for nor hidden.

        `user`: who should have used them, for the error.
        """
        left = self.unused()
        if left:
            names = ", ".join(name[:MAX_SHOWN] for name in left[:MAX_LISTED])
            more = f" and {len(left) - MAX_LISTED} more" if len(left) > MAX_LISTED else ""
            raise ModelError(
                f"{self._path}: {user} does not use {len(left)} of the file's {len(self._names)} tensors: "
                f"{names}{more}; without them the results would be wrong"
            )

    def matrix(self, name: str, n_rows: int, k: int) -> _kernels.Matrix:
        """Return the matrix [n_rows, k] of this name. Raises ModelError if it is missing or has another shape."""
        return self._matrix(name, n_rows, k)

    def embedding(self, name: str, n_vocab: int, k: int) -> _kernels.Matrix:
        """Return a matrix [n_vocab, k] as `matrix` does; if the file has [k, n_vocab], it is transposed in float32.

        No other matrix may be transposed in the file: accepting that would hide an error of the file or its reader.
        """
        return self._matrix(name, n_vocab, k, or_transposed=True)

    def _matrix(self, name: str, n_rows: int, k: int, or_transposed: bool = False) -> _kernels.Matrix:
        if name in self._matrices:
            known = self._matrices[name]
            if (known.n_rows, known.k) != (n_rows, k):
                raise ModelError(f"{self._path}: {name} has shape {(known.n_rows, known.k)}, expected {(n_rows, k)}")
            return known
        info = self._info(name)
        transposed = or_transposed and info.shape == (k, n_rows) != (n_rows, k)
        if info.shape != (n_rows, k) and not transposed:
            raise ModelError(f"{self._path}: {name} has shape {info.shape}, expected {(n_rows, k)}")
        if not _kernels.has_kernels(info.type):
            raise ModelError(f"{self._path}: {name} is of type {info.type.name}, for which there are no kernels")
        kind = TensorType.F32 if transposed else info.type
        if self._mode == "mmap" and not transposed:
            self._matrices[name] = _kernels.Matrix.of_rows(kind, info.rows(), k)
            return self._matrices[name]
        if transposed:
            self._transposed.add(name)
        size = _kernels.Matrix.size(kind, n_rows, k)
        if self._used + size > len(self._region):  # a transposed matrix is larger in memory than in the file
            memory = allocate(size)
        else:
            memory = self._region[self._used : self._used + size]
            self._used += -(-size // ALIGNMENT) * ALIGNMENT
        self._matrices[name] = _kernels.Matrix(kind, n_rows, k, memory)
        self._to_load.append(name)
        return self._matrices[name]

    def vector(self, name: str, n: int) -> NDArray[np.float32]:
        """Return the n values of a tensor. Raises ModelError if it is missing or has another number of values."""
        if name not in self._vectors:
            info = self._info(name)
            if info.n_elements != n:
                raise ModelError(f"{self._path}: {name} has shape {info.shape}, expected ({n},)")
            self._vectors[name] = _kernels.dequantize(info.rows(), info.type, info.file_shape[0]).reshape(-1)
        return self._vectors[name]

    def n_rows(self, name: str) -> int:
        """Return the rows of a matrix of the file; 0: it has no such matrix."""
        known = self._matrices.get(name)
        if known is not None:
            return known.n_rows
        shape = self._file.tensors[name].shape if self._file is not None and name in self._names else ()
        return shape[0] if len(shape) == 2 else 0

    def one_of(self, name: str, sizes: Sequence[int]) -> NDArray[np.float32]:
        """Return a vector as `vector` does, of any of several numbers of values."""
        n = self._info(name).n_elements if name not in self._vectors else self._vectors[name].size
        return self.vector(name, n if n in sizes else sizes[0])

    def vector_or_none(self, name: str, n: int) -> NDArray[np.float32] | None:
        return self.vector(name, n) if self.has(name) else None

    def row_or_none(self, name: str, row: int, k: int) -> NDArray[np.float32] | None:
        """Return one row of a matrix of k columns, float32 [k]; None where the file has no such matrix."""
        if not self.has(name):
            return None
        key = f"{name}[{row}]"
        if key not in self._vectors:
            info = self._info(name)
            if info.file_shape[0] != k:
                raise ModelError(f"{self._path}: {name} has shape {info.shape}, expected rows of {k}")
            self._vectors[key] = _kernels.dequantize(info.rows()[row : row + 1], info.type, k)[0]
        return self._vectors[key]

    def scalar(self, name: str, default: float) -> float:
        return float(self.vector(name, 1)[0]) if self.has(name) else default

    def load(self, n_threads: int, progress: Callable[[int, int], None] | None = None) -> None:
        """Fill the matrices that are copies, and release the file.

        `progress` is called after each part with (bytes done, bytes in all).
        """
        file, self._file = self._file, None
        assert file is not None
        done, total = 0, sum(self._matrices[name].n_bytes for name in self._to_load)
        for name in self._to_load:
            matrix, info = self._matrices[name], file.tensors[name]
            rows = info.rows()
            if name in self._transposed:
                values = _kernels.dequantize(rows, info.type, info.shape[1])
                rows = np.ascontiguousarray(values.T).view(np.uint8)
            step = max(1, CHUNK_BYTES // (16 * rows.shape[1])) * 16
            for first in range(0, matrix.n_rows, step):
                matrix.load(rows[first : first + step], first, n_threads)
                file.drop_pages(info, first * rows.shape[1], step * rows.shape[1])
                done += min(step, matrix.n_rows - first) * rows.shape[1]
                if progress is not None:
                    progress(min(done, total), total)
        self._to_load.clear()

    def _info(self, name: str) -> TensorInfo:
        if self._file is None or name not in self._file.tensors:
            raise ModelError(f"{self._path}: the tensor {name} is missing")
        self._handed_out.add(name)
        return self._file.tensors[name]

    @staticmethod
    def _room(info: TensorInfo) -> int:
        """Return the bytes of the row groups of a matrix or of a stack of matrices; the last group is padded."""
        if len(info.shape) < 2:
            return 0
        *stack, n_rows, _ = info.shape
        n_matrices = math.prod(stack)
        row_bytes = info.n_bytes // (n_matrices * n_rows)
        return n_matrices * (-(-(-(-n_rows // 16) * 16 * row_bytes) // ALIGNMENT) * ALIGNMENT)
