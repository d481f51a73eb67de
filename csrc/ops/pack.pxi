def pack(_PlanBase self, str name, Value x, Value out, rows="tokens"):
    """out = x, in the forms that its readers want."""
    cdef Op op = new_op(kPack)
    check_width(name, out, x.k)
    self.add(&op, name, rows, [rows_of(&op, &op.pack.x, x), forms_of(&op, &op.pack.out, out)], _NO_COST, ())
    self.wrote(name, "", out, rows)
