// IQ1, IQ2, IQ3: indices into code books of 8 (IQ3: 4) values, with signs and small scales beside them.
//
// An index stands for eight values (IQ3: four), which is a pair of quads (IQ3: one). Indices lie in pairs, one in
// either half of a lane, and V::lookup takes such a pair and the half that is wanted. Two calls of quad_pair ask for
// the two halves of the same pair; where an instruction set looks up both at once, the compiler keeps one of the
// look-ups.
#pragma once
#include "formats/block.hpp"
#include "formats/tables.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

template <class V>
using QuadPair = typename V::QuadPair;

// Bytes 64 + magnitude, turned to 64 - magnitude where a bit of the k-th byte of `signs` is set.
template <class V>
QuadPair<V> with_signs(const QuadPair<V>& words, typename V::U signs, int k) {
    return V::select(signs, k, QuadPair<V>{0x80808080u - words.low, 0x80808080u - words.high}, words);
}

// Seven sign bits in each byte get their eighth, which makes the number of set bits even.
template <class V>
typename V::U even_signs(typename V::U sevens) {
    alignas(16) static constexpr uint8_t kParity[] = {0, 128, 128, 0, 128, 0, 0, 128, 128, 0, 0, 128, 0, 128, 128, 0};
    return sevens | V::lookup16(kParity, (sevens ^ sevens >> 4) & 0x0f0f0f0f);
}

// Four times seven bits of a word, each in a byte.
template <class V>
typename V::U sevens(typename V::U word) {
    return (word & 0x7f) | (word << 1 & 0x7f00) | (word << 2 & 0x7f0000) | (word << 3 & 0x7f000000);
}

// Bytes i and i + 2 of a word as its halves, i = 0 or 1.
template <class V>
typename V::U alternate(typename V::U word, int i) {
    return word >> 8 * i & 0x00ff00ff;
}

// The base of formats that look up in a table, which is slow to unpack.
struct Indexed {};

struct IQ2_XXS : Indexed {
    static constexpr int kBlock = 256, kBytes = 66, kSubBlock = 32, kOffsetLog2 = 6, kMaxQuant = 128;
    static constexpr int kMinSubBlock = 0;
    static constexpr Field kFields[] = {{0, 2, 2}, {2, 64, 4}};
    template <class V, class B>
    static typename V::F scale(const B& b, int s) {
        return b.half(0) * (to_float<V>(b.word(6 + 8 * s) >> 28) + 0.5f) * 0.25f;
    }
    template <class V, class B>
    static QuadPair<V> quad_pair(const B& b, int s, int p) {
        const QuadPair<V> words = V::lookup(kBook2xxs, alternate<V>(b.word(2 + 8 * s), p % 2), p / 2);
        return with_signs<V>(words, even_signs<V>(sevens<V>(b.word(6 + 8 * s))), p);
    }
};

struct IQ2_XS : Indexed {
    static constexpr int kBlock = 256, kBytes = 74, kSubBlock = 16, kOffsetLog2 = 6, kMaxQuant = 128;
    static constexpr int kMinSubBlock = 0;
    static constexpr Field kFields[] = {{0, 2, 2}, {2, 64, 4}, {66, 8, 1}};
    template <class V, class B>
    static typename V::F scale(const B& b, int s) {
        return b.half(0) * (to_float<V>(b.u8(66 + s / 2) >> (s % 2 * 4) & 15) + 0.5f) * 0.25f;
    }
    template <class V, class B>
    static QuadPair<V> quad_pair(const B& b, int s, int p) {
        const typename V::U entries = b.word(2 + 4 * s);
        const QuadPair<V> words = V::lookup(kBook2xs, entries & 0x01ff01ff, p);
        return with_signs<V>(words, even_signs<V>(entries >> 9 & 0x007f007f), 2 * p);
    }
};

struct IQ2_S : Indexed {
    static constexpr int kBlock = 256, kBytes = 82, kSubBlock = 16, kOffsetLog2 = 6, kMaxQuant = 128;
    static constexpr int kMinSubBlock = 0;
    static constexpr Field kFields[] = {{0, 2, 2}, {2, 64, 4}, {66, 16, 1}};
    template <class V, class B>
    static typename V::F scale(const B& b, int s) {
        return b.half(0) * (to_float<V>(b.u8(74 + s / 2) >> (s % 2 * 4) & 15) + 0.5f) * 0.25f;
    }
    template <class V, class B>
    static QuadPair<V> quad_pair(const B& b, int s, int p) {
        const int four = s / 2, i = s % 2 * 2 + p;
        const typename V::U high = b.u8(66 + four) >> (2 * p);
        const typename V::U low = alternate<V>(b.word(2 + 4 * four), p);
        const QuadPair<V> words = V::lookup(kBook2s, low | ((high << 8 | high << 20) & 0x03000300), s % 2);
        return with_signs<V>(words, b.word(34 + 4 * four), i);
    }
};

struct IQ3_XXS : Indexed {
    static constexpr int kBlock = 256, kBytes = 98, kSubBlock = 32, kOffsetLog2 = 6, kMaxQuant = 128;
    static constexpr int kMinSubBlock = 0;
    static constexpr Field kFields[] = {{0, 2, 2}, {2, 96, 4}};
    template <class V, class B>
    static typename V::F scale(const B& b, int s) {
        return b.half(0) * (to_float<V>(b.word(66 + 4 * s) >> 28) + 0.5f) * 0.5f;
    }
    template <class V, class B>
    static QuadPair<V> quad_pair(const B& b, int s, int p) {
        const typename V::U four = b.word(2 + 8 * s + p / 2 * 4);
        const QuadPair<V> words = {V::lookup(kBook3xxs, alternate<V>(four, 0), p % 2),
                                   V::lookup(kBook3xxs, alternate<V>(four, 1), p % 2)};
        return with_signs<V>(words, even_signs<V>(sevens<V>(b.word(66 + 4 * s))), p);
    }
};

struct IQ3_S : Indexed {
    static constexpr int kBlock = 256, kBytes = 110, kSubBlock = 32, kOffsetLog2 = 6, kMaxQuant = 128;
    static constexpr int kMinSubBlock = 0;
    static constexpr Field kFields[] = {{0, 2, 2}, {2, 64, 4}, {66, 8, 1}, {74, 32, 4}, {106, 4, 1}};
    template <class V, class B>
    static typename V::F scale(const B& b, int s) {
        return b.half(0) * V::to_float((typename V::I)(b.u8(106 + s / 2) >> (s % 2 * 4) & 15) * 2 + 1);
    }
    template <class V, class B>
    static QuadPair<V> quad_pair(const B& b, int s, int p) {
        const typename V::U four = b.word(2 + 8 * s + p / 2 * 4), high = b.u8(66 + s) >> (p / 2 * 4);
        const typename V::U bits = high << 8 | high << 22;
        const QuadPair<V> words = {V::lookup(kBook3s, alternate<V>(four, 0) | (bits & 0x01000100), p % 2),
                                   V::lookup(kBook3s, alternate<V>(four, 1) | (bits >> 1 & 0x01000100), p % 2)};
        return with_signs<V>(words, b.word(74 + 4 * s), p);
    }
};

// IQ1 adds 1/8 to every value or, where `down` is 1, subtracts 1/8. Quants are eighths: 8 * value + 17, or 2 less.
template <class V>
QuadPair<V> with_delta(const QuadPair<V>& eighths, typename V::U down) {
    const typename V::U delta = -down & 0x02020202u;
    return {eighths.low - delta, eighths.high - delta};
}

struct IQ1_S : Indexed {
    static constexpr int kBlock = 256, kBytes = 50, kSubBlock = 32, kOffsetLog2 = 4, kMaxQuant = 25;
    static constexpr int kMinSubBlock = 0;
    static constexpr Field kFields[] = {{0, 2, 2}, {2, 32, 4}, {34, 16, 2}};
    template <class V, class B>
    static typename V::F scale(const B& b, int s) {
        return b.half(0) * V::to_float((typename V::I)(b.u16(34 + 2 * s) >> 12 & 7) * 2 + 1) * 0.125f;
    }
    template <class V, class B>
    static QuadPair<V> quad_pair(const B& b, int s, int p) {
        const typename V::U high = b.u16(34 + 2 * s);
        const typename V::U bits = high >> (p % 2 * 3), low = alternate<V>(b.word(2 + 4 * s), p % 2);
        return with_delta<V>(V::lookup(kBook1, low | ((bits << 8 | bits << 18) & 0x07000700), p / 2), high >> 15);
    }
};

struct IQ1_M : Indexed {
    static constexpr int kBlock = 256, kBytes = 56, kSubBlock = 16, kOffsetLog2 = 4, kMaxQuant = 25;
    static constexpr int kMinSubBlock = 0;
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
    static QuadPair<V> quad_pair(const B& b, int s, int p) {
        const typename V::U high = b.word(32 + s / 4 * 4) >> (s / 2 % 2 * 16), bits = high >> 4 * p;
        const typename V::U low = alternate<V>(b.word(s / 2 * 4), p);
        const QuadPair<V> words = V::lookup(kBook1, low | (bits << 8 & 0x0700) | (bits << 16 & 0x07000000), s % 2);
        return with_delta<V>(words, bits >> (s % 2 * 8 + 3) & 1);
    }
};

}  // namespace PYINFER_ISA
}  // namespace pyinfer
