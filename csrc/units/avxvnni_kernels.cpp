// All kernels, compiled for avxvnni.
#define PYINFER_ISA avxvnni
#include "isa/avx2.hpp"
//
#include "kernels/table.hpp"

namespace pyinfer {
Kernels avxvnni_kernels() { return avxvnni::make_kernels("avxvnni"); }
}  // namespace pyinfer
