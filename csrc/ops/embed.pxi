def embed(_PlanBase self, str name, Matrix weight, Value out, float scale=1.0, Matrix positions=None, added=None):
    """out[t] = scale * weight[token of t] + positions[position of t] + added

    A token of id -1 takes the pass's next row of embeddings in place of scale * weight[..]. positions: a Matrix of at
    least n_ctx rows; added: a vector.
    """
    keep = []
    cdef Op op = new_op(kEmbed)
    check_width(name, out, weight.k)
    if positions is not None and (positions.k != weight.k or positions.n_rows < self.n_ctx):
        raise ParameterError(f"{name}: {positions.n_rows} positions of {positions.k} columns where {self.n_ctx} of "
                             f"{weight.k} were expected")
    if weight.n_rows > INT32_MAX:
        raise ParameterError(f"{name}: {weight.n_rows} rows are more than there are ids")
    op.embed.weight, op.embed.scale, op.embed.added = weight.c, scale, floats(keep, added, weight.k, name)
    if positions is not None:
        op.embed.positions = positions.c
    self.add(&op, name, "tokens", [forms_of(&op, &op.embed.out, out)], _NO_COST, (weight, positions, keep))
    self.n_embd = weight.k if self.n_embd in (-1, weight.k) else 0  # of different widths none fits
    self.n_vocab = min(self.n_vocab, weight.n_rows) if self.n_vocab >= 0 else weight.n_rows
    self.wrote(name, "", out, "tokens")
