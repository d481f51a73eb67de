// Attention over the paged cache, with the online softmax (Milakov & Gimelshein 2018; Dao et al. 2022).
//
// The rows of a query tile are its tokens times the query heads that share one KV head; they go through the pages in
// micro-tiles of kTile rows, as in a matrix product with float weights: scores = keys x queries, then
// out = values x probabilities. Positions are cut into splits of kSplit. Each split has its own maximum, sum and
// weighted values, and splits are merged in order, by the unit that made them all (many tiles) or by the Merge
// operation (few tiles, long contexts). So a row's result does not depend on batch, chunking or threads.
#pragma once
#include <cmath>

#include "kernels/kv.hpp"
#include "kernels/math.hpp"
#include "kernels/rowwise.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

constexpr int kMaxRows = 64;  // of a query tile, unless one token alone has more heads to a KV head

// Maximum, sum and weighted values of one micro-tile of rows; o: [groups][width][16]
struct Softmax {
    float *max, *sum, *o;
};

inline float exp1(float x) { return exp<Vec>(Vec::splat(x))[0]; }

// Bytes that are wanted soon; taken in `parts` pieces beside the arithmetic on those before them.
struct Soon {
    const uint8_t* data;  // or null
    int64_t n_bytes;
    int parts;

    void prefetch(int part) const {
        const int64_t end = data ? n_bytes * (part + 1) / parts : 0;
        for (int64_t at = n_bytes * part / parts; at < end; at += 64) __builtin_prefetch(data + at);
    }
};

// scores: [T][kPage] of the first n_keys positions of a page; q: [head_dim][T]
template <class E, int T>
void page_scores(const uint8_t* keys, int head_dim, int n_keys, const float* q, float* scores, Soon values) {
    constexpr int N = float_groups(T);
    const int64_t stride = int64_t(head_dim) * kGroup * E::kBytes;
    for (int row = 0; row < kGroup; row += Vec::L)
        for (int g = 0; g * kGroup < n_keys; g += N) {
            if (row == 0)
                for (int i = 0; i < N; ++i) values.prefetch(g + i);
            Vec::F f[N][T] = {};
            if constexpr (E::kScaled) {
                const uint8_t* scales = scales_of<E>(keys, head_dim) + (g * kGroup + row) * 2;
                for (int d = 0; d < head_dim; d += kScaleDims, scales += kPage * 2) {
                    Vec::F part[N][T] = {};
                    dot_floats<Vec, E, T, N>(part, keys + g * stride + d * kGroup * E::kBytes, stride, row,
                                             head_dim - d < kScaleDims ? head_dim - d : kScaleDims, q + d * T);
                    for (int i = 0; i < N; ++i)
                        for (int t = 0; t < T; ++t)
                            f[i][t] = Vec::fma(part[i][t], Vec::load_half(scales + i * kGroup * 2), f[i][t]);
                }
            } else {
                dot_floats<Vec, E, T, N>(f, keys + g * stride, stride, row, head_dim, q);
            }
            for (int i = 0; i < N; ++i)
                for (int t = 0; t < T; ++t) Vec::store(scores + t * kPage + (g + i) * kGroup + row, f[i][t]);
        }
}

// o = o * correction + values x p, p: [T][kPage], for M groups of 16 dimensions from `group` on
template <class E, int T, int M>
void group_values(const uint8_t* values, int group, int n_keys, const float* p, const float* correction, float* o) {
    constexpr int64_t stride = int64_t(kPage) * kGroup * E::kBytes;
    for (int row = 0; row < kGroup; row += Vec::L) {
        Vec::F f[M][T];
        for (int i = 0; i < M; ++i)
            for (int t = 0; t < T; ++t)
                f[i][t] = Vec::load(o + ((group + i) * T + t) * kGroup + row) * Vec::splat(correction[t]);
        dot_floats<Vec, E, T, M, 1, kPage>(f, values + group * stride, stride, row, n_keys, p);
        for (int i = 0; i < M; ++i)
            for (int t = 0; t < T; ++t) Vec::store(o + ((group + i) * T + t) * kGroup + row, f[i][t]);
    }
}

template <class E, int T>
void page_values(const uint8_t* values, int n_groups, int n_keys, const float* p, const float* correction, float* o,
                 Soon keys) {
    constexpr int N = float_groups(T), kScaleGroups = kScaleDims / kGroup;
    const int per_scale = E::kScaled ? kScaleGroups : n_groups;
    for (int first = 0; first < n_groups; first += per_scale) {
        const int end = first + per_scale < n_groups ? first + per_scale : n_groups;
        const float* weights = p;
        alignas(64) float scaled[E::kScaled ? T * kPage : 1];
        if constexpr (E::kScaled) {
            const uint8_t* scales = scales_of<E>(values, n_groups * kGroup) + first / kScaleGroups * kPage * 2;
            for (int j = 0; j < kPage; j += Vec::L)
                for (int t = 0; t < T; ++t)
                    Vec::store(scaled + t * kPage + j, Vec::load(p + t * kPage + j) * Vec::load_half(scales + j * 2));
            weights = scaled;
        }
        for (int i = first; i < end; ++i) keys.prefetch(i);
        int g = first;
        for (; g + N <= end; g += N) group_values<E, T, N>(values, g, n_keys, weights, correction, o);
        for (; g < end; ++g) group_values<E, T, 1>(values, g, n_keys, weights, correction, o);
    }
}

// One row's scores of a page, of which positions [low, high) count, become probabilities.
// Returns the factor by which what came before shrinks.
inline float softmax_row(float* scores, int low, int high, float softcap, float& max, float& sum) {
    if (low >= high) {
        memset(scores, 0, kPage * sizeof(float));
        return 1;
    }
    for (int j = 0; j < low; ++j) scores[j] = -INFINITY;
    for (int j = high; j < kPage; ++j) scores[j] = -INFINITY;
    Vec::F top = Vec::splat(-INFINITY);
    for (int j = 0; j < kPage; j += Vec::L) {
        Vec::F s = Vec::load(scores + j);
        if (softcap != 0) {
            s = tanh<Vec>(s / softcap) * softcap;
            Vec::store(scores + j, s);
        }
        top = Vec::max(top, s);
    }
    if (softcap != 0) {
        for (int j = 0; j < low; ++j) scores[j] = -INFINITY;
        for (int j = high; j < kPage; ++j) scores[j] = -INFINITY;
    }
    const float before = max, now = Vec::max_lane(top);
    max = before > now ? before : now;
    Vec::F total{};
    for (int j = 0; j < kPage; j += Vec::L) Vec::store(scores + j, exp<Vec>(Vec::load(scores + j) - max));
    for (int j = 0; j < low; ++j) scores[j] = 0;
    for (int j = high; j < kPage; ++j) scores[j] = 0;
    for (int j = 0; j < kPage; j += Vec::L) total += Vec::load(scores + j);
    const float correction = before == -INFINITY ? 0 : exp1(before - max);
    sum = sum * correction + Vec::sum(total);
    return correction;
}

struct Rows {  // a micro-tile: row r is token first + r / heads of the tile, head r % heads of the KV head's
    int first, count;
};

template <class E, int T>
void attend_page(const Attention& p, const Batch& batch, const QueryTile& tile, int heads, int64_t page, int kv_head,
                 int64_t next_page, int base, const Rows& rows, const float* q, Softmax state, float* scores) {
    int low[T], high[T], n_keys = 0;
    for (int t = 0; t < T; ++t) {
        const int position = batch.positions[tile.first + (rows.first + t) / heads];
        const int end = p.causal ? position + 1 : batch.lengths[batch.sequences[tile.first]];
        high[t] = end - base < kPage ? end - base : kPage;
        low[t] = p.window > 0 && position + 1 - p.window > base ? position + 1 - p.window - base : 0;
        if (low[t] < high[t] && high[t] > n_keys) n_keys = high[t];
    }
    if (n_keys == 0) return;
    const uint8_t* values = values_of(p.cache, page, kv_head);
    const int n_groups = padded(p.cache.head_dim) / kGroup;
    page_scores<E, T>(keys_of(p.cache, page, kv_head), p.cache.head_dim, n_keys, q, scores,
                      {values, p.cache.v_head, kPage / kGroup});
    float correction[T];
    for (int t = 0; t < T; ++t)
        correction[t] = softmax_row(scores + t * kPage, low[t], high[t], p.softcap, state.max[t], state.sum[t]);
    const uint8_t* next = next_page < 0 ? nullptr : keys_of(p.cache, next_page, kv_head);
    page_values<E, T>(values, n_groups, n_keys, scores, correction, state.o, {next, p.cache.k_head, n_groups});
}

using AttendPage = void (*)(const Attention&, const Batch&, const QueryTile&, int, int64_t, int, int64_t, int,
                            const Rows&, const float*, Softmax, float*);

template <class E, size_t... I>
AttendPage attend_page_of(int width, std::index_sequence<I...>) {
    static constexpr AttendPage kByWidth[] = {attend_page<E, int(I) + 1>...};
    return kByWidth[width - 1];
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

inline int32_t attention_units(const Op& op, const Batch& batch) {
    return (batch.split ? batch.n_splits : batch.n_tiles) * op.attention.cache.n_kv_heads;
}

inline void run_attention(const Op& op, const Batch& batch, const Worker& worker, int32_t unit) {
    const Attention& p = op.attention;
    const int dim = p.cache.head_dim, groups = padded(dim) / kGroup, heads = p.n_heads / p.cache.n_kv_heads;
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
    const int last_position = p.causal ? batch.positions[tile.first + tile.n_tokens - 1] : batch.lengths[sequence] - 1;

    float* scores = reinterpret_cast<float*>(worker.scratch);
    float* q = scores + Vec::kTile * kPage;  // [dim][width]
    float* o = q + Vec::kTile * dim;         // of the split in hand
    float* merged = o + Vec::kTile * groups * kGroup;
    const int n_rows = tile.n_tokens * heads;
    for (int row = 0; row < n_rows;) {
        const int width = n_rows - row < Vec::kTile ? n_rows - row : Vec::kTile;
        const Rows rows{row, width};
        row += width;
        const auto query_of = [&](int t) {
            const int token = tile.first + (rows.first + t) / heads, head = kv_head * heads + (rows.first + t) % heads;
            return int64_t(token) * p.n_heads + head;
        };
        for (int t = 0; t < width; ++t)
            for (int d = 0; d < dim; ++d) q[d * width + t] = p.q[query_of(t) * dim + d];
        const AttendPage attend = with_kv_type(p.cache.format, [&](auto type) {
            return attend_page_of<decltype(type)>(width, std::make_index_sequence<Vec::kTile>());
        });
        float max[2][Vec::kTile], sum[2][Vec::kTile];
        for (int t = 0; t < width; ++t) max[1][t] = -INFINITY, sum[1][t] = 0;
        memset(merged, 0, sizeof(float) * width * groups * kGroup);
        const int first_position = batch.positions[tile.first + rows.first / heads];
        const int begin = p.window > 0 && first_position >= p.window ? first_position + 1 - p.window : 0;
        for (int split = first_split; split < last_split; ++split) {
            for (int t = 0; t < width; ++t) max[0][t] = -INFINITY, sum[0][t] = 0;
            memset(o, 0, sizeof(float) * width * groups * kGroup);
            for (int base = split * kSplit; base < (split + 1) * kSplit && base <= last_position; base += kPage) {
                if (base + kPage <= begin) continue;
                const int64_t next = base + kPage <= last_position ? page_of(batch, sequence, base + kPage) : -1;
                attend(p, batch, tile, heads, page_of(batch, sequence, base), kv_head, next, base, rows, q,
                       {max[0], sum[0], o}, scores);
            }
            for (int t = 0; t < width; ++t) {
                if (batch.split) {
                    const int64_t slot = tile.first_partial + int64_t(split) * tile.n_tokens;
                    const int64_t token = (rows.first + t) / heads, head = kv_head * heads + (rows.first + t) % heads;
                    float* to = p.partial + ((slot + token) * p.n_heads + head) * (2 + groups * kGroup);
                    to[0] = max[0][t], to[1] = sum[0][t];
                    for (int g = 0; g < groups; ++g)
                        memcpy(to + 2 + g * kGroup, o + (g * width + t) * kGroup, kGroup * sizeof(float));
                } else {
                    merge_split(max[1][t], sum[1][t], merged + t * kGroup, max[0][t], sum[0][t], o + t * kGroup, groups,
                                width);
                }
            }
        }
        if (batch.split) continue;
        for (int t = 0; t < width; ++t) {
            float* out = p.out + query_of(t) * dim;
            for (int d = 0; d < dim; ++d) out[d] = merged[(d / kGroup * width + t) * kGroup + d % kGroup] / sum[1][t];
        }
    }
}

inline void run_merge(const Op& op, const Batch& batch, const Worker& worker, int32_t unit) {
    const Attention& p = op.merge.attention;
    const int dim = p.cache.head_dim, groups = padded(dim) / kGroup;
    float* row = p.out + int64_t(unit) * p.n_heads * dim;
    if (batch.split) {
        const QueryTile& tile = batch.tiles[batch.tile_of_token[unit]];
        float* o = reinterpret_cast<float*>(worker.scratch);
        for (int head = 0; head < p.n_heads; ++head) {
            float max = -INFINITY, sum = 0;
            memset(o, 0, sizeof(float) * groups * kGroup);
            for (int split = 0; split < tile.n_splits; ++split) {
                const int64_t slot = tile.first_partial + int64_t(split) * tile.n_tokens + unit - tile.first;
                const float* from = p.partial + (slot * p.n_heads + head) * (2 + groups * kGroup);
                merge_split(max, sum, o, from[0], from[1], from + 2, groups, 1);
            }
            for (int d = 0; d < dim; ++d) row[head * dim + d] = o[d] / sum;
        }
    }
    emit(op.merge.out, unit, batch.rows(op.count), 0, op.merge.out.k, row);
}

inline int64_t attention_scratch(int32_t head_dim) {
    return int64_t(Vec::kTile) * (kPage + head_dim + 2 * padded(head_dim)) * 4;
}

}  // namespace PYINFER_ISA
}  // namespace pyinfer
