// Soft-capping (Bello et al. 2016; Gemma 2), of logits.
#pragma once
#include "kernels/ops.hpp"

namespace pyinfer {

struct Softcap {  // x = cap * tanh(x / cap)
    float* x;     // [n_rows, k]
    int64_t k;
    float cap;
};

}  // namespace pyinfer

#ifdef PYINFER_ISA
#include "kernels/rowwise.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

template <>
struct KernelOf<Softcap> {
    static int32_t units(const Softcap& p, int32_t n_rows, const Batch&) { return n_rows * column_units(p.k); }
    static void run(const Softcap& p, int32_t, const Batch&, const Worker&, int32_t unit) {
        const int32_t per_row = column_units(p.k), row = unit / per_row;
        const int64_t column = int64_t(unit % per_row) * kColumns;
        const int64_t n = p.k - column < kColumns ? p.k - column : kColumns;
        float* x = p.x + row * p.k + column;
        for_each_lane(n, [&](int64_t i, int count) {
            store_some(x + i, tanh<Vec>(load_some(x + i, count) / p.cap) * p.cap, count);
        });
    }
};

}  // namespace PYINFER_ISA
}  // namespace pyinfer
#endif
