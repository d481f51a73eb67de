// All kernels, compiled for avx2.
#define PYINFER_ISA avx2
#include "isa/avx2.hpp"
//
#include "kernels/table.hpp"

namespace pyinfer {
Kernels avx2_kernels() { return avx2::make_kernels("avx2"); }
}  // namespace pyinfer
