// Gated activations (Shazeer 2020): out = act(src @ gate.T) * (src @ up.T), or act(src @ gate.T) alone.
//
// A thread computes both products of a few columns, one after the other, into its own memory; from there only
// act(gate) * up is written out, packed for the next product. Written out and read back, the products themselves would
// be most of the memory traffic of a prefill.
#pragma once
#include "kernels/activation.hpp"
#include "kernels/matmul.hpp"
#include "kernels/rowwise.hpp"
#include "ops/glu.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

constexpr int kGluGroups = 2;  // row groups of a step: so many of each of the two products
constexpr int kGluColumns = kGluGroups * kGroup;
static_assert(kGluColumns % 32 == 0, "the columns of a step are quantized together");

inline int64_t glu_steps(const Glu& p) {
    return (n_groups(p.product.segments[0].weight) + kGluGroups - 1) / kGluGroups;
}

inline Units glu_units_of(const Glu& p, int32_t n, const Batch& batch) {
    const int64_t max_steps = n > kStreamedTokens ? 1 : Scratch::kRowFloats / (int64_t(n) * 2 * kGluColumns);
    return {glu_steps(p), batch.n_threads, max_steps < 1 ? 1 : max_steps};
}

// The segment's rows from a row group on, as a segment of their own that writes to `out`.
inline Segment rows_from(Segment s, int64_t group, float* out, int64_t ld) {
    s.weight.data += group * s.weight.group_bytes;
    s.weight.n_rows -= group * kGroup;
    if (s.bias) s.bias += group * kGroup;
    s.out = out, s.ld = ld;
    return s;
}

inline void run_glu(const Glu& p, int32_t n, const Batch& batch, const Worker& worker, int32_t unit) {
    const auto [begin, end] = glu_units_of(p, n, batch).of(unit);
    const int64_t first = begin * kGluGroups, n_steps = end - begin;
    const int64_t left = n_groups(p.product.segments[0].weight) - first;
    const int64_t groups = left < n_steps * kGluGroups ? left : n_steps * kGluGroups;
    const int64_t ld = 2 * n_steps * kGluColumns, column = first * kGroup;
    const int64_t columns = p.out.k - column < groups * kGroup ? p.out.k - column : groups * kGroup;
    const Scratch scratch(worker.scratch, n);
    float *gate = scratch.rows, *up = gate + ld / 2;  // rows [n][ld]: gate's columns, then up's
    for (int i = 0; i < p.product.n_segments; ++i)
        multiply(rows_from(p.product.segments[i], first, i == 0 ? gate : up, ld), p.product.src, n, 0, groups,
                 groups * batch.n_threads, scratch);
    for (int t = 0; t < n; ++t) {
        float *g = gate + t * ld, *u = up + t * ld;
        for_each_lane(columns, [&](int64_t i, int count) {
            const Vec::F x = load_some(g + i, count);
            const Vec::F y = activation(p.act, x);
            store_some(g + i, p.product.n_segments == 2 ? y * load_some(u + i, count) : y, count);
        });
        if (p.factors)
            for (int64_t i = 0; i < columns; ++i) g[i] *= p.factors[column + i];
        emit(p.out, t, n, column, columns, g);
    }
}

template <>
struct KernelOf<Glu> {
    static int32_t units(const Glu& p, int32_t n, const Batch& batch) {
        return n == 0 ? 0 : glu_units_of(p, n, batch).count();
    }
    static constexpr auto run = run_glu;
};

}  // namespace PYINFER_ISA
}  // namespace pyinfer
