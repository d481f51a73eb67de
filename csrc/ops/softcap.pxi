def softcap(_PlanBase self, str name, Value x, float cap, rows="tokens"):
    """x = cap * tanh(x / cap), in place."""
    cdef Op op = new_op(kSoftcap)
    op.softcap.k, op.softcap.cap = x.k, cap
    self.add(&op, name, rows, [rows_of(&op, &op.softcap.x, x)], _NO_COST, ())
    self.wrote(name, "", x, rows)
