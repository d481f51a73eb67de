// Rotary positions (Su et al. 2021), the norms of heads that some models have before them, and the store of keys and
// values into the cache.
//
// Pairs are (i, i + n_pairs) in NeoX's layout, (2i, 2i + 1) in the original one; the rest of a head is left as it is.
#pragma once
#include <cmath>

#include "kernels/kv.hpp"
#include "kernels/rowwise.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

inline void run_angles(const Op& op, const Batch& batch, const Worker&, int32_t unit) {
    const Angles& p = op.angles;
    float* out = p.out + int64_t(unit) * 2 * p.n_pairs;
    for (int i = 0; i < p.n_pairs; ++i) {
        const double angle = batch.positions[unit] * p.inv_freq[i];
        out[i] = float(cos(angle)) * p.mscale;
        out[p.n_pairs + i] = float(sin(angle)) * p.mscale;
    }
}

inline void rotate(float* x, const float* angles, int n_pairs, bool neox) {
    const float *cosines = angles, *sines = angles + n_pairs;
    const int step = neox ? 1 : 2, apart = neox ? n_pairs : 1;
    for (int i = 0; i < n_pairs; ++i) {
        const float a = x[i * step], b = x[i * step + apart];
        x[i * step] = a * cosines[i] - b * sines[i];
        x[i * step + apart] = a * sines[i] + b * cosines[i];
    }
}

inline void run_rope(const Op& op, const Batch& batch, const Worker&, int32_t unit) {
    const Rope& p = op.rope;
    const int dim = p.cache.head_dim, t = unit;
    const float* angles = p.angles + int64_t(t) * 2 * p.n_pairs;
    const auto prepare = [&](float* head, const float* norm, float scale) {
        const float r = norm ? inverse_rms(head, dim, p.eps) : 1.0f;
        if (norm)
            for (int i = 0; i < dim; ++i) head[i] *= r * norm[i];
        rotate(head, angles, p.n_pairs, p.neox);
        if (scale != 1)
            for (int i = 0; i < dim; ++i) head[i] *= scale;
    };
    for (int h = 0; h < p.n_heads; ++h) prepare(p.q + (int64_t(t) * p.n_heads + h) * dim, p.q_norm, p.q_scale);
    for (int h = 0; h < p.cache.n_kv_heads; ++h) {
        const int64_t at = (int64_t(t) * p.cache.n_kv_heads + h) * dim;
        prepare(p.k + at, p.k_norm, 1.0f);
        store_key_value(p.cache, page_of(batch, batch.sequences[t], batch.positions[t]), batch.positions[t], h,
                        p.k + at, p.v + at);
    }
}

}  // namespace PYINFER_ISA
}  // namespace pyinfer
