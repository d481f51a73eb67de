"""Finds the strings of a GGUF string array without decoding them: a vocabulary has some 150,000."""

import numpy as np

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy


def index_strings(const uint8_t[::1] buffer not None, int64_t start, int64_t count):
    """Where `count` length-prefixed strings lie from byte `start` of `buffer` on.

    Returns (offsets, lengths, end): int64 [count] each, and the byte after the last string; None where a string
    would reach beyond the buffer. The caller has checked 0 <= start and that 8 * count bytes exist.
    """
    offsets = np.empty(count, np.int64)
    lengths = np.empty(count, np.int64)
    cdef int64_t[::1] at = offsets
    cdef int64_t[::1] size = lengths
    cdef uint64_t length
    cdef int64_t position = start, n = buffer.shape[0], i
    with nogil:
        for i in range(count):
            if n - position < 8:
                with gil:
                    return None
            memcpy(&length, &buffer[position], 8)
            position += 8
            if length > <uint64_t>(n - position):
                with gil:
                    return None
            at[i] = position
            size[i] = <int64_t>length
            position += <int64_t>length
    return offsets, lengths, position
