// Gated activations; their kernel is in kernels/glu.hpp.
#pragma once
#include "kernels/ops.hpp"
#include "ops/matmul.hpp"

namespace pyinfer {

enum Activation : int32_t { kSilu, kGelu, kGeluErf };

struct Glu {  // out = act(gate) * up: the products of two segments, whose own `out` is not used; of one, act(gate)
    Matmul product;
    Activation act;
    Activations out;
};

}  // namespace pyinfer

#ifdef PYINFER_ISA
#include "kernels/glu.hpp"
#endif
