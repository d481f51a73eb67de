// Rows to the forms that products read.
#pragma once
#include "kernels/ops.hpp"

namespace pyinfer {

struct Pack {
    const float* x;  // [n_rows, k]
    Activations out;
};

}  // namespace pyinfer

#ifdef PYINFER_ISA
#include "kernels/rowwise.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

inline void pack_row(const Pack& p, int32_t n_rows, const Batch&, const Worker&, int32_t row) {
    emit(p.out, row, n_rows, 0, p.out.k, p.x + row * p.out.k);
}

template <>
struct KernelOf<Pack> : ByRow<Pack, pack_row> {};

}  // namespace PYINFER_ISA
}  // namespace pyinfer
#endif
