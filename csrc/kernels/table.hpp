// The table of one instruction set's kernels.
#pragma once
#include <type_traits>

#include "kernels/attention.hpp"
#include "kernels/dot_limit.hpp"
#include "kernels/glu.hpp"
#include "kernels/matmul.hpp"
#include "kernels/rope.hpp"
#include "kernels/rowwise.hpp"
#include "kernels/shift.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

inline int64_t scratch_bytes(int32_t max_tokens, int32_t max_row, int32_t tile_rows, int32_t head_dim) {
    const int64_t sizes[] = {Scratch::bytes(max_tokens), TileState::bytes(tile_rows, head_dim),
                             int64_t(max_row) * 2 * 4};
    int64_t top = 0;
    for (int64_t size : sizes) top = size > top ? size : top;
    return top + 4096;
}

inline Kernels make_kernels(const char* name) {
    Kernels k{};
    k.name = name;
    k.tile = Vec::kTile;
    k.ops[kEmbed] = {tile_units, run_rows<run_embed>};
    k.ops[kNorm] = {tile_units, run_rows<run_norm>};
    k.ops[kMatmul] = {matmul_units, run_matmul};
    k.ops[kAngles] = {tile_units, run_rows<run_angles>};
    k.ops[kRope] = {tile_units, run_rows<run_rope>};
    k.ops[kAttention] = {attention_units, run_attention};
    k.ops[kMerge] = {tile_units, run_rows<run_merge>};
    k.ops[kGlu] = {glu_units, run_glu};
    k.ops[kSoftcap] = {softcap_units, run_softcap};
    k.ops[kPack] = {tile_units, run_rows<run_pack>};
    k.format = format_info_of;
    k.scratch_bytes = scratch_bytes;
    k.dot_limit = run_dot_limit;
    k.rotate_keys = rotate_keys;
    return k;
}

}  // namespace PYINFER_ISA
}  // namespace pyinfer
