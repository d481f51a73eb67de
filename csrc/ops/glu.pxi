def glu(_PlanBase self, str name, Value src, list segments, Value out, act, rows="tokens", factors=None):
    """out = act(src @ gate.T) * (src @ up.T), or act(src @ gate.T) alone.

    segments: gate's, then up's (Matrix, bias or None, scale), as of matmul. act: "silu", "gelu" (the tanh form), "gelu_erf"
    (as it is defined), "relu", "relu_squared" or ("xielu", alpha_p, alpha_n, beta, eps). factors [k]:
    out is multiplied by them.
    """
    keep = []
    cdef Op op = new_op(kGlu)
    set_activation(&op.glu.act, act, name)
    op.glu.factors = floats(keep, factors, out.k, name)
    if len(segments) > 2:
        raise ParameterError(f"{name}: {len(segments)} segments; expected gate and up")
    for segment in segments:
        check_width(name, out, segment[0].n_rows)
    src_binding = product(&op, &op.glu.product, name, src, segments, keep)
    self.multiplies(name, src, rows)
    cost = product_cost(&op.glu.product)
    self.add(&op, name, rows, [src_binding, forms_of(&op, &op.glu.out, out)], cost, (segments, keep))
    self.wrote(name, "", out, rows)
