// Operations on one token's row at a time: embedding, norms, soft-capping, packing.
#pragma once
#include "kernels/math.hpp"
#include "kernels/registry.hpp"
#include "kernels/tile.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

constexpr int kColumns = 512;  // columns of a unit, where an operation works on each value alone

inline int32_t column_units(int64_t k) { return int32_t((k + kColumns - 1) / kColumns); }

// Tokens of one activation tile share cache lines, so they are one unit.
inline int32_t tile_units(const Op& op, const Batch& batch) {
    return (batch.rows(op.count) + Vec::kTile - 1) / Vec::kTile;
}

template <class F>
void for_each_row(const Op& op, const Batch& batch, int32_t tile, F f) {
    const int32_t first = tile * Vec::kTile, n = batch.rows(op.count);
    for (int32_t t = first; t < n && t < first + Vec::kTile; ++t) f(t);
}

template <void (*Row)(const Op&, const Batch&, const Worker&, int32_t)>
void run_rows(const Op& op, const Batch& batch, const Worker& worker, int32_t unit) {
    for_each_row(op, batch, unit, [&](int32_t t) { Row(op, batch, worker, t); });
}

inline void read_row(const Weight& w, int32_t row, float* x) {
    const FormatKernels& f = *find_format(w.format);
    const int64_t n_blocks = w.k / f.info.block;
    if (w.row_major)
        f.info.dequantize(w.data + row * (w.group_bytes / kGroup), n_blocks, x);
    else
        f.info.dequantize_grouped(w.data + row / kGroup * w.group_bytes, row % kGroup, n_blocks, x);
}

inline void run_embed(const Op& op, const Batch& batch, const Worker& worker, int32_t unit) {
    const Embed& e = op.embed;
    const int64_t k = e.weight.k;
    float *x = reinterpret_cast<float*>(worker.scratch), *position = x + k;
    read_row(e.weight, batch.tokens[unit], x);
    if (e.scale != 1)
        for (int64_t i = 0; i < k; ++i) x[i] *= e.scale;
    if (e.positions.data) {
        read_row(e.positions, batch.positions[unit], position);
        for (int64_t i = 0; i < k; ++i) x[i] += position[i];
    }
    if (e.added)
        for (int64_t i = 0; i < k; ++i) x[i] += e.added[i];
    emit(e.out, unit, batch.rows(op.count), 0, k, x);
}

// The mean of x, or of its squares.
template <bool Squares>
float row_mean(const float* x, int64_t k) {
    Vec::F sums[4] = {};
    int64_t i = 0;
    for (; i + 4 * Vec::L <= k; i += 4 * Vec::L)
        for (int j = 0; j < 4; ++j) {
            const Vec::F v = Vec::load(x + i + j * Vec::L);
            sums[j] = Squares ? Vec::fma(v, v, sums[j]) : sums[j] + v;
        }
    float sum = Vec::sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
    for (; i < k; ++i) sum += Squares ? x[i] * x[i] : x[i];
    return sum / float(k);
}

// 1 / sqrt(mean(x^2) + eps)
inline float inverse_rms(const float* x, int64_t k, float eps) { return 1.0f / sqrtf(row_mean<true>(x, k) + eps); }

inline void run_norm(const Op& op, const Batch& batch, const Worker& worker, int32_t unit) {
    const Norm& p = op.norm;
    const int64_t k = p.out.k;
    const int row = p.gather ? batch.outputs[unit] : unit;
    float* x = p.x + row * k;
    if (p.y) {
        const float* y = p.y + row * k;
        if (p.post) {
            const float r = inverse_rms(y, k, p.eps);
            for (int64_t i = 0; i < k; ++i) x[i] += y[i] * r * p.post[i];
        } else {
            for (int64_t i = 0; i < k; ++i) x[i] += y[i];
        }
    }
    if (!p.weight) return;
    float* normed = reinterpret_cast<float*>(worker.scratch);
    const float* from = x;
    if (p.centered) {
        const float mean = row_mean<false>(x, k);
        for (int64_t i = 0; i < k; ++i) normed[i] = x[i] - mean;
        from = normed;
    }
    const float r = inverse_rms(from, k, p.eps);
    for (int64_t i = 0; i < k; ++i) normed[i] = from[i] * r * p.weight[i];
    if (p.bias)
        for (int64_t i = 0; i < k; ++i) normed[i] += p.bias[i];
    emit(p.out, unit, batch.rows(op.count), 0, k, normed);
}

template <class F>
void for_each_lane(int64_t n, F f) {
    for (int64_t i = 0; i < n; i += Vec::L) f(i, n - i < Vec::L ? int(n - i) : Vec::L);
}

inline Vec::F load_some(const float* p, int count) {
    if (count == Vec::L) return Vec::load(p);
    float x[Vec::L] = {};
    for (int i = 0; i < count; ++i) x[i] = p[i];
    return Vec::load(x);
}

inline void store_some(float* p, Vec::F x, int count) {
    if (count == Vec::L) return Vec::store(p, x);
    for (int i = 0; i < count; ++i) p[i] = x[i];
}

inline int32_t softcap_units(const Op& op, const Batch& batch) {
    return batch.rows(op.count) * column_units(op.softcap.k);
}

inline void run_softcap(const Op& op, const Batch&, const Worker&, int32_t unit) {
    const Softcap& p = op.softcap;
    const int32_t per_row = column_units(p.k), t = unit / per_row;
    const int64_t column = int64_t(unit % per_row) * kColumns;
    const int64_t n = p.k - column < kColumns ? p.k - column : kColumns;
    float* x = p.x + t * p.k + column;
    for_each_lane(
        n, [&](int64_t i, int count) { store_some(x + i, tanh<Vec>(load_some(x + i, count) / p.cap) * p.cap, count); });
}

inline void run_pack(const Op& op, const Batch& batch, const Worker&, int32_t unit) {
    const Pack& p = op.pack;
    emit(p.out, unit, batch.rows(op.count), 0, p.out.k, p.x + unit * p.out.k);
}

}  // namespace PYINFER_ISA
}  // namespace pyinfer
