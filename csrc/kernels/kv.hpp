// The KV cache's pages. A page holds kPage positions of one layer, as row groups of a float format, so that attention
// runs on the loops of the matrix products: keys are the rows of one matrix, the dimensions of values of the other.
//   keys   [kv head][position / 16][dimension][position % 16]
//   values [kv head][dimension / 16][position][dimension % 16]
#pragma once
#include "formats/block.hpp"
#include "kernels/ops.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

inline int64_t page_of(const Batch& batch, int32_t sequence, int32_t position) {
    return batch.page_table[sequence * batch.max_pages + position / kPage];
}

inline int element_bytes(int32_t format) { return format == 0 ? 4 : 2; }

inline void store_element(uint8_t* to, float x, int32_t format) {
    if (format == 0)
        memcpy(to, &x, 4);
    else {
        const uint16_t half = format == 1 ? float_to_half(x) : float_to_bf16(x);
        memcpy(to, &half, 2);
    }
}

inline const uint8_t* keys_of(const KVCache& c, int64_t page, int kv_head) {
    return c.keys + page * c.page_stride + kv_head * c.k_head;
}

inline const uint8_t* values_of(const KVCache& c, int64_t page, int kv_head) {
    return c.values + page * c.page_stride + kv_head * c.v_head;
}

inline void store_key_value(const KVCache& c, int64_t page, int32_t position, int kv_head, const float* k,
                            const float* v) {
    const int bytes = element_bytes(c.format), slot = position % kPage;
    uint8_t* keys = const_cast<uint8_t*>(keys_of(c, page, kv_head)) +
                    ((slot / kGroup) * int64_t(c.head_dim) * kGroup + slot % kGroup) * bytes;
    uint8_t* values = const_cast<uint8_t*>(values_of(c, page, kv_head)) + int64_t(slot) * kGroup * bytes;
    for (int d = 0; d < c.head_dim; ++d) {
        store_element(keys + int64_t(d) * kGroup * bytes, k[d], c.format);
        store_element(values + (int64_t(d / kGroup) * kPage * kGroup + d % kGroup) * bytes, v[d], c.format);
    }
}

}  // namespace PYINFER_ISA
}  // namespace pyinfer
