# What layers keep of a sequence: keys and values in pages, or a state of fixed size.


cdef class Cache:
    """The KV cache of one layer, in pages that several layers may share: memory uint8 [n_pages * page_stride], zeroed.

    format: ggml type id of the elements (0: f32, 1: f16, 8: q8_0, 30: bf16). k_dim, v_dim: of a head's keys and values.
    In each page of page_stride bytes the layer has `Cache.page_bytes(...)` bytes from `offset` on. table: which of a
    pass's tables has the sequences' pages.
    """

    cdef KVCache c
    cdef object memory
    cdef readonly int64_t n_pages

    @staticmethod
    def head_bytes(int format, int k_dim, int v_dim) -> tuple:
        """Bytes that a page's keys and its values take for one KV head."""
        element_bytes = {0: 4, 1: 2, 30: 2, 8: 1}.get(format)
        if element_bytes is None:
            raise ParameterError(f"a KV cache of tensor type {format} is not implemented")
        k_scales, v_scales = (2 * ((dim + 31) // 32) if format == 8 else 0 for dim in (k_dim, v_dim))
        return (kPage * (int(k_dim) * element_bytes + k_scales),
                kPage * ((int(v_dim) + 15) // 16 * 16 * element_bytes + v_scales))

    @staticmethod
    def page_bytes(int format, int n_kv_heads, int k_dim, int v_dim) -> int:
        """Bytes that a page of the layer takes."""
        return int(n_kv_heads) * sum(Cache.head_bytes(format, k_dim, v_dim))

    def __init__(self, int format, int n_kv_heads, int k_dim, int v_dim, uint8_t[::1] memory not None, int64_t offset,
                 int64_t page_stride, int table=0):
        if min(n_kv_heads, k_dim, v_dim) <= 0 or \
                not 0 <= offset <= page_stride - Cache.page_bytes(format, n_kv_heads, k_dim, v_dim):
            raise ParameterError(f"{n_kv_heads} KV heads of {k_dim} and {v_dim} do not fit into pages of {page_stride} bytes from {offset} on")
        if memory.shape[0] < page_stride:
            raise ParameterError(f"{memory.shape[0]} bytes are less than a page of {page_stride}")
        check_table(table)
        self.memory = memory
        self.n_pages = min(memory.shape[0] // page_stride, <int64_t>INT32_MAX)
        self.c.k_head, self.c.v_head = Cache.head_bytes(format, k_dim, v_dim)
        self.c.keys = &memory[offset]
        self.c.values = self.c.keys + n_kv_heads * self.c.k_head
        self.c.page_stride, self.c.table = page_stride, table
        self.c.format, self.c.n_kv_heads, self.c.k_dim, self.c.v_dim = format, n_kv_heads, k_dim, v_dim

    def move_keys(self, const int32_t[::1] pages not None, const double[::1] inv_freq not None, int distance,
                  bint neox, int n_threads=1):
        """Give the keys in these pages positions that are `distance` further; inv_freq: those they were rotated by."""
        cdef int n_pairs = inv_freq.shape[0], n_heads = self.c.n_kv_heads, unit
        if 2 * n_pairs > self.c.k_dim:
            raise ParameterError(f"{n_pairs} rotated pairs do not fit into heads of {self.c.k_dim}")
        for page in pages:
            if not 0 <= page < self.n_pages:
                raise ParameterError(f"page {page} of {self.n_pages}")
        turns = distance * np.asarray(inv_freq)
        cdef const float[::1] angles = np.concatenate([np.cos(turns), np.sin(turns)]).astype(np.float32)
        cdef float[:, ::1] rows = np.empty((max(1, pages.shape[0] * n_heads), self.c.k_dim), np.float32)
        for unit in prange(<int>pages.shape[0] * n_heads, nogil=True, num_threads=n_threads, schedule="dynamic"):
            kernels.rotate_keys(self.c, pages[unit // n_heads], unit % n_heads, &angles[0], n_pairs, neox, &rows[unit, 0])


cdef class State:
    """What a recurrent layer keeps of each sequence: a row of memory, float32 [n_rows, k].

    table: which of a pass's tables has, as its first entry for each sequence, the row of that sequence.
    """

    cdef float[:, ::1] memory
    cdef readonly int table
    cdef readonly int64_t n_rows, k

    def __init__(self, float[:, ::1] memory not None, int table=0):
        if memory.shape[0] <= 0 or memory.shape[1] <= 0:
            raise ParameterError(f"no state has {memory.shape[0]} rows of {memory.shape[1]} columns")
        check_table(table)
        self.memory, self.table = memory, table
        self.n_rows, self.k = min(memory.shape[0], <int64_t>INT32_MAX), memory.shape[1]


cdef check_table(int table):
    if not 0 <= table < 1024:
        raise ParameterError(f"table {table}; expected 0 to 1023")
