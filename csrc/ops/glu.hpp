// Gated activations; their kernel is in kernels/glu.hpp.
#pragma once
#include "kernels/ops.hpp"
#include "ops/matmul.hpp"

namespace pyinfer {

enum ActivationKind : int32_t { kSilu, kGelu, kGeluErf, kRelu, kReluSquared, kXielu };

struct Activation {
    ActivationKind kind;
    float alpha_p, alpha_n, beta, eps;  // of xIELU (Huang & Schlag 2024)
};

struct Glu {  // out = act(gate) * up: the products of two segments, whose own `out` is not used; of one, act(gate)
    Matmul product;
    Activation act;
    const float* factors;  // [k] on out; or null
    Activations out;
};

}  // namespace pyinfer

#ifdef PYINFER_ISA
#include "kernels/glu.hpp"
#endif
