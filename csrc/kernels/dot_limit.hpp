// The upper bound of all products: int8 dot products from registers to registers, with nothing to load or unpack.
#pragma once
#include "kernels/dot.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

constexpr int kChains = 10;  // independent sums: latency 5 times 2 a cycle where dot is one instruction

// Makes the compiler take x for changed, so that it moves nothing that depends on it out of a loop; costs no
// instruction.
template <class T>
inline void as_if_changed(T& x) {
#if defined(__x86_64__)
    asm volatile("" : "+x"(x));
#elif defined(__aarch64__)
    asm volatile("" : "+w"(x));
#else
    asm volatile("" : "+m"(x));
#endif
}

// n rounds of kChains dot products; returns the number of multiply-accumulates. The sums go to sink [Vec::L], since the
// compiler would leave out what nobody reads.
inline int64_t run_dot_limit(int64_t n, int32_t* sink) {
    Vec::U w = Vec::U{} + 0x01020304u;
    Vec::I a = Vec::splat(int32_t(0x05060708)), sums[kChains] = {};
    for (int64_t i = 0; i < n; ++i) {
        PYINFER_UNROLL(10)
        for (int j = 0; j < kChains; ++j) {
            as_if_changed(w);
            sums[j] = Vec::dot(sums[j], w, a);
        }
    }
    for (int j = 1; j < kChains; ++j) sums[0] += sums[j];
    memcpy(sink, &sums[0], sizeof sums[0]);
    return n * kChains * Vec::L * 4;
}

}  // namespace PYINFER_ISA
}  // namespace pyinfer
