# Recorded operations, and passes over them.

cdef extern from "Python.h":
    int PyErr_CheckSignals() noexcept  # leaves the error set, for the end of the pass to raise

cdef int ROWS_PER_TILE = 80  # of an attention tile, at most: query tokens times the heads of a KV head


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
