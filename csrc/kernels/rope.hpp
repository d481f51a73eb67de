// The rotation of a head's pairs by the angles of a position.
#pragma once
#include <cmath>

#include "kernels/kv.hpp"
#include "kernels/rowwise.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

// x: a head, in place; angles: cosines, then sines [n_pairs]
inline void rotate(float* x, const float* angles, int n_pairs, bool neox) {
    const float *cosines = angles, *sines = angles + n_pairs;
    const int step = neox ? 1 : 2, apart = neox ? n_pairs : 1;
    for (int i = 0; i < n_pairs; ++i) {
        const float a = x[i * step], b = x[i * step + apart];
        x[i * step] = a * cosines[i] - b * sines[i];
        x[i * step + apart] = a * sines[i] + b * cosines[i];
    }
}

}  // namespace PYINFER_ISA
}  // namespace pyinfer
