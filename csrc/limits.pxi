# How fast the machine reads memory and multiplies, for benchmarks.

cdef uint64_t words_seen  # what read_bandwidth summed, so that the reading is not optimised away


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
    cdef double[:, ::1] rates  # of each thread's rounds
    cdef double rate = 0
    if n_threads <= 0 or memory.shape[0] < n_threads * (1 << 20):
        raise ParameterError(f"no bandwidth of {n_threads} threads reading {memory.shape[0]} bytes")
    part, words, sums = memory.shape[0] // 8 // n_threads, <const uint64_t*>&memory[0], np.zeros(n_threads, np.uint64)
    rates = np.empty((n_threads, part // kReadRound))
    for i in prange(n_threads, nogil=True, num_threads=n_threads, schedule="static"):
        rate += read_rate(words + i * part, part, sums[i], &rates[i, 0])
    return rate / 1e9


def dot_limit(int n_threads, double seconds=0.2) -> float:
    """GMAC/s that n_threads together reach with int8 dot products on registers, with the instruction set in use."""
    cdef double macs = 0
    cdef int i
    if n_threads <= 0:
        raise ParameterError(f"n_threads is {n_threads}; expected at least 1")
    cdef double[:, ::1] rates = np.empty((n_threads, int(max(0.0, seconds) / kDotRound) + 2))  # of each thread's rounds
    for i in prange(n_threads, nogil=True, num_threads=n_threads, schedule="static"):
        macs += dot_rate(kernels, seconds, &rates[i, 0])
    return macs / 1e9
