// The exponential of vectors, and the activation functions that are made of it.
//
// exp: x = n ln 2 + r, |r| <= ln 2 / 2, a polynomial of degree 6 in r (Cody & Waite's reduction; the coefficients are
// Taylor's, whose remainder r^7/7! is below 2^-23), and n added to the exponent. Relative error below 2e-7.
#pragma once
#include "kernels/ops.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

template <class V>
typename V::F exp(typename V::F x) {
    using F = typename V::F;
    using U = typename V::U;
    x = -V::max(-V::max(x, V::splat(-87.3f)), V::splat(-88.0f));  // keeps n + 127 within 1..254
    const F magic = V::splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer in the low bits
    const F shifted = V::fma(x, V::splat(1.44269504f), magic);
    const F n = shifted - magic;
    F r = V::fma(n, V::splat(-0.693359375f), x);
    r = V::fma(n, V::splat(2.12194440e-4f), r);
    F p = V::splat(1.0f / 720);
    p = V::fma(p, r, V::splat(1.0f / 120));
    p = V::fma(p, r, V::splat(1.0f / 24));
    p = V::fma(p, r, V::splat(1.0f / 6));
    p = V::fma(p, r, V::splat(0.5f));
    p = V::fma(p, r, V::splat(1.0f));
    p = V::fma(p, r, V::splat(1.0f));
    const U power = ((U)V::as_int(shifted) - 0x4b400000u + 127u) << 23;
    return p * V::as_float(power);
}

template <class V>
typename V::F silu(typename V::F x) {
    return x / (V::splat(1.0f) + exp<V>(-x));
}

template <class V>
typename V::F tanh(typename V::F x) {
    const typename V::F e = exp<V>(x * 2.0f);
    return V::splat(1.0f) - V::splat(2.0f) / (e + 1.0f);
}

// The tanh form of GELU (Hendrycks & Gimpel 2016): 0.5 x (1 + tanh(y)) = x - x / (exp(2 y) + 1).
template <class V>
typename V::F gelu(typename V::F x) {
    const typename V::F y = x * 0.7978845608f * (1.0f + 0.044715f * x * x);
    return x - x / (exp<V>(y * 2.0f) + 1.0f);
}

// GELU as it is defined: x times the normal distribution up to x. The distribution's tail beyond |x| is Abramowitz &
// Stegun 7.1.26, a polynomial in t times exp(-x^2 / 2), with an error below 1e-7.
template <class V>
typename V::F gelu_erf(typename V::F x) {
    const typename V::F zero{}, magnitude = V::max(x, -x), t = V::splat(1.0f) / (1.0f + magnitude * 0.23164189f);
    typename V::F p = V::splat(0.530702715f);
    p = V::fma(p, t, V::splat(-0.726576014f));
    p = V::fma(p, t, V::splat(0.710706871f));
    p = V::fma(p, t, V::splat(-0.142248368f));
    p = V::fma(p, t, V::splat(0.127414796f));
    return V::max(x, zero) - magnitude * p * t * exp<V>(x * x * -0.5f);
}

}  // namespace PYINFER_ISA
}  // namespace pyinfer
