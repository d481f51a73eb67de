// The inner loops of every matrix product: one row group against one tile of T tokens.
//
// A source hands out weights in vectors: either a format's own blocks, unpacked in registers (few tokens), or a panel
// into which they were unpacked before (many). Both go through the same code, so an output's sum is made of the same
// operations in the same order, however many tokens are in the batch.
//
// For 32 values, with integer sums S of products and the activations' scale a:
//   f = (S0 * scale0 [+ S1 * scale1] [+ (min0 * -sum0 + min1 * -sum1) * min_scale]) * a + f
//   one minimum: f = min * (a * -sum) + f
// An offset 2^n of the quants starts the integer sum at -2^n * (sum of activations).
#pragma once
#include "formats/block.hpp"
#include "kernels/ops.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

// A tile's activations from some column on.
struct TileView {
    const int8_t* quants;
    const float* scales;
    const int32_t *nsums, *npairs;
    const float* fsums;

    static TileView of(const Activations& a, int first, int width, int64_t column) {
        return {a.quants + first * a.k + column * width, a.scales + first * (a.k / 32) + column / 32 * width,
                a.nsums + first * (a.k / 16) + column / 16 * width, a.npairs + first * (a.k / 32) + column / 32 * width,
                a.fsums + first * (a.k / 32) + column / 32 * width};
    }
};

// How many quads' products can be added up as 16-bit pairs before they have to be widened; 1: the instruction set does
// not work that way. A pair is at most 2 * 127 * kMaxQuant.
template <class V, class Format>
constexpr int pair_run() {
    int run = 1;
    while (V::kPairs && Format::kOffsetLog2 != 7 && run < Format::kSub / 4 &&
           2 * run * 254 * Format::kMaxQuant < 1 << 15)
        run *= 2;
    return run;
}

// 32 values of L rows of each of G row groups, against T tokens of a tile of Step. `Source` has kSub, kMinSub, kSigned,
// kRun, offset_log2 (of unsigned ones), and quads(j, v), scale(j, h) and min(j), or min_scale(j) and mins(j), for the
// j-th 32 values, v = 0, 2, 4, 6, h-th sub-block.
template <class V, int G, int T, int Step, class Source>
[[gnu::always_inline]] inline void accumulate32(typename V::F (&f)[G][T], const Source (&source)[G], int j,
                                                const TileView& a) {
    constexpr int kSubs = 32 / Source::kSub, kQuads = Source::kSub / 4;
    // with more tokens, compilers reorder longer runs, and then their products do not fit the registers
    constexpr int kRun = T > 1 && Source::kRun > 2 ? 2 : Source::kRun;
    const int8_t* quants = a.quants + j * 32 * Step;
    const int32_t* nsums = a.nsums + j * 2 * Step;
    typename V::F total[G][T];
    PYINFER_UNROLL(2)
    for (int h = 0; h < kSubs; ++h) {
        typename V::I sum[G][T];
        typename V::Two quads[G];
        PYINFER_UNROLL(8)
        for (int t = 0; t < T; ++t) {
            typename V::I bias{};
            if (Source::kBiased && !(Source::kSigned && V::kSignedDot)) {
                bias = V::splat_word(nsums + h * Step + t);
                if (kSubs == 1) bias += V::splat_word(nsums + Step + t);
                bias = bias << source[0].offset_log2();
            }
            PYINFER_UNROLL(2)
            for (int g = 0; g < G; ++g) sum[g][t] = bias;
        }
        if constexpr (kRun > 1) {
            PYINFER_UNROLL(8)
            for (int first = 0; first < kQuads; first += kRun) {
                typename V::I pairs[G][T];
                PYINFER_UNROLL(8)
                for (int v = first; v < first + kRun; ++v) {
                    PYINFER_UNROLL(2)
                    for (int g = 0; g < G; ++g)
                        if (v % 2 == 0) quads[g] = source[g].quads(j, h * kQuads + v);
                    typename V::U w[G];
                    PYINFER_UNROLL(2)
                    for (int g = 0; g < G; ++g) w[g] = v % 2 ? quads[g].high : quads[g].low;
                    PYINFER_UNROLL(8)
                    for (int t = 0; t < T; ++t) {
                        const typename V::I x = V::splat_word(quants + ((h * kQuads + v) * Step + t) * 4);
                        PYINFER_UNROLL(2)
                        for (int g = 0; g < G; ++g) {
                            const typename V::I next = V::pairs(w[g], x);
                            pairs[g][t] = v == first ? next : V::add_pairs(pairs[g][t], next);
                        }
                    }
                }
                PYINFER_UNROLL(8)
                for (int t = 0; t < T; ++t)
                    for (int g = 0; g < G; ++g) sum[g][t] += V::widen(pairs[g][t]);
            }
        } else {
            PYINFER_UNROLL(8)
            for (int v = 0; v < kQuads; ++v) {
                PYINFER_UNROLL(2)
                for (int g = 0; g < G; ++g)
                    if (v % 2 == 0) quads[g] = source[g].quads(j, h * kQuads + v);
                typename V::U w[G];
                PYINFER_UNROLL(2)
                for (int g = 0; g < G; ++g) w[g] = v % 2 ? quads[g].high : quads[g].low;
                PYINFER_UNROLL(8)
                for (int t = 0; t < T; ++t) {
                    const int8_t* four = quants + ((h * kQuads + v) * Step + t) * 4;
                    if constexpr (G == 1) {
                        sum[0][t] =
                            Source::kSigned ? V::dot_signed(sum[0][t], w[0], four) : V::dot(sum[0][t], w[0], four);
                    } else {
                        const typename V::I x = V::splat_word(four);
                        PYINFER_UNROLL(2)
                        for (int g = 0; g < G; ++g)
                            sum[g][t] =
                                Source::kSigned ? V::dot_signed(sum[g][t], w[g], x) : V::dot(sum[g][t], w[g], x);
                    }
                }
            }
        }
        PYINFER_UNROLL(2)
        for (int g = 0; g < G; ++g) {
            const typename V::F scale = source[g].scale(j, h);
            PYINFER_UNROLL(8)
            for (int t = 0; t < T; ++t)
                total[g][t] =
                    h == 0 ? V::to_float(sum[g][t]) * scale : V::fma(V::to_float(sum[g][t]), scale, total[g][t]);
        }
    }
    if (Source::kMinSub == 16) {
        PYINFER_UNROLL(2)
        for (int g = 0; g < G; ++g) {
            const typename V::U mins = source[g].mins(j);
            const typename V::F scale = source[g].min_scale(j);
            PYINFER_UNROLL(8)
            for (int t = 0; t < T; ++t) {
                const typename V::I x = V::dot_pairs(mins, V::splat_word(a.npairs + j * Step + t));
                total[g][t] = V::fma(V::to_float(x), scale, total[g][t]);
            }
        }
    }
    PYINFER_UNROLL(8)
    for (int t = 0; t < T; ++t) {
        const typename V::F x = V::splat(a.scales[j * Step + t]);
        PYINFER_UNROLL(2)
        for (int g = 0; g < G; ++g) f[g][t] = V::fma(total[g][t], x, f[g][t]);
    }
    if (Source::kMinSub == 32) {
        PYINFER_UNROLL(8)
        for (int t = 0; t < T; ++t) {
            const typename V::F x = V::splat(a.fsums[j * Step + t]);
            PYINFER_UNROLL(2)
            for (int g = 0; g < G; ++g) f[g][t] = V::fma(source[g].min(j), x, f[g][t]);
        }
    }
}

// A format's block, unpacked as it is read.
template <class V, class Format>
struct BlockSource {
    static constexpr int kSub = Format::kSub, kMinSub = Format::kMinSub;
    static constexpr bool kBiased = Format::kOffsetLog2 != kNoOffset;
    static constexpr bool kSigned = Format::kOffsetLog2 == 7;
    static constexpr int kRun = pair_run<V, Format>();
    Block<V, kGroup> block;

    static constexpr int offset_log2() { return Format::kOffsetLog2; }
    // quads v and v + 1 of the j-th 32 values, v even
    [[gnu::always_inline]] typename V::Two quads(int j, int v) const {
        return quads_of<V, Format>(block, (j * 32 + 4 * v) / kSub, v % (kSub / 4) / 2);
    }
    [[gnu::always_inline]] typename V::F scale(int j, int h) const {
        return Format::template scale<V>(block, j * 32 / kSub + h);
    }
    [[gnu::always_inline]] typename V::F min(int j) const {
        if constexpr (kMinSub == 32)
            return Format::template min<V>(block, j);
        else
            return typename V::F{};
    }
    [[gnu::always_inline]] typename V::U mins(int j) const {
        if constexpr (kMinSub == 16)
            return Format::template mins<V>(block, j);
        else
            return typename V::U{};
    }
    [[gnu::always_inline]] typename V::F min_scale(int) const {
        if constexpr (kMinSub == 16)
            return Format::template min_scale<V>(block);
        else
            return typename V::F{};
    }
};

// Asks for the N bytes that come kAhead bytes behind a block. A block's fields are read side by side, a pattern that
// hardware prefetchers do not follow, and with several tokens arithmetic would wait for memory and memory for
// arithmetic. Zen 5, from RAM: Q4_K 24 to 37 GB/s with one token and 12 to 21 with eight, on one core.
constexpr int kAhead = 8192;  // 4 and 16 KiB are as good on two cores and up to a tenth worse on one

template <int N>
[[gnu::always_inline]] inline void prefetch_ahead(const uint8_t* block) {
    for (int i = 0; i < N; i += 64) __builtin_prefetch(block + kAhead + i);
}

// k columns of a row group, blocks unpacked in registers. sums: [T][16], read and written. Aligned because a block's
// thousands of instructions fit the cache of decoded ones or not by where they begin: IQ1_S 147 or 240 GMAC/s.
template <class V, class Format, int T>
[[gnu::aligned(64)]] void dot_blocks(const uint8_t* group, int64_t k, TileView a, float* sums) {
    for (int row = 0; row < kGroup; row += V::L) {
        typename V::F f[1][T];
        for (int t = 0; t < T; ++t) f[0][t] = V::load(sums + t * kGroup + row);
        TileView here = a;
        for (int64_t i = 0; i < k / Format::kBlock; ++i) {
            const BlockSource<V, Format> source[1]{{{group + i * Format::kBytes * kGroup, row}}};
            if (row == 0) prefetch_ahead<Format::kBytes * kGroup>(source[0].block.data);
            PYINFER_UNROLL(8)
            for (int j = 0; j < Format::kBlock / 32; ++j) accumulate32<V, 1, T, T>(f, source, j, here);
            here.quants += Format::kBlock * T;
            here.scales += Format::kBlock / 32 * T;
            here.nsums += Format::kBlock / 16 * T;
            here.npairs += Format::kBlock / 32 * T;
            here.fsums += Format::kBlock / 32 * T;
        }
        for (int t = 0; t < T; ++t) V::store(sums + t * kGroup + row, f[0][t]);
    }
}

// Memory that is wanted soon, of which each step of a product asks for `bytes`.
struct Soon {
    const uint8_t* data;
    int64_t bytes;

    Soon after(int64_t n_steps) const { return {data + n_steps * bytes, bytes}; }
};

// Weights of one row group unpacked to bytes: quants [k/4][16][4], scales [k/sub][16], mins [k/32][16], or
// [k/32][2][16]: pairs and their scale.
struct Panel {
    uint8_t* quants;
    float *scales, *mins;
    int shift;  // offset_log2 of biased formats
    Soon soon;  // the blocks of which the thread makes a panel next, read while this one is used
};

template <class V, int Sub, int MinSub, bool Biased, bool Signed, int Run>
struct PanelSource {
    static constexpr int kSub = Sub, kMinSub = MinSub, kRun = Run;
    static constexpr bool kBiased = Biased, kSigned = Signed;
    Panel panel;
    int row;

    int offset_log2() const { return panel.shift; }
    [[gnu::always_inline]] typename V::Two quads(int j, int v) const {
        const uint8_t* at = panel.quants + ((j * 8 + v) * kGroup + row) * 4;
        return {V::load_u32(at), V::load_u32(at + kGroup * 4)};
    }
    [[gnu::always_inline]] typename V::F scale(int j, int h) const {
        return V::load(panel.scales + (j * (32 / Sub) + h) * kGroup + row);
    }
    [[gnu::always_inline]] typename V::F min(int j) const { return V::load(panel.mins + j * kGroup + row); }
    [[gnu::always_inline]] typename V::U mins(int j) const { return V::load_u32(panel.mins + 2 * j * kGroup + row); }
    [[gnu::always_inline]] typename V::F min_scale(int j) const {
        return V::load(panel.mins + (2 * j + 1) * kGroup + row);
    }
};

template <class V, class Format>
void unpack_panel(const uint8_t* blocks, int64_t n_blocks, Panel panel) {
    using Source = BlockSource<V, Format>;
    constexpr int kSubs = 32 / Format::kSub, kMins = Format::kMinSub ? 32 / Format::kMinSub : 0;
    constexpr int kBlocks32 = Format::kBlock / 32;
    for (int64_t i = 0; i < n_blocks; ++i) {
        for (int row = 0; row < kGroup; row += V::L) {
            const Source source{{blocks + i * Format::kBytes * kGroup, row}};
            if (row == 0) prefetch_ahead<Format::kBytes * kGroup>(source.block.data);
            PYINFER_UNROLL(8)
            for (int j = 0; j < kBlocks32; ++j) {
                typename V::Two w[4];  // all before the first is stored: what they share is computed once
                PYINFER_UNROLL(4)
                for (int i = 0; i < 4; ++i) w[i] = source.quads(j, 2 * i);
                PYINFER_UNROLL(4)
                for (int i = 0; i < 4; ++i) {
                    uint8_t* at = panel.quants + ((j * 8 + 2 * i) * kGroup + row) * 4;
                    V::store_u32(at, w[i].low);
                    V::store_u32(at + kGroup * 4, w[i].high);
                }
                PYINFER_UNROLL(2)
                for (int h = 0; h < kSubs; ++h)
                    V::store(panel.scales + (j * kSubs + h) * kGroup + row, source.scale(j, h));
                float* mins = panel.mins + j * kMins * kGroup + row;
                if (kMins == 1) V::store(mins, source.min(j));
                if (kMins == 2) V::store_u32(mins, source.mins(j)), V::store(mins + kGroup, source.min_scale(j));
            }
        }
        panel.quants += Format::kBlock * kGroup;
        panel.scales += kBlocks32 * kSubs * kGroup;
        panel.mins += kBlocks32 * kMins * kGroup;
    }
}

// G panels' columns against a tile of T tokens, W of them at a time, kColumns columns at a time, which stay in the
// first level until the last of the tokens.
template <class V, class Source, int G, int W, int T>
[[gnu::always_inline]] inline void dot_some_panels(const Panel* panels, int64_t k, const TileView& a, float* sums) {
    constexpr int64_t kColumns = 512;
    for (int64_t column = 0; column < k; column += kColumns) {
        const int64_t end = column + kColumns < k ? column + kColumns : k;
        for (int row = 0; row < kGroup; row += V::L)
            for (int first = 0; first < T; first += W) {
                Source source[G];
                for (int g = 0; g < G; ++g) source[g] = {panels[g], row};
                const TileView view{a.quants + first * 4, a.scales + first, a.nsums + first, a.npairs + first,
                                    a.fsums + first};
                float* at = sums + first * kGroup + row;
                typename V::F f[G][W];
                PYINFER_UNROLL(2)
                for (int g = 0; g < G; ++g) PYINFER_UNROLL(8)
                for (int t = 0; t < W; ++t) f[g][t] = V::load(at + (g * T + t) * kGroup);
                const Soon& soon = panels[first / W % G].soon;
                for (int64_t j = column / 32; j < end / 32; ++j) {
                    if (row == 0) __builtin_prefetch(soon.data + j * soon.bytes, 0, 2);
                    accumulate32<V, G, W, T>(f, source, int(j), view);
                }
                PYINFER_UNROLL(2)
                for (int g = 0; g < G; ++g) PYINFER_UNROLL(8)
                for (int t = 0; t < W; ++t) V::store(at + (g * T + t) * kGroup, f[g][t]);
            }
    }
}

// Panels' k columns against a tile; sums: [n_panels][T][16], read and written.
template <class V, class Source, int T>
void dot_panels(const Panel* panels, int n_panels, int64_t k, TileView a, float* sums) {
    int i = 0;
    if constexpr (V::kPanels > 1 && T == V::kTile && Source::kSub == 32 && !Source::kMinSub)
        for (; i + V::kPanels <= n_panels; i += V::kPanels)
            dot_some_panels<V, Source, V::kPanels, T / V::kPanels, T>(panels + i, k, a, sums + i * T * kGroup);
    for (; i < n_panels; ++i) dot_some_panels<V, Source, 1, T, T>(panels + i, k, a, sums + i * T * kGroup);
}

// Float weights: N row groups, `stride` bytes apart, against a tile of float activations, of which the i-th of token t
// is a[i * Step + t * Apart]; f is added to. Each step asks for up to Lines lines of what is wanted soon, or for what
// lies `ahead` in each group.
template <class V, class Format, int T, int N, int Step = T, int Apart = 1, int Lines = 0>
[[gnu::always_inline]] inline void dot_floats(typename V::F (&f)[N][T], const uint8_t* group, int64_t stride, int row,
                                              int64_t k, const float* a, Soon soon = {}, int64_t ahead = 0) {
    for (int64_t i = 0; i < k; ++i) {
        PYINFER_UNROLL(4)
        for (int line = 0; line < Lines; ++line) __builtin_prefetch(soon.data + i * soon.bytes + line * 64);
        typename V::F x[T];
        PYINFER_UNROLL(8)
        for (int t = 0; t < T; ++t) x[t] = V::splat(a[i * Step + t * Apart]);
        PYINFER_UNROLL(4)
        for (int n = 0; n < N; ++n) {
            const Block<V, kGroup> block{group + n * stride + i * Format::kBytes * kGroup, row};
            if (ahead) __builtin_prefetch(block.data + ahead);
            const typename V::F w = Format::template value<V>(block);
            PYINFER_UNROLL(8)
            for (int t = 0; t < T; ++t) f[n][t] = V::fma(w, x[t], f[n][t]);
        }
    }
}

}  // namespace PYINFER_ISA
}  // namespace pyinfer
