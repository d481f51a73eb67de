// Matrix products: out[t][row] = scale * sum_k src[t][k] * weight[row][k] + bias[row].
//
// A unit is a run of row groups, over all segments of the operation. Up to one tile of tokens, weights are unpacked in
// registers while they stream from memory. For more, kPanelGroups row groups by kPanelColumns columns are unpacked
// once into a panel that stays in the second-level cache, and every tile of tokens passes over it.
#pragma once
#include "kernels/registry.hpp"
#include "kernels/tile.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

constexpr int kPanelGroups = 4;
constexpr int64_t kPanelColumns = 2048;  // 4 groups: 128 KiB of quants, and a token tile of 16 KiB in the first level
constexpr int kUnitsPerThread = 8;       // enough for a late thread to leave its share to the others

inline int64_t n_groups(const Weight& w) { return (w.n_rows + kGroup - 1) / kGroup; }

inline int64_t total_groups(const Matmul& m) {
    int64_t total = 0;
    for (int i = 0; i < m.n_segments; ++i) total += n_groups(m.segments[i].weight);
    return total;
}

inline int64_t groups_per_unit(const Matmul& m, const Batch& batch, int n) {
    const int64_t share = total_groups(m) / (int64_t(batch.n_threads) * kUnitsPerThread);
    if (n > Vec::kTile && share > kPanelGroups) return kPanelGroups;
    return share > 1 ? share : 1;
}

inline int32_t matmul_units(const Op& op, const Batch& batch) {
    const int n = batch.rows(op.count);
    if (n == 0) return 0;
    const int64_t per_unit = groups_per_unit(op.matmul, batch, n);
    return int32_t((total_groups(op.matmul) + per_unit - 1) / per_unit);
}

inline int width_index(int width) { return width == 1 ? 0 : width == 2 ? 1 : width == 4 ? 2 : 3; }

// sums: [width][16] of one row group
inline void store_sums(const Segment& s, int64_t group, int first, int n_tokens, const float* sums) {
    const int64_t row = group * kGroup;
    const int64_t rows = s.weight.n_rows - row < kGroup ? s.weight.n_rows - row : kGroup;
    for (int t = 0; t < n_tokens; ++t) {
        float* out = s.out + (first + t) * s.ld + row;
        for (int64_t r = 0; r < rows; ++r) {
            const float x = sums[t * kGroup + r] * s.scale;
            out[r] = s.bias ? x + s.bias[row + r] : x;
        }
    }
}

inline int tokens_in(Tile tile, int n) { return n - tile.first < tile.width ? n - tile.first : tile.width; }

inline void multiply_floats(const Segment& s, const Activations& src, const FormatKernels& f, int n, int64_t group,
                            int64_t count) {
    alignas(64) float sums[4 * Vec::kTile * kGroup];
    for (int64_t g = group; g < group + count;) {
        int64_t step = 1;
        for (int t = 0; t < n;) {
            const Tile tile = tile_of(t, n);
            const int wide = float_groups(tile_of(0, n).width);  // by the first tile: all tiles take the same steps
            step = group + count - g < wide ? group + count - g : wide;
            f.dot_floats[width_index(tile.width)](s.weight.data + g * s.weight.group_bytes, s.weight.group_bytes,
                                                  int(step), src.k, src.tiles + tile.first * src.k, sums);
            for (int i = 0; i < step; ++i)
                store_sums(s, g + i, tile.first, tokens_in(tile, n), sums + i * tile.width * kGroup);
            t = tile.first + tile.width;
        }
        g += step;
    }
}

inline void multiply_blocks(const Segment& s, const Activations& src, const FormatKernels& f, int n, int64_t group,
                            int64_t count) {
    alignas(64) float sums[Vec::kTile * kGroup];
    const Tile tile = tile_of(0, n);
    const TileView view = TileView::of(src, 0, tile.width, 0);
    for (int64_t g = group; g < group + count; ++g) {
        f.dot_blocks[width_index(tile.width)](s.weight.data + g * s.weight.group_bytes, src.k, view, sums);
        store_sums(s, g, 0, n, sums);
    }
}

struct PanelSpace {
    static constexpr int64_t kQuants = kPanelColumns * kGroup, kScales = kPanelColumns / 16 * kGroup * 4;
    static constexpr int64_t kBytes = kQuants + 2 * kScales;
    static constexpr int64_t kTotal = kPanelGroups * kBytes;
};

inline void multiply_panels(const Segment& s, const Activations& src, const FormatKernels& f, int n, int64_t group,
                            int64_t count, uint8_t* scratch) {
    float* sums = reinterpret_cast<float*>(scratch + PanelSpace::kTotal);  // [tile][group][width][16]
    Panel panels[kPanelGroups];
    for (int i = 0; i < count; ++i) {
        uint8_t* at = scratch + i * PanelSpace::kBytes;
        float* scales = reinterpret_cast<float*>(at + PanelSpace::kQuants);
        panels[i] = {at, scales, scales + PanelSpace::kScales / 4, f.shift};
    }
    memset(sums, 0, size_t(n + Vec::kTile) * count * kGroup * sizeof(float));
    for (int64_t column = 0; column < src.k; column += kPanelColumns) {
        const int64_t columns = src.k - column < kPanelColumns ? src.k - column : kPanelColumns;
        for (int i = 0; i < count; ++i)
            f.unpack_panel(s.weight.data + (group + i) * s.weight.group_bytes +
                               column / f.info.block * f.info.block_bytes * kGroup,
                           columns / f.info.block, panels[i]);
        for (int t = 0; t < n;) {
            const Tile tile = tile_of(t, n);
            const TileView view = TileView::of(src, tile.first, tile.width, column);
            for (int i = 0; i < count; ++i) {
                float* at = sums + (tile.first * count + i * tile.width) * kGroup;
                f.dot_panel[width_index(tile.width)](panels[i], columns, view, at);
                if (column + columns == src.k) store_sums(s, group + i, tile.first, tokens_in(tile, n), at);
            }
            t = tile.first + tile.width;
        }
    }
}

inline void run_matmul(const Op& op, const Batch& batch, const Worker& worker, int32_t unit) {
    const Matmul& m = op.matmul;
    const int n = batch.rows(op.count);
    const int64_t per_unit = groups_per_unit(m, batch, n);
    int64_t begin = unit * per_unit, end = begin + per_unit;
    for (int i = 0; i < m.n_segments; ++i) {
        const Segment& s = m.segments[i];
        const int64_t groups = n_groups(s.weight);
        const int64_t from = begin > 0 ? begin : 0, to = end < groups ? end : groups;
        const FormatKernels& f = *find_format(s.weight.format);
        for (int64_t g = from; g < to;) {
            int64_t count = to - g;
            if (!f.info.quantized) {
                multiply_floats(s, m.src, f, n, g, count);
            } else if (n <= Vec::kTile) {
                multiply_blocks(s, m.src, f, n, g, count);
            } else {
                if (count > kPanelGroups) count = kPanelGroups;
                multiply_panels(s, m.src, f, n, g, count, worker.scratch);
            }
            g += count;
        }
        begin -= groups, end -= groups;
    }
}

inline int64_t matmul_scratch(int32_t max_tokens) {
    return PanelSpace::kTotal + int64_t(max_tokens + Vec::kTile) * kPanelGroups * kGroup * 4;
}

}  // namespace PYINFER_ISA
}  // namespace pyinfer
