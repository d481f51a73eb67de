// Rows that are chosen within a pass: Select lists them, Gather puts them side by side. What follows works on as many
// rows as were chosen (`Op::n_rows`), which it may read since no operation begins before the ones before it are done.
#pragma once
#include "kernels/ops.hpp"

namespace pyinfer {

// indices = the rows whose score is above the threshold, in order; count = how many
struct Select {
    const float* scores;  // [n_rows, ld]
    int64_t ld;           // columns of scores
    int64_t column;       // of the scores that count
    float threshold;
    int32_t* count;
    int32_t* indices;  // [capacity]
};

struct Gather {              // out[i] = x[indices[i]]
    const float* x;          // [n, k]
    const int32_t* indices;  // [n_rows]
    Activations out;         // [n_rows, k]
};

}  // namespace pyinfer

#ifdef PYINFER_ISA
#include "kernels/rowwise.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

template <>
struct KernelOf<Select> {
    static int32_t units(const Select&, int32_t, const Batch&) { return 1; }  // without rows, too: the count is zero
    static void run(const Select& p, int32_t n_rows, const Batch&, const Worker&, int32_t) {
        int32_t n = 0;
        for (int32_t row = 0; row < n_rows; ++row)
            if (p.scores[row * p.ld + p.column] > p.threshold) p.indices[n++] = row;
        *p.count = n;
    }
};

inline void gather_row(const Gather& p, int32_t n_rows, const Batch&, const Worker&, int32_t row) {
    emit(p.out, row, n_rows, 0, p.out.k, p.x + p.indices[row] * p.out.k);
}

template <>
struct KernelOf<Gather> : ByRow<Gather, gather_row> {};

}  // namespace PYINFER_ISA
}  // namespace pyinfer
#endif
