// Matrix products; their kernel is in kernels/matmul.hpp.
#pragma once
#include "kernels/ops.hpp"

namespace pyinfer {

struct Segment {        // out = scale * (src @ weight.T) + bias
    Weight weight;      // [n_rows, k]
    float* out;         // [n, ld]
    int64_t ld;         // columns of out
    const float* bias;  // [n_rows] or null
    float scale;
};

struct Matmul {  // of the same activations with several weights
    Activations src;
    int32_t n_segments;
    Segment segments[kMaxSegments];
};

}  // namespace pyinfer

#ifdef PYINFER_ISA
#include "kernels/matmul.hpp"
#endif
