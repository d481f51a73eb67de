// IQ1, IQ2, IQ3: indices into code books of 8 (IQ3: 4) values, with signs and small scales beside them.
//
// A group is 8 values, quads 2g and 2g + 1 of a 32-value sub-block (or of a pair of 16-value ones). Magnitudes get
// their signs in the four bytes of a word at once.
#pragma once
#include "formats/block.hpp"
#include "formats/tables.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

// Bytes 64 + magnitude, turned to 64 - magnitude where a bit of `signs` (bits 0..3) is set.
template <class V>
typename V::U with_signs(typename V::U bytes, typename V::U signs) {
    const typename V::U one = spread4<V>(signs);
    return (bytes ^ ((one << 7) - one)) + one;
}

// The half h of eight sign bits, of which 7 are given: their number is even. Bit n of 0x6996 is the parity of n.
template <class V>
typename V::U even_signs(typename V::U seven, int h) {
    if (h == 0) return seven;
    const typename V::U high = seven >> 4;
    return high | ((typename V::U{} + 0x6996) >> ((seven ^ high) & 15) & 1) << 3;
}

template <class V, class B>
typename V::U byte_of(const B& b, int offset, int i) {
    return b.word(offset + i / 4 * 4) >> (i % 4 * 8) & 255;
}

struct CodeBook {};  // formats that gather from a table, which is slow to unpack

struct IQ2_XXS : CodeBook {
    static constexpr int kBlock = 256, kBytes = 66, kSub = 32, kOffsetLog2 = 6, kMaxQuant = 128;
    static constexpr bool kMin = false;
    static constexpr Field kFields[] = {{0, 2, 2}, {2, 64, 4}};
    template <class V, class B>
    static typename V::F scale(const B& b, int s) {
        return b.half(0) * (to_float<V>(b.word(6 + 8 * s) >> 28) + 0.5f) * 0.25f;
    }
    template <class V, class B>
    static typename V::U quants(const B& b, int s, int v) {
        const typename V::U seven = b.word(6 + 8 * s) >> (v / 2 * 7) & 127;
        const typename V::U index = byte_of<V>(b, 2 + 8 * s, v / 2);
        return with_signs<V>(V::gather(kWords2xxs.half[v % 2], index), even_signs<V>(seven, v % 2));
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
    static typename V::U quants(const B& b, int s, int v) {
        const typename V::U entry = b.word(2 + 4 * s) >> (v / 2 * 16) & 0xffff;
        return with_signs<V>(V::gather(kWords2xs.half[v % 2], entry & 511), even_signs<V>(entry >> 9, v % 2));
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
    static typename V::U quants(const B& b, int s, int v) {
        const int group = 2 * s + v / 2;
        const typename V::U high = b.u8(66 + group / 4) >> (group % 4 * 2) & 3;
        const typename V::U index = byte_of<V>(b, 2, group) | high << 8;
        return with_signs<V>(V::gather(kWords2s.half[v % 2], index), byte_of<V>(b, 34, group) >> (v % 2 * 4));
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
    static typename V::U quants(const B& b, int s, int v) {
        const typename V::U seven = b.word(66 + 4 * s) >> (v / 2 * 7) & 127;
        return with_signs<V>(V::gather(kWords3xxs.half[0], byte_of<V>(b, 2, 8 * s + v)), even_signs<V>(seven, v % 2));
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
    static typename V::U quants(const B& b, int s, int v) {
        const typename V::U index = byte_of<V>(b, 2, 8 * s + v) | (b.u8(66 + s) >> v & 1) << 8;
        const typename V::U signs = byte_of<V>(b, 74, 4 * s + v / 2) >> (v % 2 * 4);
        return with_signs<V>(V::gather(kWords3s.half[0], index), signs);
    }
};

// In IQ1 every value is moved by 1/8 up or, where `down` is 1, down: quants are eighths, 8 * value + 17 and 2 less.
template <class V>
typename V::U with_delta(typename V::U eighths, typename V::U down) {
    return eighths - (-down & 0x02020202u);
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
    static typename V::U quants(const B& b, int s, int v) {
        const typename V::U high = b.u16(34 + 2 * s);
        const typename V::U index = byte_of<V>(b, 2, 4 * s + v / 2) | (high >> (v / 2 * 3) & 7) << 8;
        return with_delta<V>(V::gather(kWords1.half[v % 2], index), high >> 15);
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
    static typename V::U quants(const B& b, int s, int v) {
        const int group = 2 * s + v / 2;
        const typename V::U high = b.word(32 + group / 8 * 4) >> (group % 8 * 4);
        const typename V::U index = byte_of<V>(b, 0, group) | (high & 7) << 8;
        return with_delta<V>(V::gather(kWords1.half[v % 2], index), high >> 3 & 1);
    }
};

}  // namespace PYINFER_ISA
}  // namespace pyinfer
