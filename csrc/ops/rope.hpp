// Rotary positions (Su et al. 2021), the norms of heads that some models have before them, and the store of keys and
// values into the cache.
//
// Pairs are (i, i + n_pairs) in NeoX's layout, (2i, 2i + 1) in the original one; the rest of a head is left as it is.
#pragma once
#include "kernels/ops.hpp"

namespace pyinfer {

struct Angles {              // out[t] = cos, then sin, of position * inv_freq, times mscale
    const double* inv_freq;  // [n_pairs] radians a position
    const int32_t* axes;     // [n_pairs] which axis of the positions a pair turns by; null: all by axis 0
    int32_t n_pairs;
    float mscale;
    float* out;  // [n, 2, n_pairs]
};

struct Rope {  // norms and rotates the heads of q and k, in place; stores k and v in the cache
    float* q;  // [n, n_heads * k_dim]
    float* k;  // [n, n_kv_heads * k_dim]
    float* v;  // [n, n_kv_heads * v_dim]
    int32_t n_heads;
    int32_t n_pairs;  // that are rotated, of each head
    int32_t neox;     // layout of the pairs
    float eps;        // of the norms
    float q_scale;
    const float *q_norm, *k_norm;  // [k_dim] or null
    const float* angles;           // [n, 2, n_pairs]; null: nothing turns
    KVCache cache;
};

}  // namespace pyinfer

#ifdef PYINFER_ISA
#include "kernels/rope.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

inline void angles_row(const Angles& p, int32_t, const Batch& batch, const Worker&, int32_t t) {
    float* out = p.out + int64_t(t) * 2 * p.n_pairs;
    for (int i = 0; i < p.n_pairs; ++i) {
        const int32_t position = batch.positions[(p.axes ? p.axes[i] : 0) * batch.axis_stride + t];
        const double angle = position * p.inv_freq[i];
        out[i] = float(cos(angle)) * p.mscale;
        out[p.n_pairs + i] = float(sin(angle)) * p.mscale;
    }
}

template <>
struct KernelOf<Angles> : ByRow<Angles, angles_row> {};

inline void rope_row(const Rope& p, int32_t, const Batch& batch, const Worker&, int32_t t) {
    const int64_t k_dim = p.cache.k_dim, v_dim = p.cache.v_dim;
    const float* angles = p.angles ? p.angles + int64_t(t) * 2 * p.n_pairs : nullptr;
    const auto prepare = [&](float* head, const float* norm, float scale) {
        const float r = norm ? inverse_rms(head, k_dim, p.eps) : 1.0f;
        if (norm)
            for (int i = 0; i < k_dim; ++i) head[i] *= r * norm[i];
        if (angles) rotate(head, angles, p.n_pairs, p.neox);
        if (scale != 1)
            for (int i = 0; i < k_dim; ++i) head[i] *= scale;
    };
    for (int h = 0; h < p.n_heads; ++h) prepare(p.q + (int64_t(t) * p.n_heads + h) * k_dim, p.q_norm, p.q_scale);
    const int32_t position = batch.positions[t];
    const int64_t page = page_of(batch, p.cache, batch.sequences[t], position);
    for (int h = 0; h < p.cache.n_kv_heads; ++h) {
        const int64_t row = int64_t(t) * p.cache.n_kv_heads + h;
        prepare(p.k + row * k_dim, p.k_norm, 1.0f);
        store_key_value(p.cache, page, position, h, p.k + row * k_dim, p.v + row * v_dim);
    }
}

template <>
struct KernelOf<Rope> : ByRow<Rope, rope_row> {};

}  // namespace PYINFER_ISA
}  // namespace pyinfer
#endif
