// All kernels, compiled for scalar.
#define PYINFER_ISA scalar
#include "isa/scalar.hpp"
//
#include "kernels/table.hpp"

namespace pyinfer {
Kernels scalar_kernels() { return scalar::make_kernels("scalar"); }
}  // namespace pyinfer
