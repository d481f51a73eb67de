// Matrix products: out[t][row] = scale * sum_k src[t][k] * weight[row][k] + bias[row].
//
// A unit is a run of row groups, over all segments of the operation. For a few tiles of tokens (`block_tiles` of the
// format), weights are unpacked in registers, by the first tile while they stream from memory. For more, kPanelGroups
// row groups by kPanelColumns columns are unpacked once into a panel that stays in the second-level cache, and every
// tile of tokens passes over it.
#pragma once
#include "kernels/kernel_of.hpp"
#include "kernels/registry.hpp"
#include "kernels/tile.hpp"
#include "ops/matmul.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

constexpr int kPanelGroups = 4;
constexpr int64_t kPanelColumns = 2048;  // 4 groups: 128 KiB of quants, and a token tile of 16 KiB in the first level
constexpr int64_t kBlocksBytes = 128 << 10;  // of blocks interleaved at a time

// Reads memory in order, which hardware prefetchers follow.
inline void touch(const uint8_t* data, int64_t n) {
    for (int64_t i = 0; i < n; i += 64) asm volatile("" : : "r"(data[i]));
}

inline int64_t n_groups(const Weight& w) { return (w.n_rows + kGroup - 1) / kGroup; }

inline int64_t total_groups(const Matmul& m) {
    int64_t total = 0;
    for (int i = 0; i < m.n_segments; ++i) total += n_groups(m.segments[i].weight);
    return total;
}

constexpr int kShortUnits = 2;  // of a thread

struct Span {
    int64_t begin, end;
};

// How `total` steps of a product are cut into units: each thread begins with a long one, since reading memory on is
// faster than beginning anew, and the rest are short ones, so that threads end together: 86 to 89 % of the bandwidth
// where units of the same length, eight a thread, reached 84. Up to `most` steps each.
class Units {
  public:
    Units(int64_t total, int32_t n_threads, int64_t most) : total_(total), n_long_(n_threads) {
        long_ = total * 7 / (8 * n_threads);
        if (long_ > most) long_ = 0;
        const int64_t rest = total - long_ * n_long_, share = rest / (n_threads * kShortUnits);
        short_ = share < 1 ? 1 : share < most ? share : most;
    }
    int32_t count() const { return int32_t((long_ ? n_long_ : 0) + (total_ - long_ * n_long_ + short_ - 1) / short_); }
    Span of(int32_t unit) const {
        if (long_ && unit < n_long_) return {unit * long_, (unit + 1) * long_};
        const int64_t begin = long_ * n_long_ + (unit - (long_ ? n_long_ : 0)) * short_;
        return {begin, begin + short_ < total_ ? begin + short_ : total_};
    }

  private:
    int64_t total_, long_, short_, n_long_;
};

// Of a product with more tokens, units are short: arithmetic binds, and cores may differ in speed.
constexpr int kStreamedTokens = 64;

inline Units units_of(const Matmul& m, const Batch& batch, int n) {
    return {total_groups(m), batch.n_threads, n > kStreamedTokens ? kPanelGroups : INT32_MAX};
}

inline int width_index(int width) { return width == 1 ? 0 : width == 2 ? 1 : width == 4 ? 2 : 3; }

// sums: [width][16] of one row group
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

inline int tokens_in(Tile tile, int n) { return n - tile.first < tile.width ? n - tile.first : tile.width; }

// A thread's memory: panels, row groups that were interleaved just now, products that stay in the thread, sums.
struct Scratch {
    static constexpr int64_t kQuants = kPanelColumns * kGroup, kScales = kPanelColumns / 16 * kGroup * 4;
    static constexpr int64_t kPanel = kQuants + 2 * kScales;
    static constexpr int64_t kRows = 16 * 1024;
    uint8_t* panels;  // [kPanelGroups][kPanel]
    uint8_t* blocks;  // [kBlocksBytes]
    float* rows;      // [kRows] or [tokens][kPanelGroups * 16], whichever is more
    float* sums;      // [tile][group][width][16]

    Scratch(uint8_t* memory, int32_t n_tokens)
        : panels(memory),
          blocks(memory + kPanelGroups * kPanel),
          rows(reinterpret_cast<float*>(blocks + kBlocksBytes)),
          sums(rows + row_floats(n_tokens)) {}
    static int64_t row_floats(int32_t n_tokens) {
        const int64_t most = int64_t(n_tokens) * kPanelGroups * kGroup;
        return most > kRows ? most : kRows;
    }
    static int64_t bytes(int32_t max_tokens) {
        const int64_t floats = row_floats(max_tokens) + int64_t(max_tokens + Vec::kTile) * kPanelGroups * kGroup;
        return kPanelGroups * kPanel + kBlocksBytes + floats * 4;
    }
};

// The columns that a product takes at a time when it does not unpack them: all, or, where rows have to be interleaved
// before, as many as n_groups row groups may have in the scratch.
inline int64_t columns_at_once(const Weight& w, const FormatInfo& f, int n_groups) {
    const int64_t columns = kBlocksBytes / (int64_t(n_groups) * kGroup * f.block_bytes) * f.block;
    return !w.row_major || w.k < columns ? w.k : columns;
}

// Blocks of a row group: where they lie, or interleaved into `room`.
inline const uint8_t* group_blocks(const Weight& w, const FormatInfo& f, int64_t group, int64_t column, int64_t columns,
                                   uint8_t* room) {
    const uint8_t* data = w.data + group * w.group_bytes;
    const int64_t offset = column / f.block * f.block_bytes;
    if (!w.row_major) return data + offset * kGroup;
    const int64_t left = w.n_rows - group * kGroup, rows = left < kGroup ? left : kGroup;
    const int64_t row_bytes = w.group_bytes / kGroup;
    if (column == 0) touch(data, rows * row_bytes);  // sixteen streams at once are more than prefetchers follow
    f.interleave(data + offset, row_bytes, rows, columns / f.block, room);
    return room;
}

// Sums of up to float_groups(width of the first tile) row groups.
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
            f.dot_floats[width_index(tile.width)](blocks, stride, int(count), columns,
                                                  src.tiles + tile.first * src.k + column * tile.width, sums);
            if (column + columns == src.k)
                for (int i = 0; i < count; ++i)
                    store_sums(s, group + i, tile.first, tokens_in(tile, n), sums + i * tile.width * kGroup);
            t = tile.first + tile.width;
        }
    }
}

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
            f.dot_blocks[width_index(tile.width)](blocks, columns, TileView::of(src, t, tile.width, column), at);
            if (column + columns == src.k) store_sums(s, group, t, tokens_in(tile, n), at);
        }
    }
}

// A panel's blocks, to be asked for in n_steps; nothing where there are none or rows are interleaved first.
inline Soon blocks_soon(const Weight& w, const FormatInfo& f, int64_t group, int64_t column, int64_t n_steps) {
    if (w.row_major || group >= n_groups(w)) return {w.data, 0};
    const int64_t columns = w.k - column < kPanelColumns ? w.k - column : kPanelColumns;
    const int64_t bytes = columns / f.block * f.block_bytes * kGroup;
    return {w.data + group * w.group_bytes + column / f.block * f.block_bytes * kGroup,
            (bytes + n_steps - 1) / n_steps};
}

// `next`: the row group with which the thread probably goes on.
inline void multiply_panels(const Segment& s, const Activations& src, const FormatKernels& f, int n, int64_t group,
                            int64_t count, int64_t next, const Scratch& scratch) {
    Panel panels[kPanelGroups];
    for (int i = 0; i < count; ++i) {
        uint8_t* at = scratch.panels + i * Scratch::kPanel;
        float* scales = reinterpret_cast<float*>(at + Scratch::kQuants);
        panels[i] = {at, scales, scales + Scratch::kScales / 4, f.shift, {}};
    }
    const int64_t n_tiles = (n + Vec::kTile - 1) / Vec::kTile;
    memset(scratch.sums, 0, size_t(n + Vec::kTile) * count * kGroup * sizeof(float));
    for (int64_t column = 0; column < src.k; column += kPanelColumns) {
        const int64_t columns = src.k - column < kPanelColumns ? src.k - column : kPanelColumns;
        for (int i = 0; i < count; ++i) {
            f.unpack_panel(group_blocks(s.weight, f.info, group + i, column, columns, scratch.blocks),
                           columns / f.info.block, panels[i]);
            const bool wraps = column + columns == src.k;
            panels[i].soon = blocks_soon(s.weight, f.info, wraps ? next + i : group + i, wraps ? 0 : column + columns,
                                         n_tiles * columns / 32);
        }
        for (int t = 0; t < n;) {
            const Tile tile = tile_of(t, n);
            const TileView view = TileView::of(src, tile.first, tile.width, column);
            float* sums = scratch.sums + tile.first * count * kGroup;
            f.dot_panels[width_index(tile.width)](panels, int(count), columns, view, sums);
            for (int i = 0; i < count; ++i) panels[i].soon = panels[i].soon.after(columns / 32);
            if (column + columns == src.k)
                for (int i = 0; i < count; ++i)
                    store_sums(s, group + i, tile.first, tokens_in(tile, n), sums + i * tile.width * kGroup);
            t = tile.first + tile.width;
        }
    }
}

// Row groups [from, to) of a segment; after them, the thread probably goes on with row group `next`.
inline void multiply(const Segment& s, const Activations& src, int n, int64_t from, int64_t to, int64_t next,
                     const Scratch& scratch) {
    const FormatKernels& f = *find_format(s.weight.format);
    const bool few = n <= f.block_tiles * Vec::kTile;
    // of floats, by the first tile: all tiles take the same steps
    const int64_t most = !f.info.quantized ? float_groups(tile_of(0, n).width) : few ? 1 : kPanelGroups;
    for (int64_t g = from; g < to; g += most) {
        const int64_t count = to - g < most ? to - g : most;
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
