// Matrix products: out[t][row] = scale * sum_k src[t][k] * weight[row][k] + bias[row].
//
// A unit is a run of row groups, over all segments of the operation. Threads take units; what a thread does with one
// depends on the number of tokens n (the loops inside are drawn in dot.hpp):
//
//   multiply_blocks, up to max_block_tiles (of the format) tiles of tokens:
//     for each row group                             16 rows [16][k]: read from memory by the first tile, then from L2
//       for each tile of kTile tokens                dot_blocks: blocks are unpacked in registers, once a tile
//   multiply_panels, more tokens:
//     for each kPanelGroups row groups
//       for each kPanelColumns columns               unpack_panel: 4 panels, 4 x 32 KiB of quants, which stay in L2
//         for each tile of kTile tokens              dot_panels: up to 16 KiB of activations, which stay in L1
//   multiply_floats, weights of plain floats:
//     for each float_groups row groups
//       for each tile of kTile tokens                dot_floats
//
// Sums [tile][group][w][16] lie in the thread's scratch until the last columns are done; then store_sums writes them
// out.
#pragma once
#include "kernels/kernel_of.hpp"
#include "kernels/registry.hpp"
#include "kernels/tile.hpp"
#include "ops/matmul.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

constexpr int kPanelGroups = 4;          // row groups that are unpacked together
constexpr int64_t kPanelColumns = 2048;  // of 4 groups: 128 KiB of quants in L2; of a tile of 8 tokens: 16 KiB in L1
constexpr int64_t kBlocksBytes = 128 << 10;  // of blocks that are interleaved at a time

// Reads n bytes in their order, which hardware prefetchers follow.
inline void touch(const uint8_t* data, int64_t n) {
    for (int64_t i = 0; i < n; i += 64) asm volatile("" : : "r"(data[i]));
}

inline int64_t n_groups(const Weight& w) { return (w.n_rows + kGroup - 1) / kGroup; }

inline int64_t total_groups(const Matmul& m) {
    int64_t total = 0;
    for (int i = 0; i < m.n_segments; ++i) total += n_groups(m.segments[i].weight);
    return total;
}

constexpr int kShortUnits = 2;  // that a thread takes after its long one

// Steps [begin, end) of a product: row groups of a matmul, kGluGroups of them of a glu.
struct Span {
    int64_t begin, end;
};

// How `total` steps of a product are cut into units of up to max_steps. Each thread begins with a long unit, since to
// read on in memory is faster than to begin elsewhere; the rest are short ones, so that threads end together. This
// reads with 86 to 89 % of the bandwidth; units of equal length, eight a thread, reached 84.
class Units {
  public:
    Units(int64_t total, int32_t n_threads, int64_t max_steps) : total_(total), n_long_(n_threads) {
        long_ = total * 7 / (8 * n_threads);
        if (long_ > max_steps) long_ = 0;
        const int64_t rest = total - long_ * n_long_, share = rest / (n_threads * kShortUnits);
        short_ = share < 1 ? 1 : share < max_steps ? share : max_steps;
    }
    int32_t count() const { return int32_t((long_ ? n_long_ : 0) + (total_ - long_ * n_long_ + short_ - 1) / short_); }
    Span of(int32_t unit) const {
        if (long_ && unit < n_long_) return {unit * long_, (unit + 1) * long_};
        const int64_t begin = long_ * n_long_ + (unit - (long_ ? n_long_ : 0)) * short_;
        return {begin, begin + short_ < total_ ? begin + short_ : total_};
    }

  private:
    int64_t total_, n_long_;  // steps of all units; units that are long
    int64_t long_, short_;    // steps of a long unit (0: there are none) and of a short one
};

// A product with more tokens than this is bound by arithmetic: its units are short, since cores may differ in speed.
constexpr int kStreamedTokens = 64;

inline Units units_of(const Matmul& m, const Batch& batch, int n) {
    return {total_groups(m), batch.n_threads, n > kStreamedTokens ? kPanelGroups : INT32_MAX};
}

// The index of FormatKernels' functions for tiles of this width.
inline int log2_width(int width) { return width == 1 ? 0 : width == 2 ? 1 : width == 4 ? 2 : 3; }

// Writes the sums [width][16] of one row group to the segment's output: tokens [first, first + n_tokens).
inline void store_sums(const Segment& s, int64_t group, int first, int n_tokens, const float* sums) {
    const int64_t row = group * kGroup;
    const int64_t rows = s.weight.n_rows - row < kGroup ? s.weight.n_rows - row : kGroup;
    alignas(64) float bias[kGroup] = {};
    if (s.bias) memcpy(bias, s.bias + row, rows * sizeof(float));
    for (int t = 0; t < n_tokens; ++t) {
        alignas(64) float x[kGroup];
        for (int r = 0; r < kGroup; r += Vec::L)
            Vec::store(x + r, Vec::load(sums + t * kGroup + r) * s.scale + Vec::load(bias + r));
        float* out = s.out + (first + t) * s.ld + row;
        if (rows == kGroup)
            memcpy(out, x, sizeof x);
        else
            memcpy(out, x, rows * sizeof(float));
    }
}

// How many of the tile's lanes are tokens 0..n-1.
inline int tokens_in(Tile tile, int n) { return n - tile.first < tile.width ? n - tile.first : tile.width; }

// A thread's private memory.
struct Scratch {
    static constexpr int64_t kQuantBytes = kPanelColumns * kGroup, kScaleBytes = kPanelColumns / 16 * kGroup * 4;
    static constexpr int64_t kPanelBytes = kQuantBytes + 2 * kScaleBytes;  // quants, scales, mins
    static constexpr int64_t kRowFloats = 16 * 1024;
    uint8_t* panels;  // [kPanelGroups][kPanelBytes]
    uint8_t* blocks;  // [kBlocksBytes] row groups that were interleaved from the file's rows
    float* rows;      // [kRowFloats] or [n_tokens][kPanelGroups * 16], whichever is more: glu's products
    float* sums;      // [tile][group][width][16]

    Scratch(uint8_t* memory, int32_t n_tokens)
        : panels(memory),
          blocks(memory + kPanelGroups * kPanelBytes),
          rows(reinterpret_cast<float*>(blocks + kBlocksBytes)),
          sums(rows + row_floats(n_tokens)) {}
    static int64_t row_floats(int32_t n_tokens) {
        const int64_t floats = int64_t(n_tokens) * kPanelGroups * kGroup;
        return floats > kRowFloats ? floats : kRowFloats;
    }
    static int64_t bytes(int32_t max_tokens) {
        const int64_t floats = row_floats(max_tokens) + int64_t(max_tokens + Vec::kTile) * kPanelGroups * kGroup;
        return kPanelGroups * kPanelBytes + kBlocksBytes + floats * 4;
    }
};

// How many columns a product without panels takes at a time: all, or, where the weight's rows have to be interleaved
// first, as many as n_groups row groups have room for in Scratch::blocks.
inline int64_t columns_at_once(const Weight& w, const FormatInfo& f, int n_groups) {
    const int64_t columns = kBlocksBytes / (int64_t(n_groups) * kGroup * f.block_bytes) * f.block;
    return !w.row_major || w.k < columns ? w.k : columns;
}

// The blocks of a row group's columns: where they lie in memory, or, of the file's rows, interleaved into `room`.
inline const uint8_t* group_blocks(const Weight& w, const FormatInfo& f, int64_t group, int64_t column, int64_t columns,
                                   uint8_t* room) {
    const uint8_t* data = w.data + group * w.group_bytes;
    const int64_t offset = column / f.block * f.block_bytes;
    if (!w.row_major) return data + offset * kGroup;
    const int64_t left = w.n_rows - group * kGroup, rows = left < kGroup ? left : kGroup;
    const int64_t row_bytes = w.group_bytes / kGroup;
    if (column == 0) touch(data, rows * row_bytes);  // prefetchers do not follow sixteen streams at once
    f.interleave(data + offset, row_bytes, rows, columns / f.block, room);
    return room;
}

// Multiplies `count` row groups, up to float_groups(width of the first tile), of plain floats.
inline void multiply_floats(const Segment& s, const Activations& src, const FormatKernels& f, int n, int64_t group,
                            int64_t count, const Scratch& scratch) {
    const Weight& w = s.weight;
    const int64_t step = columns_at_once(w, f.info, int(count));
    const Tile last = tile_of(n - 1, n);
    memset(scratch.sums, 0, size_t(last.first + last.width) * count * kGroup * sizeof(float));
    for (int64_t column = 0; column < src.k; column += step) {
        const int64_t columns = src.k - column < step ? src.k - column : step;
        const int64_t stride = w.row_major ? columns * f.info.block_bytes * kGroup : w.group_bytes;
        const uint8_t* blocks = nullptr;
        for (int64_t i = count - 1; i >= 0; --i)
            blocks = group_blocks(w, f.info, group + i, column, columns, scratch.blocks + i * stride);
        for (int t = 0; t < n;) {
            const Tile tile = tile_of(t, n);
            float* sums = scratch.sums + tile.first * count * kGroup;
            f.dot_floats[log2_width(tile.width)](blocks, stride, int(count), columns,
                                                 src.tiles + tile.first * src.k + column * tile.width, sums);
            if (column + columns == src.k)
                for (int i = 0; i < count; ++i)
                    store_sums(s, group + i, tile.first, tokens_in(tile, n), sums + i * tile.width * kGroup);
            t = tile.first + tile.width;
        }
    }
}

// Multiplies one row group, whose blocks every tile of tokens unpacks in registers.
inline void multiply_blocks(const Segment& s, const Activations& src, const FormatKernels& f, int n, int64_t group,
                            const Scratch& scratch) {
    memset(scratch.sums, 0, size_t(n + Vec::kTile) * kGroup * sizeof(float));
    const int64_t step = columns_at_once(s.weight, f.info, 1);
    for (int64_t column = 0; column < src.k; column += step) {
        const int64_t columns = src.k - column < step ? src.k - column : step;
        const uint8_t* blocks = group_blocks(s.weight, f.info, group, column, columns, scratch.blocks);
        for (int t = 0; t < n; t += Vec::kTile) {
            const Tile tile = tile_of(t, n);
            float* at = scratch.sums + t * kGroup;
            f.dot_blocks[log2_width(tile.width)](blocks, columns, TileView::of(src, t, tile.width, column), at);
            if (column + columns == src.k) store_sums(s, group, t, tokens_in(tile, n), at);
        }
    }
}

// The blocks of the panel at (group, column), to be prefetched in n_steps; nothing where there are none or where the
// file's rows are interleaved first.
inline Prefetch panel_prefetch(const Weight& w, const FormatInfo& f, int64_t group, int64_t column, int64_t n_steps) {
    if (w.row_major || group >= n_groups(w)) return {w.data, 0};
    const int64_t columns = w.k - column < kPanelColumns ? w.k - column : kPanelColumns;
    const int64_t bytes = columns / f.block * f.block_bytes * kGroup;
    return {w.data + group * w.group_bytes + column / f.block * f.block_bytes * kGroup,
            (bytes + n_steps - 1) / n_steps};
}

// Multiplies `count` row groups, up to kPanelGroups, each unpacked into a panel that all tiles of tokens use. `next`:
// the row group with which the thread probably goes on.
inline void multiply_panels(const Segment& s, const Activations& src, const FormatKernels& f, int n, int64_t group,
                            int64_t count, int64_t next, const Scratch& scratch) {
    Panel panels[kPanelGroups];
    for (int i = 0; i < count; ++i) {
        uint8_t* at = scratch.panels + i * Scratch::kPanelBytes;
        float* scales = reinterpret_cast<float*>(at + Scratch::kQuantBytes);
        panels[i] = {at, scales, scales + Scratch::kScaleBytes / 4, f.offset_log2, {}};
    }
    const int64_t n_tiles = (n + Vec::kTile - 1) / Vec::kTile;
    memset(scratch.sums, 0, size_t(n + Vec::kTile) * count * kGroup * sizeof(float));
    for (int64_t column = 0; column < src.k; column += kPanelColumns) {
        const int64_t columns = src.k - column < kPanelColumns ? src.k - column : kPanelColumns;
        for (int i = 0; i < count; ++i) {
            f.unpack_panel(group_blocks(s.weight, f.info, group + i, column, columns, scratch.blocks),
                           columns / f.info.block, panels[i]);
            const bool last = column + columns == src.k;
            panels[i].next = panel_prefetch(s.weight, f.info, last ? next + i : group + i, last ? 0 : column + columns,
                                            n_tiles * columns / 32);
        }
        for (int t = 0; t < n;) {
            const Tile tile = tile_of(t, n);
            const TileView view = TileView::of(src, tile.first, tile.width, column);
            float* sums = scratch.sums + tile.first * count * kGroup;
            f.dot_panels[log2_width(tile.width)](panels, int(count), columns, view, sums);
            for (int i = 0; i < count; ++i) panels[i].next = panels[i].next.after(columns / 32);
            if (column + columns == src.k)
                for (int i = 0; i < count; ++i)
                    store_sums(s, group + i, tile.first, tokens_in(tile, n), sums + i * tile.width * kGroup);
            t = tile.first + tile.width;
        }
    }
}

// Multiplies row groups [from, to) of a segment; after them, the thread probably goes on with row group `next`.
inline void multiply(const Segment& s, const Activations& src, int n, int64_t from, int64_t to, int64_t next,
                     const Scratch& scratch) {
    const FormatKernels& f = *find_format(s.weight.format);
    const bool few = n <= f.max_block_tiles * Vec::kTile;
    // floats go by the width of the first tile, so that all tiles take the same row groups
    const int64_t step = !f.info.quantized ? float_groups(tile_of(0, n).width) : few ? 1 : kPanelGroups;
    for (int64_t g = from; g < to; g += step) {
        const int64_t count = to - g < step ? to - g : step;
        if (!f.info.quantized)
            multiply_floats(s, src, f, n, g, count, scratch);
        else if (few)
            multiply_blocks(s, src, f, n, g, scratch);
        else
            multiply_panels(s, src, f, n, g, count, g + count < to ? g + count : next, scratch);
    }
}

inline void run_matmul(const Matmul& m, int32_t n, const Batch& batch, const Worker& worker, int32_t unit) {
    const Scratch scratch(worker.scratch, n);
    auto [begin, end] = units_of(m, batch, n).of(unit);
    for (int i = 0; i < m.n_segments; ++i) {
        const Segment& s = m.segments[i];
        const int64_t groups = n_groups(s.weight);
        const int64_t from = begin > 0 ? begin : 0, to = end < groups ? end : groups;
        multiply(s, m.src, n, from, to, begin + (end - begin) * batch.n_threads, scratch);
        begin -= groups, end -= groups;
    }
}

template <>
struct KernelOf<Matmul> {
    static int32_t units(const Matmul& m, int32_t n, const Batch& batch) {
        return n == 0 ? 0 : units_of(m, batch, n).count();
    }
    static constexpr auto run = run_matmul;
};

}  // namespace PYINFER_ISA
}  // namespace pyinfer
