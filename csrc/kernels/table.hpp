// The table of one instruction set's kernels.
#pragma once
#include "kernels/dot_limit.hpp"
#include "kernels/shift.hpp"
#include "ops/all.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

template <class T, T Op::* Member>
int32_t units_of_op(const Op& op, const Batch& batch) {
    return KernelOf<T>::units(op.*Member, *op.n_rows, batch);
}

template <class T, T Op::* Member>
void run_op(const Op& op, const Batch& batch, const Worker& worker, int32_t unit) {
    KernelOf<T>::run(op.*Member, *op.n_rows, batch, worker, unit);
}

inline int64_t scratch_bytes(int32_t max_tokens, int64_t max_row, int32_t tile_rows, int32_t k_dim, int32_t v_dim) {
    const int64_t sizes[] = {Scratch::bytes(max_tokens), TileState::bytes(tile_rows, k_dim, v_dim), max_row * 2 * 4};
    int64_t top = 0;
    for (int64_t size : sizes) top = size > top ? size : top;
    return top + 4096;
}

inline Kernels make_kernels(const char* name) {
    Kernels k{};
    k.name = name;
    k.tile = Vec::kTile;
#define PYINFER_KERNEL(Struct, member) \
    k.ops[k##Struct] = {units_of_op<Struct, &Op::member>, run_op<Struct, &Op::member>};
    PYINFER_OPS(PYINFER_KERNEL)
#undef PYINFER_KERNEL
    k.format = format_info_of;
    k.scratch_bytes = scratch_bytes;
    k.dot_limit = run_dot_limit;
    k.rotate_keys = rotate_keys;
    return k;
}

}  // namespace PYINFER_ISA
}  // namespace pyinfer
