def angles(_PlanBase self, str name, const double[::1] inv_freq not None, float mscale, Value out, axes=None):
    """out[t] = cos, then sin, of position * inv_freq, times mscale.

    inv_freq: radians a position, of each pair; axes: which axis of the positions each pair turns by, int32 [n_pairs]
    (default: all by axis 0).
    """
    cdef Op op = new_op(kAngles)
    cdef const int32_t[::1] of_pairs
    cdef int n_axes = 1
    if inv_freq.shape[0] == 0:
        raise ParameterError(f"{name}: no frequencies")
    check_width(name, out, 2 * inv_freq.shape[0])
    if axes is not None:
        axes = np.ascontiguousarray(axes, np.int32)
        if axes.shape != (inv_freq.shape[0],) or not 0 <= axes.min() <= axes.max() < 16:
            raise ParameterError(f"{name}: axes are {axes}; expected one of 0 to 15 for each of {inv_freq.shape[0]} pairs")
        of_pairs = axes
        n_axes = axes.max() + 1
        op.angles.axes = &of_pairs[0]
    op.angles.inv_freq, op.angles.n_pairs, op.angles.mscale = &inv_freq[0], inv_freq.shape[0], mscale
    self.add(&op, name, "tokens", [rows_of(&op, &op.angles.out, out)], _NO_COST, (inv_freq, axes))
    self.n_axes = max(self.n_axes, n_axes)


def rope(_PlanBase self, str name, Value q, Value k, Value v, Value angles, Cache cache not None, bint neox,
         q_norm=None, k_norm=None, float eps=0.0, float q_scale=1.0):
    """Norm and rotate the heads of q and k in place, q times q_scale; store k and v in the cache.

    angles None: nothing is rotated. neox: pairs are (i, i + n_pairs), else (2i, 2i + 1).
    """
    keep = []
    cdef int dim = cache.c.k_dim, n_rot = 0 if angles is None else angles.k
    cdef Op op = new_op(kRope)
    if q.k % dim or n_rot > dim:
        raise ParameterError(f"{name}: {q.k} columns of q, {n_rot} of angles, heads of {dim}")
    check_width(name, k, cache.c.n_kv_heads * <int64_t>dim)
    check_width(name, v, cache.c.n_kv_heads * <int64_t>cache.c.v_dim)
    op.rope.q_norm, op.rope.k_norm = floats(keep, q_norm, dim, name), floats(keep, k_norm, dim, name)
    op.rope.n_heads, op.rope.n_pairs, op.rope.neox = q.k // dim, n_rot // 2, neox
    op.rope.eps, op.rope.q_scale, op.rope.cache = eps, q_scale, cache.c
    self.check_cache(name, cache.c.table, False)
    self.add(&op, name, "tokens", [
        rows_of(&op, &op.rope.q, q), rows_of(&op, &op.rope.k, k), rows_of(&op, &op.rope.v, v),
        rows_of(&op, &op.rope.angles, angles),
    ], _NO_COST, (cache, keep))
    self.use_table(cache.c.table, cache.n_pages, 1, False)
    self.wrote(name, "q", q, "tokens")
    self.wrote(name, "k", k, "tokens")
