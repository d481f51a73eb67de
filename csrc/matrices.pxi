# Weights: a format's blocks as float32, and matrices in row groups.


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
