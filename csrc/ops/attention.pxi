def attention(_PlanBase self, str name, Value q, Cache cache not None, Value out, int window=0, float softcap=0.0,
              bint causal=True, slopes=None, sinks=None, Value gate=None):
    """out = softmax(q k) v for each head, over the positions up to each token's own (window: the last so many).

    q: heads of the cache's k_dim; out: as many of its v_dim. softcap: of scores, 0: none. Not causal: over all
    positions of the token's sequence, up to the last one of it in the pass (window: those at most window // 2 away).
    slopes [n_heads], times the distance of query and key, is taken from scores (ALiBi); sinks [n_heads]: a further score
    of each head, of no value. gate: heads are multiplied by its sigmoid, [n, n_heads * v_dim] or [n, n_heads].
    """
    keep = []
    cdef int64_t k_dim = cache.c.k_dim, v_dim = cache.c.v_dim, n_heads = q.k // k_dim, n_kv = cache.c.n_kv_heads
    cdef Op op = new_op(kAttention), merge = new_op(kMerge)
    if window < 0:
        raise ParameterError(f"{name}: a window of {window} positions")
    if q.k % (k_dim * n_kv):
        raise ParameterError(f"{name}: {n_heads} heads over {n_kv} KV heads")
    check_width(name, out, n_heads * v_dim)
    op.attention.n_heads, op.attention.window, op.attention.softcap = n_heads, window, softcap
    op.attention.causal, op.attention.cache = causal, cache.c
    op.attention.slopes, op.attention.sinks = floats(keep, slopes, n_heads, name), floats(keep, sinks, n_heads, name)
    merge.merge.n_heads, merge.merge.v_dim, merge.merge.sinks = n_heads, v_dim, op.attention.sinks
    if gate is not None:
        merge.merge.gate_dim = gate.k // n_heads
        if gate.k not in (n_heads, n_heads * v_dim):
            raise ParameterError(f"{name}: {gate.k} columns of the gate; expected {n_heads} or {n_heads * v_dim}")
    cost = OpCost(
        kv_bytes_per_position=(cache.c.k_head + cache.c.v_head) // kPage * n_kv,
        macs_per_position=n_heads * (k_dim + v_dim),
        window=window,
    )
    self.check_cache(name, cache.c.table, False)
    self.add(&op, name, "tokens", [
        rows_of(&op, &op.attention.q, q), rows_of(&op, &op.attention.out, out),
    ], cost, (cache, keep))
    try:
        self.add(&merge, name + ".merge", "tokens", [
            rows_of(&merge, &merge.merge.rows, out), rows_of(&merge, &merge.merge.gate, gate),
            forms_of(&merge, &merge.merge.out, out),
        ], _NO_COST, (keep,))
    except:
        self.ops.pop_back()
        self.records.pop()
        raise
    self.use_table(cache.c.table, cache.n_pages, window if window and causal else INT32_MAX, False)
    self.bidirectional = self.bidirectional or not causal
    self.heads_per_kv = max(self.heads_per_kv, n_heads // n_kv)
    self.k_dim, self.v_dim = max(self.k_dim, k_dim), max(self.v_dim, v_dim)
    self.partial_floats = max(self.partial_floats, n_heads * (2 + (v_dim + 15) // 16 * 16))
    self.wrote(name, "", out, "tokens")
