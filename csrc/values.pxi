# What lies between operations: activations, and their quantized form.


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


def aligned(int64_t n, dtype):
    """A zeroed array of n elements that begins at a multiple of 64 bytes."""
    dtype = np.dtype(dtype)
    raw = np.zeros(n * dtype.itemsize + 64, np.uint8)
    skip = -raw.ctypes.data % 64
    return raw[skip : skip + n * dtype.itemsize].view(dtype)
