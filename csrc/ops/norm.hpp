// RMSNorm (Zhang & Sennrich 2019) and LayerNorm (Ba et al. 2016), with the addition to the residual stream before it.
#pragma once
#include "kernels/ops.hpp"

namespace pyinfer {

// x = x_scale * x + y_scale * (post ? norm(y) * post : y);  out = norm(x) * weight + bias, where out may be x itself
struct Norm {
    float* x;           // [n, k]
    const float* y;     // [n, k] or null
    const float* post;  // [post_group] or null: y's norm is of so many columns each, times it
    int64_t post_group;
    const float* weight;  // [k]; null: x is added to, out is not written
    const float* bias;    // [k] or null
    float x_scale, y_scale;
    float eps;         // added to the mean of squares
    int32_t gather;    // row i of out is that of token outputs[i] of x and y
    int32_t centered;  // of x, the mean is taken away first (LayerNorm); else RMSNorm
    Activations out;   // [n_rows, k]
};

}  // namespace pyinfer

#ifdef PYINFER_ISA
#include "kernels/rowwise.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

inline void norm_row(const Norm& p, int32_t n_rows, const Batch& batch, const Worker& worker, int32_t i) {
    const int64_t k = p.out.k;
    const int64_t row = p.gather ? batch.outputs[i] : i;
    float* x = p.x + row * k;
    if (p.x_scale != 1)
        for (int64_t j = 0; j < k; ++j) x[j] *= p.x_scale;
    if (p.y) {
        const float* y = p.y + row * k;
        const float s = p.y_scale;
        if (p.post) {
            const int64_t n = p.post_group;
            for (int64_t first = 0; first < k; first += n) {
                float* to = x + first;
                const float *from = y + first, r = inverse_rms(from, n, p.eps);
                if (s == 1)
                    for (int64_t j = 0; j < n; ++j) to[j] += from[j] * r * p.post[j];
                else
                    for (int64_t j = 0; j < n; ++j) to[j] += from[j] * r * p.post[j] * s;
            }
        } else if (s == 1) {
            for (int64_t j = 0; j < k; ++j) x[j] += y[j];
        } else {
            for (int64_t j = 0; j < k; ++j) x[j] += y[j] * s;
        }
    }
    if (!p.weight) return;
    float* normed = reinterpret_cast<float*>(worker.scratch);
    const float* from = x;
    if (p.centered) {
        const float mean = row_mean<false>(x, k);
        for (int64_t j = 0; j < k; ++j) normed[j] = x[j] - mean;
        from = normed;
    }
    const float r = inverse_rms(from, k, p.eps);
    for (int64_t j = 0; j < k; ++j) normed[j] = from[j] * r * p.weight[j];
    if (p.bias)
        for (int64_t j = 0; j < k; ++j) normed[j] += p.bias[j];
    emit(p.out, i, n_rows, 0, k, normed);
}

template <>
struct KernelOf<Norm> : ByRow<Norm, norm_row> {};

}  // namespace PYINFER_ISA
}  // namespace pyinfer
#endif
