"""Quantized arrays: rows of blocks to float32."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyinfer import _kernels
from pyinfer.errors import ParameterError
from pyinfer.gguf import TensorType


def dequantize(rows: NDArray[np.uint8], type: TensorType, k: int) -> NDArray[np.float32]:
    """Convert quantized rows to float32.

    - `rows`: rows of blocks as a file has them, uint8 [n_rows, row_bytes].
    - `type`: the quantization format.
    - `k`: values in a row.

    Returns float32 [n_rows, k]. Raises ParameterError for a type without kernels and for rows that are not k values
    long.

        dequantize(info.rows(), info.type, info.file_shape[0])
    """
    if not _kernels.has_kernels(type):
        raise ParameterError(f"type is {type.name}, for which there are no kernels")
    values: NDArray[np.float32] = _kernels.dequantize(np.ascontiguousarray(rows), type, k)
    return values
