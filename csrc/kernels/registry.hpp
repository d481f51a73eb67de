// Which formats there are, and the functions made from each declaration. A new format is a line in `kFormats`.
#pragma once
#include <iterator>
#include <type_traits>
#include <utility>

#include "formats/floats.hpp"
#include "formats/fp4.hpp"
#include "formats/iquants.hpp"
#include "formats/kquants.hpp"
#include "formats/legacy.hpp"
#include "formats/ternary.hpp"
#include "kernels/dot.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

constexpr int kWidths = 4;  // tile widths 1, 2, 4, 8

// The functions of one format; those of other kinds of formats are null.
struct FormatKernels {
    FormatInfo info;
    // of quantized formats, indexed by log2 of the tile's width; see dot.hpp
    void (*dot_blocks[kWidths])(const uint8_t* group, int64_t k, TileView a, float* sums);
    void (*dot_panels[kWidths])(const Panel* panels, int n_panels, int64_t k, TileView a, float* sums);
    void (*unpack_panel)(const uint8_t* blocks, int64_t n_blocks, Panel panel);
    int offset_log2;
    int max_block_tiles;  // up to so many tiles, to unpack in registers for each is faster than to make a panel
    // of plain floats: sums [n_groups][T][16] += k columns of n_groups row groups, `stride` bytes apart, times a tile
    void (*dot_floats[kWidths])(const uint8_t* group, int64_t stride, int n_groups, int64_t k, const float* a,
                                float* sums);
};

// How many row groups of floats are multiplied at once by a tile: enough sums to hide the latency of multiplications,
// and few enough for the registers.
constexpr int float_groups(int width) { return width <= Vec::kTile / 2 ? 4 : 2; }

// Interleaves N bytes of sixteen rows by units of Unit bytes. The first row's begin at from + Skip, and 16 bytes can be
// read at `from`; rows are row_bytes apart.
template <int Unit, int Skip, int N>
[[gnu::always_inline]] inline void interleave_units(const uint8_t* from, int64_t row_bytes, uint8_t* to) {
    for (int row = 0; row < kGroup; row += Vec::L) {
        Vec::U words[4];
        Vec::load_rows(from + row * row_bytes, row_bytes, words);
        PYINFER_UNROLL(16)
        for (int i = 0; i < N; i += Unit) {
            const int word = (Skip + i) / 4, shift = (Skip + i) % 4 * 8;
            Vec::U unit = words[word] >> shift;
            if (shift + 8 * Unit > 32) unit |= words[word + 1] << (32 - shift);
            uint8_t* at = to + i * kGroup + row * Unit;
            if (Unit == 4)
                Vec::store_u32(at, unit);
            else if (Unit == 2)
                Vec::store_u16(at, unit);
            else
                Vec::store_u8(at, unit);
        }
    }
}

// Interleaves one field of sixteen rows' blocks of `Bytes` bytes.
template <int Bytes, int Offset, int Length, int Unit>
[[gnu::always_inline]] inline void interleave_field(const uint8_t* block, int64_t row_bytes, uint8_t* to) {
    constexpr int rest = Length % 16, end = Offset + Length - rest;  // 16 bytes at a time up to `end`
    for (int at = Offset; at < end; at += 16) interleave_units<Unit, 0, 16>(block + at, row_bytes, to + at * kGroup);
    if constexpr (rest > 0) {
        constexpr int from = end + 16 <= Bytes ? end : Bytes - 16;  // 16 bytes that lie in the block
        interleave_units<Unit, end - from, rest>(block + from, row_bytes, to + end * kGroup);
    }
}

// How many blocks are interleaved at a time, so that 16 bytes can be read: one, but of floats.
template <class Format>
constexpr int kBlocksAtOnce = Format::kBytes < 16 ? 16 / Format::kBytes : 1;

template <class Format, size_t... I>
[[gnu::always_inline]] inline void interleave_blocks(const uint8_t* blocks, int64_t row_bytes, uint8_t* to,
                                                     std::index_sequence<I...>) {
    constexpr int n = kBlocksAtOnce<Format>, bytes = n * Format::kBytes;
    static_assert(n == 1 || (sizeof...(I) == 1 && bytes == 16), "small blocks have one field");
    (interleave_field<bytes, Format::kFields[I].offset, n * Format::kFields[I].bytes, Format::kFields[I].unit>(
         blocks, row_bytes, to),
     ...);
}

// Interleaves n_blocks blocks of up to sixteen rows to a row group; rows from n_rows on become zero.
template <class Format>
void interleave(const uint8_t* rows, int64_t row_bytes, int64_t n_rows, int64_t n_blocks, uint8_t* group) {
    constexpr auto fields = std::make_index_sequence<std::size(Format::kFields)>();
    constexpr int at_once = kBlocksAtOnce<Format>, bytes = at_once * Format::kBytes;
    for (int64_t i = 0; i < n_blocks; i += at_once) {
        const uint8_t* blocks = rows + i * Format::kBytes;
        uint8_t* to = group + i * Format::kBytes * kGroup;
        const int64_t length = n_blocks - i < at_once ? (n_blocks - i) * Format::kBytes : bytes;
        if (n_rows == kGroup && length == bytes) {
            interleave_blocks<Format>(blocks, row_bytes, to, fields);
        } else {  // fill up with zeros
            uint8_t padded[kGroup * bytes] = {}, out[kGroup * bytes];
            for (int64_t r = 0; r < n_rows; ++r) memcpy(padded + r * bytes, blocks + r * row_bytes, length);
            interleave_blocks<Format>(padded, bytes, out, fields);
            memcpy(to, out, length * kGroup);
        }
    }
}

// The float values of n_blocks blocks: of row `lane` of a row group (G = 16), or as the file has them (G = 1).
template <class Format, int G>
void dequantize(const uint8_t* data, int lane, int64_t n_blocks, float* out) {
    using One = Portable<1>;
    for (int64_t i = 0; i < n_blocks; ++i) {
        const Block<One, G> block{data + i * Format::kBytes * G, lane};
        if constexpr (Format::kBlock == 1) {
            out[i] = Format::template value<One>(block)[0];
        } else {
            constexpr int32_t offset = Format::kOffsetLog2 == kNoOffset ? 0 : 1 << (Format::kOffsetLog2 & 31);
            for (int s = 0; s < Format::kBlock / Format::kSubBlock; ++s) {
                const float scale = Format::template scale<One>(block, s)[0];
                float min = 0;
                if constexpr (Format::kMinSubBlock)
                    min = Format::template min<One>(block, s * Format::kSubBlock / Format::kMinSubBlock)[0];
                for (int v = 0; v < Format::kSubBlock / 4; ++v) {
                    const One::QuadPair quads = quad_pair_of<One, Format>(block, s, v / 2);
                    const uint32_t q = (v % 2 ? quads.high : quads.low)[0];
                    for (int j = 0; j < 4; ++j) {
                        const float x = scale * float(int32_t(q >> 8 * j & 255) - offset);
                        *out++ = Format::kMinSubBlock ? x - min : x;
                    }
                }
            }
        }
    }
}

template <class Format>
void dequantize_row(const uint8_t* row, int64_t n_blocks, float* out) {
    dequantize<Format, 1>(row, 0, n_blocks, out);
}

// dot_floats for L rows of N row groups, from and to memory. The prefetches of the last columns ask for the next
// groups.
template <class Format, int T, int N>
void add_dot_floats(const uint8_t* group, int64_t stride, int row, int64_t k, const float* a, float* sums) {
    Vec::F acc[N][T];
    for (int i = 0; i < N; ++i)
        for (int t = 0; t < T; ++t) acc[i][t] = Vec::load(sums + (i * T + t) * kGroup + row);
    constexpr int64_t kColumnBytes = Format::kBytes * kGroup, kAhead = kPrefetchBytes / N;
    const int64_t n_last = k < kAhead / kColumnBytes ? k : kAhead / kColumnBytes, n_first = k - n_last;
    dot_floats<Vec, Format, T, N>(acc, group, stride, row, n_first, a, {}, kAhead);
    dot_floats<Vec, Format, T, N>(acc, group + n_first * kColumnBytes, stride, row, n_last, a + n_first * T, {},
                                  kAhead + (N - 1) * stride);
    for (int i = 0; i < N; ++i)
        for (int t = 0; t < T; ++t) Vec::store(sums + (i * T + t) * kGroup + row, acc[i][t]);
}

template <class Format, int T>
void dot_float_groups(const uint8_t* group, int64_t stride, int n_groups, int64_t k, const float* a, float* sums) {
    constexpr int N = float_groups(T);
    for (int row = 0; row < kGroup; row += Vec::L) {
        int n = 0;
        for (; n + N <= n_groups; n += N)
            add_dot_floats<Format, T, N>(group + n * stride, stride, row, k, a, sums + n * T * kGroup);
        for (; n < n_groups; ++n)
            add_dot_floats<Format, T, 1>(group + n * stride, stride, row, k, a, sums + n * T * kGroup);
    }
}

template <class Format>
constexpr FormatInfo format_info(int id) {
    return {id,
            Format::kBlock,
            Format::kBytes,
            Format::kBlock > 1,
            interleave<Format>,
            dequantize_row<Format>,
            dequantize<Format, kGroup>};
}

template <class Format, int T>
constexpr auto panel_dot() {
    constexpr bool has_offset = Format::kOffsetLog2 != kNoOffset, is_signed = Format::kOffsetLog2 == 7;
    using Source =
        PanelSource<Vec, Format::kSubBlock, Format::kMinSubBlock, has_offset, is_signed, pair_run<Vec, Format>()>;
    return dot_panels<Vec, Source, T>;
}

// The declaration by which products read the format: `Scaled`, where it exists and the instruction set gains by it.
template <class V, class Format, class = void>
struct InProducts {
    using type = Format;
};
template <class V, class Format>
struct InProducts<V, Format, std::enable_if_t<V::kScaledQuants && (sizeof(typename Format::Scaled) > 0)>> {
    using type = typename Format::Scaled;
};

template <class File>
constexpr FormatKernels quantized(int id) {
    using Format = typename InProducts<Vec, File>::type;
    FormatKernels f{};
    f.info = format_info<File>(id);
    f.dot_blocks[0] = dot_blocks<Vec, Format, 1>, f.dot_panels[0] = panel_dot<Format, 1>();
    f.dot_blocks[1] = dot_blocks<Vec, Format, 2>, f.dot_panels[1] = panel_dot<Format, 2>();
    f.dot_blocks[2] = dot_blocks<Vec, Format, 4>, f.dot_panels[2] = panel_dot<Format, 4>();
    if constexpr (Vec::kTile == 8)
        f.dot_blocks[3] = dot_blocks<Vec, Format, 8>, f.dot_panels[3] = panel_dot<Format, 8>();
    f.unpack_panel = unpack_panel<Vec, Format>;
    f.offset_log2 = Format::kOffsetLog2;
    f.max_block_tiles = std::is_base_of_v<Indexed, Format> ? 1 : Format::kSubBlock < 32 ? 2 : 6;  // measured on Zen 5
    return f;
}

template <class Format>
constexpr FormatKernels floats(int id) {
    FormatKernels f{};
    f.info = format_info<Format>(id);
    f.dot_floats[0] = dot_float_groups<Format, 1>;
    f.dot_floats[1] = dot_float_groups<Format, 2>;
    f.dot_floats[2] = dot_float_groups<Format, 4>;
    if constexpr (Vec::kTile == 8) f.dot_floats[3] = dot_float_groups<Format, 8>;
    return f;
}

// Declarations by ggml type id.
constexpr FormatKernels kFormats[] = {
    floats<F32>(0),         floats<F16>(1),       floats<BF16>(30),      quantized<Q4_0>(2),     quantized<Q4_1>(3),
    quantized<Q5_0>(6),     quantized<Q5_1>(7),   quantized<Q8_0>(8),    quantized<Q2_K>(10),    quantized<Q3_K>(11),
    quantized<Q4_K>(12),    quantized<Q5_K>(13),  quantized<Q6_K>(14),   quantized<IQ2_XXS>(16), quantized<IQ2_XS>(17),
    quantized<IQ3_XXS>(18), quantized<IQ1_S>(19), quantized<IQ4_NL>(20), quantized<IQ3_S>(21),   quantized<IQ2_S>(22),
    quantized<IQ4_XS>(23),  quantized<IQ1_M>(29), quantized<TQ1_0>(34),  quantized<TQ2_0>(35),   quantized<MXFP4>(39),
    quantized<NVFP4>(40),   quantized<Q1_0>(41),
};

inline const FormatKernels* find_format(int32_t id) {
    for (const FormatKernels& f : kFormats)
        if (f.info.format == id) return &f;
    return nullptr;
}

inline const FormatInfo* format_info_of(int32_t id) {
    const FormatKernels* f = find_format(id);
    return f ? &f->info : nullptr;
}

}  // namespace PYINFER_ISA
}  // namespace pyinfer
