import numpy as np
from numpy.typing import NDArray

def index_strings(
    buffer: NDArray[np.uint8], start: int, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], int] | None: ...
