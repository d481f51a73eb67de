// The vector primitives in plain C++: the definition that every other instruction set must agree with.
//
// A vector has L lanes of 32 bits. In the kernels a lane is a row of the weights or, where an operation works on a row
// of activations, a column. F is float32, I int32 and U uint32; operators + - * & | ^ << >> work on all of them. A lane
// of U also holds a quad: four unsigned bytes (formats/block.hpp). `Portable<4>` is the scalar kernel variant (baseline
// SSE2 or NEON by the compiler's choice), `Portable<1>` reads single rows.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "isa/code_book.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

inline float half_to_float(uint16_t h) {
    const uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 0x3ff;
    uint32_t bits;
    if (exponent == 31) {
        bits = sign | 0x7f800000 | mantissa << 13;
        if (mantissa) bits |= 0x00400000;  // hardware conversion quiets NaNs
    } else if (exponent) {
        bits = sign | (exponent + 112) << 23 | mantissa << 13;
    } else {
        float f = float(mantissa) * 0x1p-24f;
        memcpy(&bits, &f, 4);
        bits |= sign;
    }
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

inline uint16_t float_to_half(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    const uint16_t sign = uint16_t(bits >> 16) & 0x8000;
    bits &= 0x7fffffff;
    if (bits > 0x7f800000) return uint16_t(sign | 0x7e00 | ((bits >> 13) & 0x3ff));
    if (bits >= 0x477ff000) return sign | 0x7c00;
    if (bits < 0x38800000) {  // subnormal: let the float adder round
        float magnitude;
        memcpy(&magnitude, &bits, 4);
        magnitude += 0.5f;
        memcpy(&bits, &magnitude, 4);
        return uint16_t(sign | (bits - 0x3f000000));
    }
    bits += 0xfff + ((bits >> 13) & 1) - (112u << 23);
    return uint16_t(sign | bits >> 13);
}

inline uint16_t float_to_bf16(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return uint16_t(bits >> 16 | 0x40);
    return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

template <int N>
struct VectorTypes;  // spelled out, since GCC drops the attribute where the size depends on a template's parameter
template <>
struct VectorTypes<1> {
    typedef float F __attribute__((vector_size(4)));
    typedef int32_t I __attribute__((vector_size(4)));
    typedef uint32_t U __attribute__((vector_size(4)));
};
template <>
struct VectorTypes<4> {
    typedef float F __attribute__((vector_size(16)));
    typedef int32_t I __attribute__((vector_size(16)));
    typedef uint32_t U __attribute__((vector_size(16)));
};

template <int N>
struct Portable {
    static constexpr int L = N;
    static constexpr int kTile = 4;           // tokens of a full tile of activations
    static constexpr int kPanels = 1;         // that dot_panels takes at once, so that they share loads of activations
    static constexpr bool kSignedDot = true;  // dot_signed takes int8 weights: no sums of activations are needed
    static constexpr bool kPairDot = false;   // there are pairs(), add_pairs(), widen(): sums of products in 16 bits
    static constexpr bool kScaledQuants = false;  // formats' `Scaled` declarations are faster
    using F = typename VectorTypes<N>::F;
    using I = typename VectorTypes<N>::I;
    using U = typename VectorTypes<N>::U;

    template <class T>
    static T load_as(const void* p) {
        T x;
        memcpy(&x, p, sizeof x);
        return x;
    }
    static F load(const float* p) { return load_as<F>(p); }
    static void store(float* p, F x) { memcpy(p, &x, sizeof x); }
    static F splat(float x) { return F{} + x; }
    static I splat(int32_t x) { return I{} + x; }
    static I splat_word(const void* p) { return splat(load_as<int32_t>(p)); }
    static U load_u32(const void* p) { return load_as<U>(p); }
    static U load_u16(const void* p) {
        U x;
        for (int i = 0; i < N; ++i) x[i] = load_as<uint16_t>(static_cast<const char*>(p) + 2 * i);
        return x;
    }
    static U load_u8(const void* p) {
        U x;
        for (int i = 0; i < N; ++i) x[i] = static_cast<const uint8_t*>(p)[i];
        return x;
    }
    static I load_i8(const void* p) {
        I x;
        for (int i = 0; i < N; ++i) x[i] = static_cast<const int8_t*>(p)[i];
        return x;
    }
    static F load_half(const void* p) {
        F x;
        for (int i = 0; i < N; ++i) x[i] = half_to_float(load_as<uint16_t>(static_cast<const char*>(p) + 2 * i));
        return x;
    }
    // the half floats in the low 16 bits of each lane
    static F from_half(U x) {
        F y;
        for (int i = 0; i < N; ++i) y[i] = half_to_float(uint16_t(x[i]));
        return y;
    }
    static F to_float(I x) { return __builtin_convertvector(x, F); }
    static F as_float(U x) { return load_as<F>(&x); }
    static I as_int(F x) { return load_as<I>(&x); }
    static I round(F x) {
        I y;
        for (int i = 0; i < N; ++i) y[i] = int32_t(lrintf(x[i]));
        return y;
    }
    static F fma(F a, F b, F c) { return a * b + c; }
    static F max(F a, F b) {
        for (int i = 0; i < N; ++i) a[i] = a[i] > b[i] ? a[i] : b[i];
        return a;
    }
    static F abs(F x) {
        for (int i = 0; i < N; ++i) x[i] = fabsf(x[i]);
        return x;
    }
    static float sum(F x) {
        float y = 0;
        for (int i = 0; i < N; ++i) y += x[i];
        return y;
    }
    static float max_lane(F x) {
        float y = x[0];
        for (int i = 1; i < N; ++i) y = x[i] > y ? x[i] : y;
        return y;
    }
    // acc + the sum of the four products of unsigned bytes of w and signed bytes of a, in each lane; from memory: of
    // the same four bytes in every lane
    static I dot(I acc, U w, I a) {
        for (int j = 0; j < 4; ++j) acc += (I)(w >> 8 * j & 255) * ((I)((U)a << (24 - 8 * j)) >> 24);
        return acc;
    }
    static I dot(I acc, U w, const void* four) { return dot(acc, w, splat_word(four)); }
    // the same for bytes of w that stand for byte - 128
    static I dot_signed(I acc, U w, I a) { return dot(acc, w, a) - dot(I{}, U{} + 0x80808080u, a); }
    static I dot_signed(I acc, U w, const void* four) { return dot_signed(acc, w, splat_word(four)); }
    // the low and the high halves of products of 16-bit numbers, two in a lane
    static U multiply_low(U a, U b) { return (a * (b & 0xffff) & 0xffff) | (a >> 16) * (b >> 16) << 16; }
    static U multiply_high(U a, U b) {
        return (a & 0xffff) * (b & 0xffff) >> 16 | ((a >> 16) * (b >> 16) & 0xffff0000);
    }
    // the sum of the two products of signed 16-bit numbers in each lane
    static I dot_pairs(U a, I b) { return ((I)(a << 16) >> 16) * (b << 16 >> 16) + ((I)a >> 16) * (b >> 16); }
    // byte i of each lane: the byte of x that byte i of `from` names, 0..3, or 0 where that is 128
    static U pick_bytes(U x, uint32_t from) {
        U y{};
        for (int i = 0; i < 4; ++i)
            if (const uint32_t byte = from >> 8 * i & 255; byte < 4) y |= (x >> 8 * byte & 255) << 8 * i;
        return y;
    }
    // every byte of `index` (0..3) replaced by that byte of the lane's own table
    static U lookup4(U table, U index) {
        U x{};
        for (int i = 0; i < 4; ++i)
            for (int lane = 0; lane < N; ++lane)
                x[lane] |= (table[lane] >> (index[lane] >> 8 * i & 3) * 8 & 255) << 8 * i;
        return x;
    }
    // every byte of `index` (0..15) replaced by table[byte]
    static U lookup16(const uint8_t* table, U index) {
        U x{};
        for (int i = 0; i < N; ++i)
            for (int j = 0; j < 4; ++j) x[i] |= uint32_t(table[index[i] >> 8 * j & 15]) << 8 * j;
        return x;
    }
    struct QuadPair {  // quads 2p and 2p + 1 of each lane
        U low, high;
    };
    // 255 in each byte j of which bit j of the lane is set, j = 0..3
    static U bytes_of_bits(U bits) { return (((bits & 15) * 0x00204081) & 0x01010101) * 255; }
    // byte i of a pair of quads: that of `yes` where bit i of the k-th byte of `bits` is set, or else that of `no`
    static QuadPair select(U bits, int k, const QuadPair& yes, const QuadPair& no) {
        const U low = bytes_of_bits(bits >> 8 * k), high = bytes_of_bits(bits >> (8 * k + 4));
        return {(yes.low & low) | (no.low & ~low), (yes.high & high) | (no.high & ~high)};
    }
    // the entry of a code book that a half of each lane (0: the low 16 bits, 1: the high ones) is the index of; other
    // instruction sets may look up both halves at once, of which the compiler keeps one
    template <int M>
    static U lookup(const CodeBook<M, 1>& book, U indices, int half) {
        U x;
        for (int i = 0; i < N; ++i) x[i] = book.words[indices[i] >> 16 * half & 0xffff][0];
        return x;
    }
    template <int M>
    static QuadPair lookup(const CodeBook<M, 2>& book, U indices, int half) {
        QuadPair x;
        for (int i = 0; i < N; ++i) {
            const uint32_t* words = book.words[indices[i] >> 16 * half & 0xffff];
            x.low[i] = words[0], x.high[i] = words[1];
        }
        return x;
    }
    // words of N rows that begin `stride` bytes apart: x[j] has the j-th word of each
    static void load_rows(const uint8_t* p, int64_t stride, U (&x)[4]) {
        for (int i = 0; i < N; ++i)
            for (int j = 0; j < 4; ++j) x[j][i] = load_as<uint32_t>(p + i * stride + 4 * j);
    }
    static void store_u32(void* p, U x) { memcpy(p, &x, sizeof x); }
    // the low 16 or 8 bits of each lane
    static void store_u16(void* p, U x) {
        for (int i = 0; i < N; ++i) {
            const uint16_t h = uint16_t(x[i]);
            memcpy(static_cast<char*>(p) + 2 * i, &h, 2);
        }
    }
    static void store_u8(void* p, U x) {
        for (int i = 0; i < N; ++i) static_cast<uint8_t*>(p)[i] = uint8_t(x[i]);
    }
    static void store_half(void* p, F x) {
        for (int i = 0; i < N; ++i) {
            const uint16_t h = float_to_half(x[i]);
            memcpy(static_cast<char*>(p) + 2 * i, &h, 2);
        }
    }
};

}  // namespace PYINFER_ISA
}  // namespace pyinfer
