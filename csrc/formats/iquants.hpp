// IQ1, IQ2, IQ3: indices into code books of 8 (IQ3: 4) values, with signs and small scales beside them.
//
// A group is 8 values, quads 2g and 2g + 1 of a 32-value sub-block (or of a pair of 16-value ones). Magnitudes get
// their signs in the four bytes of a word at once.
#pragma once
#include "formats/block.hpp"
#include "formats/tables.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

// Two quads, those of a group.
template <class V>
using Quads = typename V::Two;

// Bytes 64 + magnitude, turned to 64 - magnitude where a bit of `signs` (bits 0..3) is set.
template <class V>
typename V::U with_signs(typename V::U bytes, typename V::U signs) {
    const typename V::U one = spread4<V>(signs);
    return (bytes ^ ((one << 7) - one)) + one;
}

template <class V>
Quads<V> with_signs(const Quads<V>& words, typename V::U signs) {
    return {with_signs<V>(words.low, signs), with_signs<V>(words.high, signs >> 4)};
}

// Of eight sign bits, 7 are given: their number is even. Bit n of 0x6996 is the parity of n.
template <class V>
Quads<V> with_even_signs(const Quads<V>& words, typename V::U seven) {
    const typename V::U odd = (typename V::U{} + 0x6996) >> ((seven ^ seven >> 4) & 15) & 1;
    return with_signs<V>(words, seven | odd << 7);
}

template <class V, class B>
typename V::U byte_of(const B& b, int offset, int i) {
    return b.word(offset + i / 4 * 4) >> (i % 4 * 8) & 255;
}

// Formats that look up in a table, which is slow to unpack. They declare quads(b, s, g), both quads of a group.
struct CodeBook {};

struct IQ2_XXS : CodeBook {
    static constexpr int kBlock = 256, kBytes = 66, kSub = 32, kOffsetLog2 = 6, kMaxQuant = 128;
    static constexpr bool kMin = false;
    static constexpr Field kFields[] = {{0, 2, 2}, {2, 64, 4}};
    template <class V, class B>
    static typename V::F scale(const B& b, int s) {
        return b.half(0) * (to_float<V>(b.word(6 + 8 * s) >> 28) + 0.5f) * 0.25f;
    }
    template <class V, class B>
    static Quads<V> quads(const B& b, int s, int g) {
        const Quads<V> words = V::lookup(kWords2xxs.of, byte_of<V>(b, 2 + 8 * s, g));
        return with_even_signs<V>(words, b.word(6 + 8 * s) >> (g * 7) & 127);
    }
};

struct IQ2_XS : CodeBook {
    static constexpr int kBlock = 256, kBytes = 74, kSub = 16, kOffsetLog2 = 6, kMaxQuant = 128;
    static constexpr bool kMin = false;
    static constexpr Field kFields[] = {{0, 2, 2}, {2, 64, 4}, {66, 8, 1}};
    template <class V, class B>
    static typename V::F scale(const B& b, int s) {
        return b.half(0) * (to_float<V>(b.u8(66 + s / 2) >> (s % 2 * 4) & 15) + 0.5f) * 0.25f;
    }
    template <class V, class B>
    static Quads<V> quads(const B& b, int s, int g) {
        const typename V::U entry = b.word(2 + 4 * s) >> (g * 16) & 0xffff;
        return with_even_signs<V>(V::lookup(kWords2xs.of, entry & 511), entry >> 9);
    }
};

struct IQ2_S : CodeBook {
    static constexpr int kBlock = 256, kBytes = 82, kSub = 16, kOffsetLog2 = 6, kMaxQuant = 128;
    static constexpr bool kMin = false;
    static constexpr Field kFields[] = {{0, 2, 2}, {2, 64, 4}, {66, 16, 1}};
    template <class V, class B>
    static typename V::F scale(const B& b, int s) {
        return b.half(0) * (to_float<V>(b.u8(74 + s / 2) >> (s % 2 * 4) & 15) + 0.5f) * 0.25f;
    }
    template <class V, class B>
    static Quads<V> quads(const B& b, int s, int g) {
        const int group = 2 * s + g;
        const typename V::U high = b.u8(66 + group / 4) >> (group % 4 * 2) & 3;
        const typename V::U index = byte_of<V>(b, 2, group) | high << 8;
        return with_signs<V>(V::lookup(kWords2s.of, index), byte_of<V>(b, 34, group));
    }
};

struct IQ3_XXS : CodeBook {
    static constexpr int kBlock = 256, kBytes = 98, kSub = 32, kOffsetLog2 = 6, kMaxQuant = 128;
    static constexpr bool kMin = false;
    static constexpr Field kFields[] = {{0, 2, 2}, {2, 96, 4}};
    template <class V, class B>
    static typename V::F scale(const B& b, int s) {
        return b.half(0) * (to_float<V>(b.word(66 + 4 * s) >> 28) + 0.5f) * 0.5f;
    }
    template <class V, class B>
    static Quads<V> quads(const B& b, int s, int g) {
        const int quad = 8 * s + 2 * g;
        const Quads<V> words = {V::lookup(kWords3xxs.of, byte_of<V>(b, 2, quad)),
                                V::lookup(kWords3xxs.of, byte_of<V>(b, 2, quad + 1))};
        return with_even_signs<V>(words, b.word(66 + 4 * s) >> (g * 7) & 127);
    }
};

struct IQ3_S : CodeBook {
    static constexpr int kBlock = 256, kBytes = 110, kSub = 32, kOffsetLog2 = 6, kMaxQuant = 128;
    static constexpr bool kMin = false;
    static constexpr Field kFields[] = {{0, 2, 2}, {2, 64, 4}, {66, 8, 1}, {74, 32, 4}, {106, 4, 1}};
    template <class V, class B>
    static typename V::F scale(const B& b, int s) {
        return b.half(0) * V::to_float((typename V::I)(b.u8(106 + s / 2) >> (s % 2 * 4) & 15) * 2 + 1);
    }
    template <class V, class B>
    static Quads<V> quads(const B& b, int s, int g) {
        const int quad = 8 * s + 2 * g;
        const typename V::U high = b.u8(66 + s) >> (2 * g);
        const Quads<V> words = {V::lookup(kWords3s.of, byte_of<V>(b, 2, quad) | (high & 1) << 8),
                                V::lookup(kWords3s.of, byte_of<V>(b, 2, quad + 1) | (high >> 1 & 1) << 8)};
        return with_signs<V>(words, byte_of<V>(b, 74, 4 * s + g));
    }
};

// In IQ1 every value is moved by 1/8 up or, where `down` is 1, down: quants are eighths, 8 * value + 17 and 2 less.
template <class V>
Quads<V> with_delta(const Quads<V>& eighths, typename V::U down) {
    const typename V::U moved = -down & 0x02020202u;
    return {eighths.low - moved, eighths.high - moved};
}

struct IQ1_S : CodeBook {
    static constexpr int kBlock = 256, kBytes = 50, kSub = 32, kOffsetLog2 = 4, kMaxQuant = 25;
    static constexpr bool kMin = false;
    static constexpr Field kFields[] = {{0, 2, 2}, {2, 32, 4}, {34, 16, 2}};
    template <class V, class B>
    static typename V::F scale(const B& b, int s) {
        return b.half(0) * V::to_float((typename V::I)(b.u16(34 + 2 * s) >> 12 & 7) * 2 + 1) * 0.125f;
    }
    template <class V, class B>
    static Quads<V> quads(const B& b, int s, int g) {
        const typename V::U high = b.u16(34 + 2 * s);
        const typename V::U index = byte_of<V>(b, 2, 4 * s + g) | (high >> (g * 3) & 7) << 8;
        return with_delta<V>(V::lookup(kWords1.of, index), high >> 15);
    }
};

struct IQ1_M : CodeBook {
    static constexpr int kBlock = 256, kBytes = 56, kSub = 16, kOffsetLog2 = 4, kMaxQuant = 25;
    static constexpr bool kMin = false;
    static constexpr Field kFields[] = {{0, 48, 4}, {48, 8, 2}};
    // The half float of the block is spread over the high nibbles of the four scale words.
    template <class V, class B>
    static typename V::F scale(const B& b, int s) {
        const typename V::U bits =
            b.u16(48) >> 12 | (b.u16(50) >> 8 & 0x00f0) | (b.u16(52) >> 4 & 0x0f00) | (b.u16(54) & 0xf000);
        const typename V::U small = b.u16(48 + s / 4 * 2) >> (s % 4 * 3) & 7;
        return V::from_half(bits) * V::to_float((typename V::I)small * 2 + 1) * 0.125f;
    }
    template <class V, class B>
    static Quads<V> quads(const B& b, int s, int g) {
        const int group = 2 * s + g;
        const typename V::U high = b.word(32 + group / 8 * 4) >> (group % 8 * 4);
        const typename V::U index = byte_of<V>(b, 0, group) | (high & 7) << 8;
        return with_delta<V>(V::lookup(kWords1.of, index), high >> 3 & 1);
    }
};

}  // namespace PYINFER_ISA
}  // namespace pyinfer
