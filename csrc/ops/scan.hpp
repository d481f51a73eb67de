// Recurrent state of fixed size, a row a sequence: the simplest linear recurrence.
#pragma once
#include "kernels/ops.hpp"

namespace pyinfer {

// Token by token in the order of the pass: h = decay * h + x, out = h; h is zero before position 0.
struct Scan {
    const float* x;      // [n, k]
    const float* decay;  // [k]
    float* states;       // [n_states, k]
    int32_t table;       // which of the pass's tables has the row of each sequence's state
    Activations out;     // [n, k]
};

}  // namespace pyinfer

#ifdef PYINFER_ISA
#include "kernels/rowwise.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

constexpr int64_t kScanColumns = 64;  // of a unit, which goes through all tokens; a multiple of 32, for emit

template <>
struct KernelOf<Scan> {
    static int32_t units(const Scan& p, int32_t, const Batch&) {
        return int32_t((p.out.k + kScanColumns - 1) / kScanColumns);
    }
    static void run(const Scan& p, int32_t n_rows, const Batch& batch, const Worker&, int32_t unit) {
        const int64_t k = p.out.k, column = unit * kScanColumns;
        const int64_t n = k - column < kScanColumns ? k - column : kScanColumns;
        const Table& table = batch.tables[p.table];
        for (int32_t t = 0; t < n_rows; ++t) {
            const float* x = p.x + t * k + column;
            float* h = p.states + table.entries[batch.sequences[t] * table.max_entries] * k + column;
            if (batch.positions[t] == 0)
                memcpy(h, x, n * sizeof(float));
            else
                for (int64_t i = 0; i < n; ++i) h[i] = p.decay[column + i] * h[i] + x[i];
            emit(p.out, t, n_rows, column, n, h);
        }
    }
};

}  // namespace PYINFER_ISA
}  // namespace pyinfer
#endif
