// Rotary positions (Su et al. 2021), the norms of heads that some models have before or after them, and the store of
// keys and values into the cache.
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

struct HeadNorm {         // of the heads of q, or of k
    const float* weight;  // [n, k_dim], or null: all ones
    const float* bias;    // [n, k_dim] or null
    int32_t stride;       // floats from one head's weight and bias to the next one's; 0: all heads have the same
    int32_t kind;         // kNoNorm, kRms or kCentered
};

enum HeadNormKind : int32_t { kNoNorm, kRms, kCentered };

struct Rope {  // bounds, norms and rotates the heads of q and k, in place; stores k and v in the cache
    float* q;  // [n, n_heads * k_dim]
    float* k;  // [n, n_kv_heads * k_dim]; null: the cache has the keys and values already
    float* v;  // [n, n_kv_heads * v_dim]
    int32_t n_heads;
    int32_t n_pairs;     // that are rotated, of each head
    int32_t neox;        // layout of the pairs
    int32_t norm_after;  // norms come after the rotation, else before it
    int32_t norm_v;      // heads of v get an RMSNorm without weights
    float eps;           // of the norms
    float clamp;         // q, k and v are first limited to +-clamp; 0: they are not
    float q_scale;
    float temperature;   // q is multiplied by 1 + temperature * ln(position / n_ctx_orig + 1), rounded down; 0: not
    int32_t n_ctx_orig;  // positions
    HeadNorm q_norm, k_norm;
    const float* angles;  // [n, 2, n_pairs]; null: nothing turns
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

inline void norm_head(const HeadNorm& norm, int head, int64_t dim, float eps, float* x) {
    const int64_t at = int64_t(head) * norm.stride;
    if (norm.kind == kCentered) {
        const float mean = row_mean<false>(x, dim);
        for (int64_t i = 0; i < dim; ++i) x[i] -= mean;
    }
    const float r = inverse_rms(x, dim, eps);
    if (norm.weight)
        for (int64_t i = 0; i < dim; ++i) x[i] *= r * norm.weight[at + i];
    else
        for (int64_t i = 0; i < dim; ++i) x[i] *= r;
    if (norm.bias)
        for (int64_t i = 0; i < dim; ++i) x[i] += norm.bias[at + i];
}

inline void limit(float* x, int64_t n, float bound) {
    for (int64_t i = 0; i < n; ++i) x[i] = x[i] < -bound ? -bound : x[i] > bound ? bound : x[i];
}

inline void rope_row(const Rope& p, int32_t, const Batch& batch, const Worker&, int32_t t) {
    const int64_t k_dim = p.cache.k_dim, v_dim = p.cache.v_dim, n_kv = p.cache.n_kv_heads;
    const float* angles = p.angles ? p.angles + int64_t(t) * 2 * p.n_pairs : nullptr;
    const int32_t position = batch.positions[t];
    const auto prepare = [&](float* x, int head, const HeadNorm& norm, float scale) {
        if (p.clamp != 0) limit(x, k_dim, p.clamp);
        if (norm.kind != kNoNorm && !p.norm_after) norm_head(norm, head, k_dim, p.eps, x);
        if (angles) rotate(x, angles, p.n_pairs, p.neox);
        if (norm.kind != kNoNorm && p.norm_after) norm_head(norm, head, k_dim, p.eps, x);
        if (scale != 1)
            for (int i = 0; i < k_dim; ++i) x[i] *= scale;
    };
    float q_scale = p.q_scale;
    if (p.temperature != 0) q_scale *= 1 + p.temperature * logf(float(position / p.n_ctx_orig + 1));
    for (int h = 0; h < p.n_heads; ++h) prepare(p.q + (int64_t(t) * p.n_heads + h) * k_dim, h, p.q_norm, q_scale);
    if (!p.k) return;
    const int64_t page = page_of(batch, p.cache, batch.sequences[t], position);
    for (int h = 0; h < n_kv; ++h) {
        const int64_t row = int64_t(t) * n_kv + h;
        float* v = p.v + row * v_dim;
        prepare(p.k + row * k_dim, h, p.k_norm, 1.0f);
        if (p.clamp != 0) limit(v, v_dim, p.clamp);
        if (p.norm_v) norm_head({nullptr, nullptr, 0, kRms}, h, v_dim, p.eps, v);
        store_key_value(p.cache, page, position, h, p.k + row * k_dim, v);
    }
}

template <>
struct KernelOf<Rope> : ByRow<Rope, rope_row> {};

}  // namespace PYINFER_ISA
}  // namespace pyinfer
#endif
