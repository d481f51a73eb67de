// Q4_0, Q4_1, Q5_0, Q5_1, Q8_0: one scale for 32 values. In the 4- and 5-bit formats the low nibbles are
// values 0..15 and the high nibbles values 16..31.
#pragma once
#include "formats/block.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

template <class V, class B>
typename V::U nibble_quad(const B& b, int offset, int v) {
    return (b.word(offset + v % 4 * 4) >> (v / 4 * 4)) & 0x0f0f0f0f;
}

struct Q4_0 : HalfScale {
    static constexpr int kBlock = 32, kBytes = 18, kSubBlock = 32, kOffsetLog2 = 3, kMaxQuant = 15;
    static constexpr int kMinSubBlock = 0;
    static constexpr Field kFields[] = {{0, 2, 2}, {2, 16, 4}};
    template <class V, class B>
    static typename V::U quad(const B& b, int, int v) {
        return nibble_quad<V>(b, 2, v);
    }
};

struct Q4_1 : HalfScaleAndMin {
    static constexpr int kBlock = 32, kBytes = 20, kSubBlock = 32, kOffsetLog2 = kNoOffset, kMaxQuant = 15;
    static constexpr int kMinSubBlock = 32;
    static constexpr Field kFields[] = {{0, 4, 2}, {4, 16, 4}};
    template <class V, class B>
    static typename V::U quad(const B& b, int, int v) {
        return nibble_quad<V>(b, 4, v);
    }
};

struct Q5_0 : HalfScale {
    static constexpr int kBlock = 32, kBytes = 22, kSubBlock = 32, kOffsetLog2 = 4, kMaxQuant = 31;
    static constexpr int kMinSubBlock = 0;
    static constexpr Field kFields[] = {{0, 2, 2}, {2, 20, 4}};
    template <class V, class B>
    static typename V::QuadPair quad_pair(const B& b, int, int p) {
        const typename V::QuadPair fifth = where_bits<V>(b.word(2), p, 16);
        return {nibble_quad<V>(b, 6, 2 * p) | fifth.low, nibble_quad<V>(b, 6, 2 * p + 1) | fifth.high};
    }
};

struct Q5_1 : HalfScaleAndMin {
    static constexpr int kBlock = 32, kBytes = 24, kSubBlock = 32, kOffsetLog2 = kNoOffset, kMaxQuant = 31;
    static constexpr int kMinSubBlock = 32;
    static constexpr Field kFields[] = {{0, 4, 2}, {4, 20, 4}};
    template <class V, class B>
    static typename V::QuadPair quad_pair(const B& b, int, int p) {
        const typename V::QuadPair fifth = where_bits<V>(b.word(4), p, 16);
        return {nibble_quad<V>(b, 8, 2 * p) | fifth.low, nibble_quad<V>(b, 8, 2 * p + 1) | fifth.high};
    }
};

struct Q8_0 : HalfScale {
    static constexpr int kBlock = 32, kBytes = 34, kSubBlock = 32, kOffsetLog2 = 7, kMaxQuant = 255;
    static constexpr int kMinSubBlock = 0;
    static constexpr Field kFields[] = {{0, 2, 2}, {2, 32, 4}};
    template <class V, class B>
    static typename V::U quad(const B& b, int, int v) {
        return b.word(2 + 4 * v) ^ 0x80808080u;
    }
};

}  // namespace PYINFER_ISA
}  // namespace pyinfer
