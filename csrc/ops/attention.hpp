// Attention over the paged cache; its kernel, and how it goes through the cache, are in kernels/attention.hpp.
#pragma once
#include "kernels/ops.hpp"

namespace pyinfer {

struct Attention {        // out = softmax(q k) v, for each head
    const float* q;       // [n, n_heads * k_dim]
    float* out;           // [n, n_heads * v_dim]
    int32_t n_heads;      // of queries
    int32_t window;       // causal: a token sees the last so many positions, its own among them; else those at most
                          // window / 2 away; 0: all
    int32_t causal;       // a token sees positions up to its own; else all of its sequence
    float softcap;        // of scores; 0: none
    const float* slopes;  // [n_heads], times the distance of query and key, is taken from scores (ALiBi); or null
    const float* sinks;   // [n_heads] a further score of each head, of no value; or null
    KVCache cache;
};

struct Merge {    // merges attention's splits, where it made any, and packs its rows
    float* rows;  // Attention's out
    int32_t n_heads, v_dim;
    const float* sinks;  // Attention's
    const float* gate;   // [n, n_heads * gate_dim]: heads are multiplied by its sigmoid; or null
    int32_t gate_dim;    // v_dim, or 1: a head's values have one gate
    Activations out;     // [n, n_heads * v_dim]
};

}  // namespace pyinfer

#ifdef PYINFER_ISA
#include "kernels/attention.hpp"
#endif
