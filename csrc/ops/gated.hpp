// Gated activations of rows that are there already (csrc/ops/glu.hpp computes its products itself).
#pragma once
#include "kernels/ops.hpp"
#include "ops/glu.hpp"

namespace pyinfer {

struct Gated {          // out = act(gate) * up
    const float* gate;  // [n, k]
    const float* up;    // [n, up_ld], of which columns [up_first, up_first + k) are taken
    int64_t up_ld, up_first;
    float sparsity;  // gate first becomes max(gate - mean - sparsity * deviation, 0), by row; 0: it does not
    Activation act;
    Activations out;  // [n, k]
};

}  // namespace pyinfer

#ifdef PYINFER_ISA
#include "kernels/activation.hpp"
#include "kernels/rowwise.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

// The mean of a row plus `sparsity` times its standard deviation (of a sample: over k - 1).
inline float sparse_threshold(const float* x, int64_t k, float sparsity, float* centered) {
    const float mean = row_mean<false>(x, k);
    for (int64_t i = 0; i < k; ++i) centered[i] = x[i] - mean;
    return mean + sparsity * sqrtf(row_mean<true>(centered, k) * float(k) / float(k > 1 ? k - 1 : 1));
}

inline void gated_row(const Gated& p, int32_t n_rows, const Batch&, const Worker& worker, int32_t t) {
    const int64_t k = p.out.k;
    const float *gate = p.gate + t * k, *up = p.up + t * p.up_ld + p.up_first;
    float* out = reinterpret_cast<float*>(worker.scratch);
    const float threshold = p.sparsity != 0 ? sparse_threshold(gate, k, p.sparsity, out) : 0;
    for_each_lane(k, [&](int64_t i, int count) {
        Vec::F x = load_some(gate + i, count);
        if (p.sparsity != 0) x = Vec::max(x - threshold, Vec::F{});
        store_some(out + i, activation(p.act, x) * load_some(up + i, count), count);
    });
    emit(p.out, t, n_rows, 0, k, out);
}

template <>
struct KernelOf<Gated> : ByRow<Gated, gated_row> {};

}  // namespace PYINFER_ISA
}  // namespace pyinfer
#endif
