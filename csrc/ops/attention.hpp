// Attention over the paged cache; its kernel, and how it goes through the cache, are in kernels/attention.hpp.
#pragma once
#include "kernels/ops.hpp"

namespace pyinfer {

struct Attention {    // out = softmax(q k) v, for each head
    const float* q;   // [n, n_heads * k_dim]
    float* out;       // [n, n_heads * v_dim]
    int32_t n_heads;  // of queries
    int32_t window;   // a token sees the last so many positions, its own among them; 0: all
    int32_t causal;   // a token sees positions up to its own; else all of its sequence
    float softcap;    // of scores; 0: none
    KVCache cache;
};

struct Merge {    // merges attention's splits, where it made any, and packs its rows
    float* rows;  // Attention's out
    int32_t n_heads, v_dim;
    Activations out;  // [n, n_heads * v_dim]
};

}  // namespace pyinfer

#ifdef PYINFER_ISA
#include "kernels/attention.hpp"
#endif
