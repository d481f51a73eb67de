def glu(_PlanBase self, str name, Value src, list segments, Value out, str act, rows="tokens"):
    """out = act(src @ gate.T) * (src @ up.T), or act(src @ gate.T) alone.

    segments: gate's, then up's (Matrix, bias or None, scale), as of matmul. act: "silu", "gelu" (the tanh form) or
    "gelu_erf" (as it is defined).
    """
    acts = {"silu": kSilu, "gelu": kGelu, "gelu_erf": kGeluErf}
    keep = []
    cdef Op op = new_op(kGlu)
    if act not in acts:
        raise ParameterError(f"{name}: activation {act!r}; there are: {', '.join(acts)}")
    if len(segments) > 2:
        raise ParameterError(f"{name}: {len(segments)} segments; expected gate and up")
    for segment in segments:
        check_width(name, out, segment[0].n_rows)
    src_binding = product(&op, &op.glu.product, name, src, segments, keep)
    op.glu.act = acts[act]
    self.multiplies(name, src, rows)
    cost = product_cost(&op.glu.product)
    self.add(&op, name, rows, [src_binding, forms_of(&op, &op.glu.out, out)], cost, (segments, keep))
    self.wrote(name, "", out, rows)
