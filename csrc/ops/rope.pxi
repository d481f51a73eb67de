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


cdef int head_norm(HeadNorm* to, list keep, object norm, int64_t n_heads, int64_t dim, str name) except -1:
    """Set a norm of heads from (weight or None, bias or None, centered), or from None: there is none."""
    if norm is None:
        return 0
    weight, bias, centered = norm
    sizes = {np.size(array) for array in (weight, bias) if array is not None}
    if len(sizes) > 1 or sizes - {dim, n_heads * dim}:
        raise ParameterError(f"{name}: norms of heads with {sorted(sizes)} weights; expected {dim} or {n_heads * dim}")
    n = sizes.pop() if sizes else dim
    to.weight, to.bias = floats(keep, weight, n, name), floats(keep, bias, n, name)
    to.stride = dim if n != dim else 0
    to.kind = kCentered if centered else kRms
    return 0


def rope(_PlanBase self, str name, Value q, Value k, Value v, Value angles, Cache cache not None, bint neox,
         q_norm=None, k_norm=None, float eps=0.0, float q_scale=1.0, bint norm_after=False, bint norm_v=False,
         float clamp=0.0, float temperature=0.0, int n_ctx_orig=1):
    """Limit, norm and rotate the heads of q and k in place, q times q_scale; store k and v in the cache.

    k and v None: only q; the cache's keys and values are those of another layer. angles None: nothing is rotated. neox:
    pairs are (i, i + n_pairs), else (2i, 2i + 1). q_norm, k_norm: (weight or None, bias or None, centered) of the norm
    of heads, with k_dim values for all heads or for each; norm_after: it comes after the rotation. norm_v: heads of v
    get an RMSNorm without weights. clamp: limit of |q|, |k| and |v|, 0: none. temperature: q is multiplied by 1 +
    temperature * ln(floor(position / n_ctx_orig) + 1).
    """
    keep = []
    cdef int dim = cache.c.k_dim, n_rot = 0 if angles is None else angles.k
    cdef Op op = new_op(kRope)
    if q.k % dim or n_rot > dim:
        raise ParameterError(f"{name}: {q.k} columns of q, {n_rot} of angles, heads of {dim}")
    if (k is None) != (v is None):
        raise ParameterError(f"{name}: keys and values go together")
    if n_ctx_orig <= 0 or clamp < 0:
        raise ParameterError(f"{name}: n_ctx_orig is {n_ctx_orig}, clamp {clamp}; expected more than 0, at least 0")
    if k is not None:
        check_width(name, k, cache.c.n_kv_heads * <int64_t>dim)
        check_width(name, v, cache.c.n_kv_heads * <int64_t>cache.c.v_dim)
    op.rope.n_heads, op.rope.n_pairs, op.rope.neox = q.k // dim, n_rot // 2, neox
    head_norm(&op.rope.q_norm, keep, q_norm, op.rope.n_heads, dim, name)
    head_norm(&op.rope.k_norm, keep, k_norm, cache.c.n_kv_heads, dim, name)
    op.rope.eps, op.rope.q_scale, op.rope.cache = eps, q_scale, cache.c
    op.rope.norm_after, op.rope.norm_v, op.rope.clamp = norm_after, norm_v, clamp
    op.rope.temperature, op.rope.n_ctx_orig = temperature, n_ctx_orig
    self.check_cache(name, cache.c.table, False)
    self.add(&op, name, "tokens", [
        rows_of(&op, &op.rope.q, q), rows_of(&op, &op.rope.k, k), rows_of(&op, &op.rope.v, v),
        rows_of(&op, &op.rope.angles, angles),
    ], _NO_COST, (cache, keep))
    self.use_table(cache.c.table, cache.n_pages, 1, False)
    self.wrote(name, "q", q, "tokens")
    if k is not None:
        self.wrote(name, "k", k, "tokens")
