"""Sets of tokens as bits: bit i % 32 of word i // 32 says whether token i may follow.

Masks and logits are taken apart with NumPy only, without a branch for each token: that costs the same for masks of
few tokens, of many, and of a random half (where `logits[~bits] = -inf` takes twenty times as long).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyinfer.errors import ParameterError

BLOCK_BYTES = 8192  # of a mask: what they become, 256 KiB of float32, stays in the second-level cache
SPARSE = 4  # masks with fewer filled words than one in so many are looked through word by word

# What each byte of a mask lets through: float32 [256, 8], inf where a token is allowed, -inf where it is not.
CEILINGS = np.where(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little") == 1,
    np.float32(np.inf),
    np.float32(-np.inf),
)


def mask_words(n_vocab: int) -> int:
    """How many uint32 words a mask over a vocabulary has."""
    return (n_vocab + 31) // 32


def apply_mask(logits: NDArray[np.float32], mask: NDArray[np.uint32]) -> None:
    """Set the logits of tokens that may not follow to -inf, in place.

    logits: float32 [n]; mask: uint32 [m]. Tokens from 32 m on, such as a model's padding, may not follow. NaNs stay.
    Raises ParameterError for other shapes or types.
    """
    if logits.ndim != 1 or logits.dtype != np.float32:
        raise ParameterError(f"logits are {logits.dtype} {list(logits.shape)}; expected float32 [n_vocab]")
    bits = _bytes_of(mask)
    ceilings = np.empty((min(BLOCK_BYTES, bits.size), 8), np.float32)
    for start in range(0, min(bits.size, (logits.size + 7) // 8), BLOCK_BYTES):
        part = bits[start : start + BLOCK_BYTES]
        block = ceilings[: part.size]
        np.take(CEILINGS, part, axis=0, out=block, mode="clip")
        values = logits[8 * start : 8 * (start + part.size)]
        np.minimum(values, block.reshape(-1)[: values.size], out=values)
    logits[8 * bits.size :] = -np.inf


def allowed_ids(mask: NDArray[np.uint32], n_vocab: int | None = None) -> NDArray[np.int64]:
    """The tokens of a mask, ascending: int64 [n]. n_vocab: only those below it."""
    bits = _bytes_of(mask)
    filled = np.flatnonzero(mask)
    ids: NDArray[np.int64]
    if filled.size * SPARSE < mask.size:
        found = np.flatnonzero(np.unpackbits(mask[filled].view(np.uint8), bitorder="little").view(np.bool_))
        ids = filled[found >> 5] * 32 + (found & 31)
    else:
        ids = np.flatnonzero(np.unpackbits(bits, bitorder="little").view(np.bool_))
    return ids if n_vocab is None else ids[: int(np.searchsorted(ids, n_vocab))]


def _bytes_of(mask: NDArray[np.uint32]) -> NDArray[np.uint8]:
    if mask.ndim != 1 or mask.dtype != np.uint32:
        raise ParameterError(f"the mask is {mask.dtype} {list(mask.shape)}; expected uint32 [n_words]")
    return np.ascontiguousarray(mask).view(np.uint8)
