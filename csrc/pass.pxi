# A pass over a plan. Whatever operations take for an index or an address is checked here, before they run.


cdef int tile_tokens(_PlanBase self) noexcept:
    """Of an attention tile, so that its rows are whole activation tiles where they can be."""
    cdef int most = ROWS_PER_TILE // self.heads_per_kv, step = self.kernels.tile
    while step > 1 and self.heads_per_kv * (step // 2) % self.kernels.tile == 0:
        step //= 2
    return max(1, most - most % step if most >= step else most)


def run(_PlanBase self, const int32_t[::1] tokens not None, positions not None, const int32_t[::1] sequences not None,
        const int32_t[::1] outputs not None, tuple tables not None, int n_logits=-1, embeddings=None, int n_ops=-1):
    """Compute one pass.

    tokens: int32 [n] ids; -1: the next row of `embeddings`, float32 [n_embedded, n_embd].
    positions: int32 [n] or [n_axes, n]; axis 0 is the place in the sequence. In [n] all axes are alike.
    sequences: int32 [n] slots. A sequence has a position once in a pass; with states, its tokens follow one another.
    outputs: int32 [n_outputs] rows that are wanted after the last norm, each once.
    tables: of each memory group int32 [n_sequences, max_entries]: pages of kPage positions, or rows of states.
    n_logits: the first so many outputs are those whose logits are wanted (negative: all).
    n_ops: end after so many operations (negative: after all).

    Raises ParameterError for what does not fit, with nothing computed; PassStopped after `stop`; KeyboardInterrupt on
    Ctrl-C, where the main thread runs the pass. Two passes over a plan cannot run at once.
    """
    cdef PlanRun run
    cdef PassEnd end
    cdef const float[:, ::1] rows
    if positions.ndim == 1:
        positions = positions[None]
    cdef const int32_t[:, ::1] places = positions
    cdef int n = tokens.shape[0]
    if self.running:
        raise ParameterError("a pass over this plan is under way")
    if places.shape[1] != n or sequences.shape[0] != n or n > self.capacity or outputs.shape[0] > n:
        raise ParameterError(f"{n} tokens, {places.shape[1]} positions, {sequences.shape[0]} sequences, "
                             f"{outputs.shape[0]} outputs in a pass of at most {self.capacity}")
    if n_logits > outputs.shape[0]:
        raise ParameterError(f"{n_logits} logits of {outputs.shape[0]} outputs")
    if places.shape[0] < self.n_axes and places.shape[0] != 1:
        raise ParameterError(f"positions of {places.shape[0]} axes; the plan reads {self.n_axes}")
    if n == 0:
        return
    self.running = True
    try:
        if not self.ready:
            self.resolve()
        self.batch.embeddings = NULL
        if embeddings is not None:
            rows = embeddings
            if rows.shape[1] != self.n_embd:
                raise ParameterError(f"embeddings of {rows.shape[1]} columns where {self.n_embd} were expected")
            self.batch.embeddings = &rows[0, 0] if rows.shape[0] else NULL
        check_tokens(self, tokens, 0 if embeddings is None else rows.shape[0])
        check_sequences(self, places[0], sequences)
        check_outputs(self, outputs, n)
        check_tables(self, tables)
        cut(self, &places[0, 0], &sequences[0], n)
        self.batch.n_tokens, self.batch.n_outputs, self.batch.n_threads = n, outputs.shape[0], self.n_threads
        self.batch.n_logits = outputs.shape[0] if n_logits < 0 else n_logits
        self.batch.tokens, self.batch.sequences = &tokens[0], &sequences[0]
        self.batch.positions, self.batch.axis_stride = &places[0, 0], 0 if places.shape[0] == 1 else n
        self.batch.outputs = &outputs[0] if outputs.shape[0] else NULL
        self.batch.embedded = self.embedded.data()
        self.batch.tables, self.batch.lengths = self.tables.data(), self.lengths.data()
        self.batch.partials = &self.partials[0]
        run.kernels, run.ops, run.n_ops = &self.kernels, self.ops.data(), <int32_t>self.ops.size()
        if 0 <= n_ops < run.n_ops:
            run.n_ops = n_ops
        run.progress, run.scratch, run.scratch_bytes = self.progress, &self.scratch[0], self.scratch_bytes
        run.nanoseconds = &self.nanoseconds[0] if self.profiling else NULL
        run.stop = &self.stop_flag
        run.interrupted = NULL
        if threading.get_ident() == threading.main_thread().ident:  # which alone handles signals
            run.interrupted = interrupted
        self.stop_flag.clear()
        with nogil:
            end = run_plan(run, self.batch)
        if end == kInterrupted:
            raise_pending()
        if end == kStopped:
            raise PassStopped("the pass was told to stop")
    finally:
        self.running = False


cdef check_tokens(_PlanBase self, const int32_t[::1] tokens, int64_t n_embedded):
    """That ids are in the vocabulary, and that embeddings' rows are as many as ids of -1."""
    cdef int i, n = 0
    if self.n_vocab < 0:  # nothing reads them
        return
    for i in range(<int>tokens.shape[0]):
        if not -1 <= tokens[i] < self.n_vocab or (tokens[i] == -1 and n_embedded == 0):
            raise ParameterError(f"token {i} is id {tokens[i]}; the vocabulary has 0..{self.n_vocab - 1}")
        if tokens[i] == -1:
            self.embedded[i] = n
            n += 1
    if n != n_embedded:
        raise ParameterError(f"{n_embedded} rows of embeddings for {n} tokens of id -1")


cdef check_sequences(_PlanBase self, const int32_t[:] places, const int32_t[::1] sequences):
    """That positions are in the context, and each there once; where each sequence begins and ends in the pass."""
    cdef int i, n = sequences.shape[0], at, of
    cdef bint in_order = True
    self.active.clear()
    self.firsts.assign(self.n_sequences, INT32_MAX)
    self.lengths.assign(self.n_sequences, 0)
    for i in range(n):
        at, of = places[i], sequences[i]
        if not 0 <= at < self.n_ctx or not 0 <= of < self.n_sequences:
            raise ParameterError(f"token {i}: position {at} of {self.n_ctx}, sequence {of} of {self.n_sequences}")
        if self.lengths[of] == 0:
            self.active.push_back(of)
        elif at < self.lengths[of]:
            in_order = False
        if self.has_states and self.lengths[of] and at != self.lengths[of]:
            raise ParameterError(f"token {i}: position {at} of sequence {of} after {self.lengths[of] - 1}; with states, "
                                 "a sequence's tokens follow one another")
        self.firsts[of], self.lengths[of] = min(self.firsts[of], at), max(self.lengths[of], at + 1)
    if in_order:
        return
    seen = {}
    for i in range(n):
        if (before := seen.setdefault((sequences[i], places[i]), i)) != i:
            raise ParameterError(f"tokens {before} and {i} are both position {places[i]} of sequence {sequences[i]}")


cdef check_outputs(_PlanBase self, const int32_t[::1] outputs, int n):
    """That they are rows of the pass, each once: what is added to a row is added once."""
    cdef int i
    self.marks.assign(n, 0)
    for i in range(<int>outputs.shape[0]):
        if not 0 <= outputs[i] < n:
            raise ParameterError(f"output {i} is row {outputs[i]} of {n}")
        if self.marks[outputs[i]]:
            raise ParameterError(f"output {i} is row {outputs[i]}, which is an output before")
        self.marks[outputs[i]] = 1


cdef check_tables(_PlanBase self, tuple tables):
    """Every entry that operations read: from where the first token's window begins to the last position."""
    cdef const int32_t[:, ::1] view
    cdef TableUse use
    cdef int32_t of, i, entry
    cdef int64_t j, first, last
    if <int>len(tables) < <int>self.uses.size():
        raise ParameterError(f"{len(tables)} page tables; the plan reads {self.uses.size()}")
    for i in range(<int>self.uses.size()):
        use = self.uses[i]
        if use.n == 0:
            continue
        view = tables[i]
        if view.shape[0] < self.n_sequences or view.shape[1] < (1 if use.states else (self.n_ctx + kPage - 1) // kPage):
            raise ParameterError(f"a page table of {view.shape[0]} x {view.shape[1]} pages for "
                                 f"{self.n_sequences} sequences of {self.n_ctx} (table {i})")
        self.tables[i].entries, self.tables[i].max_entries = &view[0, 0], view.shape[1]
        for j in range(<int64_t>self.active.size()):
            of = self.active[j]
            first = last = 0
            if not use.states:
                first = max(0, self.firsts[of] + 1 - <int64_t>use.reach) // kPage
                last = (self.lengths[of] - 1) // kPage
            for first in range(first, last + 1):
                entry = view[of, first]
                if not 0 <= entry < use.n:
                    raise ParameterError(f"sequence {of}: {'state' if use.states else 'page'} {entry} of {use.n} "
                                         f"(table {i}, entry {first})")
        if use.states and self.active.size() > 1:
            check_states(self, view, i)


cdef check_states(_PlanBase self, const int32_t[:, ::1] view, int table):
    """That sequences of the pass do not share a state."""
    cdef int32_t of
    owners = {}
    for of in self.active:
        if (other := owners.setdefault(view[of, 0], of)) != of:
            raise ParameterError(f"sequences {other} and {of} have the same state {view[of, 0]} (table {table})")


cdef cut(_PlanBase self, const int32_t* places, const int32_t* sequences, int n):
    """Cut the pass into query tiles, and their positions into splits."""
    cdef int i, most = tile_tokens(self), last_sequence = -1, last_place = -2
    cdef int64_t partial_tokens = 0
    cdef bint many = False
    cdef QueryTile tile
    cdef QueryTile* t
    memset(&tile, 0, sizeof(QueryTile))
    self.tiles.clear()
    self.batch.n_splits = 0
    for i in range(n):
        if sequences[i] != last_sequence or places[i] != last_place + 1 or tile.n_tokens == most:
            if i:
                self.tiles.push_back(tile)
            tile.first, tile.n_tokens = i, 0
        tile.n_tokens += 1
        self.tile_of_token[i] = <int32_t>self.tiles.size()
        last_sequence, last_place = sequences[i], places[i]
    self.tiles.push_back(tile)
    for i in range(<int>self.tiles.size()):
        t = &self.tiles[i]
        last_place = places[t.first + t.n_tokens - 1]
        if self.bidirectional:
            last_place = self.lengths[sequences[t.first]] - 1
        t.n_splits = last_place // kSplit + 1
        t.first_split, t.first_partial = self.batch.n_splits, <int32_t>partial_tokens
        self.batch.n_splits += t.n_splits
        partial_tokens += t.n_splits * t.n_tokens
        many = many or t.n_splits > 1
    self.batch.split = many and <int>self.tiles.size() <= 2 * self.n_threads and partial_tokens <= self.partial_tokens
    self.batch.tiles, self.batch.n_tiles = self.tiles.data(), <int32_t>self.tiles.size()
    self.batch.tile_of_token = self.tile_of_token.data()
