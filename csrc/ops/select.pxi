def select(_PlanBase self, str name, Value scores, int64_t column, float threshold, Counts out not None, rows="tokens"):
    """Choose the rows whose score in a column is above the threshold: `out` has their number and their indices.

    Later operations of the plan take `rows=out`.
    """
    cdef Op op = new_op(kSelect)
    if not 0 <= column < scores.k:
        raise ParameterError(f"{name}: column {column} of {scores.k}")
    if out.plan is not None:  # see plan.hpp
        raise ParameterError(f"{name}: another operation writes {out.name}")
    if out.capacity < self.capacity:
        raise ParameterError(f"{name}: {out.name} holds {out.capacity} rows, a pass {self.capacity}")
    op.select.ld, op.select.column, op.select.threshold = scores.k, column, threshold
    op.select.count, op.select.indices = &out.count, &out.indices[0]
    self.add(&op, name, rows, [rows_of(&op, &op.select.scores, scores)], _NO_COST, (out,))
    out.plan = self


def gather(_PlanBase self, str name, Value x, Counts chosen not None, Value out):
    """out[i] = x[chosen.rows[i]], in the forms that out's readers want."""
    cdef Op op = new_op(kGather)
    check_width(name, out, x.k)
    if out is x:
        raise ParameterError(f"{name}: {x.name} cannot take the place of what it is picked from")
    op.gather.indices = &chosen.indices[0]
    self.add(&op, name, chosen, [rows_of(&op, &op.gather.x, x), forms_of(&op, &op.gather.out, out)], _NO_COST, (chosen,))
    self.wrote(name, "", out, chosen)
