// What a quantization format declares, and how a declaration reads its block.
//
// In the file a row is a sequence of blocks. In memory sixteen rows are interleaved into a *row group*: for each
// block, every field's units (1, 2 or 4 bytes) of the sixteen rows stand side by side, so that a vector load fetches
// the same unit of L rows. A row group is exactly as large as its sixteen rows, and a unit at byte `offset` of the
// file's block begins at byte `16 * offset` of the group's block. With G = 1 the same view reads the file's own layout.
//
// A *quad* is four consecutive values of a row, a byte each, in a lane of 32 bits. A format is a struct of constants
// and of functions of (block b, sub-block s, quad v or pair of quads p):
//   kBlock, kBytes             values and bytes of a block
//   kSubBlock                  values that share a scale: 16 or 32
//   kFields                    the block's fields, for interleaving
//   kOffsetLog2                values are made of q - 2^kOffsetLog2; kNoOffset: of q itself
//   kMaxQuant                  no q is greater; above 128 only where kOffsetLog2 is 7
//   kMinSubBlock               values that share a minimum: 16 or 32; 0: there are no minimums
//   scale(b, s), min(b, s)     float32 in each lane
//   mins(b, j), min_scale(b)   where kMinSubBlock is 16: minimums 2j and 2j + 1 as a pair of int16 in each lane, and
//   the
//                              scale of all minimums, float32
//   quad(b, s, v)              unsigned bytes q of values s * kSubBlock + 4v + (0..3), in each lane; or, instead of it,
//   quad_pair(b, s, p)         those of quads v = 2p and 2p + 1
// and value = scale * (q - offset) - min.
// Formats of plain floats declare value(b) instead. Where quants times their integer scales fit a byte, a format may
// have a second declaration `Scaled`, in which a block has one scale, for instruction sets whose dot products take any
// bytes.
#pragma once
#include <cstdint>

// Loops over sub-blocks, quads and tokens are unrolled, so that shifts are constants and sums stay in registers. The
// code of the scalar variant is kept small instead.
#define PYINFER_PRAGMA(text) _Pragma(#text)
#ifdef PYINFER_SMALL_CODE
#define PYINFER_UNROLL(n)
#else
#define PYINFER_UNROLL(n) PYINFER_PRAGMA(GCC unroll n)
#endif

namespace pyinfer {
namespace PYINFER_ISA {

constexpr int kGroup = 16;  // rows of a row group
constexpr int kNoOffset = -1;

// A field of a block in the file: where it begins, its length, and the size of its units (1, 2 or 4), all in bytes.
struct Field {
    int offset, bytes, unit;
};

// One block of G interleaved rows, as the L lanes that begin at row `row` see it. Offsets are those of the file's
// block.
template <class V, int G>
struct Block {
    const uint8_t* data;
    int row;

    const uint8_t* at(int offset, int unit) const { return data + offset * G + row * unit; }
    typename V::U word(int offset) const { return V::load_u32(at(offset, 4)); }
    typename V::U u16(int offset) const { return V::load_u16(at(offset, 2)); }
    typename V::U u8(int offset) const { return V::load_u8(at(offset, 1)); }
    typename V::I i8(int offset) const { return V::load_i8(at(offset, 1)); }
    typename V::F half(int offset) const { return V::load_half(at(offset, 2)); }
};

template <class V, class Format, class B, class = void>
struct QuadPairOf {
    [[gnu::always_inline]] static typename V::QuadPair get(const B& b, int s, int p) {
        return {Format::template quad<V>(b, s, 2 * p), Format::template quad<V>(b, s, 2 * p + 1)};
    }
};
template <class V, class Format, class B>
struct QuadPairOf<V, Format, B, decltype(void(Format::template quad_pair<V, B>))> {
    [[gnu::always_inline]] static typename V::QuadPair get(const B& b, int s, int p) {
        return Format::template quad_pair<V>(b, s, p);
    }
};

// Quads v = 2p and 2p + 1 of a sub-block, by whichever of the two functions the format declares.
template <class V, class Format, class B>
[[gnu::always_inline]] inline typename V::QuadPair quad_pair_of(const B& b, int s, int p) {
    return QuadPairOf<V, Format, B>::get(b, s, p);
}

// Formats whose block begins with its one scale, a half float, and maybe its one minimum.
struct HalfScale {
    template <class V, class B>
    static typename V::F scale(const B& b, int) {
        return b.half(0);
    }
};
struct HalfScaleAndMin : HalfScale {
    template <class V, class B>
    static typename V::F min(const B& b, int) {
        return -b.half(2);
    }
};

template <class V>
typename V::F to_float(typename V::U x) {
    return V::to_float((typename V::I)x);
}

// x shifted so that bit `from` of every byte comes to bit `to`; the caller masks the bits beside those that it wants.
template <class V>
typename V::U shift_bits(typename V::U x, int from, int to) {
    return from < to ? x << (to - from) : x >> (from - to);
}

// A pair of quads with `value` in byte i where bit i of the k-th byte of the lane's `bits` is set, or else 0; i = 0..7.
template <class V>
typename V::QuadPair where_bits(typename V::U bits, int k, uint32_t value) {
    const typename V::U bytes = typename V::U{} + value * 0x01010101;
    return V::select(bits, k, typename V::QuadPair{bytes, bytes}, typename V::QuadPair{});
}

}  // namespace PYINFER_ISA
}  // namespace pyinfer
