def matmul(_PlanBase self, str name, Value src, list segments, rows="tokens"):
    """For each segment: out = scale * (src @ matrix.T) + bias.

    segments: up to four (Matrix, out Value, bias or None, scale).
    """
    cdef Matrix weight
    cdef Value out
    cdef int i
    cdef Op op = new_op(kMatmul)
    keep, bindings = [], []
    for weight, out, _, _ in segments:
        check_width(name, out, weight.n_rows)
    bindings.append(product(&op, &op.matmul, name, src, [(w, bias, scale) for w, _, bias, scale in segments], keep))
    for i, segment in enumerate(segments):
        out = segment[1]
        op.matmul.segments[i].ld = out.k
        bindings.append(rows_of(&op, &op.matmul.segments[i].out, out))
    self.multiplies(name, src, rows)
    self.add(&op, name, rows, bindings, product_cost(&op.matmul), (segments, keep))
    for _, out, _, _ in segments:
        self.wrote(name, out.name if len(segments) > 1 else "", out, rows)


cdef tuple product(Op* op, Matmul* product, str name, Value src, list segments, list keep):
    """Set a product's segments, (Matrix, bias or None, scale), but for where they write to; the binding of its source."""
    cdef Matrix weight
    cdef int i = 0
    if not 1 <= len(segments) <= kMaxSegments:
        raise ParameterError(f"{name}: {len(segments)} segments")
    forms = set()
    for weight, bias, scale in segments:
        check_width(name, src, weight.k)
        forms.add("quants" if weight.quantized else "tiles")
        product.segments[i].weight = weight.c
        product.segments[i].bias = floats(keep, bias, weight.n_rows, name)
        product.segments[i].scale = scale
        i += 1
    product.n_segments = i
    return forms_of(op, &product.src, src, tuple(sorted(forms)))


cdef product_cost(Matmul* product):
    cdef int64_t size = 0, macs = 0
    cdef int j
    for j in range(product.n_segments):
        size += (product.segments[j].weight.n_rows + 15) // 16 * product.segments[j].weight.group_bytes
        macs += product.segments[j].weight.n_rows * product.segments[j].weight.k
    return OpCost(weight_bytes=size, macs_per_row=macs)
