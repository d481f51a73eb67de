// Activation functions of feed-forward layers, by kind.
#pragma once
#include "kernels/math.hpp"
#include "ops/glu.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

// x > 0: alpha_p x^2 + beta x; else (exp(min(x, eps)) - 1 - x) alpha_n + beta x
template <class V>
typename V::F xielu(const Activation& a, typename V::F x) {
    using U = typename V::U;
    const typename V::F positive = V::max(x, V::splat(0.0f)), bounded = -V::max(-x, V::splat(-a.eps));
    const typename V::F below = (exp<V>(bounded) - 1.0f - x) * a.alpha_n;
    const U is_positive = (U)(x > V::splat(0.0f));
    return positive * positive * a.alpha_p + V::as_float((U)V::as_int(below) & ~is_positive) + x * a.beta;
}

inline Vec::F activation(const Activation& a, Vec::F x) {
    switch (a.kind) {
        case kSilu:
            return silu<Vec>(x);
        case kGelu:
            return gelu<Vec>(x);
        case kGeluErf:
            return gelu_erf<Vec>(x);
        case kRelu:
            return Vec::max(x, Vec::F{});
        case kReluSquared:
            return Vec::max(x, Vec::F{}) * Vec::max(x, Vec::F{});
        case kXielu:
            return xielu<Vec>(a, x);
    }
    return x;
}

}  // namespace PYINFER_ISA
}  // namespace pyinfer
