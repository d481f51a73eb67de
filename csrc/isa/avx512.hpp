// AVX-512 with VNNI: 16 lanes, a whole row group.
#pragma once
#include <immintrin.h>

#include "isa/portable.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

struct Vec {
    static constexpr int L = 16;
    static constexpr int kTile = 8;    // 8 integer and 8 float accumulators leave 16 of 32 registers
    static constexpr int kPanels = 2;  // that share loads of activations, against half a tile
    static constexpr bool kSignedDot = false, kPairs = false;
    typedef float F __attribute__((vector_size(64)));
    typedef int32_t I __attribute__((vector_size(64)));
    typedef uint32_t U __attribute__((vector_size(64)));
    typedef int32_t Word __attribute__((may_alias, aligned(1)));

    static __m128i load128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
    static __m256i load256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

    static F load(const float* p) { return (F)_mm512_loadu_ps(p); }
    static void store(float* p, F x) { _mm512_storeu_ps(p, (__m512)x); }
    static F splat(float x) { return (F)_mm512_set1_ps(x); }
    static I splat(int32_t x) { return (I)_mm512_set1_epi32(x); }
    static I splat_word(const void* p) {
        int32_t x;
        memcpy(&x, p, 4);
        return splat(x);
    }
    static U load_u32(const void* p) { return (U)_mm512_loadu_si512(p); }
    static U load_u16(const void* p) { return (U)_mm512_cvtepu16_epi32(load256(p)); }
    static U load_u8(const void* p) { return (U)_mm512_cvtepu8_epi32(load128(p)); }
    static I load_i8(const void* p) { return (I)_mm512_cvtepi8_epi32(load128(p)); }
    static F load_half(const void* p) { return (F)_mm512_cvtph_ps(load256(p)); }
    static F from_half(U x) { return (F)_mm512_cvtph_ps(_mm512_cvtepi32_epi16((__m512i)x)); }
    static void store_half(void* p, F x) {
        _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT));
    }
    static void load_rows(const uint8_t* p, int64_t stride, U (&x)[4]) {
        __m512i r[4];  // rows i, i + 4, i + 8, i + 12, so that lanes come out in order
        for (int i = 0; i < 4; ++i) {
            const uint8_t* q = p + i * stride;
            const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(load128(q)), load128(q + 4 * stride), 1);
            const __m256i high =
                _mm256_inserti128_si256(_mm256_castsi128_si256(load128(q + 8 * stride)), load128(q + 12 * stride), 1);
            r[i] = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
        }
        const __m512i a = _mm512_unpacklo_epi32(r[0], r[1]), b = _mm512_unpacklo_epi32(r[2], r[3]);
        const __m512i c = _mm512_unpackhi_epi32(r[0], r[1]), d = _mm512_unpackhi_epi32(r[2], r[3]);
        x[0] = (U)_mm512_unpacklo_epi64(a, b), x[1] = (U)_mm512_unpackhi_epi64(a, b);
        x[2] = (U)_mm512_unpacklo_epi64(c, d), x[3] = (U)_mm512_unpackhi_epi64(c, d);
    }
    static void store_u32(void* p, U x) { _mm512_storeu_si512(p, (__m512i)x); }
    static void store_u16(void* p, U x) {
        _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtepi32_epi16((__m512i)x));
    }
    static void store_u8(void* p, U x) { _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_cvtepi32_epi8((__m512i)x)); }
    static F to_float(I x) { return (F)_mm512_cvtepi32_ps((__m512i)x); }
    static F as_float(U x) { return (F)x; }
    static I as_int(F x) { return (I)x; }
    static I round(F x) { return (I)_mm512_cvtps_epi32((__m512)x); }
    static F fma(F a, F b, F c) { return (F)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
    static F max(F a, F b) { return (F)_mm512_max_ps((__m512)a, (__m512)b); }
    static F abs(F x) { return (F)_mm512_abs_ps((__m512)x); }
    static float sum(F x) { return _mm512_reduce_add_ps((__m512)x); }
    static float max_lane(F x) { return _mm512_reduce_max_ps((__m512)x); }
    static I dot(I acc, U w, I a) { return (I)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)w, (__m512i)a); }
    // In assembly because compilers broadcast to a register first, which costs every second instruction of a product.
    static I dot(I acc, U w, const void* four) {
        asm("vpdpbusd %1%{1to16%}, %2, %0" : "+v"(acc) : "m"(*static_cast<const Word*>(four)), "v"(w));
        return acc;
    }
    static I dot_signed(I acc, U w, const void* four) { return dot(acc, w, four); }
    static I dot_signed(I acc, U w, I a) { return dot(acc, w, a); }
    static U lookup16(const uint8_t* table, U index) {
        return (U)_mm512_shuffle_epi8(_mm512_broadcast_i32x4(load128(table)), (__m512i)index);
    }
    struct Two {
        U low, high;
    };
    static U lookup(const uint32_t (*table)[1], U index) { return (U)_mm512_i32gather_epi32((__m512i)index, table, 4); }
    static __m128i two_entries(const void* low, const void* high) {
        return _mm_castps_si128(_mm_loadh_pi(_mm_castsi128_ps(_mm_loadl_epi64(static_cast<const __m128i*>(low))),
                                             static_cast<const __m64*>(high)));
    }
    // One by one: a gather of each word takes far longer.
    [[gnu::always_inline]] static Two lookup(const uint32_t (*table)[2], U index) {
        alignas(64) uint32_t i[16];
        store_u32(i, index);
        __m512 parts[2];  // entries 0 1 4 5 8 9 12 13 and the others, so that lanes come out in order
        for (int j = 0; j < 2; ++j) {
            const uint32_t* at = i + 2 * j;
            const __m128i a = two_entries(table[at[0]], table[at[1]]), b = two_entries(table[at[4]], table[at[5]]);
            const __m128i c = two_entries(table[at[8]], table[at[9]]), d = two_entries(table[at[12]], table[at[13]]);
            const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
            const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(c), d, 1);
            parts[j] = (__m512)_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
        }
        return {(U)_mm512_shuffle_ps(parts[0], parts[1], 0x88), (U)_mm512_shuffle_ps(parts[0], parts[1], 0xdd)};
    }
};

}  // namespace PYINFER_ISA
}  // namespace pyinfer
