// Where a pass begins: rows of the embedding, or rows that the caller gives.
#pragma once
#include "kernels/ops.hpp"

namespace pyinfer {

// out[t] = scale * weight[id] + positions[position] + added; a row of the caller's takes the place of scale *
// weight[id]
struct Embed {
    Weight weight;  // [n_vocab, k]
    float scale;
    Weight positions;    // [>= n_ctx, k]; without data: none
    const float* added;  // [k] or null
    Activations out;     // [n, k]
};

}  // namespace pyinfer

#ifdef PYINFER_ISA
#include "kernels/rowwise.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

inline void embed_row(const Embed& p, int32_t n_rows, const Batch& batch, const Worker& worker, int32_t t) {
    const int64_t k = p.weight.k;
    float *x = reinterpret_cast<float*>(worker.scratch), *position = x + k;
    const int32_t id = batch.tokens[t];
    if (id < 0) {
        memcpy(x, batch.embeddings + batch.embedded[t] * k, k * sizeof(float));
    } else {
        read_row(p.weight, id, x);
        if (p.scale != 1)
            for (int64_t i = 0; i < k; ++i) x[i] *= p.scale;
    }
    if (p.positions.data) {
        read_row(p.positions, batch.positions[t], position);
        for (int64_t i = 0; i < k; ++i) x[i] += position[i];
    }
    if (p.added)
        for (int64_t i = 0; i < k; ++i) x[i] += p.added[i];
    emit(p.out, t, n_rows, 0, k, x);
}

template <>
struct KernelOf<Embed> : ByRow<Embed, embed_row> {};

}  // namespace PYINFER_ISA
}  // namespace pyinfer
#endif
