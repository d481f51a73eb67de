// How an operation's struct gets its kernel: a specialization of KernelOf, beside the struct.
#pragma once
#include "kernels/ops.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

//   static int32_t units(const T&, int32_t n_rows, const Batch&);
//   static void run(const T&, int32_t n_rows, const Batch&, const Worker&, int32_t unit);
// n_rows is the number of the operation's rows in this pass; kernels neither allocate nor throw.
template <class T>
struct KernelOf;

}  // namespace PYINFER_ISA
}  // namespace pyinfer
