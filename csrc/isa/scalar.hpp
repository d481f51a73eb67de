// The variant that runs on any machine.
#pragma once
#include "isa/portable.hpp"

namespace pyinfer {
namespace PYINFER_ISA {
using Vec = Portable<4>;
}
}  // namespace pyinfer
