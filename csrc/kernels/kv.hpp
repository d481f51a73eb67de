// The KV cache's pages. A page holds kPage positions of one layer, as row groups of elements, so that attention runs on
// the loops of the float products: keys are the rows of one matrix, the dimensions of values of the other.
//   keys   [kv head][position / 16][dimension][position % 16]
//   values [kv head][dimension / 16][position][dimension % 16]
// Each KV head's elements are followed, where the type has scales, by half floats [dimension / 32][position].
#pragma once
#include "formats/floats.hpp"
#include "kernels/ops.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

constexpr int kScaleDims = 32;  // dimensions of a position that share a scale

// A type of element: its format for `dot_floats`, whether it has scales, how 32 values become elements, and the type
// that its elements have as floats.
struct KVF32 : F32 {
    static constexpr bool kScaled = false;
    using Floats = KVF32;
    static void encode(const float* x, uint8_t* to) { memcpy(to, x, 32 * 4); }
};

struct KVF16 : F16 {
    static constexpr bool kScaled = false;
    using Floats = KVF32;
    static void encode(const float* x, uint8_t* to) {
        for (int i = 0; i < 32; i += Vec::L) Vec::store_half(to + 2 * i, Vec::load(x + i));
    }
};

struct KVBF16 : BF16 {
    static constexpr bool kScaled = false;
    using Floats = KVF32;
    static void encode(const float* x, uint8_t* to) {
        for (int i = 0; i < 32; ++i) {
            const uint16_t half = float_to_bf16(x[i]);
            memcpy(to + 2 * i, &half, 2);
        }
    }
};

struct KVQ8 {  // whole numbers from -127 to 127
    static constexpr int kBytes = 1;
    static constexpr bool kScaled = true;
    struct Floats : F32 {
        static constexpr bool kScaled = true;
    };
    template <class V, class B>
    static typename V::F value(const B& b) {
        return V::to_float(b.i8(0));
    }
    static void encode(const float* x, uint8_t* to) {
        for (int i = 0; i < 32; i += Vec::L) {
            const Vec::F bounded = -Vec::max(-Vec::max(Vec::load(x + i), Vec::splat(-127.0f)), Vec::splat(-127.0f));
            Vec::store_u8(to + i, Vec::U(Vec::round(bounded)));
        }
    }
};

// f(element type) for a ggml type id; the cache's maker let no other id through.
template <class F>
auto with_kv_type(int32_t format, F f) {
    return format == 0 ? f(KVF32{}) : format == 1 ? f(KVF16{}) : format == 8 ? f(KVQ8{}) : f(KVBF16{});
}

inline int padded(int head_dim) { return (head_dim + kGroup - 1) / kGroup * kGroup; }

inline int64_t page_of(const Batch& batch, const KVCache& c, int32_t sequence, int32_t position) {
    const Table& table = batch.tables[c.table];
    return table.entries[sequence * table.max_entries + position / kPage];
}

inline uint8_t* keys_of(const KVCache& c, int64_t page, int kv_head) {
    return c.keys + page * c.page_stride + kv_head * c.k_head;
}

inline uint8_t* values_of(const KVCache& c, int64_t page, int kv_head) {
    return c.values + page * c.page_stride + kv_head * c.v_head;
}

// Half floats [dimension / 32][kPage] after the elements of a head's `dims` dimensions (of values: padded).
template <class E>
const uint8_t* scales_of(const uint8_t* head, int dims) {
    return head + int64_t(kPage) * dims * E::kBytes;
}

// Stores x[dim] of one position; the element of dimension d goes to at(d), its scale to scales[d / 32][slot].
template <class E, class At>
void store_position(const float* x, int dim, uint8_t* scales, int slot, At at) {
    for (int d = 0; d < dim; d += kScaleDims) {
        const int n = dim - d < kScaleDims ? dim - d : kScaleDims;
        alignas(64) float values[kScaleDims] = {};
        memcpy(values, x + d, n * sizeof(float));
        if constexpr (E::kScaled) {
            float peak = 0;
            for (int i = 0; i < n; ++i) peak = fabsf(values[i]) > peak ? fabsf(values[i]) : peak;
            const uint16_t half = float_to_half(peak / 127 < 65504.0f ? peak / 127 : 65504.0f);
            memcpy(scales + (d / kScaleDims * kPage + slot) * 2, &half, 2);
            const float scale = half_to_float(half);
            for (int i = 0; i < n; ++i) values[i] = scale > 0 ? values[i] / scale : 0;
        }
        alignas(64) uint8_t elements[kScaleDims * E::kBytes];
        E::encode(values, elements);
        for (int i = 0; i < n; ++i) memcpy(at(d + i), elements + i * E::kBytes, E::kBytes);
    }
}

template <class E>
void store_key(uint8_t* keys, int dim, int slot, const float* k) {
    store_position<E>(k, dim, const_cast<uint8_t*>(scales_of<E>(keys, dim)), slot, [&](int64_t d) {
        return keys + ((slot / kGroup * int64_t(dim) + d) * kGroup + slot % kGroup) * E::kBytes;
    });
}

inline void store_key_value(const KVCache& c, int64_t page, int32_t position, int kv_head, const float* k,
                            const float* v) {
    const int slot = position % kPage;
    uint8_t *keys = keys_of(c, page, kv_head), *values = values_of(c, page, kv_head);
    with_kv_type(c.format, [&](auto type) {
        using E = decltype(type);
        store_key<E>(keys, c.k_dim, slot, k);
        store_position<E>(
            v, c.v_dim, const_cast<uint8_t*>(scales_of<E>(values, padded(c.v_dim))), slot,
            [&](int64_t d) { return values + ((d / kGroup * kPage + slot) * kGroup + d % kGroup) * E::kBytes; });
    });
}

}  // namespace PYINFER_ISA
}  // namespace pyinfer
