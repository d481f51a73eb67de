# What lies between operations: activations with their quantized form, and rows that are chosen within a pass.


cdef class Value:
    """Activations [capacity, k] between operations; memory is made only for the forms that someone asked for.

    name: for messages; k: columns; capacity: rows, rounded up to a whole tile.
    """

    cdef Activations c
    cdef readonly int64_t capacity, k
    cdef readonly str name
    cdef dict arrays
    cdef set wanted
    cdef bint bound  # an operation has the addresses of the forms there are
    cdef object tile_rows  # of the operation that wrote it last, since the widths of tiles follow from their number

    def __init__(self, str name, int64_t k, int64_t capacity):
        if k <= 0 or capacity <= 0:
            raise ParameterError(f"{name}: no activations of {capacity} rows and {k} columns")
        self.name, self.k = name, k
        self.capacity = (capacity + 7) // 8 * 8
        self.c.k = k
        self.arrays, self.wanted = {}, set()

    def want(self, *forms):
        """Ask for forms: "rows", "tiles" (float), "quants". Returns the value itself.

        Raises ParameterError for a further form once a plan that the value belongs to has run.
        """
        self.check(forms)
        self.wanted.update(forms)
        return self

    cdef check(self, tuple forms):
        for form in forms:
            if form not in ("rows", "tiles", "quants"):
                raise ParameterError(f"{self.name}: form {form!r}; there are: rows, tiles, quants")
            if form == "quants" and self.k % 32:
                raise ParameterError(f"{self.name}: {self.k} columns cannot be quantized by 32")
            if self.bound and form not in self.wanted:
                raise ParameterError(f"{self.name}: {form} are wanted after the first pass, which made {sorted(self.wanted)}")

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
            i = self._array("offset_sums", np.int32, self.k // 16)
            self.c.offset_sums = &i[0]
            i = self._array("pair_sums", np.int32, self.k // 32)
            self.c.pair_sums = &i[0]
            f = self._array("block_sums", np.float32, self.k // 32)
            self.c.block_sums = &f[0]

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


cdef class Counts:
    """Rows that an operation (`Plan.select`) chooses within a pass: how many, and which; `rows` of later operations.

    capacity: the most rows. One operation of one plan writes them.
    """

    cdef int32_t count
    cdef int32_t[::1] indices
    cdef object plan  # whose operation writes it
    cdef readonly str name
    cdef readonly int64_t capacity

    def __init__(self, str name, int64_t capacity):
        if not 0 < capacity <= INT32_MAX:
            raise ParameterError(f"{name}: no selection from {capacity} rows")
        self.name, self.capacity = name, capacity
        self.indices = np.zeros(capacity, np.int32)

    @property
    def n(self) -> int:
        """Rows that the last pass chose."""
        return self.count

    @property
    def rows(self):
        """Their indices, int32 [n], in order."""
        return np.asarray(self.indices)[: self.count].copy()


def aligned(int64_t n, dtype):
    """A zeroed array of n elements that begins at a multiple of 64 bytes."""
    dtype = np.dtype(dtype)
    raw = np.zeros(n * dtype.itemsize + 64, np.uint8)
    skip = -raw.ctypes.data % 64
    return raw[skip : skip + n * dtype.itemsize].view(dtype)
