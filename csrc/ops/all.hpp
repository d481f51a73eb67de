// The operations of a plan. A plan is an array of Op; each instruction set has a table of OpKernel, indexed by OpKind.
//
// An operation is declared in ops/NAME.hpp, what it reads, writes and is told (a struct) and its kernel, in
// ops/NAME.pxi, the method of Plan that checks and records it, and by its line here; the enumeration, the union and the
// table of kernels follow from that line, and its declaration for Cython from the struct (see structs.py).
#pragma once
#include "kernels/ops.hpp"
#include "ops/attention.hpp"
#include "ops/embed.hpp"
#include "ops/gated.hpp"
#include "ops/glu.hpp"
#include "ops/matmul.hpp"
#include "ops/norm.hpp"
#include "ops/pack.hpp"
#include "ops/rope.hpp"
#include "ops/scan.hpp"
#include "ops/select.hpp"
#include "ops/softcap.hpp"

namespace pyinfer {

// X(struct, member of Op's union)
#define PYINFER_OPS(X)      \
    X(Embed, embed)         \
    X(Norm, norm)           \
    X(Matmul, matmul)       \
    X(Glu, glu)             \
    X(Gated, gated)         \
    X(Angles, angles)       \
    X(Rope, rope)           \
    X(Attention, attention) \
    X(Merge, merge)         \
    X(Scan, scan)           \
    X(Softcap, softcap)     \
    X(Pack, pack)           \
    X(Select, select)       \
    X(Gather, gather)

#define PYINFER_KIND(Struct, member) k##Struct,
enum OpKind : int32_t { PYINFER_OPS(PYINFER_KIND) kOpKinds };
#undef PYINFER_KIND

struct Op {
    OpKind kind;
    const int32_t*
        n_rows;  // of the pass's tokens, outputs or logits, or of a selection: read when the operation begins
    union {
#define PYINFER_MEMBER(Struct, member) Struct member;
        PYINFER_OPS(PYINFER_MEMBER)
#undef PYINFER_MEMBER
    };
};

// `units`: into how many independent units the operation splits for this pass; `run` computes one of them. Which thread
// runs a unit never changes a result.
struct OpKernel {
    int32_t (*units)(const Op&, const Batch&);
    void (*run)(const Op&, const Batch&, const Worker&, int32_t unit);
};

// What one instruction set offers.
struct Kernels {
    const char* name;
    int32_t tile;  // tokens of a full activation tile
    OpKernel ops[kOpKinds];
    const FormatInfo* (*format)(int32_t format);  // null: unknown
    // of a thread, for passes of max_tokens, rows of max_row columns, query tiles of tile_rows rows
    int64_t (*scratch_bytes)(int32_t max_tokens, int64_t max_row, int32_t tile_rows, int32_t k_dim, int32_t v_dim);
    int64_t (*dot_limit)(int64_t n, int32_t* sink);  // see kernels/dot_limit.hpp
    void (*rotate_keys)(const KVCache& c, int64_t page, int kv_head, const float* angles, int n_pairs, bool neox,
                        float* x);  // see kernels/shift.hpp
};

}  // namespace pyinfer
