// Q2_K … Q6_K: blocks of 256 values; 8 or 16 sub-blocks with small integer scales under one or two half floats.
//
// The quants of the 2-, 3- and 6-bit formats lie in two halves of 128 values; in a half, the values
// l, l + 32, l + 64, l + 96 share a byte. Those of the 4- and 5-bit formats: l and l + 32 of each 64 values.
#pragma once
#include "formats/block.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

struct Q2_K {
    static constexpr int kBlock = 256, kBytes = 84, kSub = 16, kOffsetLog2 = kNoOffset, kMaxQuant = 3;
    static constexpr bool kMin = true;
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
    static typename V::U quants(const B& b, int s, int v) {
        return (b.word(16 + s / 8 * 32 + s % 2 * 16 + 4 * v) >> (s % 8 / 2 * 2)) & 0x03030303;
    }
};

struct Q3_K {
    static constexpr int kBlock = 256, kBytes = 110, kSub = 16, kOffsetLog2 = 2, kMaxQuant = 7;
    static constexpr bool kMin = false;
    static constexpr Field kFields[] = {{0, 108, 4}, {108, 2, 2}};
    template <class V, class B>
    static typename V::F scale(const B& b, int s) {
        const typename V::U low = b.word(96 + s % 8 / 4 * 4) >> (s % 4 * 8 + s / 8 * 4) & 15;
        const typename V::U high = b.word(104) >> (s % 4 * 8 + s / 4 * 2) & 3;
        return b.half(108) * V::to_float((typename V::I)(low | high << 4) - 32);
    }
    template <class V, class B>
    static typename V::U quants(const B& b, int s, int v) {
        const int l = s % 2 * 16 + 4 * v, quarter = s % 8 / 2;
        const typename V::U low = (b.word(32 + s / 8 * 32 + l) >> (2 * quarter)) & 0x03030303;
        return low | (moved<V>(b.word(l), s / 8 * 4 + quarter, 2) & 0x04040404);
    }
};

// The 6-bit scales and minimums of Q4_K and Q5_K: 12 bytes at `offset`.
struct Scales6 {
    template <class V, class B>
    static typename V::U unpack(const B& b, int offset, int s, bool min) {
        if (s < 4) return b.word(offset + 4 * min) >> (8 * s) & 63;
        const typename V::U low = b.word(offset + 8) >> (8 * (s - 4) + 4 * min) & 15;
        return low | (b.word(offset + 4 * min) >> (8 * (s - 4) + 6) & 3) << 4;
    }
};

struct Q4_K {
    static constexpr int kBlock = 256, kBytes = 144, kSub = 32, kOffsetLog2 = kNoOffset, kMaxQuant = 15;
    static constexpr bool kMin = true;
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
    static typename V::U quants(const B& b, int s, int v) {
        return (b.word(16 + s / 2 * 32 + 4 * v) >> (s % 2 * 4)) & 0x0f0f0f0f;
    }
};

struct Q5_K {
    static constexpr int kBlock = 256, kBytes = 176, kSub = 32, kOffsetLog2 = kNoOffset, kMaxQuant = 31;
    static constexpr bool kMin = true;
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
    static typename V::U quants(const B& b, int s, int v) {
        const typename V::U low = (b.word(48 + s / 2 * 32 + 4 * v) >> (s % 2 * 4)) & 0x0f0f0f0f;
        return low | (moved<V>(b.word(16 + 4 * v), s, 4) & 0x10101010);
    }
};

struct Q6_K {
    static constexpr int kBlock = 256, kBytes = 210, kSub = 16, kOffsetLog2 = 5, kMaxQuant = 63;
    static constexpr bool kMin = false;
    static constexpr Field kFields[] = {{0, 192, 4}, {192, 16, 1}, {208, 2, 2}};
    template <class V, class B>
    static typename V::F scale(const B& b, int s) {
        return b.half(208) * V::to_float(b.i8(192 + s));
    }
    template <class V, class B>
    static typename V::U quants(const B& b, int s, int v) {
        const int l = s % 2 * 16 + 4 * v, quarter = s % 8 / 2;
        const typename V::U low = (b.word(s / 8 * 64 + quarter % 2 * 32 + l) >> (quarter / 2 * 4)) & 0x0f0f0f0f;
        return low | (moved<V>(b.word(128 + s / 8 * 32 + l), 2 * quarter, 4) & 0x30303030);
    }
};

}  // namespace PYINFER_ISA
}  // namespace pyinfer
