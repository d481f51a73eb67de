// All kernels, compiled for avx512.
#define PYINFER_ISA avx512
#include "isa/avx512.hpp"
//
#include "kernels/table.hpp"

namespace pyinfer {
Kernels avx512_kernels() { return avx512::make_kernels("avx512"); }
}  // namespace pyinfer
