# Recorded operations, and passes over them. The methods that record them are in ops/, that of a pass in pass.pxi; a
# class's body takes no includes, so they are functions that class Plan, at the end, takes as its methods.

cdef extern from "Python.h":
    int PyErr_CheckSignals() noexcept  # leaves the error set, for the end of the pass to raise

cdef int ROWS_PER_TILE = 80  # of an attention tile, at most: query tokens times the heads of a KV head


cdef const float* floats(list owner, object array, int64_t n, str what) except? NULL:
    """The address of a float32 vector of n values that `owner` keeps alive; None gives NULL."""
    if array is None:
        return NULL
    cdef const float[::1] view = np.ascontiguousarray(array, np.float32)
    if view.shape[0] != n:
        raise ParameterError(f"{what}: {view.shape[0]} values where {n} were expected")
    owner.append(view)
    return &view[0]


cdef check_width(str name, Value value, int64_t k):
    if value.k != k:
        raise ParameterError(f"{name}: {value.name} has {value.k} columns where {k} were expected")


cdef Op new_op(OpKind kind) noexcept:
    cdef Op op
    memset(&op, 0, sizeof(Op))
    op.kind = kind
    return op


cdef tuple rows_of(Op* op, void* field, Value value):
    """A binding: the operation's field gets the address of the value's rows. None: it stays NULL."""
    return <char*>field - <char*>op, value, ("rows",), False


cdef tuple forms_of(Op* op, Activations* field, Value value, tuple forms=()):
    """A binding: the operation's field gets the value's forms, these at least."""
    return <char*>field - <char*>op, value, forms, True


cdef bool_t interrupted() noexcept with gil:
    return PyErr_CheckSignals() != 0


cdef int raise_pending() except -1:
    return -1


cdef struct TableUse:  # what operations do with one of a pass's tables
    int64_t n          # entries are below it; 0: nothing is done
    int32_t reach      # positions that a token looks back at, its own among them
    bint states        # entries are rows of states, one a sequence


class OpCost(NamedTuple):
    """What an operation reads and multiplies, zero where it does not; rows are a pass's tokens, or its outputs.

    window: attention sees the last so many positions only; 0: all.
    """

    of_outputs: bool = False
    weight_bytes: int = 0  # once a pass
    macs_per_row: int = 0
    kv_bytes_per_position: int = 0  # once a pass
    macs_per_position: int = 0  # that a token attends to
    window: int = 0


_NO_COST = OpCost()


class _Record(NamedTuple):
    """What Python keeps of an operation."""

    name: str
    rows: object  # "tokens", "outputs", "logits" or Counts
    bindings: list  # (offset of a field, Value, forms that are wanted, whether the field takes all forms)
    cost: OpCost
    keep: tuple  # what the operation's addresses point into


cdef class _PlanBase:
    """What operations are recorded into; see Plan."""

    cdef vector[Op] ops
    cdef list records
    cdef readonly int capacity, n_ctx, n_sequences, n_threads
    cdef int heads_per_kv, k_dim, v_dim
    cdef int64_t max_row, partial_tokens, partial_floats
    cdef int n_axes, n_vocab, n_embd
    cdef bint ready, running, profiling, bidirectional, has_states
    cdef Progress* progress
    cdef StopFlag stop_flag
    cdef uint8_t[::1] scratch
    cdef int64_t scratch_bytes
    cdef float[::1] partials
    cdef int64_t[::1] nanoseconds
    cdef Kernels kernels
    cdef Batch batch  # of the pass under way; operations have the addresses of its row counts
    cdef vector[TableUse] uses
    cdef vector[Table] tables
    cdef vector[QueryTile] tiles
    cdef vector[int32_t] tile_of_token, embedded, firsts, lengths, active
    cdef vector[uint8_t] marks

    def __cinit__(self):
        self.progress = NULL

    def __init__(self, int capacity, int n_ctx, int n_sequences, int n_threads):
        if min(capacity, n_ctx, n_sequences, n_threads) <= 0:
            raise ParameterError(f"a plan for {capacity} tokens, {n_ctx} positions, {n_sequences} sequences, {n_threads} threads")
        self.capacity, self.n_ctx, self.n_sequences, self.n_threads = capacity, n_ctx, n_sequences, n_threads
        self.records = []
        self.max_row, self.heads_per_kv, self.k_dim, self.v_dim, self.partial_floats = 1, 1, 1, 1, 0
        self.n_axes, self.n_vocab, self.n_embd = 1, -1, -1
        self.kernels = kernels

    def __dealloc__(self):
        delete_progress(self.progress)

    @property
    def names(self) -> list:
        """The operations' names, in their order."""
        return [record.name for record in self.records]

    def costs(self) -> list:
        """What each operation reads and multiplies, as an OpCost in the order of `names`."""
        return [record.cost._replace(of_outputs=record.rows in ("outputs", "logits")) for record in self.records]

    def wrote(self, str name, str part, Value value, rows, Value added=None):
        """Called by each operation's method once it is recorded, for each value it writes; does nothing, for subclasses.

        part: which of the operation's results, "" where it has one; "x" is a norm's residual stream, to which `added` was
        added. rows: as of the operations.
        """

    def multiplies(self, str name, Value src, rows):
        """Called before a product is recorded, with what it reads; does nothing, for subclasses."""

    cdef add(self, Op* op, str name, object rows, list bindings, object cost, tuple keep):
        """Record an operation, whose fields are set but for those of `bindings` (see rows_of and forms_of)."""
        cdef Value value
        cdef int64_t most = self.capacity, widest = self.max_row
        if self.ready:
            raise ParameterError("a plan that has run takes no further operations")
        op.n_rows = self.count_of(name, rows)
        bindings = [binding for binding in bindings if binding[1] is not None]
        for _, value, forms, whole in bindings:
            value.check(forms)
            if whole and forms and value.tile_rows is not None and value.tile_rows != rows:
                raise ParameterError(f"{name} reads {rows} of {value.name}, which was packed as {value.tile_rows}; pack these rows first")
            if value.capacity < most:
                raise ParameterError(f"{name}: {value.name} holds {value.capacity} rows, a pass {most}")
            if whole:
                widest = max(widest, value.k)
        record = _Record(name, rows, bindings, cost, keep)
        self.ops.push_back(op[0])
        try:
            self.records.append(record)
        except:
            self.ops.pop_back()
            raise
        self.max_row = widest
        for _, value, forms, whole in bindings:
            value.want(*forms)
            if whole and not forms:
                value.tile_rows = rows

    cdef const int32_t* count_of(self, str name, object rows) except NULL:
        """Where the number of an operation's rows is found."""
        cdef Counts counts
        if isinstance(rows, Counts):
            counts = rows
            if counts.plan is not self:
                raise ParameterError(f"{name}: no earlier operation of the plan writes the rows {counts.name}")
            return &counts.count
        if rows == "tokens":
            return &self.batch.n_tokens
        if rows == "outputs":
            return &self.batch.n_outputs
        if rows == "logits":
            return &self.batch.n_logits
        raise ParameterError(f"{name}: rows is {rows!r}; expected 'tokens', 'outputs', 'logits' or a Counts")

    cdef check_cache(self, str name, int table, bint states):
        """That a table is not both of pages and of states."""
        if table < <int>self.uses.size() and self.uses[table].n and self.uses[table].states != states:
            raise ParameterError(f"{name}: table {table} is of pages for some operations and of states for others")

    cdef use_table(self, int table, int64_t n, int32_t reach, bint states):
        """Note what an operation reads of a table, for passes to check."""
        cdef TableUse* use
        if table >= <int>self.uses.size():
            self.uses.resize(table + 1)
        use = &self.uses[table]
        use.n = min(use.n, n) if use.n else n
        use.reach, use.states = max(use.reach, reach), states
        self.has_states = self.has_states or states

    cdef resolve(self):
        """Give every operation the addresses of what it reads and writes, and make the memory of passes."""
        cdef Value value
        cdef int64_t offset, splits = (self.n_ctx + kSplit - 1) // kSplit
        cdef char* op
        cdef int i
        self.partial_tokens = (2 * self.n_threads + 1) * splits
        self.partials = aligned(max(1, self.partial_tokens * self.partial_floats), np.float32)
        self.scratch_bytes = self.kernels.scratch_bytes(self.capacity, self.max_row, max(ROWS_PER_TILE, self.heads_per_kv),
                                                        self.k_dim, self.v_dim)
        self.scratch_bytes = (self.scratch_bytes + 4095) // 4096 * 4096
        self.scratch = aligned(self.n_threads * self.scratch_bytes, np.uint8)
        self.tables.resize(self.uses.size())
        self.tiles.reserve(self.capacity)
        self.tile_of_token.resize(self.capacity)
        self.embedded.resize(self.capacity)
        self.marks.resize(self.capacity)
        self.active.reserve(self.n_sequences)
        self.firsts.resize(self.n_sequences)
        self.lengths.resize(self.n_sequences)
        if self.progress == NULL:
            self.progress = new_progress(self.ops.size())
        for record in self.records:
            for _, value, _, _ in record.bindings:
                value.allocate()
        for i, record in enumerate(self.records):
            op = <char*>&self.ops[i]
            for offset, value, _, whole in record.bindings:
                value.bound = True
                if whole:
                    (<Activations*>(op + offset))[0] = value.c
                else:
                    (<float**>(op + offset))[0] = value.c.rows
        self.ready = True

    def profile(self):
        """Nanoseconds of each operation since the first call of this; the first call starts the count."""
        if not self.profiling:
            self.nanoseconds = np.zeros(self.ops.size(), np.int64)
            self.profiling = True
        return np.asarray(self.nanoseconds)

    def stop(self):
        """End the pass under way, if there is one, after the operation it is at; its `run` raises PassStopped.

        From any thread. A later pass is not affected.
        """
        self.stop_flag.set()


include "pass.pxi"
include "ops/embed.pxi"
include "ops/norm.pxi"
include "ops/matmul.pxi"
include "ops/gated.pxi"
include "ops/glu.pxi"
include "ops/rope.pxi"
include "ops/attention.pxi"
include "ops/scan.pxi"
include "ops/softcap.pxi"
include "ops/pack.pxi"
include "ops/select.pxi"


class Plan(_PlanBase):
    """Recorded operations, and the memory of the passes over them.

    capacity: the most tokens of a pass; n_ctx: the most positions of a sequence; n_sequences: slots. `rows` of an
    operation are the pass's "tokens", its "outputs" (rows that are wanted after the last norm), its "logits" (the first
    of the outputs), or a Counts that an earlier operation writes. A method that raises leaves the plan as it was.
    """

    run = run
    embed, norm, matmul, glu, gated = embed, norm, matmul, glu, gated
    angles, rope, attention, scan = angles, rope, attention, scan
    softcap, pack, select, gather = softcap, pack, select, gather


del run, embed, norm, matmul, glu, gated, angles, rope, attention, scan, softcap, pack, select, gather
