// Moves cached keys to other positions: a key that was rotated by its position's angles is rotated by the difference.
#pragma once
#include "kernels/rope.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

// x[dim] of one position of a head's keys.
template <class E>
void load_key(const uint8_t* keys, int dim, int slot, float* x) {
    using One = Portable<1>;
    const uint8_t* group = keys + slot / kGroup * int64_t(dim) * kGroup * E::kBytes;
    for (int d = 0; d < dim; ++d) {
        const Block<One, kGroup> element{group + int64_t(d) * kGroup * E::kBytes, slot % kGroup};
        x[d] = E::template value<One>(element)[0];
        if constexpr (E::kScaled) {
            uint16_t half;
            memcpy(&half, scales_of<E>(keys, dim) + (d / kScaleDims * kPage + slot) * 2, 2);
            x[d] *= half_to_float(half);
        }
    }
}

// Rotates the keys of a page, those of one KV head. angles: cosines, then sines [n_pairs]; x: [k_dim], for use here.
inline void rotate_keys(const KVCache& c, int64_t page, int kv_head, const float* angles, int n_pairs, bool neox,
                        float* x) {
    uint8_t* keys = keys_of(c, page, kv_head);
    with_kv_type(c.format, [&](auto type) {
        using E = decltype(type);
        for (int slot = 0; slot < kPage; ++slot) {
            load_key<E>(keys, c.k_dim, slot, x);
            rotate(x, angles, n_pairs, neox);
            store_key<E>(keys, c.k_dim, slot, x);
        }
    });
}

}  // namespace PYINFER_ISA
}  // namespace pyinfer
