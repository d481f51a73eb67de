// What operations on one token's row at a time are made of: how they split, rows of weights, means, ends of rows.
#pragma once
#include "kernels/kernel_of.hpp"
#include "kernels/math.hpp"
#include "kernels/registry.hpp"
#include "kernels/tile.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

constexpr int kColumns = 512;  // columns of a unit, where an operation works on each value alone

inline int32_t column_units(int64_t k) { return int32_t((k + kColumns - 1) / kColumns); }

// An operation that works row by row. Rows of one activation tile share cache lines, so they are one unit.
template <class T, void (*Row)(const T&, int32_t n_rows, const Batch&, const Worker&, int32_t row)>
struct ByRow {
    static int32_t units(const T&, int32_t n_rows, const Batch&) { return (n_rows + Vec::kTile - 1) / Vec::kTile; }
    static void run(const T& p, int32_t n_rows, const Batch& batch, const Worker& worker, int32_t unit) {
        const int32_t first = unit * Vec::kTile;
        for (int32_t row = first; row < n_rows && row < first + Vec::kTile; ++row) Row(p, n_rows, batch, worker, row);
    }
};

inline void read_row(const Weight& w, int32_t row, float* x) {
    const FormatKernels& f = *find_format(w.format);
    const int64_t n_blocks = w.k / f.info.block;
    if (w.row_major)
        f.info.dequantize(w.data + row * (w.group_bytes / kGroup), n_blocks, x);
    else
        f.info.dequantize_grouped(w.data + row / kGroup * w.group_bytes, row % kGroup, n_blocks, x);
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

}  // namespace PYINFER_ISA
}  // namespace pyinfer
