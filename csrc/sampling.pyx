# distutils: language = c++
"""Front ends of csrc/logits.hpp, cuts.hpp and repeats.hpp: candidates in, candidates out.

Candidates are ids int32 [n], ascending, and logits float32 [n]: none is NaN or +inf, impossible ones are -inf, and at
least one is possible. Callers have made sure of it.
"""

import numpy as np

from cython.operator cimport dereference, preincrement
from libc.math cimport log
from libc.stdint cimport int32_t, int64_t, uint32_t
from libcpp cimport bool as cbool
from libcpp.unordered_map cimport unordered_map


cdef extern from "logits.hpp" namespace "pyinfer" nogil:
    float largest(const float*, int64_t)
    int64_t count_at_least(const float*, int64_t, float)
    double weigh_all(const float*, int64_t, float, float, float*)
    double total_weight(const float*, int64_t, float)
    double c_mean_below "pyinfer::mean_below"(const float*, int64_t, float)
    double c_deviation "pyinfer::deviation"(const float*, int64_t, float)
    int64_t c_draw "pyinfer::draw"(const float*, int64_t, float, double) except +

cdef extern from "cuts.hpp" namespace "pyinfer" nogil:
    cdef struct Cut:
        float key
        int64_t last
        int64_t at_most

    cdef struct Keys:
        const float* logits
        cbool plain
        float top
        float center

    int64_t count_bits(const uint32_t*, int64_t)
    int64_t compact(const Keys&, Cut, const int32_t*, int64_t, int32_t*, float*)
    void mark(const Keys&, Cut, int64_t, float*)
    void compact_bits(const uint32_t*, const float*, int64_t, int32_t*, float*)
    void mark_bits(const uint32_t*, const float*, int64_t, float*)
    Cut cut_largest(const float*, int64_t, int64_t) except +
    Cut cut_share(const Keys&, int64_t, double) except +

cdef extern from "repeats.hpp" namespace "pyinfer" nogil:
    unordered_map[int64_t, int64_t] c_repeats "pyinfer::repeats"(const int64_t*, int64_t, int64_t, int64_t) except +


cdef cbool most_are_kept(int64_t n, int64_t at_most):
    """Whether it is faster to mark the others as impossible than to copy those that are kept."""
    return n > 4096 and at_most > n // 4


cdef tuple cut_down(Keys keys, Cut cut, ids):
    cdef const int32_t[::1] from_ids = ids
    cdef int32_t[::1] to_ids
    cdef float[::1] to_logits
    cdef int64_t n = from_ids.shape[0], m
    if most_are_kept(n, cut.at_most):
        kept_logits = np.empty(n, np.float32)
        to_logits = kept_logits
        with nogil:
            mark(keys, cut, n, &to_logits[0])
        return ids, kept_logits
    kept_ids = np.empty(cut.at_most + 1, np.int32)
    kept_logits = np.empty(cut.at_most + 1, np.float32)
    to_ids = kept_ids
    to_logits = kept_logits
    with nogil:
        m = compact(keys, cut, &from_ids[0], n, &to_ids[0], &to_logits[0])
    return kept_ids[:m], kept_logits[:m]


def keep_largest(ids, const float[::1] logits, int64_t k):
    """The candidates with the k largest logits, the first of equals; 0 < k < n."""
    cdef Cut cut
    with nogil:
        cut = cut_largest(&logits[0], logits.shape[0], k)
    return cut_down(Keys(&logits[0], True, 0, 0), cut, ids)


def keep_at_least(ids, const float[::1] logits, float floor):
    """The candidates with logits of at least `floor`; one at least must have it."""
    cdef int64_t n = logits.shape[0]
    return cut_down(Keys(&logits[0], True, 0, 0), Cut(floor, n, count_at_least(&logits[0], n, floor)), ids)


def keep_share(ids, const float[::1] logits, double p, float center=0):
    """The fewest candidates that have at least the share p of all probability, at least one.

    First come those whose logits lie nearest to `center` below the largest one (0: the likeliest).
    """
    cdef int64_t n = logits.shape[0]
    cdef Keys keys = Keys(&logits[0], center == 0, largest(&logits[0], n), center)
    cdef Cut cut
    with nogil:
        cut = cut_share(keys, n, p)
    return cut_down(keys, cut, ids)


def keep_bits(const uint32_t[::1] mask, ids, const float[::1] logits):
    """The candidates whose bit is set in mask [ceil(n / 32)], the least significant first; ids are 0 to n - 1."""
    cdef int64_t n = logits.shape[0], m = count_bits(&mask[0], n)
    cdef int32_t[::1] to_ids
    cdef float[::1] to_logits
    if most_are_kept(n, m):
        kept_logits = np.empty(n, np.float32)
        to_logits = kept_logits
        mark_bits(&mask[0], &logits[0], n, &to_logits[0])
        return ids, kept_logits
    kept_ids = np.empty(m, np.int32)
    kept_logits = np.empty(m, np.float32)
    if m:
        to_ids = kept_ids
        to_logits = kept_logits
        compact_bits(&mask[0], &logits[0], n, &to_ids[0], &to_logits[0])
    return kept_ids, kept_logits


def mark_kept(const uint32_t[::1] mask, float[::1] logits):
    """Set the logits whose bit is not set in mask [ceil(n / 32)] to -inf, in place. NaNs may be there, and stay."""
    if logits.shape[0]:
        mark_bits(&mask[0], &logits[0], logits.shape[0], &logits[0])


def weigh(const float[::1] logits, float scale=1):
    """(weights float32 [n], their sum): weights = exp((logits - the largest) * scale)."""
    cdef int64_t n = logits.shape[0]
    cdef double total
    weights = np.empty(n, np.float32)
    cdef float[::1] out = weights
    with nogil:
        total = weigh_all(&logits[0], n, largest(&logits[0], n), scale, &out[0])
    return weights, total


def log_total(const float[::1] logits):
    """log(sum(exp(logits)))."""
    cdef float top = largest(&logits[0], logits.shape[0])
    return top + log(total_weight(&logits[0], logits.shape[0], top))


def mean_below(const float[::1] logits):
    """The mean distance of logits from the largest, weighted by their probabilities."""
    return c_mean_below(&logits[0], logits.shape[0], largest(&logits[0], logits.shape[0]))


def deviation(const float[::1] logits):
    """The standard deviation of the possible logits."""
    return c_deviation(&logits[0], logits.shape[0], largest(&logits[0], logits.shape[0]))


def draw(const float[::1] logits, float scale, double uniform):
    """The index where the running sum of weights passes the fraction `uniform`, in [0, 1), of the whole."""
    return c_draw(&logits[0], logits.shape[0], scale, uniform)


def repeats(const int64_t[::1] tokens, int64_t limit, int64_t shortest):
    """(ids, lengths) int64 [m]: what would continue a repetition of the last tokens, and the longest one's length.

    Lengths are at most `limit`; those below `shortest` are left out. Ids ascend.
    """
    cdef unordered_map[int64_t, int64_t] longest
    cdef int64_t i = 0
    with nogil:
        longest = c_repeats(&tokens[0], tokens.shape[0], limit, shortest)
    ids = np.empty(longest.size(), np.int64)
    lengths = np.empty(longest.size(), np.int64)
    cdef int64_t[::1] to_ids = ids
    cdef int64_t[::1] to_lengths = lengths
    cdef unordered_map[int64_t, int64_t].iterator item = longest.begin()
    while item != longest.end():
        to_ids[i] = dereference(item).first
        to_lengths[i] = dereference(item).second
        preincrement(item)
        i += 1
    order = np.argsort(ids)
    return ids[order], lengths[order]
