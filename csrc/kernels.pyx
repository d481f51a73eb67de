"""The compiled kernels: checks of shapes and types, then calls without the GIL.

`Matrix` holds a weight in row groups, `Value` the activations between operations, `Plan` the recorded operations.
A program uses them through pyinfer.runtime.plan; the tests also call single operations.
"""

import os
import time
from typing import NamedTuple

import numpy as np

cimport cython
from libc.stdint cimport int32_t, int64_t, int8_t, uint8_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libcpp cimport bool as bool_t
from libcpp.vector cimport vector
from cython.parallel cimport prange

from ops cimport *

from pyinfer.errors import ParameterError

cdef extern from "Python.h":
    int PyErr_CheckSignals() noexcept  # leaves the error set, for the end of the pass to raise

PAGE = kPage
SPLIT = kSplit
cdef int ROWS_PER_TILE = 80  # of an attention tile, at most: query tokens times the heads of a KV head

cdef Kernels kernels
cdef uint64_t words_seen  # what read_bandwidth summed, so that the reading is not optimised away


def available_isas() -> list:
    """The instruction sets that this build has and this processor can run, best first."""
    return [kVariants[i].name.decode() for i in range(kNumVariants) if cpu_supports(kVariants[i].name)]


def select_isa(name=None) -> str:
    """Use the kernels of one instruction set (default: the best) for whatever is built from now on; returns its name."""
    global kernels
    names = available_isas()
    if name and name not in names:
        raise ParameterError(f"instruction set {name!r} (PYINFER_ISA) is not available here; there are: {', '.join(names)}")
    chosen = name or names[0]
    for i in range(kNumVariants):
        if kVariants[i].name.decode() == chosen:
            kernels = kVariants[i].make()
    return chosen


def current_isa() -> str:
    """The name of the instruction set in use."""
    return kernels.name.decode()


select_isa(os.environ.get("PYINFER_ISA"))


cdef const FormatInfo* find_format(int format) except NULL:
    cdef const FormatInfo* info = kernels.format(format)
    if info == NULL:
        raise ParameterError(f"no kernels for tensor type {format}")
    return info


def has_kernels(int format) -> bool:
    """Whether products with this tensor type (a ggml id) are implemented."""
    return kernels.format(format) != NULL


def is_quantized(int format) -> bool:
    """Whether products with this tensor type take quantized activations."""
    return find_format(format).quantized


cdef int64_t check_rows(const uint8_t[:, ::1] rows, const FormatInfo* info, int64_t k) except -1:
    if k <= 0 or k % info.block:
        raise ParameterError(f"{k} columns are not a multiple of the block of {info.block} values")
    if rows.shape[1] != k // info.block * info.block_bytes:
        raise ParameterError(f"a row of {k} columns has {k // info.block * info.block_bytes} bytes, not {rows.shape[1]}")
    return k // info.block


def dequantize(const uint8_t[:, ::1] rows, int format, int64_t k):
    """Rows of blocks as the file has them, uint8 [n_rows, row_bytes] -> float32 [n_rows, k]."""
    cdef const FormatInfo* info = find_format(format)
    cdef int64_t n_blocks = check_rows(rows, info, k), i
    out = np.empty((rows.shape[0], k), np.float32)
    cdef float[:, ::1] view = out
    with nogil:
        for i in range(rows.shape[0]):
            info.dequantize(&rows[i, 0], n_blocks, &view[i, 0])
    return out


cdef class Matrix:
    """A weight [n_rows, k]: in row groups, in memory that the caller gives, or by `Matrix.of_rows` in the file's rows.

    memory: writable uint8 of at least `Matrix.size(...)` bytes. `load` fills it, all rows or a run of whole groups.
    """

    cdef Weight c
    cdef const FormatInfo* info
    cdef object memory
    cdef readonly int format
    cdef readonly int64_t n_rows, k

    @staticmethod
    def size(int format, int64_t n_rows, int64_t k) -> int:
        cdef const FormatInfo* info = find_format(format)
        return int((n_rows + 15) // 16 * 16) * int(k // info.block) * info.block_bytes

    def __init__(self, int format, int64_t n_rows, int64_t k, uint8_t[::1] memory not None):
        self.describe(format, n_rows, k)
        if memory.shape[0] < Matrix.size(format, n_rows, k):
            raise ParameterError(f"a matrix of {Matrix.size(format, n_rows, k)} bytes does not fit into {memory.shape[0]}")
        self.memory = memory
        self.c.data = &memory[0]

    @staticmethod
    def of_rows(int format, const uint8_t[:, ::1] rows not None, int64_t k) -> Matrix:
        """The matrix whose rows uint8 [n_rows, row_bytes] stay where and as they are; products interleave them."""
        cdef Matrix m = Matrix.__new__(Matrix)
        m.describe(format, rows.shape[0], k)
        check_rows(rows, m.info, k)
        m.memory = rows
        m.c.data = &rows[0, 0]
        m.c.row_major = True
        return m

    cdef describe(self, int format, int64_t n_rows, int64_t k):
        self.info = find_format(format)
        if n_rows <= 0 or k <= 0 or k % self.info.block:
            raise ParameterError(f"no matrix has {n_rows} rows and {k} columns of blocks of {self.info.block} values")
        if self.info.quantized and k % 32:
            raise ParameterError(f"{k} columns are not a multiple of 32")
        self.format, self.n_rows, self.k = format, n_rows, k
        self.c.n_rows, self.c.k, self.c.format = n_rows, k, format
        self.c.group_bytes = k // self.info.block * self.info.block_bytes * 16

    def load(self, const uint8_t[:, ::1] rows not None, int64_t first=0, int n_threads=1):
        """Interleave file rows uint8 [n, row_bytes] into the groups from row `first` (a multiple of 16) on."""
        if self.c.row_major:
            raise ParameterError("a matrix of the file's rows is not loaded")
        check_rows(rows, self.info, self.k)
        if first < 0 or first % 16 or first + rows.shape[0] > self.n_rows:
            raise ParameterError(f"rows {first}..{first + rows.shape[0]} do not fit into {self.n_rows} rows of groups of 16")
        if rows.shape[0] % 16 and first + rows.shape[0] != self.n_rows:
            raise ParameterError(f"only the last rows may fill a group in part, not rows {first}..{first + rows.shape[0]}")
        cdef Weight part = self.c
        part.data += first // 16 * self.c.group_bytes
        part.n_rows = rows.shape[0]
        if rows.shape[0]:
            with nogil:
                interleave_rows(self.info[0], &rows[0, 0], part, n_threads)

    def part(self, int64_t first, int64_t n_rows) -> Matrix:
        """The matrix of rows [first, first + n_rows) in the same memory; whoever loads this one loads that one.

        In row groups first is a multiple of 16, and so is n_rows unless they are the last ones.
        """
        cdef Matrix m = Matrix.__new__(Matrix)
        grouped = not self.c.row_major
        if first < 0 or n_rows < 1 or first + n_rows > self.n_rows:
            raise ParameterError(f"rows {first}..{first + n_rows} of a matrix of {self.n_rows}")
        if grouped and (first % 16 or (n_rows % 16 and first + n_rows != self.n_rows)):
            raise ParameterError(f"rows {first}..{first + n_rows} are not whole groups of 16")
        m.describe(self.format, n_rows, self.k)
        m.c.row_major, m.memory = self.c.row_major, self.memory
        m.c.data = self.c.data + first * (self.c.group_bytes // 16)
        return m

    @property
    def quantized(self) -> bool:
        return self.info.quantized

    @property
    def n_bytes(self) -> int:
        return self.c.group_bytes * ((self.n_rows + 15) // 16)


cdef class Value:
    """Activations [capacity, k] between operations; memory is made only for the forms that someone asked for."""

    cdef Activations c
    cdef readonly int64_t capacity, k
    cdef readonly str name
    cdef dict arrays
    cdef set wanted

    def __init__(self, str name, int64_t k, int64_t capacity):
        if k <= 0 or capacity <= 0:
            raise ParameterError(f"{name}: no activations of {capacity} rows and {k} columns")
        self.name, self.k = name, k
        self.capacity = (capacity + 7) // 8 * 8
        self.c.k = k
        self.arrays, self.wanted = {}, set()

    def want(self, *forms):
        """Ask for forms: "rows", "tiles" (float), "quants"."""
        if "quants" in forms and self.k % 32:
            raise ParameterError(f"{self.name}: {self.k} columns cannot be quantized by 32")
        self.wanted.update(forms)
        return self

    def _array(self, str name, object dtype, int64_t columns):
        if name not in self.arrays:
            self.arrays[name] = aligned(self.capacity * columns, dtype)
        return self.arrays[name]

    cdef allocate(self):
        cdef float[::1] f
        cdef int8_t[::1] b
        cdef int32_t[::1] i
        if "rows" in self.wanted:
            f = self._array("rows", np.float32, self.k)
            self.c.rows = &f[0]
        if "tiles" in self.wanted:
            f = self._array("tiles", np.float32, self.k)
            self.c.tiles = &f[0]
        if "quants" in self.wanted:
            b = self._array("quants", np.int8, self.k)
            self.c.quants = &b[0]
            f = self._array("scales", np.float32, self.k // 32)
            self.c.scales = &f[0]
            i = self._array("nsums", np.int32, self.k // 16)
            self.c.nsums = &i[0]
            f = self._array("fsums", np.float32, self.k // 32)
            self.c.fsums = &f[0]

    @property
    def rows(self):
        """float32 [capacity, k]"""
        self.want("rows")
        self.allocate()
        return self.arrays["rows"].reshape(self.capacity, self.k)

    def dequantized(self, int n):
        """The quantized form of the first n tokens as float64 [n, k]: what products see."""
        out = np.empty((n, self.k))
        cdef int first, width, t
        for t in range(n):
            first = t // kernels.tile * kernels.tile
            width = 1
            while width < n - first and width < kernels.tile:
                width *= 2
            q = self.arrays["quants"][first * self.k : (first + width) * self.k].reshape(-1, width, 4)
            s = self.arrays["scales"][first * self.k // 32 : (first + width) * self.k // 32].reshape(-1, width)
            out[t] = (q[:, t - first].reshape(-1, 32) * s[:, t - first, None].astype(np.float64)).ravel()
        return out


def aligned(int64_t n, dtype):
    """A zeroed array of n elements that begins at a multiple of 64 bytes."""
    dtype = np.dtype(dtype)
    raw = np.zeros(n * dtype.itemsize + 64, np.uint8)
    skip = -raw.ctypes.data % 64
    return raw[skip : skip + n * dtype.itemsize].view(dtype)


cdef class Cache:
    """The KV cache of one layer, in the pages of all layers: memory uint8 [n_pages * page_stride], zeroed.

    In each page the layer has `Cache.page_bytes(...)` bytes from `offset` on.
    """

    cdef KVCache c
    cdef object memory

    @staticmethod
    def head_bytes(int format, int head_dim) -> tuple:
        """Bytes that a page's keys and its values take for one KV head."""
        element_bytes = {0: 4, 1: 2, 30: 2, 8: 1}.get(format)
        if element_bytes is None:
            raise ParameterError(f"a KV cache of tensor type {format} is not implemented")
        scales = 2 * ((head_dim + 31) // 32) if format == 8 else 0
        return kPage * (head_dim * element_bytes + scales), kPage * ((head_dim + 15) // 16 * 16 * element_bytes + scales)

    @staticmethod
    def page_bytes(int format, int n_kv_heads, int head_dim) -> int:
        return n_kv_heads * sum(Cache.head_bytes(format, head_dim))

    def __init__(self, int format, int n_kv_heads, int head_dim, uint8_t[::1] memory not None, int64_t offset,
                 int64_t page_stride):
        if n_kv_heads <= 0 or head_dim <= 0 or not 0 <= offset <= page_stride - Cache.page_bytes(format, n_kv_heads, head_dim):
            raise ParameterError(f"{n_kv_heads} KV heads of {head_dim} do not fit into pages of {page_stride} bytes from {offset} on")
        if memory.shape[0] < page_stride:
            raise ParameterError(f"{memory.shape[0]} bytes are less than a page of {page_stride}")
        self.memory = memory
        self.c.k_head, self.c.v_head = Cache.head_bytes(format, head_dim)
        self.c.keys = &memory[offset]
        self.c.values = self.c.keys + n_kv_heads * self.c.k_head
        self.c.page_stride = page_stride
        self.c.format, self.c.n_kv_heads, self.c.head_dim = format, n_kv_heads, head_dim

    @property
    def n_pages(self) -> int:
        return len(self.memory) // self.c.page_stride

    def move_keys(self, const int32_t[::1] pages not None, const double[::1] inv_freq not None, int distance,
                  bint neox, int n_threads=1):
        """Give the keys in these pages positions that are `distance` further; inv_freq: those they were rotated by."""
        cdef int n_pairs = inv_freq.shape[0], n_heads = self.c.n_kv_heads, unit
        if 2 * n_pairs > self.c.head_dim:
            raise ParameterError(f"{n_pairs} rotated pairs do not fit into heads of {self.c.head_dim}")
        for page in pages:
            if not 0 <= page < self.n_pages:
                raise ParameterError(f"page {page} of {self.n_pages}")
        turns = distance * np.asarray(inv_freq)
        cdef const float[::1] angles = np.concatenate([np.cos(turns), np.sin(turns)]).astype(np.float32)
        cdef float[:, ::1] rows = np.empty((max(1, pages.shape[0] * n_heads), self.c.head_dim), np.float32)
        for unit in prange(<int>pages.shape[0] * n_heads, nogil=True, num_threads=n_threads, schedule="dynamic"):
            kernels.rotate_keys(self.c, pages[unit // n_heads], unit % n_heads, &angles[0], n_pairs, neox, &rows[unit, 0])


cdef const float* floats(object owner, object array, int64_t n, str what) except? NULL:
    """The address of a float32 vector of n values that `owner` keeps alive; None gives NULL."""
    if array is None:
        return NULL
    cdef const float[::1] view = np.ascontiguousarray(array, np.float32)
    if view.shape[0] != n:
        raise ParameterError(f"{what}: {view.shape[0]} values where {n} were expected")
    owner.append(view)
    return &view[0]


cdef bool_t interrupted() noexcept with gil:
    return PyErr_CheckSignals() != 0


cdef int raise_pending() except -1:
    return -1


class OpCost(NamedTuple):
    """What an operation reads and multiplies, zero where it does not; rows are a pass's tokens, or its outputs.

    window: attention sees the last so many positions only; 0: all.
    """

    of_outputs: bool
    weight_bytes: int  # once a pass
    macs_per_row: int
    kv_bytes_per_position: int  # once a pass
    macs_per_position: int  # that a token attends to
    window: int


cdef class Plan:
    """Recorded operations, and the memory of the passes over them.

    capacity: the most tokens of a pass; n_ctx: the most positions of a sequence; n_sequences: slots.
    """

    cdef vector[Op] ops
    cdef list outs, keep
    cdef readonly list names
    cdef readonly int capacity, n_ctx, n_sequences, n_threads
    cdef int max_row, heads_per_kv, head_dim
    cdef int64_t partial_tokens, n_heads_dim
    cdef bint ready, profiling, bidirectional
    cdef Progress* progress
    cdef uint8_t[::1] scratch
    cdef int64_t scratch_bytes
    cdef float[::1] partial
    cdef int64_t[::1] nanoseconds
    cdef Kernels kernels
    cdef int n_vocab
    cdef int64_t n_pages

    def __init__(self, int capacity, int n_ctx, int n_sequences, int n_threads):
        if min(capacity, n_ctx, n_sequences, n_threads) <= 0:
            raise ParameterError(f"a plan for {capacity} tokens, {n_ctx} positions, {n_sequences} sequences, {n_threads} threads")
        self.capacity, self.n_ctx, self.n_sequences, self.n_threads = capacity, n_ctx, n_sequences, n_threads
        self.outs, self.keep, self.names = [], [], []
        self.max_row, self.heads_per_kv, self.head_dim, self.n_heads_dim = 1, 1, 1, 0
        self.kernels = kernels
        self.n_vocab = -1
        self.n_pages = 1 << 31

    def __dealloc__(self):
        free(self.progress)

    cdef Op* add(self, OpKind kind, str name, Value out, bint outputs, tuple keep) except NULL:
        if self.ready:
            raise ParameterError("a plan that has run takes no further operations")
        cdef Op op
        self.ops.push_back(op)
        self.outs.append(out)
        self.names.append(name)
        self.keep.append(keep)
        cdef Op* last = &self.ops.back()
        last.kind = kind
        last.count = kOutputs if outputs else kTokens
        if out is not None:
            self.max_row = max(self.max_row, out.k)
        return last

    cdef check_width(self, str name, Value value, int64_t k):
        if value.k != k:
            raise ParameterError(f"{name}: {value.name} has {value.k} columns where {k} were expected")

    def embed(self, str name, Matrix weight, Value out, float scale=1.0, Matrix positions=None, added=None):
        """out[t] = scale * weight[token of t] + positions[position of t] + added"""
        keep = []
        self.check_width(name, out, weight.k)
        if positions is not None and (positions.k != weight.k or positions.n_rows < self.n_ctx):
            raise ParameterError(f"{name}: {positions.n_rows} positions of {positions.k} columns where {self.n_ctx} of "
                                 f"{weight.k} were expected")
        cdef const float* vector = floats(keep, added, weight.k, name)
        cdef Op* op = self.add(kEmbed, name, out, False, (weight, positions, keep))
        op.embed.weight, op.embed.scale, op.embed.added = weight.c, scale, vector
        op.embed.positions.data = NULL
        if positions is not None:
            op.embed.positions = positions.c
        self.n_vocab = weight.n_rows

    def norm(self, str name, Value x, weight, Value out, float eps, Value y=None, post=None, bint gather=False,
             bint outputs=False, bias=None, bint centered=False):
        """x += y, or its norm times `post`; out = norm(x) * weight + bias, where out may be x.

        gather: only the batch's output rows. The norm is RMSNorm; centered: LayerNorm.
        """
        keep = []
        if centered and post is not None:
            raise ParameterError(f"{name}: a LayerNorm of what is added is not implemented")
        self.check_width(name, out, x.k)
        if y is not None:
            self.check_width(name, y, x.k)
            y.want("rows")
        x.want("rows")
        cdef const float* w = floats(keep, weight, x.k, name)
        cdef const float* p = floats(keep, post, x.k, name)
        cdef const float* b = floats(keep, bias, x.k, name)
        cdef Op* op = self.add(kNorm, name, out, gather or outputs, (x, y, keep))
        op.norm.weight, op.norm.post, op.norm.bias = w, p, b
        op.norm.eps, op.norm.gather, op.norm.centered = eps, gather, centered

    def matmul(self, str name, Value src, list segments, bint outputs=False):
        """segments: (Matrix, out Value, bias or None, scale): out = scale * (src @ matrix.T) + bias"""
        cdef Matrix weight
        cdef Value out
        keep = []
        for weight, out, bias, scale in segments:
            self.check_width(name, out, weight.n_rows)
            out.want("rows")
        cdef Matmul product = self.product(name, src, [(weight, bias, scale) for weight, _, bias, scale in segments], keep)
        for i in range(product.n_segments):
            product.segments[i].ld = segments[i][1].k
        cdef Op* op = self.add(kMatmul, name, None, outputs, (src, segments, keep))
        op.matmul = product

    def glu(self, str name, Value src, list segments, Value out, str act):
        """out = act(src @ gate.T) * (src @ up.T), or act(src @ gate.T) alone.

        segments: gate's, then up's (Matrix, bias or None, scale), as of matmul. act: "silu", "gelu" (the tanh form) or
        "gelu_erf" (as it is defined).
        """
        acts = {"silu": kSilu, "gelu": kGelu, "gelu_erf": kGeluErf}
        if act not in acts:
            raise ParameterError(f"{name}: activation {act!r}; there are: {', '.join(acts)}")
        if len(segments) > 2:
            raise ParameterError(f"{name}: {len(segments)} segments; expected gate and up")
        for segment in segments:
            self.check_width(name, out, segment[0].n_rows)
        keep = []
        cdef Matmul product = self.product(name, src, segments, keep)
        cdef Op* op = self.add(kGlu, name, out, False, (src, segments, keep))
        op.glu.product, op.glu.act = product, acts[act]

    cdef Matmul product(self, str name, Value src, list segments, list keep):
        """segments: (Matrix, bias or None, scale); where they write to is not set."""
        cdef Matmul product
        cdef Matrix weight
        cdef int i = 0
        if not 1 <= len(segments) <= kMaxSegments:
            raise ParameterError(f"{name}: {len(segments)} segments")
        for weight, bias, scale in segments:
            self.check_width(name, src, weight.k)
            src.want("quants" if weight.quantized else "tiles")
            product.segments[i].weight = weight.c
            product.segments[i].bias = floats(keep, bias, weight.n_rows, name)
            product.segments[i].scale = scale
            i += 1
        product.n_segments = i
        return product

    def angles(self, str name, const double[::1] inv_freq not None, float mscale, Value out):
        """out[t] = cos, then sin, of position * inv_freq, times mscale"""
        self.check_width(name, out, 2 * inv_freq.shape[0])
        out.want("rows")
        cdef Op* op = self.add(kAngles, name, out, False, (inv_freq,))
        op.angles.inv_freq, op.angles.n_pairs, op.angles.mscale = &inv_freq[0], inv_freq.shape[0], mscale

    def rope(self, str name, Value q, Value k, Value v, Value angles, Cache cache, bint neox,
             q_norm=None, k_norm=None, float eps=0.0, float q_scale=1.0):
        """Norm and rotate the heads of q and k in place, q times q_scale; store k and v in the cache.

        angles None: nothing is rotated.
        """
        keep = []
        cdef int dim = cache.c.head_dim, n_rot = 0 if angles is None else angles.k
        if q.k % dim or n_rot > dim:
            raise ParameterError(f"{name}: {q.k} columns of q, {n_rot} of angles, heads of {dim}")
        self.check_width(name, k, cache.c.n_kv_heads * dim)
        self.check_width(name, v, cache.c.n_kv_heads * dim)
        for value in (q, k, v, angles):
            if value is not None:
                value.want("rows")
        cdef const float* qn = floats(keep, q_norm, dim, name)
        cdef const float* kn = floats(keep, k_norm, dim, name)
        cdef Op* op = self.add(kRope, name, None, False, (q, k, v, angles, cache, keep))
        op.rope.q_norm, op.rope.k_norm = qn, kn
        op.rope.n_heads, op.rope.n_pairs, op.rope.neox = q.k // dim, n_rot // 2, neox
        op.rope.eps, op.rope.q_scale, op.rope.cache = eps, q_scale, cache.c

    def attention(self, str name, Value q, Cache cache, Value out, int window=0, float softcap=0.0, bint causal=True):
        """out = softmax(q k) v for each head, over the positions up to each token's own (window: the last so many).

        Not causal: over all positions of the token's sequence, up to the last one of it in the pass.
        """
        cdef int dim = cache.c.head_dim
        if window and not causal:
            raise ParameterError(f"{name}: a window of attention that is not causal is not implemented")
        self.check_width(name, out, q.k)
        if q.k % (dim * cache.c.n_kv_heads):
            raise ParameterError(f"{name}: {q.k // dim} heads over {cache.c.n_kv_heads} KV heads")
        q.want("rows")
        out.want("rows")
        cdef Op* op = self.add(kAttention, name, None, False, (q, cache, out))
        op.attention.n_heads, op.attention.window, op.attention.softcap = q.k // dim, window, softcap
        op.attention.causal, op.attention.cache = causal, cache.c
        self.bidirectional = self.bidirectional or not causal
        op = self.add(kMerge, name + ".merge", out, False, (q, cache, out))
        op.merge.attention.n_heads = q.k // dim
        op.merge.attention.cache = cache.c
        self.n_pages = min(self.n_pages, cache.n_pages)
        self.heads_per_kv = max(self.heads_per_kv, q.k // dim // cache.c.n_kv_heads)
        self.head_dim = max(self.head_dim, dim)
        self.n_heads_dim = max(self.n_heads_dim, q.k // dim * (2 + (dim + 15) // 16 * 16))

    def softcap(self, str name, Value x, float cap, bint outputs=False):
        """x = cap * tanh(x / cap), in place"""
        x.want("rows")
        cdef Op* op = self.add(kSoftcap, name, None, outputs, (x,))
        op.softcap.k, op.softcap.cap = x.k, cap

    def pack(self, str name, Value x, Value out, bint outputs=False):
        """Rows to the forms that products read."""
        self.check_width(name, out, x.k)
        x.want("rows")
        self.add(kPack, name, out, outputs, (x,))

    cdef float* rows_of(self, Value value) except? NULL:
        if value is None:
            return NULL
        value.allocate()
        return value.c.rows

    cdef resolve(self):
        """Give every operation the addresses of what it reads and writes."""
        cdef Op* op
        cdef Value out, value
        cdef int i, j
        cdef int64_t splits = (self.n_ctx + kSplit - 1) // kSplit
        self.partial_tokens = (2 * self.n_threads + 1) * splits
        self.partial = aligned(max(1, self.partial_tokens * self.n_heads_dim), np.float32)
        for i in range(<int>self.ops.size()):
            op = &self.ops[i]
            keep = self.keep[i]
            out = self.outs[i]
            if out is not None:
                out.allocate()
                if out.capacity < self.capacity:
                    raise ParameterError(f"{self.names[i]}: {out.name} holds {out.capacity} rows, a pass {self.capacity}")
            if op.kind == kEmbed:
                op.embed.out = out.c
            elif op.kind == kNorm:
                op.norm.x, op.norm.y = self.rows_of(keep[0]), self.rows_of(keep[1])
                op.norm.out = out.c
            elif op.kind == kMatmul:
                value = keep[0]
                value.allocate()
                op.matmul.src = value.c
                for j, segment in enumerate(keep[1]):
                    op.matmul.segments[j].out = self.rows_of(segment[1])
            elif op.kind == kAngles:
                op.angles.out = out.c.rows
            elif op.kind == kRope:
                op.rope.q, op.rope.k, op.rope.v = self.rows_of(keep[0]), self.rows_of(keep[1]), self.rows_of(keep[2])
                op.rope.angles = self.rows_of(keep[3])
            elif op.kind == kAttention:
                op.attention.q, op.attention.out = self.rows_of(keep[0]), self.rows_of(keep[2])
                op.attention.partial = &self.partial[0]
            elif op.kind == kMerge:
                op.merge.attention.q, op.merge.attention.out = self.rows_of(keep[0]), self.rows_of(keep[2])
                op.merge.attention.partial = &self.partial[0]
                op.merge.out = out.c
            elif op.kind == kGlu:
                value = keep[0]
                value.allocate()
                op.glu.product.src, op.glu.out = value.c, out.c
            elif op.kind == kSoftcap:
                op.softcap.x = self.rows_of(keep[0])
            elif op.kind == kPack:
                op.pack.x = self.rows_of(keep[0])
                op.pack.out = out.c
        cdef int64_t scratch = self.kernels.scratch_bytes(self.capacity, self.max_row,
                                                          max(ROWS_PER_TILE, self.heads_per_kv), self.head_dim)
        self.scratch_bytes = (scratch + 4095) // 4096 * 4096
        self.scratch = aligned(self.n_threads * self.scratch_bytes, np.uint8)
        self.progress = <Progress*>calloc(self.ops.size(), sizeof(Progress))
        if self.progress == NULL:
            raise MemoryError
        self.ready = True

    def costs(self) -> list:
        """What each operation reads and multiplies, as an OpCost in the order of `names`."""
        cdef Op* op
        cdef Matmul* product
        cdef int64_t size, macs
        cdef int i, j
        costs = []
        for i in range(<int>self.ops.size()):
            op = &self.ops[i]
            cost = OpCost(op.count == kOutputs, 0, 0, 0, 0, 0)
            if op.kind == kMatmul or op.kind == kGlu:
                product = &op.matmul if op.kind == kMatmul else &op.glu.product
                size = macs = 0
                for j in range(product.n_segments):
                    size += (product.segments[j].weight.n_rows + 15) // 16 * product.segments[j].weight.group_bytes
                    macs += product.segments[j].weight.n_rows * product.segments[j].weight.k
                cost = cost._replace(weight_bytes=size, macs_per_row=macs)
            elif op.kind == kAttention:
                size = (op.attention.cache.k_head + op.attention.cache.v_head) // kPage * op.attention.cache.n_kv_heads
                macs = 2 * op.attention.n_heads * op.attention.cache.head_dim
                cost = cost._replace(kv_bytes_per_position=size, macs_per_position=macs, window=op.attention.window)
            costs.append(cost)
        return costs

    cdef int tile_tokens(self) noexcept:
        """Of an attention tile, so that its rows are whole activation tiles where they can be."""
        cdef int most = ROWS_PER_TILE // self.heads_per_kv, step = self.kernels.tile
        while step > 1 and self.heads_per_kv * (step // 2) % self.kernels.tile == 0:
            step //= 2
        return max(1, most - most % step if most >= step else most)

    def profile(self):
        """Nanoseconds of each operation since the first call of this; the first call starts the count."""
        if not self.profiling:
            self.nanoseconds = np.zeros(self.ops.size(), np.int64)
            self.profiling = True
        return np.asarray(self.nanoseconds)

    def run(self, const int32_t[::1] tokens not None, const int32_t[::1] positions not None,
            const int32_t[::1] sequences not None, const int32_t[::1] outputs not None,
            const int32_t[:, ::1] page_table not None, int n_ops=-1):
        """One pass. int32 vectors [n_tokens] (outputs: [n_outputs]); page_table [n_sequences, max_pages].

        Positions of a sequence's consecutive tokens go up by one. n_ops: end after so many operations (negative: none
        is left out). KeyboardInterrupt leaves between operations.
        """
        cdef Batch batch
        cdef PlanRun run
        cdef int i, n = tokens.shape[0], last_sequence = -1, last_position = -2
        cdef int64_t partial_tokens = 0, page
        cdef bint ok, many = False
        cdef vector[QueryTile] tiles
        cdef vector[int32_t] tile_of_token
        cdef vector[int32_t] lengths = vector[int32_t](self.n_sequences, 0)
        cdef QueryTile tile
        cdef int tile_tokens = self.tile_tokens()
        if positions.shape[0] != n or sequences.shape[0] != n or n > self.capacity or outputs.shape[0] > n:
            raise ParameterError(f"{n} tokens, {positions.shape[0]} positions, {sequences.shape[0]} sequences, "
                                 f"{outputs.shape[0]} outputs in a pass of at most {self.capacity}")
        if page_table.shape[1] * kPage < self.n_ctx or page_table.shape[0] < self.n_sequences:
            raise ParameterError(f"a page table of {page_table.shape[0]} x {page_table.shape[1]} pages for "
                                 f"{self.n_sequences} sequences of {self.n_ctx}")
        if n == 0:
            return
        for i in range(n):
            if not 0 <= positions[i] < self.n_ctx or not 0 <= sequences[i] < self.n_sequences:
                raise ParameterError(f"token {i}: position {positions[i]} of {self.n_ctx}, sequence {sequences[i]} of {self.n_sequences}")
            if self.n_vocab >= 0 and not 0 <= tokens[i] < self.n_vocab:
                raise ParameterError(f"token {i} is id {tokens[i]}; the vocabulary has 0..{self.n_vocab - 1}")
            page = page_table[sequences[i], positions[i] // kPage]
            if not 0 <= page < self.n_pages:
                raise ParameterError(f"token {i}: page {page} of {self.n_pages}")
            lengths[sequences[i]] = max(lengths[sequences[i]], positions[i] + 1)
        for i in range(outputs.shape[0]):
            if not 0 <= outputs[i] < n:
                raise ParameterError(f"output {i} is row {outputs[i]} of {n}")
        if not self.ready:
            self.resolve()
        batch.n_splits = 0
        for i in range(n):
            if sequences[i] != last_sequence or positions[i] != last_position + 1 or tile.n_tokens == tile_tokens:
                if i:
                    tiles.push_back(tile)
                tile.first, tile.n_tokens = i, 0
            tile.n_tokens += 1
            tile_of_token.push_back(<int32_t>tiles.size())
            last_sequence, last_position = sequences[i], positions[i]
        tiles.push_back(tile)
        for i in range(<int>tiles.size()):
            last_position = positions[tiles[i].first + tiles[i].n_tokens - 1]
            if self.bidirectional:
                last_position = lengths[sequences[tiles[i].first]] - 1
            tiles[i].n_splits = last_position // kSplit + 1
            tiles[i].first_split, tiles[i].first_partial = batch.n_splits, <int32_t>partial_tokens
            batch.n_splits += tiles[i].n_splits
            partial_tokens += tiles[i].n_splits * tiles[i].n_tokens
            many = many or tiles[i].n_splits > 1
        batch.split = many and <int>tiles.size() <= 2 * self.n_threads and partial_tokens <= self.partial_tokens
        batch.n_tokens, batch.n_outputs, batch.n_threads = n, outputs.shape[0], self.n_threads
        batch.tokens, batch.positions, batch.sequences = &tokens[0], &positions[0], &sequences[0]
        batch.outputs = &outputs[0] if outputs.shape[0] else NULL
        batch.page_table, batch.max_pages = &page_table[0, 0], page_table.shape[1]
        batch.lengths = lengths.data()
        batch.tiles, batch.n_tiles = tiles.data(), <int32_t>tiles.size()
        batch.tile_of_token = tile_of_token.data()
        run.kernels, run.ops, run.n_ops = &self.kernels, self.ops.data(), <int32_t>self.ops.size()
        if 0 <= n_ops < run.n_ops:
            run.n_ops = n_ops
        run.progress, run.scratch, run.scratch_bytes = self.progress, &self.scratch[0], self.scratch_bytes
        run.nanoseconds = &self.nanoseconds[0] if self.profiling else NULL
        run.interrupted = interrupted
        with nogil:
            ok = run_plan(run, batch)
        if not ok:
            raise_pending()


def read_bandwidth(const uint8_t[::1] memory not None, int n_threads) -> float:
    """GB/s of one pass of n_threads over memory, which should be far larger than any cache and written once before."""
    cdef int64_t n_parts = n_threads * 16, part, i
    cdef const uint64_t* words
    cdef uint64_t total = 0
    if n_threads <= 0 or memory.shape[0] < n_parts * 64:
        raise ParameterError(f"no bandwidth of {n_threads} threads reading {memory.shape[0]} bytes")
    part, words = memory.shape[0] // 64 // n_parts * 8, <const uint64_t*>&memory[0]
    start = time.perf_counter()
    for i in prange(n_parts, nogil=True, num_threads=n_threads, schedule="dynamic"):
        total += read_words(words + i * part, part)
    seconds = time.perf_counter() - start
    global words_seen
    words_seen = total
    return part * n_parts * 8 / seconds / 1e9


def read_limit(const uint8_t[::1] memory not None, int n_threads) -> float:
    """GB/s that n_threads together read memory with while none loses its core; needs more than 1 MiB for each."""
    cdef int64_t part, i
    cdef const uint64_t* words
    cdef uint64_t[::1] sums
    cdef double rate = 0
    if n_threads <= 0 or memory.shape[0] < n_threads * (1 << 20):
        raise ParameterError(f"no bandwidth of {n_threads} threads reading {memory.shape[0]} bytes")
    part, words, sums = memory.shape[0] // 8 // n_threads, <const uint64_t*>&memory[0], np.zeros(n_threads, np.uint64)
    for i in prange(n_threads, nogil=True, num_threads=n_threads, schedule="static"):
        rate += read_rate(words + i * part, part, sums[i])
    return rate / 1e9


def dot_limit(int n_threads, double seconds=0.2) -> float:
    """GMAC/s that n_threads together reach with int8 dot products on registers, with the instruction set in use."""
    cdef double macs = 0
    cdef int i
    if n_threads <= 0:
        raise ParameterError(f"n_threads is {n_threads}; expected at least 1")
    for i in prange(n_threads, nogil=True, num_threads=n_threads, schedule="static"):
        macs += dot_rate(kernels, seconds)
    return macs / 1e9


def end_threads() -> None:
    """End the idle threads of past passes (before a fork)."""
    release_threads()
