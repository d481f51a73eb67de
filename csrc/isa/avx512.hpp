// AVX-512 with VNNI: 16 lanes, a whole row group.
#pragma once
#include <immintrin.h>

#include "isa/portable.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

struct Vec {
    static constexpr int L = 16;
    static constexpr int kTile = 8;    // 8 integer and 8 float accumulators leave 16 of 32 registers
    static constexpr int kPanels = 2;  // against half a tile at a time
    static constexpr bool kSignedDot = false, kPairDot = false, kScaledQuants = true;
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
    // In assembly, because compilers broadcast to a register first, which doubles the instructions of a product.
    static I dot(I acc, U w, const void* four) {
        asm("vpdpbusd %1%{1to16%}, %2, %0" : "+v"(acc) : "m"(*static_cast<const Word*>(four)), "v"(w));
        return acc;
    }
    static I dot_signed(I acc, U w, const void* four) { return dot(acc, w, four); }
    static I dot_signed(I acc, U w, I a) { return dot(acc, w, a); }
    static U multiply_low(U a, U b) { return (U)_mm512_mullo_epi16((__m512i)a, (__m512i)b); }
    static U multiply_high(U a, U b) { return (U)_mm512_mulhi_epu16((__m512i)a, (__m512i)b); }
    static U lookup16(const uint8_t* table, U index) {
        return (U)_mm512_shuffle_epi8(_mm512_broadcast_i32x4(load128(table)), (__m512i)index);
    }
    static __m512i lanes4() { return _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c)); }
    static U pick_bytes(U x, uint32_t from) {
        return (U)_mm512_shuffle_epi8((__m512i)x, _mm512_add_epi8(lanes4(), _mm512_set1_epi32(int(from))));
    }
    static U lookup4(U table, U index) {
        return (U)_mm512_shuffle_epi8((__m512i)table, _mm512_or_si512((__m512i)index, lanes4()));
    }
    static I dot_pairs(U a, I b) { return (I)_mm512_madd_epi16((__m512i)a, (__m512i)b); }
    struct QuadPair {
        U low, high;
    };
    static QuadPair select(U bits, int k, const QuadPair& yes, const QuadPair& no) {
        const __m512i byte = (__m512i)pick_bytes(bits, 0x01010101u * k);
        const __mmask64 low = _mm512_test_epi8_mask(byte, _mm512_set1_epi32(0x08040201));
        const __mmask64 high = _mm512_test_epi8_mask(byte, _mm512_set1_epi32(int(0x80402010u)));
        return {(U)_mm512_mask_mov_epi8((__m512i)no.low, low, (__m512i)yes.low),
                (U)_mm512_mask_mov_epi8((__m512i)no.high, high, (__m512i)yes.high)};
    }
    static constexpr int kPermuted =
        1024;  // of books with more entries, it is faster to load the entries that are wanted
    // Those of N entries of 16 bits that 32 indices below N name; a permutation of two registers selects out of 64.
    template <int N>
    [[gnu::always_inline]] static __m512i permute(const uint16_t* table, __m512i indices) {
        if constexpr (N == 64) {
            return _mm512_permutex2var_epi16(_mm512_load_si512(table), indices, _mm512_load_si512(table + 32));
        } else {
            const __mmask32 high = _mm512_test_epi16_mask(indices, _mm512_set1_epi16(N / 2));
            return _mm512_mask_mov_epi16(permute<N / 2>(table, indices), high, permute<N / 2>(table + N / 2, indices));
        }
    }
    // The four codes of the entry that a half of each lane names, each in a byte.
    template <int N>
    [[gnu::always_inline]] static U nibble_codes(const uint16_t (&table)[N], U indices, int half) {
        const U both = (U)permute<N>(table, (__m512i)indices), one = half ? both >> 16 : both & 0xffff;
        return (one | one << 12) & 0x0f0f0f0f;
    }
    template <int M>
    [[gnu::always_inline]] static U lookup(const CodeBook<M, 1>& book, U indices, int half) {
        return lookup16(book.bytes[0], nibble_codes(book.nibbles, indices, half));
    }
    // The entries that a half of each lane names, loaded one by one: a gather of each word takes far longer.
    [[gnu::always_inline]] static QuadPair load_each(const uint32_t (*table)[2], U indices, int half) {
        const __m256i halves[] = {_mm512_castsi512_si256((__m512i)indices),
                                  _mm512_extracti64x4_epi64((__m512i)indices, 1)};
        __m512i parts[2];  // rows 0..7 and 8..15
        for (int p = 0; p < 2; ++p) {
            const __m256i eight = halves[p];
            const __m128i low = _mm256_castsi256_si128(eight), high = _mm256_extracti128_si256(eight, 1);
            const uint64_t two[] = {uint64_t(_mm_cvtsi128_si64(low)), uint64_t(_mm_extract_epi64(low, 1)),
                                    uint64_t(_mm_cvtsi128_si64(high)), uint64_t(_mm_extract_epi64(high, 1))};
            const auto entry = [&](int row) {
                const uint64_t index = two[row / 2] >> (row % 2 * 32 + half * 16) & 0xffff;
                return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(table[index]));
            };
            __m512i x = _mm512_broadcastq_epi64(entry(0));
            for (int row = 1; row < 8; ++row) x = _mm512_mask_broadcastq_epi64(x, __mmask8(1 << row), entry(row));
            parts[p] = x;
        }
        const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
        return {(U)_mm512_permutex2var_epi32(parts[0], even, parts[1]),
                (U)_mm512_permutex2var_epi32(parts[0], odd, parts[1])};
    }
    template <int M>
    [[gnu::always_inline]] static QuadPair lookup(const CodeBook<M, 2>& book, U indices, int half) {
        if constexpr (M > kPermuted) {
            return load_each(book.words, indices, half);
        } else {
            const U codes = nibble_codes(book.nibbles, indices, half);
            return {lookup16(book.bytes[0], codes), lookup16(book.bytes[1], codes)};
        }
    }
};

}  // namespace PYINFER_ISA
}  // namespace pyinfer
