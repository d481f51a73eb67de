// The inner loops of every matrix product: a row group (16 rows of the weights) against a tile of T tokens.
//
//   for row groups of the thread's unit                    matmul.hpp     weights: from memory, once
//     for columns that fit a cache level                                  blocks, or a panel: 128 KiB in L2
//       for tiles of T tokens (1, 2, 4 or kTile)                          activations: 2048 columns x T, in L1
// dot_blocks / dot_some_panels begin here; sums [T][16] float32, in L1
//         for L of the 16 rows (a vector: 16 or 8 lanes, a row a lane)
//           load acc[T]                                                   registers: T vectors of float32
//           for blocks, and in them j = each 32 columns    accumulate32   quants of T tokens: 32 * T bytes of L1
//             for sub-blocks h of these 32 (1 or 2)                       registers: T vectors of int32
//               for quads v of the sub-block (8 or 4)                     register: one vector of weights, 4 quants a
//               lane
//                 for tokens t: int_sums[t] += weights . activations[v][t]     4 quants of the token, in every lane
//               block_totals[t] += float(int_sums[t]) * scale of the sub-block
//             acc[t] += block_totals[t] * activations' scale [+ what minimums add]
//           store acc[T]
//
// A *source* hands out the weights in vectors: it is either a format's own block, which is unpacked in registers (few
// tokens), or a panel into which blocks were unpacked before (many tokens). Both go through the same accumulate32, so
// that an output's sum is made of the same operations in the same order, however many tokens are in the batch.
//
// For 32 columns, with S0 and S1 the integer sums of products of the sub-blocks, and `a` the activations' scale:
//   acc = (S0 * scale0 [+ S1 * scale1] [+ (min0 * sum0 + min1 * sum1) * min_scale]) * a + acc     sum: of pair_sums
//   one minimum: acc = min * block_sum + acc
// Weights are q - 2^n with an unsigned q where the format has an offset: then S begins at 2^n * offset_sum, which is
// minus the sum of the activations. Sums of activations are kept negated, since minimums and offsets are subtracted.
#pragma once
#include "formats/block.hpp"
#include "kernels/ops.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

// The activations of a tile of w tokens from some column on; forms and shapes as of Activations (ops.hpp).
struct TileView {
    const int8_t* quants;        // [k/4][w][4]
    const float* scales;         // [k/32][w]
    const int32_t* offset_sums;  // [k/16][w]
    const int32_t* pair_sums;    // [k/32][w]
    const float* block_sums;     // [k/32][w]

    // Tokens [first, first + width), columns from `column` on, a multiple of 32.
    static TileView of(const Activations& a, int first, int width, int64_t column) {
        return {a.quants + first * a.k + column * width, a.scales + first * (a.k / 32) + column / 32 * width,
                a.offset_sums + first * (a.k / 16) + column / 16 * width,
                a.pair_sums + first * (a.k / 32) + column / 32 * width,
                a.block_sums + first * (a.k / 32) + column / 32 * width};
    }
};

// How many quads' products are added up as 16-bit pairs before they have to be widened to 32 bits; 1: the instruction
// set does not work that way. One pair is at most 2 * 127 * kMaxQuant.
template <class V, class Format>
constexpr int pair_run() {
    int run = 1;
    while (V::kPairDot && Format::kOffsetLog2 != 7 && run < Format::kSubBlock / 4 &&
           2 * run * 254 * Format::kMaxQuant < 1 << 15)
        run *= 2;
    return run;
}

// acc[g][t] += 32 columns of L rows of row group g times those of token t, for G row groups and T tokens of a tile that
// is Width tokens wide. `a` begins at the first of the T tokens. `Source` has
//   kSubBlock, kMinSubBlock     columns that share a scale, and a minimum (0: there are none), of 32
//   kOffset, kSigned            whether q has an offset; whether that is 128, so that instruction sets may take q as
//   int8 kPairRun                    quads whose products are added up as 16-bit pairs offset_log2() where kOffset
//   quad_pair(j, v)             quads v and v + 1 (v even) of the j-th 32 columns
//   scale(j, h)                 of the h-th sub-block
//   min(j)                      where kMinSubBlock is 32; where it is 16: mins(j) and min_scale(j)
template <class V, int G, int T, int Width, class Source>
[[gnu::always_inline]] inline void accumulate32(typename V::F (&acc)[G][T], const Source (&source)[G], int j,
                                                const TileView& a) {
    constexpr int kSubBlocks = 32 / Source::kSubBlock, kQuads = Source::kSubBlock / 4;
    // with more tokens, compilers reorder longer runs, and then their products do not fit the registers
    constexpr int kPairRun = T > 1 && Source::kPairRun > 2 ? 2 : Source::kPairRun;
    const int8_t* quants = a.quants + j * 32 * Width;
    const int32_t* offset_sums = a.offset_sums + j * 2 * Width;
    typename V::F block_totals[G][T];
    PYINFER_UNROLL(2)
    for (int h = 0; h < kSubBlocks; ++h) {
        typename V::I int_sums[G][T];
        typename V::QuadPair quads[G];
        PYINFER_UNROLL(8)
        for (int t = 0; t < T; ++t) {
            typename V::I start{};
            if (Source::kOffset && !(Source::kSigned && V::kSignedDot)) {
                start = V::splat_word(offset_sums + h * Width + t);
                if (kSubBlocks == 1) start += V::splat_word(offset_sums + Width + t);
                start = start << source[0].offset_log2();
            }
            PYINFER_UNROLL(2)
            for (int g = 0; g < G; ++g) int_sums[g][t] = start;
        }
        if constexpr (kPairRun > 1) {
            PYINFER_UNROLL(8)
            for (int first = 0; first < kQuads; first += kPairRun) {
                typename V::I pairs[G][T];
                PYINFER_UNROLL(8)
                for (int v = first; v < first + kPairRun; ++v) {
                    PYINFER_UNROLL(2)
                    for (int g = 0; g < G; ++g)
                        if (v % 2 == 0) quads[g] = source[g].quad_pair(j, h * kQuads + v);
                    typename V::U w[G];
                    PYINFER_UNROLL(2)
                    for (int g = 0; g < G; ++g) w[g] = v % 2 ? quads[g].high : quads[g].low;
                    PYINFER_UNROLL(8)
                    for (int t = 0; t < T; ++t) {
                        const typename V::I x = V::splat_word(quants + ((h * kQuads + v) * Width + t) * 4);
                        PYINFER_UNROLL(2)
                        for (int g = 0; g < G; ++g) {
                            const typename V::I products = V::pairs(w[g], x);
                            pairs[g][t] = v == first ? products : V::add_pairs(pairs[g][t], products);
                        }
                    }
                }
                PYINFER_UNROLL(8)
                for (int t = 0; t < T; ++t)
                    for (int g = 0; g < G; ++g) int_sums[g][t] += V::widen(pairs[g][t]);
            }
        } else {
            PYINFER_UNROLL(8)
            for (int v = 0; v < kQuads; ++v) {
                PYINFER_UNROLL(2)
                for (int g = 0; g < G; ++g)
                    if (v % 2 == 0) quads[g] = source[g].quad_pair(j, h * kQuads + v);
                typename V::U w[G];
                PYINFER_UNROLL(2)
                for (int g = 0; g < G; ++g) w[g] = v % 2 ? quads[g].high : quads[g].low;
                PYINFER_UNROLL(8)
                for (int t = 0; t < T; ++t) {
                    const int8_t* four = quants + ((h * kQuads + v) * Width + t) * 4;  // columns of token t
                    if constexpr (G == 1) {
                        int_sums[0][t] = Source::kSigned ? V::dot_signed(int_sums[0][t], w[0], four)
                                                         : V::dot(int_sums[0][t], w[0], four);
                    } else {
                        const typename V::I x = V::splat_word(four);
                        PYINFER_UNROLL(2)
                        for (int g = 0; g < G; ++g)
                            int_sums[g][t] = Source::kSigned ? V::dot_signed(int_sums[g][t], w[g], x)
                                                             : V::dot(int_sums[g][t], w[g], x);
                    }
                }
            }
        }
        PYINFER_UNROLL(2)
        for (int g = 0; g < G; ++g) {
            const typename V::F scale = source[g].scale(j, h);
            PYINFER_UNROLL(8)
            for (int t = 0; t < T; ++t)
                block_totals[g][t] = h == 0 ? V::to_float(int_sums[g][t]) * scale
                                            : V::fma(V::to_float(int_sums[g][t]), scale, block_totals[g][t]);
        }
    }
    if (Source::kMinSubBlock == 16) {
        PYINFER_UNROLL(2)
        for (int g = 0; g < G; ++g) {
            const typename V::U mins = source[g].mins(j);
            const typename V::F scale = source[g].min_scale(j);
            PYINFER_UNROLL(8)
            for (int t = 0; t < T; ++t) {
                const typename V::I x = V::dot_pairs(mins, V::splat_word(a.pair_sums + j * Width + t));
                block_totals[g][t] = V::fma(V::to_float(x), scale, block_totals[g][t]);
            }
        }
    }
    PYINFER_UNROLL(8)
    for (int t = 0; t < T; ++t) {
        const typename V::F scale = V::splat(a.scales[j * Width + t]);
        PYINFER_UNROLL(2)
        for (int g = 0; g < G; ++g) acc[g][t] = V::fma(block_totals[g][t], scale, acc[g][t]);
    }
    if (Source::kMinSubBlock == 32) {
        PYINFER_UNROLL(8)
        for (int t = 0; t < T; ++t) {
            const typename V::F x = V::splat(a.block_sums[j * Width + t]);
            PYINFER_UNROLL(2)
            for (int g = 0; g < G; ++g) acc[g][t] = V::fma(source[g].min(j), x, acc[g][t]);
        }
    }
}

// A source of weights: a format's block, unpacked as it is read.
template <class V, class Format>
struct BlockSource {
    static constexpr int kSubBlock = Format::kSubBlock, kMinSubBlock = Format::kMinSubBlock;
    static constexpr bool kOffset = Format::kOffsetLog2 != kNoOffset;
    static constexpr bool kSigned = Format::kOffsetLog2 == 7;
    static constexpr int kPairRun = pair_run<V, Format>();
    Block<V, kGroup> block;

    static constexpr int offset_log2() { return Format::kOffsetLog2; }
    [[gnu::always_inline]] typename V::QuadPair quad_pair(int j, int v) const {
        return quad_pair_of<V, Format>(block, (j * 32 + 4 * v) / kSubBlock, v % (kSubBlock / 4) / 2);
    }
    [[gnu::always_inline]] typename V::F scale(int j, int h) const {
        return Format::template scale<V>(block, j * 32 / kSubBlock + h);
    }
    [[gnu::always_inline]] typename V::F min(int j) const {
        if constexpr (kMinSubBlock == 32)
            return Format::template min<V>(block, j);
        else
            return typename V::F{};
    }
    [[gnu::always_inline]] typename V::U mins(int j) const {
        if constexpr (kMinSubBlock == 16)
            return Format::template mins<V>(block, j);
        else
            return typename V::U{};
    }
    [[gnu::always_inline]] typename V::F min_scale(int) const {
        if constexpr (kMinSubBlock == 16)
            return Format::template min_scale<V>(block);
        else
            return typename V::F{};
    }
};

// How far after a block prefetches ask, in bytes; 4 and 16 KiB are as good on two cores and up to a tenth worse on one.
constexpr int kPrefetchBytes = 8192;

// Prefetches the N bytes that come kPrefetchBytes after a block. A block's fields are read side by side, a pattern that
// hardware prefetchers do not follow; with several tokens arithmetic would wait for memory and then memory for
// arithmetic. Zen 5, from RAM: Q4_K 24 to 37 GB/s with one token and 12 to 21 with eight, on one core.

template <int N>
[[gnu::always_inline]] inline void prefetch_ahead(const uint8_t* block) {
    for (int i = 0; i < N; i += 64) __builtin_prefetch(block + kPrefetchBytes + i);
}

// sums [T][16] += k columns of a row group times a tile of T tokens; blocks are unpacked in registers. The function is
// aligned, because where a block's thousands of instructions begin decides whether they fit the processor's cache of
// decoded instructions: IQ1_S 147 or 240 GMAC/s.
template <class V, class Format, int T>
[[gnu::aligned(64)]] void dot_blocks(const uint8_t* group, int64_t k, TileView a, float* sums) {
    for (int row = 0; row < kGroup; row += V::L) {
        typename V::F acc[1][T];
        for (int t = 0; t < T; ++t) acc[0][t] = V::load(sums + t * kGroup + row);
        TileView here = a;
        for (int64_t i = 0; i < k / Format::kBlock; ++i) {
            const BlockSource<V, Format> source[1]{{{group + i * Format::kBytes * kGroup, row}}};
            if (row == 0) prefetch_ahead<Format::kBytes * kGroup>(source[0].block.data);
            PYINFER_UNROLL(8)
            for (int j = 0; j < Format::kBlock / 32; ++j) accumulate32<V, 1, T, T>(acc, source, j, here);
            here.quants += Format::kBlock * T;
            here.scales += Format::kBlock / 32 * T;
            here.offset_sums += Format::kBlock / 16 * T;
            here.pair_sums += Format::kBlock / 32 * T;
            here.block_sums += Format::kBlock / 32 * T;
        }
        for (int t = 0; t < T; ++t) V::store(sums + t * kGroup + row, acc[0][t]);
    }
}

// Memory that a thread reads next: each step of the product under way prefetches the next `bytes` of it.
struct Prefetch {
    const uint8_t* data;
    int64_t bytes;  // a step; 0: nothing is prefetched

    // What is left after n_steps.
    Prefetch after(int64_t n_steps) const { return {data + n_steps * bytes, bytes}; }
};

// k columns of a row group, unpacked to bytes.
struct Panel {
    uint8_t* quants;  // [k/4][16][4]
    float* scales;    // [k/kSubBlock][16]
    float* mins;      // kMinSubBlock 32: [k/32][16]; 16: [k/32][2][16], pairs of int16, then their scale as float32
    int offset_log2;  // of formats with an offset
    Prefetch next;    // the blocks from which the thread makes its next panel, prefetched while it uses this one
};

// A source of weights: the lanes of a panel that begin at row `row`.
template <class V, int SubBlock, int MinSubBlock, bool Offset, bool Signed, int PairRun>
struct PanelSource {
    static constexpr int kSubBlock = SubBlock, kMinSubBlock = MinSubBlock, kPairRun = PairRun;
    static constexpr bool kOffset = Offset, kSigned = Signed;
    Panel panel;
    int row;

    int offset_log2() const { return panel.offset_log2; }
    [[gnu::always_inline]] typename V::QuadPair quad_pair(int j, int v) const {
        const uint8_t* at = panel.quants + ((j * 8 + v) * kGroup + row) * 4;
        return {V::load_u32(at), V::load_u32(at + kGroup * 4)};
    }
    [[gnu::always_inline]] typename V::F scale(int j, int h) const {
        return V::load(panel.scales + (j * (32 / SubBlock) + h) * kGroup + row);
    }
    [[gnu::always_inline]] typename V::F min(int j) const { return V::load(panel.mins + j * kGroup + row); }
    [[gnu::always_inline]] typename V::U mins(int j) const { return V::load_u32(panel.mins + 2 * j * kGroup + row); }
    [[gnu::always_inline]] typename V::F min_scale(int j) const {
        return V::load(panel.mins + (2 * j + 1) * kGroup + row);
    }
};

// How many runs of n columns 32 columns have; none where n is 0.
constexpr int runs_of_32(int n) { return n > 0 ? 32 / n : 0; }

// Unpacks n_blocks blocks of a row group into a panel.
template <class V, class Format>
void unpack_panel(const uint8_t* blocks, int64_t n_blocks, Panel panel) {
    using Source = BlockSource<V, Format>;
    constexpr int kSubBlocks = 32 / Format::kSubBlock, kMins = runs_of_32(Format::kMinSubBlock);
    constexpr int kBlocks32 = Format::kBlock / 32;
    for (int64_t i = 0; i < n_blocks; ++i) {
        for (int row = 0; row < kGroup; row += V::L) {
            const Source source{{blocks + i * Format::kBytes * kGroup, row}};
            if (row == 0) prefetch_ahead<Format::kBytes * kGroup>(source.block.data);
            PYINFER_UNROLL(8)
            for (int j = 0; j < kBlocks32; ++j) {
                typename V::QuadPair w[4];  // all before the first is stored, so that what they share is computed once
                PYINFER_UNROLL(4)
                for (int i = 0; i < 4; ++i) w[i] = source.quad_pair(j, 2 * i);
                PYINFER_UNROLL(4)
                for (int i = 0; i < 4; ++i) {
                    uint8_t* at = panel.quants + ((j * 8 + 2 * i) * kGroup + row) * 4;
                    V::store_u32(at, w[i].low);
                    V::store_u32(at + kGroup * 4, w[i].high);
                }
                PYINFER_UNROLL(2)
                for (int h = 0; h < kSubBlocks; ++h)
                    V::store(panel.scales + (j * kSubBlocks + h) * kGroup + row, source.scale(j, h));
                float* mins = panel.mins + j * kMins * kGroup + row;
                if (kMins == 1) V::store(mins, source.min(j));
                if (kMins == 2) V::store_u32(mins, source.mins(j)), V::store(mins + kGroup, source.min_scale(j));
            }
        }
        panel.quants += Format::kBlock * kGroup;
        panel.scales += kBlocks32 * kSubBlocks * kGroup;
        panel.mins += kBlocks32 * kMins * kGroup;
    }
}

// sums [G][T][16] += k columns of G panels times a tile of T tokens, of which W are computed at a time. The weights of
// kColumns columns stay in L1 until all tokens have been multiplied by them.
template <class V, class Source, int G, int W, int T>
[[gnu::always_inline]] inline void dot_some_panels(const Panel* panels, int64_t k, const TileView& a, float* sums) {
    constexpr int64_t kColumns = 512;
    for (int64_t column = 0; column < k; column += kColumns) {
        const int64_t end = column + kColumns < k ? column + kColumns : k;
        for (int row = 0; row < kGroup; row += V::L)
            for (int first = 0; first < T; first += W) {
                Source source[G];
                for (int g = 0; g < G; ++g) source[g] = {panels[g], row};
                const TileView view{a.quants + first * 4, a.scales + first, a.offset_sums + first, a.pair_sums + first,
                                    a.block_sums + first};
                float* at = sums + first * kGroup + row;
                typename V::F acc[G][W];
                PYINFER_UNROLL(2)
                for (int g = 0; g < G; ++g) PYINFER_UNROLL(8)
                for (int t = 0; t < W; ++t) acc[g][t] = V::load(at + (g * T + t) * kGroup);
                const Prefetch& next = panels[first / W % G].next;
                for (int64_t j = column / 32; j < end / 32; ++j) {
                    if (row == 0) __builtin_prefetch(next.data + j * next.bytes, 0, 2);
                    accumulate32<V, G, W, T>(acc, source, int(j), view);
                }
                PYINFER_UNROLL(2)
                for (int g = 0; g < G; ++g) PYINFER_UNROLL(8)
                for (int t = 0; t < W; ++t) V::store(at + (g * T + t) * kGroup, acc[g][t]);
            }
    }
}

// sums [n_panels][T][16] += k columns of panels times a tile of T tokens.
template <class V, class Source, int T>
void dot_panels(const Panel* panels, int n_panels, int64_t k, TileView a, float* sums) {
    int i = 0;
    if constexpr (V::kPanels > 1 && T == V::kTile && Source::kSubBlock == 32 && !Source::kMinSubBlock)
        for (; i + V::kPanels <= n_panels; i += V::kPanels)
            dot_some_panels<V, Source, V::kPanels, T / V::kPanels, T>(panels + i, k, a, sums + i * T * kGroup);
    for (; i < n_panels; ++i) dot_some_panels<V, Source, 1, T, T>(panels + i, k, a, sums + i * T * kGroup);
}

// acc[n][t] += k columns of L rows of row group n times those of token t, for weights of plain floats. Row groups begin
// `stride` bytes apart; column i of token t is a[i * ColumnStep + t * TokenStep]. Each column prefetches up to Lines
// cache lines of `next`, and, unless `ahead` is 0, what lies so many bytes after each row group's column.
template <class V, class Format, int T, int N, int ColumnStep = T, int TokenStep = 1, int Lines = 0>
[[gnu::always_inline]] inline void dot_floats(typename V::F (&acc)[N][T], const uint8_t* group, int64_t stride, int row,
                                              int64_t k, const float* a, Prefetch next = {}, int64_t ahead = 0) {
    for (int64_t i = 0; i < k; ++i) {
        PYINFER_UNROLL(4)
        for (int line = 0; line < Lines; ++line) __builtin_prefetch(next.data + i * next.bytes + line * 64);
        typename V::F x[T];
        PYINFER_UNROLL(8)
        for (int t = 0; t < T; ++t) x[t] = V::splat(a[i * ColumnStep + t * TokenStep]);
        PYINFER_UNROLL(4)
        for (int n = 0; n < N; ++n) {
            const Block<V, kGroup> block{group + n * stride + i * Format::kBytes * kGroup, row};
            if (ahead) __builtin_prefetch(block.data + ahead);
            const typename V::F w = Format::template value<V>(block);
            PYINFER_UNROLL(8)
            for (int t = 0; t < T; ++t) acc[n][t] = V::fma(w, x[t], acc[n][t]);
        }
    }
}

}  // namespace PYINFER_ISA
}  // namespace pyinfer
