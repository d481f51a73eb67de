# Keys and values of past tokens, in pages.


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
