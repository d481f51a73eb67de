// What a quantization format declares, and how a declaration reads its block.
//
// In the file a row is a sequence of blocks. In memory sixteen rows are interleaved into a *row group*: for each
// block, every field's units (1, 2 or 4 bytes) of the sixteen rows stand side by side, so that a vector load fetches
// the same unit of L rows. A row group is exactly as large as its sixteen rows, and a unit at byte `offset` of the
// file's block begins at byte `16 * offset` of the group's block. With G = 1 the same view reads the file's own layout.
//
// A format is a struct of constants and of functions of (block, sub-block s, quad v):
//   kBlock, kBytes        values and bytes of a block
//   kSub                  values that share a scale: 16 or 32
//   kFields               the block's fields, for interleaving
//   kOffsetLog2           quants stand for q - 2^kOffsetLog2; kNoOffset: for q itself
//   kMaxQuant             no q is greater; above 128 only where kOffsetLog2 is 7
//   kMinSub               values that share a minimum, 16 or 32, or 0: there are none
//   scale(b, s), min(b, s)   float lanes
//   mins(b, j), min_scale(b)   where kMinSub is 16: the j-th two minimums, whole numbers of 16 bits, and what they are
//                              multiplied by
//   quants(b, s, v)       the four unsigned bytes q of values s * kSub + 4v + (0..3), in each lane; or instead
//   quads(b, s, g)        those of v = 2g and 2g + 1
// and value = scale * (q - offset) - min.
// Formats of plain floats declare value(b, i) instead. Where quants times their integer scales fit a byte, `Scaled` may
// declare the format anew so that a block has one scale, for instruction sets whose dot products take any bytes.
#pragma once
#include <cstdint>

// Loops over sub-blocks, quads and tokens are unrolled so that shifts are constants and sums stay in registers. The
// scalar variant is small instead.
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

struct Field {
    int offset, bytes, unit;
};

// One block of G interleaved rows, seen by the L lanes that begin at row `row`.
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
struct QuadsOf {
    [[gnu::always_inline]] static typename V::Two get(const B& b, int s, int g) {
        return {Format::template quants<V>(b, s, 2 * g), Format::template quants<V>(b, s, 2 * g + 1)};
    }
};
template <class V, class Format, class B>
struct QuadsOf<V, Format, B, decltype(void(Format::template quads<V, B>))> {
    [[gnu::always_inline]] static typename V::Two get(const B& b, int s, int g) {
        return Format::template quads<V>(b, s, g);
    }
};

// Quads v = 2g and 2g + 1 of a sub-block.
template <class V, class Format, class B>
[[gnu::always_inline]] inline typename V::Two quads_of(const B& b, int s, int g) {
    return QuadsOf<V, Format, B>::get(b, s, g);
}

// Formats whose block has one scale, a half float in front, and one minimum after it.
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

// x with its bits `from`, of every byte, at `to`; those beside them are still to be masked.
template <class V>
typename V::U moved(typename V::U x, int from, int to) {
    return from < to ? x << (to - from) : x >> (from - to);
}

// `value` in every byte whose bit of the lane's k-th byte is set, or else 0: of eight bits, those of a group.
template <class V>
typename V::Two where_bits(typename V::U bits, int k, uint32_t value) {
    const typename V::U bytes = typename V::U{} + value * 0x01010101;
    return V::select(bits, k, typename V::Two{bytes, bytes}, typename V::Two{});
}

}  // namespace PYINFER_ISA
}  // namespace pyinfer
