// Attention over the paged cache, with the online softmax (Milakov & Gimelshein 2018; Dao et al. 2022).
//
// The loops, from the outside in:
//
//   unit = (query tile, KV head), or (query tile, split, KV head) where tiles are few and contexts long    [threads]
//   |  rows of the tile: its tokens x the query heads that share the KV head, at most 80 where heads allow
//   +- splits of kSplit = 512 positions              each with its own maximum, sum and weighted values
//      +- pages of kPage = 64 positions              a block of the online softmax; pages left of the window are
//      skipped
//         |  more than two micro-tiles: the page's elements become floats once for all of them
//         +- micro-tiles of kTile (4 or 8) rows, side by side as activation tiles are
//            +- page_scores:  groups of 16 positions x k_dim     scores = keys x queries
//            +- softmax_row:  each row                           probabilities, and what earlier pages shrink by
//            +- page_values:  groups of 16 of v_dim x positions  out = out * shrink + values x probabilities
//      splits are merged in order: here, where a unit made them all; by the Merge operation (rows = tokens) elsewhere
//
// Scores and values run on the loops of products with float weights (dot_floats): keys are the rows of one matrix, the
// dimensions of values those of the other. What a row sees is cut into splits and pages by position alone, and they are
// merged in order, so its result does not depend on batch, chunking or threads. Keys and values may differ in size.
#pragma once
#include <cmath>

#include "kernels/kv.hpp"
#include "kernels/math.hpp"
#include "kernels/rowwise.hpp"
#include "ops/attention.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

// Maxima, sums and weighted values of one micro-tile of rows; o: [groups][width][16]
struct Softmax {
    float *max, *sum, *o;
};

inline float exp1(float x) { return exp<Vec>(Vec::splat(x))[0]; }

// One page's elements for one KV head, and the scales of types that have them.
struct PageView {
    const uint8_t *keys, *values, *key_scales, *value_scales;
};

// Lines that a step asks for: as many as it reads.
template <class E, int N, bool Ask>
constexpr int kLines = Ask ? (N * kGroup * E::kBytes + 63) / 64 : 0;

// scores: [T][kPage] of the first n_keys positions of a page; q: [k_dim][T]
template <class E, int T, bool Ask>
void page_scores(const PageView& page, int k_dim, int n_keys, const float* q, float* scores, Prefetch soon) {
    constexpr int N = float_groups(T), lines = kLines<E, N, Ask>;
    const int64_t stride = int64_t(k_dim) * kGroup * E::kBytes;
    for (int row = 0; row < kGroup; row += Vec::L)
        for (int g = 0; g * kGroup < n_keys; g += N) {
            const Prefetch here = soon.after(g / N * k_dim);
            const uint8_t* keys = page.keys + g * stride;
            Vec::F f[N][T] = {};
            if constexpr (E::kScaled) {
                const uint8_t* scales = page.key_scales + (g * kGroup + row) * 2;
                for (int d = 0; d < k_dim; d += kScaleDims, scales += kPage * 2) {
                    Vec::F part[N][T] = {};
                    dot_floats<Vec, E, T, N, T, 1, lines>(part, keys + d * kGroup * E::kBytes, stride, row,
                                                          k_dim - d < kScaleDims ? k_dim - d : kScaleDims, q + d * T,
                                                          here.after(d));
                    for (int i = 0; i < N; ++i)
                        for (int t = 0; t < T; ++t)
                            f[i][t] = Vec::fma(part[i][t], Vec::load_half(scales + i * kGroup * 2), f[i][t]);
                }
            } else {
                dot_floats<Vec, E, T, N, T, 1, lines>(f, keys, stride, row, k_dim, q, here);
            }
            for (int i = 0; i < N; ++i)
                for (int t = 0; t < T; ++t) Vec::store(scores + t * kPage + (g + i) * kGroup + row, f[i][t]);
        }
}

// o = o * correction + values x p, p: [T][kPage], for M groups of 16 dimensions from `group` on
template <class E, int T, int M, bool Ask>
void group_values(const uint8_t* values, int group, int n_keys, const float* p, const float* correction, float* o,
                  Prefetch soon) {
    constexpr int64_t stride = int64_t(kPage) * kGroup * E::kBytes;
    for (int row = 0; row < kGroup; row += Vec::L) {
        Vec::F f[M][T];
        for (int i = 0; i < M; ++i)
            for (int t = 0; t < T; ++t)
                f[i][t] = Vec::load(o + ((group + i) * T + t) * kGroup + row) * Vec::splat(correction[t]);
        dot_floats<Vec, E, T, M, 1, kPage, kLines<E, M, Ask>>(f, values + group * stride, stride, row, n_keys, p, soon);
        for (int i = 0; i < M; ++i)
            for (int t = 0; t < T; ++t) Vec::store(o + ((group + i) * T + t) * kGroup + row, f[i][t]);
    }
}

template <class E>
constexpr int value_groups(int width) {
    return E::kScaled ? kScaleDims / kGroup : float_groups(width);
}

template <class E, int T, bool Ask>
void page_values(const PageView& page, int n_groups, int n_keys, const float* p, const float* correction, float* o,
                 Prefetch soon) {
    constexpr int kScaleGroups = kScaleDims / kGroup, N = value_groups<E>(T);
    const int per_scale = E::kScaled ? kScaleGroups : n_groups;
    for (int first = 0; first < n_groups; first += per_scale) {
        const int end = first + per_scale < n_groups ? first + per_scale : n_groups;
        const float* weights = p;
        alignas(64) float scaled[E::kScaled ? T * kPage : 1];
        if constexpr (E::kScaled) {
            const uint8_t* scales = page.value_scales + first / kScaleGroups * kPage * 2;
            for (int j = 0; j < kPage; j += Vec::L)
                for (int t = 0; t < T; ++t)
                    Vec::store(scaled + t * kPage + j, Vec::load(p + t * kPage + j) * Vec::load_half(scales + j * 2));
            weights = scaled;
        }
        int g = first;
        for (; g + N <= end; g += N, soon = soon.after(n_keys))
            group_values<E, T, N, Ask>(page.values, g, n_keys, weights, correction, o, soon);
        for (; g < end; ++g) group_values<E, T, 1, false>(page.values, g, n_keys, weights, correction, o, {});
    }
}

// Takes slope times the distance from a row's position to each of a page's keys, the first at `base`, from its scores.
inline void take_distances(float* scores, float slope, int position, int base) {
    for (int j = 0; j < kPage; ++j) scores[j] -= slope * fabsf(float(base + j - position));
}

// One row's scores of a page, of which positions [low, high) count, become probabilities.
// Returns the factor by which what came before shrinks.
inline float softmax_row(float* scores, int low, int high, float& max, float& sum) {
    if (low >= high) {
        memset(scores, 0, kPage * sizeof(float));
        return 1;
    }
    for (int j = 0; j < low; ++j) scores[j] = -INFINITY;
    for (int j = high; j < kPage; ++j) scores[j] = -INFINITY;
    Vec::F top = Vec::splat(-INFINITY);
    for (int j = 0; j < kPage; j += Vec::L) top = Vec::max(top, Vec::load(scores + j));
    const float before = max, now = Vec::max_lane(top);
    max = before > now ? before : now;
    Vec::F total{};
    for (int j = 0; j < kPage; j += Vec::L) Vec::store(scores + j, exp<Vec>(Vec::load(scores + j) - max));
    for (int j = 0; j < low; ++j) scores[j] = 0;
    for (int j = high; j < kPage; ++j) scores[j] = 0;
    for (int j = 0; j < kPage; j += Vec::L) total += Vec::load(scores + j);
    const float correction = before == max ? 1 : before == -INFINITY ? 0 : exp1(before - max);
    sum = sum * correction + Vec::sum(total);
    return correction;
}

// Merges a further split into what came before; o values are `step` groups of 16 apart.
inline void merge_split(float& max, float& sum, float* o, float max2, float sum2, const float* o2, int n_groups,
                        int step) {
    if (sum2 == 0) return;
    const float top = max > max2 ? max : max2;
    const float a = sum == 0 ? 0 : exp1(max - top), b = exp1(max2 - top);
    max = top;
    sum = sum * a + sum2 * b;
    for (int g = 0; g < n_groups; ++g)
        for (int i = 0; i < kGroup; ++i) {
            float& x = o[g * step * kGroup + i];
            x = x * a + o2[g * step * kGroup + i] * b;
        }
}

// The sum of a row's probabilities, with that of its head's sink, if there is one.
inline float with_sink(float max, float sum, const float* sinks, int head) {
    return sinks ? sum + exp1(sinks[head] - max) : sum;
}

// What a thread keeps of a query tile: row r is token r / heads of the tile, head r % heads of the KV head's.
struct TileState {
    int32_t *begins, *ends;  // [rows] the positions that each row sees
    int32_t* positions;      // [rows] of their tokens
    float* scores;           // [kTile][kPage]
    float* q;                // of each micro-tile [k_dim][width]
    Softmax split, merged;   // of the split in hand, of those before it
    float* keys;             // a page's, as floats [kPage / 16][k_dim][16]
    float* values;           // a page's, as floats [padded v_dim / 16][kPage][16]

    TileState(uint8_t* memory, int rows, int k_dim, int v_dim) {
        float* at = reinterpret_cast<float*>(memory);
        const auto take = [&](int64_t n) {
            float* taken = at;
            at += (n + kGroup - 1) / kGroup * kGroup;
            return taken;
        };
        scores = take(Vec::kTile * kPage);
        keys = take(int64_t(kPage) * k_dim), values = take(int64_t(kPage) * padded(v_dim));
        q = take(int64_t(rows) * k_dim);
        for (Softmax* s : {&split, &merged}) *s = {take(rows), take(rows), take(int64_t(rows) * padded(v_dim))};
        for (int32_t** p : {&begins, &ends, &positions}) *p = reinterpret_cast<int32_t*>(take(rows));
    }
    static int64_t bytes(int rows, int k_dim, int v_dim) {
        return 4 * (Vec::kTile * kPage + int64_t(kPage) * (k_dim + padded(v_dim)) +
                    int64_t(rows) * (k_dim + 2 * padded(v_dim) + 7) + 12 * kGroup);
    }
    Softmax from(const Softmax& s, int row, int v_dim) const {
        return {s.max + row, s.sum + row, s.o + int64_t(row) * padded(v_dim)};
    }
};

// A page, and what is asked for during its scores and during its values.
struct PageStep {
    PageView page;
    int base;  // its first position
    int kv_head;
    const uint8_t *next_values, *next_keys;
    int64_t value_bytes, key_bytes;  // of the elements of either
};

template <class E, int T, bool Ask>
void attend_rows(const Attention& p, const PageStep& step, int first, const TileState& state) {
    int low[T], high[T], n_keys = 0;
    for (int t = 0; t < T; ++t) {
        low[t] = state.begins[first + t] > step.base ? state.begins[first + t] - step.base : 0;
        high[t] = state.ends[first + t] - step.base < kPage ? state.ends[first + t] - step.base : kPage;
        if (low[t] < high[t] && high[t] > n_keys) n_keys = high[t];
    }
    if (n_keys == 0) return;
    constexpr int N = float_groups(T), M = value_groups<E>(T);
    const int k_dim = p.cache.k_dim, v_dim = p.cache.v_dim, n_groups = padded(v_dim) / kGroup;
    const Softmax rows = state.from(state.split, first, v_dim);
    page_scores<E, T, Ask>(step.page, k_dim, n_keys, state.q + int64_t(first) * k_dim, state.scores,
                           {step.next_values, step.value_bytes / (kPage / kGroup / N * k_dim)});
    float correction[T];
    const int heads = p.n_heads / p.cache.n_kv_heads;
    for (int t = 0; t < T; ++t) {
        float* scores = state.scores + t * kPage;
        if (p.softcap != 0)
            for (int j = 0; j < kPage; j += Vec::L)
                Vec::store(scores + j, tanh<Vec>(Vec::load(scores + j) / p.softcap) * p.softcap);
        if (p.slopes)
            take_distances(scores, p.slopes[step.kv_head * heads + (first + t) % heads], state.positions[first + t],
                           step.base);
        correction[t] = softmax_row(scores, low[t], high[t], rows.max[t], rows.sum[t]);
    }
    page_values<E, T, Ask>(step.page, n_groups, n_keys, state.scores, correction, rows.o,
                           {step.next_keys, step.key_bytes / (int64_t(n_groups + M - 1) / M * kPage)});
}

using AttendRows = void (*)(const Attention&, const PageStep&, int, const TileState&);

template <class E, bool Ask, size_t... I>
AttendRows attend_rows_of(int width, std::index_sequence<I...>) {
    static constexpr AttendRows kByWidth[] = {attend_rows<E, int(I) + 1, Ask>...};
    return kByWidth[width - 1];
}

template <class E, bool Ask>
void attend_page(const Attention& p, const PageStep& step, int from, int n_rows, const TileState& state) {
    for (int row = from; row < n_rows; row += Vec::kTile) {
        const int width = n_rows - row < Vec::kTile ? n_rows - row : Vec::kTile;
        attend_rows_of<E, Ask>(width, std::make_index_sequence<Vec::kTile>())(p, step, row, state);
    }
}

template <class E>
PageView view_of(const KVCache& c, int64_t page, int kv_head) {
    const uint8_t *keys = keys_of(c, page, kv_head), *values = values_of(c, page, kv_head);
    return {keys, values, scales_of<E>(keys, c.k_dim), scales_of<E>(values, padded(c.v_dim))};
}

template <class E>
const uint8_t* to_floats(const uint8_t* elements, int64_t n, float* to) {
    for (int64_t i = 0; i < n; i += kGroup)
        for (int row = 0; row < kGroup; row += Vec::L)
            Vec::store(to + i + row, E::template value<Vec>(Block<Vec, kGroup>{elements + i * E::kBytes, row}));
    return reinterpret_cast<const uint8_t*>(to);
}

// A split's positions up to `last`, for all rows of a tile.
template <class E>
void attend_split(const Attention& p, const Batch& batch, int32_t sequence, int kv_head, int split, int last,
                  int n_rows, const TileState& state) {
    const int k_dim = p.cache.k_dim, v_dim = p.cache.v_dim;
    for (int r = 0; r < n_rows; ++r) state.split.max[r] = -INFINITY, state.split.sum[r] = 0;
    memset(state.split.o, 0, sizeof(float) * n_rows * padded(v_dim));
    for (int base = split * kSplit; base < (split + 1) * kSplit && base <= last; base += kPage) {
        if (base + kPage <= state.begins[0]) continue;
        const PageView page = view_of<E>(p.cache, page_of(batch, p.cache, sequence, base), kv_head);
        const int64_t after = page_of(batch, p.cache, sequence, base + kPage <= last ? base + kPage : base);
        PageStep step{page,
                      base,
                      kv_head,
                      page.values,
                      keys_of(p.cache, after, kv_head),
                      int64_t(kPage) * v_dim * E::kBytes,
                      int64_t(kPage) * k_dim * E::kBytes};
        if (n_rows <= 2 * Vec::kTile) {
            attend_page<E, true>(p, step, 0, n_rows, state);
            continue;
        }
        if (E::kBytes < 4) {
            step.page.keys = to_floats<E>(page.keys, int64_t(kPage) * k_dim, state.keys);
            step.page.values = to_floats<E>(page.values, int64_t(kPage) * padded(v_dim), state.values);
        }
        step.next_values = values_of(p.cache, after, kv_head);
        using Floats = typename E::Floats;
        attend_page<Floats, true>(p, step, 0, Vec::kTile, state);
        attend_page<Floats, false>(p, step, Vec::kTile, n_rows, state);
    }
}

inline void run_attention(const Attention& p, int32_t, const Batch& batch, const Worker& worker, int32_t unit) {
    const int k_dim = p.cache.k_dim, v_dim = p.cache.v_dim, groups = padded(v_dim) / kGroup;
    const int heads = p.n_heads / p.cache.n_kv_heads;  // of queries that share a KV head
    const int kv_head = unit % p.cache.n_kv_heads;
    const int index = unit / p.cache.n_kv_heads;
    int at = 0;
    if (batch.split)
        while (at + 1 < batch.n_tiles && batch.tiles[at + 1].first_split <= index) ++at;
    else
        at = index;
    const QueryTile& tile = batch.tiles[at];
    const int first_split = batch.split ? index - tile.first_split : 0;
    const int last_split = batch.split ? first_split + 1 : tile.n_splits;
    const int32_t sequence = batch.sequences[tile.first];
    const int last = p.causal ? batch.positions[tile.first + tile.n_tokens - 1] : batch.lengths[sequence] - 1;

    const int n_rows = tile.n_tokens * heads;
    const TileState state(worker.scratch, n_rows, k_dim, v_dim);
    const auto head_of = [&](int r) {  // of all heads of all tokens
        return int64_t(tile.first + r / heads) * p.n_heads + kv_head * heads + r % heads;
    };
    // a micro-tile's row r: element i of group g at (g * width + lane) * 16 + i, from the micro-tile's first on
    const auto width_of = [&](int r) {
        const int left = n_rows - r / Vec::kTile * Vec::kTile;
        return left < Vec::kTile ? left : Vec::kTile;
    };
    const auto row_of = [&](float* o, int r) {
        return o + int64_t(r / Vec::kTile) * Vec::kTile * padded(v_dim) + r % Vec::kTile * kGroup;
    };
    for (int r = 0; r < n_rows; ++r) {
        const int position = batch.positions[tile.first + r / heads], width = width_of(r), lane = r % Vec::kTile;
        const int before = p.causal ? p.window - 1 : p.window / 2;  // positions in the window
        state.positions[r] = position;
        state.ends[r] = p.causal ? position + 1 : last + 1;
        state.begins[r] = p.window > 0 && position > before ? position - before : 0;
        if (p.window > 0 && !p.causal && position + before < last) state.ends[r] = position + before + 1;
        float* q = state.q + int64_t(r - lane) * k_dim + lane;
        for (int d = 0; d < k_dim; ++d) q[d * width] = p.q[head_of(r) * k_dim + d];
        state.merged.max[r] = -INFINITY, state.merged.sum[r] = 0;
    }
    memset(state.merged.o, 0, sizeof(float) * n_rows * padded(v_dim));
    for (int split = first_split; split < last_split; ++split) {
        with_kv_type(p.cache.format, [&](auto type) {
            attend_split<decltype(type)>(p, batch, sequence, kv_head, split, last, n_rows, state);
        });
        for (int r = 0; r < n_rows; ++r) {
            const int width = width_of(r);
            const float max = state.split.max[r], sum = state.split.sum[r], *o = row_of(state.split.o, r);
            if (batch.split) {
                const int64_t slot = tile.first_partial + int64_t(split) * tile.n_tokens + r / heads;
                float* to = batch.partials + (slot * p.n_heads + kv_head * heads + r % heads) * (2 + groups * kGroup);
                to[0] = max, to[1] = sum;
                for (int g = 0; g < groups; ++g)
                    memcpy(to + 2 + g * kGroup, o + g * width * kGroup, kGroup * sizeof(float));
            } else {
                merge_split(state.merged.max[r], state.merged.sum[r], row_of(state.merged.o, r), max, sum, o, groups,
                            width);
            }
        }
    }
    if (batch.split) return;
    for (int r = 0; r < n_rows; ++r) {
        const float* o = row_of(state.merged.o, r);
        float* out = p.out + head_of(r) * v_dim;
        const float sum = with_sink(state.merged.max[r], state.merged.sum[r], p.sinks, kv_head * heads + r % heads);
        for (int d = 0; d < v_dim; ++d) out[d] = o[(d / kGroup * width_of(r)) * kGroup + d % kGroup] / sum;
    }
}

template <>
struct KernelOf<Attention> {
    static int32_t units(const Attention& p, int32_t, const Batch& batch) {
        return (batch.split ? batch.n_splits : batch.n_tiles) * p.cache.n_kv_heads;
    }
    static constexpr auto run = run_attention;
};

inline void merge_row(const Merge& p, int32_t n_rows, const Batch& batch, const Worker& worker, int32_t t) {
    const int dim = p.v_dim, groups = padded(dim) / kGroup;
    float* row = p.rows + int64_t(t) * p.n_heads * dim;
    if (batch.split) {
        const QueryTile& tile = batch.tiles[batch.tile_of_token[t]];
        float* o = reinterpret_cast<float*>(worker.scratch);
        for (int head = 0; head < p.n_heads; ++head) {
            float max = -INFINITY, sum = 0;
            memset(o, 0, sizeof(float) * groups * kGroup);
            for (int split = 0; split < tile.n_splits; ++split) {
                const int64_t slot = tile.first_partial + int64_t(split) * tile.n_tokens + t - tile.first;
                const float* from = batch.partials + (slot * p.n_heads + head) * (2 + groups * kGroup);
                merge_split(max, sum, o, from[0], from[1], from + 2, groups, 1);
            }
            sum = with_sink(max, sum, p.sinks, head);
            for (int d = 0; d < dim; ++d) row[head * dim + d] = o[d] / sum;
        }
    }
    if (p.gate) {
        const float* gate = p.gate + int64_t(t) * p.n_heads * p.gate_dim;
        const int64_t each = dim / p.gate_dim;  // values of a gate
        for (int64_t i = 0; i < int64_t(p.n_heads) * p.gate_dim; ++i) {
            const float open = 1.0f / (1.0f + exp1(-gate[i]));
            for (int64_t d = i * each; d < (i + 1) * each; ++d) row[d] *= open;
        }
    }
    emit(p.out, t, n_rows, 0, p.out.k, row);
}

template <>
struct KernelOf<Merge> : ByRow<Merge, merge_row> {};

}  // namespace PYINFER_ISA
}  // namespace pyinfer
