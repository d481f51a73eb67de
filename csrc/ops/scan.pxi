def scan(_PlanBase self, str name, Value x, decay, State state not None, Value out):
    """Token by token: h = decay * h + x, out = h, where h is the state of the token's sequence, zero before position 0.

    decay: a number, or one for each column.
    """
    keep = []
    cdef Op op = new_op(kScan)
    check_width(name, x, state.k)
    check_width(name, out, state.k)
    if np.ndim(decay) == 0:
        decay = np.full(state.k, decay, np.float32)
    op.scan.decay = floats(keep, decay, state.k, name)
    op.scan.states, op.scan.table = &state.memory[0, 0], state.table
    self.check_cache(name, state.table, True)
    self.add(&op, name, "tokens", [
        rows_of(&op, &op.scan.x, x), forms_of(&op, &op.scan.out, out),
    ], _NO_COST, (state, keep))
    self.use_table(state.table, state.n_rows, 0, True)
    self.wrote(name, "", out, "tokens")
