// Q2_K … Q6_K: blocks of 256 values; 8 or 16 sub-blocks with small integer scales under one or two half floats.
//
// The quants of the 2-, 3- and 6-bit formats lie in two halves of 128 values; in a half, the values
// l, l + 32, l + 64, l + 96 share a byte. Those of the 4- and 5-bit formats: l and l + 32 of each 64 values.
#pragma once
#include "formats/block.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

struct Q2_K {
    static constexpr int kBlock = 256, kBytes = 84, kSubBlock = 16, kOffsetLog2 = kNoOffset, kMaxQuant = 3;
    static constexpr int kMinSubBlock = 16;
    static constexpr Field kFields[] = {{0, 80, 4}, {80, 4, 2}};
    template <class V, class B>
    static typename V::U scale_byte(const B& b, int s) {
        return b.word(s / 4 * 4) >> (s % 4 * 8);
    }
    template <class V, class B>
    static typename V::F scale(const B& b, int s) {
        return b.half(80) * to_float<V>(scale_byte<V>(b, s) & 15);
    }
    template <class V, class B>
    static typename V::F min(const B& b, int s) {
        return b.half(82) * to_float<V>(scale_byte<V>(b, s) >> 4 & 15);
    }
    template <class V, class B>
    static typename V::U quad(const B& b, int s, int v) {
        return (b.word(16 + s / 8 * 32 + s % 2 * 16 + 4 * v) >> (s % 8 / 2 * 2)) & 0x03030303;
    }
    template <class V, class B>
    static typename V::U mins(const B& b, int j) {
        return V::pick_bytes(b.word(j / 2 * 4) >> 4 & 0x0f0f0f0f, j % 2 ? 0x80038002 : 0x80018000);
    }
    template <class V, class B>
    static typename V::F min_scale(const B& b) {
        return b.half(82);
    }
    struct Scaled;
};

// Quants times their 4-bit scales.
struct Q2_K::Scaled : Q2_K {
    static constexpr int kSubBlock = 32, kMaxQuant = 45;
    template <class V, class B>
    static typename V::F scale(const B& b, int) {
        return b.half(80);
    }
    template <class V, class B>
    static typename V::U quad(const B& b, int s, int v) {
        const int sub = 2 * s + v / 4;
        const typename V::U twice = V::pick_bytes(b.word(s / 2 * 4) & 0x0f0f0f0f, 0x80008000 + 0x00010001 * (sub % 4));
        const typename V::U multiples = V::multiply_low(twice, (typename V::U)V::splat(0x03020100));
        return V::lookup4(multiples, Q2_K::quad<V>(b, sub, v % 4));
    }
};

struct Q3_K {
    static constexpr int kBlock = 256, kBytes = 110, kSubBlock = 16, kOffsetLog2 = 2, kMaxQuant = 7;
    static constexpr int kMinSubBlock = 0;
    static constexpr Field kFields[] = {{0, 108, 4}, {108, 2, 2}};
    template <class V, class B>
    static typename V::F scale(const B& b, int s) {
        // 4 * (scale - 32), four at a time, as signed bytes, of which one becomes the upper byte of 32 bits
        const typename V::U low = shift_bits<V>(b.word(96 + s % 8 / 4 * 4), s / 8 * 4, 2) & 0x3c3c3c3c;
        const typename V::U high = shift_bits<V>(b.word(104), s / 4 * 2, 6) & 0xc0c0c0c0;
        const typename V::U four = (low | high) ^ 0x80808080;
        return b.half(108) * 0x1p-26f * V::to_float((typename V::I)V::pick_bytes(four, 0x00808080 | s % 4 << 24));
    }
    template <class V, class B>
    static typename V::U quad(const B& b, int s, int v) {
        const int l = s % 2 * 16 + 4 * v, quarter = s % 8 / 2;
        const typename V::U low = (b.word(32 + s / 8 * 32 + l) >> (2 * quarter)) & 0x03030303;
        return low | (shift_bits<V>(b.word(l), s / 8 * 4 + quarter, 2) & 0x04040404);
    }
};

// The 6-bit scales and minimums of Q4_K and Q5_K: 12 bytes at `offset`.
struct Scales6 {
    template <class V, class B>
    static typename V::U unpack(const B& b, int offset, int s, bool min) {
        const typename V::U first = b.word(offset + 4 * min), second = b.word(offset + 8) >> 4 * min;
        const typename V::U four =
            s < 4 ? first & 0x3f3f3f3f : (second & 0x0f0f0f0f) | (shift_bits<V>(first, 6, 4) & 0x30303030);
        return V::pick_bytes(four, 0x80808000 + s % 4);
    }
};

struct Q4_K {
    static constexpr int kBlock = 256, kBytes = 144, kSubBlock = 32, kOffsetLog2 = kNoOffset, kMaxQuant = 15;
    static constexpr int kMinSubBlock = 32;
    static constexpr Field kFields[] = {{0, 4, 2}, {4, 140, 4}};
    template <class V, class B>
    static typename V::F scale(const B& b, int s) {
        return b.half(0) * to_float<V>(Scales6::unpack<V>(b, 4, s, false));
    }
    template <class V, class B>
    static typename V::F min(const B& b, int s) {
        return b.half(2) * to_float<V>(Scales6::unpack<V>(b, 4, s, true));
    }
    template <class V, class B>
    static typename V::U quad(const B& b, int s, int v) {
        return (b.word(16 + s / 2 * 32 + 4 * v) >> (s % 2 * 4)) & 0x0f0f0f0f;
    }
};

struct Q5_K {
    static constexpr int kBlock = 256, kBytes = 176, kSubBlock = 32, kOffsetLog2 = kNoOffset, kMaxQuant = 31;
    static constexpr int kMinSubBlock = 32;
    static constexpr Field kFields[] = {{0, 4, 2}, {4, 172, 4}};
    template <class V, class B>
    static typename V::F scale(const B& b, int s) {
        return Q4_K::scale<V>(b, s);
    }
    template <class V, class B>
    static typename V::F min(const B& b, int s) {
        return Q4_K::min<V>(b, s);
    }
    template <class V, class B>
    static typename V::U quad(const B& b, int s, int v) {
        const typename V::U low = (b.word(48 + s / 2 * 32 + 4 * v) >> (s % 2 * 4)) & 0x0f0f0f0f;
        return low | (shift_bits<V>(b.word(16 + 4 * v), s, 4) & 0x10101010);
    }
};

struct Q6_K {
    static constexpr int kBlock = 256, kBytes = 210, kSubBlock = 16, kOffsetLog2 = 5, kMaxQuant = 63;
    static constexpr int kMinSubBlock = 0;
    static constexpr Field kFields[] = {{0, 192, 4}, {192, 16, 1}, {208, 2, 2}};
    template <class V, class B>
    static typename V::F scale(const B& b, int s) {
        return b.half(208) * V::to_float(b.i8(192 + s));
    }
    template <class V, class B>
    static typename V::U quad(const B& b, int s, int v) {
        const int l = s % 2 * 16 + 4 * v, quarter = s % 8 / 2;
        const typename V::U low = (b.word(s / 8 * 64 + quarter % 2 * 32 + l) >> (quarter / 2 * 4)) & 0x0f0f0f0f;
        return low | (shift_bits<V>(b.word(128 + s / 8 * 32 + l), 2 * quarter, 4) & 0x30303030);
    }
};

}  // namespace PYINFER_ISA
}  // namespace pyinfer
