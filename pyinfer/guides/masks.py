"""Masks, sets of tokens as bits: bit i % 32 of word i // 32 says whether token i may follow."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from pyinfer import _sampling
from pyinfer.arguments import quoted
from pyinfer.errors import ParameterError

SPARSE = 4  # where less than one word in so many has bits, only these words are unpacked, which then is faster


def mask_words(n_vocab: int) -> int:
    """How many uint32 words a mask over a vocabulary has."""
    return (n_vocab + 31) // 32


def apply_mask(logits: NDArray[np.float32], mask: NDArray[np.uint32]) -> None:
    """Set the logits of tokens that may not follow to -inf, in place. NaNs of tokens that may follow stay.

    - `logits`: float32 [n].
    - `mask`: uint32 [m]; tokens from 32 m on, such as a model's padding, may not follow.

    Raises ParameterError for other shapes or types.
    """
    if logits.ndim != 1 or logits.dtype != np.float32:
        raise ParameterError(f"logits are {logits.dtype} {list(logits.shape)}; expected float32 [n_vocab]")
    n = min(logits.size, 8 * _bytes_of(mask).size)
    kept = np.ascontiguousarray(logits[:n])
    _sampling.mark_kept(np.ascontiguousarray(mask), kept)
    if not logits.flags.c_contiguous:
        logits[:n] = kept
    logits[n:] = -np.inf


def allowed_ids(mask: NDArray[np.uint32], n_vocab: int | None = None) -> NDArray[np.int64]:
    """The tokens of a mask, ascending: int64 [n]. n_vocab: only tokens below it; None: all."""
    bits = _bytes_of(mask)
    filled = np.flatnonzero(mask)
    ids: NDArray[np.int64]
    if filled.size * SPARSE < mask.size:
        found = np.flatnonzero(np.unpackbits(mask[filled].view(np.uint8), bitorder="little").view(np.bool_))
        ids = filled[found >> 5] * 32 + (found & 31)
    else:
        ids = np.flatnonzero(np.unpackbits(bits, bitorder="little").view(np.bool_))
    return ids if n_vocab is None else ids[: int(np.searchsorted(ids, n_vocab))]


def has_ids(mask: NDArray[np.uint32], ids: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Whether each of the ids may follow: bool [n]. ids: int [n]; those that the mask has no bits for may not."""
    words = with_bits(mask, int(ids.max(initial=0)) + 1)
    bits: NDArray[np.bool_] = (words[ids >> 5] >> (ids & 31).astype(np.uint32) & 1).astype(np.bool_)
    return bits


def allows_only(mask: NDArray[np.uint32], ids: Collection[int]) -> bool:
    """Whether no other tokens than these may follow."""
    rest = mask.copy()
    for token in ids:
        if token < 32 * len(rest):
            rest[token // 32] &= ~np.uint32(1 << token % 32)
    return not rest.any()


def with_bits(mask: NDArray[np.uint32], n_bits: int) -> NDArray[np.uint32]:
    """A mask with at least n_bits bits, those added being 0: a row of logits may be longer than a guide's vocabulary.

    Raises ParameterError for what is no mask.
    """
    if not isinstance(mask, np.ndarray) or mask.dtype != np.uint32 or mask.ndim != 1:
        raise ParameterError(f"mask is {quoted(mask)}; expected uint32 [ceil(n_vocab / 32)]")
    missing = mask_words(n_bits) - len(mask)
    return np.ascontiguousarray(mask if missing <= 0 else np.pad(mask, (0, missing)))


def _bytes_of(mask: NDArray[np.uint32]) -> NDArray[np.uint8]:
    if mask.ndim != 1 or mask.dtype != np.uint32:
        raise ParameterError(f"the mask is {mask.dtype} {list(mask.shape)}; expected uint32 [n_words]")
    return np.ascontiguousarray(mask).view(np.uint8)
