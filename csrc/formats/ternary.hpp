// TQ1_0 and TQ2_0: values -1, 0, 1 under one scale for 256 of them. Q1_0: -1 or 1, one scale for 128.
//
// TQ1_0 holds five base-3 digits in a byte, as a fraction of 256: digit n is the whole part of 3 * (byte * 3^n mod 256)
// / 256. Bytes 0..31 hold values m, m + 32, ..., m + 128; bytes 32..47 the next 80, 16 apart; bytes 48..51 the last 16.
#pragma once
#include "formats/block.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

struct TQ1_0 {
    static constexpr int kBlock = 256, kBytes = 54, kSubBlock = 32, kOffsetLog2 = 0, kMaxQuant = 2;
    static constexpr int kMinSubBlock = 0;
    static constexpr Field kFields[] = {{0, 52, 4}, {52, 2, 2}};
    template <class V, class B>
    static typename V::F scale(const B& b, int) {
        return b.half(52);
    }
    template <class V, class B>
    static typename V::U quad(const B& b, int s, int v) {
        constexpr int32_t kPowers[] = {1, 3, 9, 27, 81};
        const int k = 32 * s + 4 * v;
        const int offset = k < 160 ? k % 32 : k < 240 ? 32 + k % 16 : 48;
        const int32_t power = kPowers[k < 160 ? k / 32 : k < 240 ? (k - 160) / 16 : (k - 240) / 4];
        // in the upper byte of 16 bits, where multiplication loses whole parts and its upper half is 3 * byte / 256
        const auto twice = [](int32_t x) { return typename V::U(V::splat(x | x << 16)); };
        const auto digit = [&](typename V::U bytes) {
            const auto fraction = V::multiply_low(bytes & 0xff00ff00, twice(power));
            return V::multiply_high(fraction, twice(3));
        };
        const typename V::U bytes = b.word(offset);
        return digit(bytes << 8) | digit(bytes) << 8;
    }
};

struct TQ2_0 {
    static constexpr int kBlock = 256, kBytes = 66, kSubBlock = 32, kOffsetLog2 = 0, kMaxQuant = 3;
    static constexpr int kMinSubBlock = 0;
    static constexpr Field kFields[] = {{0, 64, 4}, {64, 2, 2}};
    template <class V, class B>
    static typename V::F scale(const B& b, int) {
        return b.half(64);
    }
    template <class V, class B>
    static typename V::U quad(const B& b, int s, int v) {
        return (b.word(s / 4 * 32 + 4 * v) >> (s % 4 * 2)) & 0x03030303;
    }
};

struct Q1_0 : HalfScale {
    static constexpr int kBlock = 128, kBytes = 18, kSubBlock = 32, kOffsetLog2 = 0, kMaxQuant = 2;
    static constexpr int kMinSubBlock = 0;
    static constexpr Field kFields[] = {{0, 2, 2}, {2, 16, 4}};
    template <class V, class B>
    static typename V::QuadPair quad_pair(const B& b, int s, int p) {
        return where_bits<V>(b.word(2 + 4 * s), p, 2);
    }
};

}  // namespace PYINFER_ISA
}  // namespace pyinfer
