cdef int set_activation(Activation* to, object act, str name) except -1:
    """Set an activation from its name, or from ("xielu", alpha_p, alpha_n, beta, eps)."""
    kinds = {"silu": kSilu, "gelu": kGelu, "gelu_erf": kGeluErf, "relu": kRelu, "relu_squared": kReluSquared}
    if isinstance(act, tuple) and len(act) == 5 and act[0] == "xielu":
        to.kind = kXielu
        to.alpha_p, to.alpha_n, to.beta, to.eps = act[1:]
    elif act in kinds:
        to.kind = kinds[act]
    else:
        raise ParameterError(f"{name}: activation {act!r}; there are: {', '.join(kinds)} and xielu")
    return 0


def gated(_PlanBase self, str name, Value gate, Value up, Value out, act, int64_t first=0, float sparsity=0.0,
          rows="tokens"):
    """out = act(gate) * up, of up the columns from `first` on.

    act: as of glu. sparsity: gate first becomes max(gate - mean - sparsity * deviation, 0), by row; 0: it does not.
    """
    cdef Op op = new_op(kGated)
    check_width(name, gate, out.k)
    if not 0 <= first <= up.k - out.k:
        raise ParameterError(f"{name}: columns {first} to {first + out.k} of the {up.k} of {up.name}")
    set_activation(&op.gated.act, act, name)
    op.gated.up_ld, op.gated.up_first, op.gated.sparsity = up.k, first, sparsity
    self.add(&op, name, rows, [
        rows_of(&op, &op.gated.gate, gate), rows_of(&op, &op.gated.up, up), forms_of(&op, &op.gated.out, out),
    ], _NO_COST, ())
    self.wrote(name, "", out, rows)
