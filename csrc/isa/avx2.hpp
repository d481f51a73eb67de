// AVX2 + FMA + F16C: 8 lanes, half a row group. With AVX-VNNI the dot product is one instruction.
#pragma once
#include <immintrin.h>

#include "isa/portable.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

struct Vec {
    static constexpr int L = 8;
    static constexpr int kTile = 4;  // 4 integer and 4 float accumulators leave 8 of 16 registers
    static constexpr int kPanels = 1;
#ifdef __AVXVNNI__
    static constexpr bool kSignedDot = false, kPairDot = false, kScaledQuants = true;
#else
    static constexpr bool kSignedDot = true, kPairDot = true, kScaledQuants = false;
#endif
    typedef float F __attribute__((vector_size(32)));
    typedef int32_t I __attribute__((vector_size(32)));
    typedef uint32_t U __attribute__((vector_size(32)));

    static __m128i load128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
    static __m128i load64(const void* p) { return _mm_loadl_epi64(static_cast<const __m128i*>(p)); }

    static F load(const float* p) { return (F)_mm256_loadu_ps(p); }
    static void store(float* p, F x) { _mm256_storeu_ps(p, (__m256)x); }
    static F splat(float x) { return (F)_mm256_set1_ps(x); }
    static I splat(int32_t x) { return (I)_mm256_set1_epi32(x); }
    static I splat_word(const void* p) {
        int32_t x;
        memcpy(&x, p, 4);
        return splat(x);
    }
    static U load_u32(const void* p) { return (U)_mm256_loadu_si256(static_cast<const __m256i*>(p)); }
    static U load_u16(const void* p) { return (U)_mm256_cvtepu16_epi32(load128(p)); }
    static U load_u8(const void* p) { return (U)_mm256_cvtepu8_epi32(load64(p)); }
    static I load_i8(const void* p) { return (I)_mm256_cvtepi8_epi32(load64(p)); }
    static F load_half(const void* p) { return (F)_mm256_cvtph_ps(load128(p)); }
    static F from_half(U x) {
        const __m256i packed = _mm256_packus_epi32((__m256i)x, (__m256i)x);
        return (F)_mm256_cvtph_ps(_mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 8)));
    }
    static void store_half(void* p, F x) {
        _mm_storeu_si128(static_cast<__m128i*>(p), _mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT));
    }
    static void load_rows(const uint8_t* p, int64_t stride, U (&x)[4]) {
        __m256i r[4];  // rows i, i + 4, so that lanes come out in order
        for (int i = 0; i < 4; ++i) {
            const uint8_t* q = p + i * stride;
            r[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(load128(q)), load128(q + 4 * stride), 1);
        }
        const __m256i a = _mm256_unpacklo_epi32(r[0], r[1]), b = _mm256_unpacklo_epi32(r[2], r[3]);
        const __m256i c = _mm256_unpackhi_epi32(r[0], r[1]), d = _mm256_unpackhi_epi32(r[2], r[3]);
        x[0] = (U)_mm256_unpacklo_epi64(a, b), x[1] = (U)_mm256_unpackhi_epi64(a, b);
        x[2] = (U)_mm256_unpacklo_epi64(c, d), x[3] = (U)_mm256_unpackhi_epi64(c, d);
    }
    static void store_u32(void* p, U x) { _mm256_storeu_si256(static_cast<__m256i*>(p), (__m256i)x); }
    static void store_u16(void* p, U x) {
        const __m256i low = (__m256i)(x & 0xffff), packed = _mm256_packus_epi32(low, low);
        _mm_storeu_si128(static_cast<__m128i*>(p), _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 8)));
    }
    static void store_u8(void* p, U x) {
        const __m256i low = (__m256i)(x & 0xff), pairs = _mm256_packus_epi32(low, low);
        const __m256i bytes = _mm256_packus_epi16(pairs, pairs);
        _mm_storel_epi64(static_cast<__m128i*>(p),
                         _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1)));
    }
    static F to_float(I x) { return (F)_mm256_cvtepi32_ps((__m256i)x); }
    static F as_float(U x) { return (F)x; }
    static I as_int(F x) { return (I)x; }
    static I round(F x) { return (I)_mm256_cvtps_epi32((__m256)x); }
    static F fma(F a, F b, F c) { return (F)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
    static F max(F a, F b) { return (F)_mm256_max_ps((__m256)a, (__m256)b); }
    static F abs(F x) { return (F)_mm256_andnot_ps(_mm256_set1_ps(-0.0f), (__m256)x); }
    static float sum(F x) {
        const __m128 s = _mm_add_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
        const __m128 t = _mm_add_ps(s, _mm_movehl_ps(s, s));
        return _mm_cvtss_f32(_mm_add_ss(t, _mm_shuffle_ps(t, t, 1)));
    }
    static float max_lane(F x) {
        const __m128 s = _mm_max_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
        const __m128 t = _mm_max_ps(s, _mm_movehl_ps(s, s));
        return _mm_cvtss_f32(_mm_max_ss(t, _mm_shuffle_ps(t, t, 1)));
    }
    static I dot(I acc, U w, const void* four) { return dot(acc, w, splat_word(four)); }
#ifdef __AVXVNNI__
    static I dot(I acc, U w, I a) { return (I)_mm256_dpbusd_avx_epi32((__m256i)acc, (__m256i)w, (__m256i)a); }
    static I dot_signed(I acc, U w, I a) { return dot(acc, w, a); }
#else
    // sums of two products each, in 16 bits; they fit while w <= 128: 2 * 128 * 127 < 2^15
    static I pairs(U w, I a) { return (I)_mm256_maddubs_epi16((__m256i)w, (__m256i)a); }
    static I add_pairs(I x, I y) { return (I)_mm256_add_epi16((__m256i)x, (__m256i)y); }
    static I widen(I pairs) { return (I)_mm256_madd_epi16((__m256i)pairs, _mm256_set1_epi16(1)); }
    static I dot(I acc, U w, I a) { return acc + widen(pairs(w, a)); }
    static I dot_signed(I acc, U w, I a) {
        const __m256i s = _mm256_xor_si256((__m256i)w, _mm256_set1_epi8(-128));
        return dot(acc, (U)_mm256_abs_epi8(s), (I)_mm256_sign_epi8((__m256i)a, s));
    }
#endif
    static I dot_signed(I acc, U w, const void* four) { return dot_signed(acc, w, splat_word(four)); }
    static U multiply_low(U a, U b) { return (U)_mm256_mullo_epi16((__m256i)a, (__m256i)b); }
    static U multiply_high(U a, U b) { return (U)_mm256_mulhi_epu16((__m256i)a, (__m256i)b); }
    static U lookup16(const uint8_t* table, U index) {
        return (U)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load128(table)), (__m256i)index);
    }
    static __m256i lanes4() {
        return _mm256_broadcastsi128_si256(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c));
    }
    static U pick_bytes(U x, uint32_t from) {
        return (U)_mm256_shuffle_epi8((__m256i)x, _mm256_add_epi8(lanes4(), _mm256_set1_epi32(int(from))));
    }
    static U lookup4(U table, U index) {
        return (U)_mm256_shuffle_epi8((__m256i)table, _mm256_or_si256((__m256i)index, lanes4()));
    }
    static I dot_pairs(U a, I b) { return (I)_mm256_madd_epi16((__m256i)a, (__m256i)b); }
    struct QuadPair {
        U low, high;
    };
    static QuadPair select(U bits, int k, const QuadPair& yes, const QuadPair& no) {
        const __m256i byte = (__m256i)pick_bytes(bits, 0x01010101u * k);
        const __m256i low = _mm256_set1_epi32(0x08040201), high = _mm256_set1_epi32(int(0x80402010u));
        const __m256i is_low = _mm256_cmpeq_epi8(_mm256_and_si256(byte, low), low);
        const __m256i is_high = _mm256_cmpeq_epi8(_mm256_and_si256(byte, high), high);
        return {(U)_mm256_blendv_epi8((__m256i)no.low, (__m256i)yes.low, is_low),
                (U)_mm256_blendv_epi8((__m256i)no.high, (__m256i)yes.high, is_high)};
    }
    // The lanes of rows 2i and 2i + 1.
    [[gnu::always_inline]] static uint64_t two_rows(U x, int i) {
        const __m256i all = (__m256i)x;
        const __m128i four = i < 2 ? _mm256_castsi256_si128(all) : _mm256_extracti128_si256(all, 1);
        return uint64_t(i % 2 ? _mm_extract_epi64(four, 1) : _mm_cvtsi128_si64(four));
    }
    // Entries are loaded one by one: a gather takes longer, and so does storing the indices and reading them back.
    template <int M>
    [[gnu::always_inline]] static U lookup(const CodeBook<M, 1>& book, U indices, int half) {
        const auto four = [&](int i) {
            const uint64_t a = two_rows(indices, i) >> 16 * half, b = two_rows(indices, i + 1) >> 16 * half;
            const auto entry = [&](uint64_t index) { return int(book.words[index & 0xffff][0]); };
            const __m128i low = _mm_insert_epi32(_mm_cvtsi32_si128(entry(a)), entry(a >> 32), 1);
            return _mm_insert_epi32(_mm_insert_epi32(low, entry(b), 2), entry(b >> 32), 3);
        };
        return (U)_mm256_inserti128_si256(_mm256_castsi128_si256(four(0)), four(2), 1);
    }
    template <int M>
    [[gnu::always_inline]] static QuadPair lookup(const CodeBook<M, 2>& book, U indices, int half) {
        const auto two = [&](int i) {
            const uint64_t rows = two_rows(indices, i) >> 16 * half;
            const auto entry = [&](uint64_t index) { return static_cast<const void*>(book.words[index & 0xffff]); };
            const __m128i low = _mm_loadl_epi64(static_cast<const __m128i*>(entry(rows)));
            return _mm_loadh_pi(_mm_castsi128_ps(low), static_cast<const __m64*>(entry(rows >> 32)));
        };
        // rows 0 1 4 5 and the others, so that lanes come out in order
        const __m256 first = _mm256_insertf128_ps(_mm256_castps128_ps256(two(0)), two(2), 1);
        const __m256 second = _mm256_insertf128_ps(_mm256_castps128_ps256(two(1)), two(3), 1);
        return {(U)_mm256_shuffle_ps(first, second, 0x88), (U)_mm256_shuffle_ps(first, second, 0xdd)};
    }
};

}  // namespace PYINFER_ISA
}  // namespace pyinfer
