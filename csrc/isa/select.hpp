// The kernel tables of this build, best first.
#pragma once
#include "ops/all.hpp"
#include "platform.hpp"

namespace pyinfer {

Kernels scalar_kernels();
Kernels avx2_kernels();
Kernels avxvnni_kernels();
Kernels avx512_kernels();

struct Variant {
    const char* name;
    Kernels (*make)();
};

constexpr Variant kVariants[] = {
#ifdef PYINFER_HAVE_AVX512
    {"avx512", avx512_kernels},
#endif
#ifdef PYINFER_HAVE_AVXVNNI
    {"avxvnni", avxvnni_kernels},
#endif
#ifdef PYINFER_HAVE_AVX2
    {"avx2", avx2_kernels},
#endif
    {"scalar", scalar_kernels},
};

constexpr int kNumVariants = int(sizeof kVariants / sizeof kVariants[0]);

}  // namespace pyinfer
