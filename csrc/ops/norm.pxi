def norm(_PlanBase self, str name, Value x, weight, Value out, float eps, Value y=None, post=None, rows="tokens",
         bint gather=True, bias=None, bint centered=False, float y_scale=1.0, float x_scale=1.0):
    """x = x_scale * x + y_scale * y, or y's norm times `post`, which may be of groups of columns; then out = norm(x) * weight + bias, where out may be x.

    rows "outputs" or "logits": of the tokens that are wanted only, whose rows are picked from x and y; gather=False: x
    and y have been picked from before. centered: LayerNorm, else RMSNorm. weight None: only x = ...
    """
    keep = []
    cdef Op op = new_op(kNorm)
    if centered and post is not None:
        raise ParameterError(f"{name}: a LayerNorm of what is added is not implemented")
    check_width(name, out, x.k)
    if y is not None:
        check_width(name, y, x.k)
    op.norm.weight, op.norm.post_group = floats(keep, weight, x.k, name), x.k if post is None else len(post)
    if op.norm.post_group == 0 or x.k % op.norm.post_group:
        raise ParameterError(f"{name}: {op.norm.post_group} weights for the {x.k} columns of what is added; expected a divisor")
    op.norm.post = floats(keep, post, op.norm.post_group, name)
    op.norm.bias = floats(keep, bias, x.k, name)
    op.norm.gather = gather and rows in ("outputs", "logits")
    if op.norm.gather and (out is x or out is y):
        raise ParameterError(f"{name}: {out.name} cannot take the place of what it is picked from")
    op.norm.eps, op.norm.centered, op.norm.y_scale = eps, centered, y_scale
    op.norm.x_scale = x_scale
    self.add(&op, name, rows, [
        rows_of(&op, &op.norm.x, x), rows_of(&op, &op.norm.y, y), forms_of(&op, &op.norm.out, out),
    ], _NO_COST, (keep,))
    if y is not None:
        self.wrote(name, "x", x, "tokens" if op.norm.gather else rows, y)
    if weight is not None:
        self.wrote(name, "", out, rows)
