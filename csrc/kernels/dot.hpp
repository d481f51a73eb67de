// The inner loops of every matrix product: one row group against one tile of T tokens.
//
// A source hands out weights in vectors: either a format's own blocks, unpacked in registers (few tokens), or a panel
// into which they were unpacked before (many). Both go through the same code, so an output's sum is made of the same
// operations in the same order, however many tokens are in the batch.
//
// For 32 values, with integer sums S of products and the activations' scale a:
//   one sub-block:   f = S * scale * a + f;  f = min * (a * -sum) + f
//   two sub-blocks:  f = (S0 * scale0 + S1 * scale1 [+ min0 * -sum0 + min1 * -sum1]) * a + f
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
    const int32_t* nsums;
    const float* fsums;

    static TileView of(const Activations& a, int first, int width, int64_t column) {
        return {a.quants + first * a.k + column * width, a.scales + first * (a.k / 32) + column / 32 * width,
                a.nsums + first * (a.k / 16) + column / 16 * width, a.fsums + first * (a.k / 32) + column / 32 * width};
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

// 32 values of each of the L rows: `Source` has kSub, kMin, kSigned, kRun, offset_log2 (of unsigned ones), and
// quants(j, v), scale(j, h), min(j, h) for the j-th 32 values, v = 0..7, h-th sub-block.
template <class V, int T, class Source>
[[gnu::always_inline]] inline void accumulate32(typename V::F (&f)[T], const Source& source, int j, const TileView& a) {
    constexpr int kSubs = 32 / Source::kSub, kQuads = Source::kSub / 4;
    const int8_t* quants = a.quants + j * 32 * T;
    const int32_t* nsums = a.nsums + j * 2 * T;
    typename V::F total[T];
    PYINFER_UNROLL(2)
    for (int h = 0; h < kSubs; ++h) {
        typename V::I sum[T];
        PYINFER_UNROLL(8)
        for (int t = 0; t < T; ++t) {
            sum[t] = typename V::I{};
            if (Source::kBiased && !(Source::kSigned && V::kSignedDot)) {
                typename V::I bias = V::splat_word(nsums + h * T + t);
                if (kSubs == 1) bias += V::splat_word(nsums + T + t);
                sum[t] = bias << source.offset_log2();
            }
        }
        if constexpr (Source::kRun > 1) {
            PYINFER_UNROLL(8)
            for (int first = 0; first < kQuads; first += Source::kRun) {
                typename V::I pairs[T];
                PYINFER_UNROLL(8)
                for (int v = first; v < first + Source::kRun; ++v) {
                    const typename V::U w = source.quants(j, h * kQuads + v);
                    PYINFER_UNROLL(8)
                    for (int t = 0; t < T; ++t) {
                        const typename V::I next = V::pairs(w, quants + ((h * kQuads + v) * T + t) * 4);
                        pairs[t] = v == first ? next : V::add_pairs(pairs[t], next);
                    }
                }
                PYINFER_UNROLL(8)
                for (int t = 0; t < T; ++t) sum[t] += V::widen(pairs[t]);
            }
        } else {
            PYINFER_UNROLL(8)
            for (int v = 0; v < kQuads; ++v) {
                const typename V::U w = source.quants(j, h * kQuads + v);
                PYINFER_UNROLL(8)
                for (int t = 0; t < T; ++t) {
                    const int8_t* four = quants + ((h * kQuads + v) * T + t) * 4;
                    sum[t] = Source::kSigned ? V::dot_signed(sum[t], w, four) : V::dot(sum[t], w, four);
                }
            }
        }
        const typename V::F scale = source.scale(j, h);
        PYINFER_UNROLL(8)
        for (int t = 0; t < T; ++t)
            total[t] = h == 0 ? V::to_float(sum[t]) * scale : V::fma(V::to_float(sum[t]), scale, total[t]);
    }
    if (kSubs == 2 && Source::kMin) {
        PYINFER_UNROLL(2)
        for (int h = 0; h < kSubs; ++h) {
            const typename V::F min = source.min(j, h);
            PYINFER_UNROLL(8)
            for (int t = 0; t < T; ++t) total[t] = V::fma(min, V::to_float(V::splat_word(nsums + h * T + t)), total[t]);
        }
    }
    PYINFER_UNROLL(8)
    for (int t = 0; t < T; ++t) f[t] = V::fma(total[t], V::splat(a.scales[j * T + t]), f[t]);
    if (kSubs == 1 && Source::kMin) {
        const typename V::F min = source.min(j, 0);
        PYINFER_UNROLL(8)
        for (int t = 0; t < T; ++t) f[t] = V::fma(min, V::splat(a.fsums[j * T + t]), f[t]);
    }
}

// A format's block, unpacked as it is read.
template <class V, class Format>
struct BlockSource {
    static constexpr int kSub = Format::kSub;
    static constexpr bool kMin = Format::kMin, kBiased = Format::kOffsetLog2 != kNoOffset;
    static constexpr bool kSigned = Format::kOffsetLog2 == 7;
    static constexpr int kRun = pair_run<V, Format>();
    Block<V, kGroup> block;

    static constexpr int offset_log2() { return Format::kOffsetLog2; }
    [[gnu::always_inline]] typename V::U quants(int j, int v) const {
        return Format::template quants<V>(block, (j * 32 + 4 * v) / kSub, v % (kSub / 4));
    }
    [[gnu::always_inline]] typename V::F scale(int j, int h) const {
        return Format::template scale<V>(block, j * 32 / kSub + h);
    }
    [[gnu::always_inline]] typename V::F min(int j, int h) const {
        if constexpr (kMin)
            return Format::template min<V>(block, j * 32 / kSub + h);
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

// k columns of a row group, blocks unpacked in registers. sums: [T][16], read and written.
template <class V, class Format, int T>
void dot_blocks(const uint8_t* group, int64_t k, TileView a, float* sums) {
    for (int row = 0; row < kGroup; row += V::L) {
        typename V::F f[T];
        for (int t = 0; t < T; ++t) f[t] = V::load(sums + t * kGroup + row);
        TileView here = a;
        for (int64_t i = 0; i < k / Format::kBlock; ++i) {
            const BlockSource<V, Format> source{{group + i * Format::kBytes * kGroup, row}};
            if (row == 0) prefetch_ahead<Format::kBytes * kGroup>(source.block.data);
            PYINFER_UNROLL(8)
            for (int j = 0; j < Format::kBlock / 32; ++j) accumulate32<V, T>(f, source, j, here);
            here.quants += Format::kBlock * T;
            here.scales += Format::kBlock / 32 * T;
            here.nsums += Format::kBlock / 16 * T;
            here.fsums += Format::kBlock / 32 * T;
        }
        for (int t = 0; t < T; ++t) V::store(sums + t * kGroup + row, f[t]);
    }
}

// Weights of one row group unpacked to bytes: quants [k/4][16][4], scales and mins [k/sub][16].
struct Panel {
    uint8_t* quants;
    float *scales, *mins;
    int shift;  // offset_log2 of biased formats
};

template <class V, int Sub, bool Min, bool Biased, bool Signed, int Run>
struct PanelSource {
    static constexpr int kSub = Sub, kRun = Run;
    static constexpr bool kMin = Min, kBiased = Biased, kSigned = Signed;
    const Panel& panel;
    int row;

    int offset_log2() const { return panel.shift; }
    [[gnu::always_inline]] typename V::U quants(int j, int v) const {
        return V::load_u32(panel.quants + ((j * 8 + v) * kGroup + row) * 4);
    }
    [[gnu::always_inline]] typename V::F scale(int j, int h) const {
        return V::load(panel.scales + (j * (32 / Sub) + h) * kGroup + row);
    }
    [[gnu::always_inline]] typename V::F min(int j, int h) const {
        return V::load(panel.mins + (j * (32 / Sub) + h) * kGroup + row);
    }
};

template <class V, class Format>
void unpack_panel(const uint8_t* blocks, int64_t n_blocks, const Panel& panel) {
    using Source = BlockSource<V, Format>;
    constexpr int kSubs = 32 / Format::kSub;
    for (int64_t i = 0; i < n_blocks; ++i)
        for (int row = 0; row < kGroup; row += V::L) {
            const Source source{{blocks + i * Format::kBytes * kGroup, row}};
            if (row == 0) prefetch_ahead<Format::kBytes * kGroup>(source.block.data);
            PYINFER_UNROLL(8)
            for (int j = 0; j < Format::kBlock / 32; ++j) {
                const int64_t at = i * (Format::kBlock / 32) + j;
                PYINFER_UNROLL(8)
                for (int v = 0; v < 8; ++v) {
                    const typename V::U w = source.quants(j, v);
                    memcpy(panel.quants + ((at * 8 + v) * kGroup + row) * 4, &w, sizeof w);
                }
                PYINFER_UNROLL(2)
                for (int h = 0; h < kSubs; ++h) {
                    V::store(panel.scales + (at * kSubs + h) * kGroup + row, source.scale(j, h));
                    if (Format::kMin) V::store(panel.mins + (at * kSubs + h) * kGroup + row, source.min(j, h));
                }
            }
        }
}

// The panel's k columns against a tile; sums: [T][16], read and written.
template <class V, int Sub, bool Min, bool Biased, bool Signed, int Run, int T>
void dot_panel(const Panel& panel, int64_t k, TileView a, float* sums) {
    for (int row = 0; row < kGroup; row += V::L) {
        const PanelSource<V, Sub, Min, Biased, Signed, Run> source{panel, row};
        typename V::F f[T];
        PYINFER_UNROLL(8)
        for (int t = 0; t < T; ++t) f[t] = V::load(sums + t * kGroup + row);
        for (int j = 0; j < k / 32; ++j) accumulate32<V, T>(f, source, j, a);
        PYINFER_UNROLL(8)
        for (int t = 0; t < T; ++t) V::store(sums + t * kGroup + row, f[t]);
    }
}

// Memory that is wanted soon, of which each step of dot_floats asks for `bytes`.
struct Soon {
    const uint8_t* data;
    int64_t bytes;

    Soon after(int64_t n_steps) const { return {data + n_steps * bytes, bytes}; }
};

// Float weights: N row groups, `stride` bytes apart, against a tile of float activations, of which the i-th of token t
// is a[i * Step + t * Apart]; f is added to. Each step asks for up to Lines lines of what is wanted soon.
template <class V, class Format, int T, int N, int Step = T, int Apart = 1, int Lines = 0>
[[gnu::always_inline]] inline void dot_floats(typename V::F (&f)[N][T], const uint8_t* group, int64_t stride, int row,
                                              int64_t k, const float* a, Soon soon = {}) {
    for (int64_t i = 0; i < k; ++i) {
        PYINFER_UNROLL(4)
        for (int line = 0; line < Lines; ++line) __builtin_prefetch(soon.data + i * soon.bytes + line * 64);
        typename V::F x[T];
        PYINFER_UNROLL(8)
        for (int t = 0; t < T; ++t) x[t] = V::splat(a[i * Step + t * Apart]);
        PYINFER_UNROLL(4)
        for (int n = 0; n < N; ++n) {
            const Block<V, kGroup> block{group + n * stride + i * Format::kBytes * kGroup, row};
            const typename V::F w = Format::template value<V>(block);
            PYINFER_UNROLL(8)
            for (int t = 0; t < T; ++t) f[n][t] = V::fma(w, x[t], f[n][t]);
        }
    }
}

}  // namespace PYINFER_ISA
}  // namespace pyinfer
