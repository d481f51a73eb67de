// Which candidates a filter keeps: top-k, min-p, top-p and typical-p, masks of bits.
//
// Candidates are token ids [n] and logits [n], in ascending order of ids. A filter first finds a cut, then applies it;
// what is left stays in that order. Of logits and sums, logits.hpp says more.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "logits.hpp"

namespace pyinfer {

constexpr int kMinSampled = 16384;  // from so many logits on, to look at a sample first saves more time than it takes
constexpr int kBins = 2048;         // of the histogram of weight over distance
constexpr float kRange = 24;        // nats of distance that the histogram covers; what lies farther is in the last bin

// What candidates are ordered by, the greatest first: their logits, or the negated distance of their logits from
// top - center.
struct Keys {
    const float* logits;  // [n]
    bool plain;           // keys are the logits
    float top, center;    // the largest logit; how far below it the distance is 0
    float of(float x) const { return plain ? x : -std::fabs(top - x - center); }
};

PYINFER_VECTORS void fill_keys(const Keys& keys, const float* x, int n, float* out) {
    const Keys k = keys;
    for (int i = 0; i < n; ++i) out[i] = k.of(x[i]);
}

inline const float* keys_of(const Keys& keys, int64_t start, int count, float* buffer) {
    if (keys.plain) return keys.logits + start;
    fill_keys(keys, keys.logits + start, count, buffer);
    return buffer;
}

// What a filter keeps: keys above `key`, and of those that equal it the ones up to index `last`.
struct Cut {
    float key;
    int64_t last;
    int64_t at_most;  // no more candidates than this are kept
};

// Writes the ids and logits of the candidates that are kept, and maybe one more; returns how many are kept.
inline int64_t compact(const Keys& keys, Cut cut, const int32_t* ids, int64_t n, int32_t* out_ids, float* out_logits) {
    float buffer[kChunk];
    int64_t m = 0;
    for_chunks(n, [&](int64_t start, int count) {
        const float* key = keys_of(keys, start, count, buffer);
        for_spans(key, count, cut.key, [&](int64_t i) {
            out_ids[m] = ids[start + i];
            out_logits[m] = keys.logits[start + i];
            m += (key[i] > cut.key) | ((key[i] == cut.key) & (start + i <= cut.last));
        });
    });
    return m;
}

PYINFER_VECTORS void mark_below(const float* keys, const float* x, int n, float floor, float* out) {
    for (int i = 0; i < n; ++i) out[i] = keys[i] >= floor ? x[i] : kImpossible;
}

// Writes all logits, with -inf for the candidates that are not kept.
inline void mark(const Keys& keys, Cut cut, int64_t n, float* out) {
    float buffer[kChunk];
    for_chunks(n, [&](int64_t start, int count) {
        const float* key = keys_of(keys, start, count, buffer);
        const int equals = int(std::max<int64_t>(0, std::min<int64_t>(count, cut.last + 1 - start)));
        const float* x = keys.logits + start;
        mark_below(key, x, equals, cut.key, out + start);
        mark_below(key + equals, x + equals, count - equals, next_above(cut.key), out + start + equals);
    });
}

inline bool bit(const uint32_t* mask, int64_t i) { return mask[i / 32] >> i % 32 & 1; }

PYINFER_VECTORS int64_t count_bits(const uint32_t* mask, int64_t n) {
    int64_t count = 0;
    for (int64_t i = 0; i < n / 32; ++i) count += __builtin_popcount(mask[i]);
    for (int64_t i = n / 32 * 32; i < n; ++i) count += bit(mask, i);
    return count;
}

// As compact and mark, where the candidates with set bits are kept.
inline void compact_bits(const uint32_t* mask, const float* x, int64_t n, int32_t* out_ids, float* out_logits) {
    for (int64_t start = 0; start < n; start += 32)
        for (uint32_t word = mask[start / 32]; word; word &= word - 1) {
            const int64_t i = start + __builtin_ctz(word);
            if (i >= n) break;
            *out_ids++ = int32_t(i);
            *out_logits++ = x[i];
        }
}

// Unlike for compact_bits, x may have NaNs, and they stay whether their bits are set or not; out may be x.
PYINFER_VECTORS void mark_bits(const uint32_t* mask, const float* x, int64_t n, float* out) {
    for (int64_t start = 0; start < n; start += 32) {
        const uint32_t word = mask[start / 32];
        const int count = int(std::min<int64_t>(32, n - start));
        for (int l = 0; l < count; ++l) {
            const float most = word >> l & 1 ? -kImpossible : kImpossible, value = x[start + l];
            out[start + l] = value > most ? most : value;
        }
    }
}

struct Item {
    float key, weight;
    int64_t index;
};

inline bool ranks_before(const Item& a, const Item& b) { return a.key != b.key ? a.key > b.key : a.index < b.index; }

// The cut that keeps the k largest logits; of equals, the first.
inline Cut cut_largest(const float* x, int64_t n, int64_t k) {
    std::vector<Item> items;
    items.reserve(2 * k + 4 * kSpan);
    // just above the k-th largest so far, since a later equal is not kept
    float floor = std::numeric_limits<float>::lowest();
    const auto prune = [&] {
        if (int64_t(items.size()) < k) return;
        std::nth_element(items.begin(), items.begin() + (k - 1), items.end(), ranks_before);
        items.resize(k);
        floor = next_above(items.back().key);
    };
    for (int64_t i = 0; (i = next_span(x, i, n, floor)) < n;) {
        for (const int64_t end = std::min(n, i + kSpan); i < end; ++i)
            if (x[i] >= floor) items.push_back({x[i], 0, i});
        if (items.size() + kSpan > items.capacity()) prune();
    }
    prune();
    if (int64_t(items.size()) < k) return {std::numeric_limits<float>::lowest(), n, int64_t(items.size())};
    return {items.back().key, items.back().index, k};
}

// The bin of a logit's distance from `center` below `top`.
inline int bin_of(float x, float top, float center) {
    const float bin = std::fabs(top - x - center) * (kBins / kRange);
    return int(bin < kBins - 1 ? bin : kBins - 1);
}

// Writes the bins of a chunk [kChunk]; kBins after its last logit.
PYINFER_VECTORS void bins_of(const float* x, int n, float top, float center, int32_t* bins) {
    for (int i = 0; i < n; ++i) bins[i] = bin_of(x[i], top, center);
    for (int i = n; i < kChunk; ++i) bins[i] = kBins;
}

// The total weight of a chunk's logits in bins before `first`.
PYINFER_VECTORS double weight_before(const int32_t* bins, const float* weights, int first) {
    float before[kChunk];  // apart, since the compiler makes worse vectors of one loop
    for (int i = 0; i < kChunk; ++i) before[i] = bins[i] < first ? weights[i] : 0;
    double lanes[kLanes] = {};
    for (int start = 0; start < kChunk; start += kLanes)
        for (int l = 0; l < kLanes; ++l) lanes[l] += before[start + l];
    return sum_lanes(lanes);
}

PYINFER_VECTORS int count_up_to(const int32_t* bins, int last) {
    int count = 0;
    for (int i = 0; i < kChunk; ++i) count += bins[i] <= last;
    return count;
}

// Sets the bits of a chunk's logits that are in bins `first` to `last`.
PYINFER_VECTORS void mark_between(const int32_t* bins, int first, int last, uint32_t* mask) {
    const uint32_t most = last - first;
    for (int start = 0; start < kChunk; start += 32) {
        uint32_t word = 0;
        for (int l = 0; l < 32; ++l) word |= uint32_t(uint32_t(bins[start + l] - first) <= most) << l;
        mask[start / 32] = word;
    }
}

// Calls f(i) for every bit of a chunk that is set.
template <class F>
void for_bits(const uint32_t* mask, F f) {
    for (int start = 0; start < kChunk; start += 64) {
        uint64_t word = uint64_t(mask[start / 32 + 1]) << 32 | mask[start / 32];
        for (; word; word &= word - 1) f(start + __builtin_ctzll(word));
    }
}

struct Histogram {
    double total = 0, before_first = 0;  // all weight; the weight in bins before `first`
    // [kBins] weight of bins `first` to `last`; others mean nothing
    std::vector<double> sums = std::vector<double>(kBins);
};

// The histogram of weight over distance. Its additions, one by one, take the most time, so the fewer logits are in bins
// `first` to `last`, the faster it is.
inline Histogram histogram(const float* x, int64_t n, float top, float center, float scale, int first, int last) {
    float weights[kChunk] = {};
    int32_t bins[kChunk];
    uint32_t mask[kChunk / 32];
    const bool all = n <= kChunk || (first == 0 && last == kBins - 1);
    Histogram h;
    double* sums = h.sums.data();
    for_chunks(n, [&](int64_t start, int count) {
        h.total += weigh(x + start, count, top, scale, weights);
        bins_of(x + start, count, top, center, bins);
        if (first > 0) h.before_first += weight_before(bins, weights, first);
        if (!all) mark_between(bins, first, last, mask);
        if (all || count_bits(mask, kChunk) > kChunk / 2)
            for (int i = 0; i < count; ++i) sums[bins[i]] += weights[i];
        else
            for_bits(mask, [&](int i) { sums[bins[i]] += weights[i]; });
    });
    return h;
}

// The last of the fewest items, largest keys first, whose weights add up to at least `mass`; n > 0.
inline Item fewest_with(Item* items, size_t n, double mass) {
    while (n > 1) {
        const size_t half = n / 2;
        std::nth_element(items, items + half, items + n, ranks_before);
        double sum = 0;
        for (size_t i = 0; i < half; ++i) sum += items[i].weight;
        if (sum >= mass) {
            n = half;
        } else {
            mass -= sum;
            items += half;
            n -= half;
        }
    }
    return *items;
}

// Narrows `first` and `last` to bins between which the running sum of weights probably passes the share p of all, as a
// sample of the logits tells. Leaves them as they are where a sample tells nothing.
inline void narrow_bins(const float* x, int64_t n, float top, float center, double p, int& first, int& last) {
    std::vector<float> sample;
    for_chunks(n, [&](int64_t start, int count) {
        sample.insert(sample.end(), x + start, x + start + std::min(count, kLanes));
    });
    // a few logits have much of the weight, and may not be in the sample
    if (total_weight(sample.data(), sample.size(), top) < 16) return;
    const Histogram weights = histogram(sample.data(), sample.size(), top, center, 1, 0, kBins - 1);
    Histogram squares = histogram(sample.data(), sample.size(), top, center, 2, 0, kBins - 1);
    squares.sums[bin_of(top, top, center)] += 1;  // as if the largest were in every sample
    double variance = 0, sum = 0;
    for (int bin = 0; bin < kBins; ++bin) {
        const double off = (sum < p * weights.total) - p;
        sum += weights.sums[bin];
        variance += off * off * squares.sums[bin];
    }
    const double margin = 3 * std::sqrt(variance);  // wrong once in 400 times
    sum = weights.sums[first];
    while (first < last && sum < p * weights.total - margin) sum += weights.sums[++first];
    int end = first;
    while (end < last && sum < p * weights.total + margin) sum += weights.sums[++end];
    last = end;
}

// The cut that keeps the fewest candidates that have at least the share p of all weight, those first whose logits lie
// nearest to top - center. A histogram of weight over distance finds the bin in which the running sum passes p; only
// the logits in that bin are sorted. Of many logits, the histogram first covers only the bins that a sample suggests.
inline Cut cut_share(const Keys& keys, int64_t n, double p) {
    const float top = keys.top, center = keys.center, possible = std::numeric_limits<float>::lowest();
    // where keys are plain: all below this have less than the share 1 - p together, since the largest weight is 1
    const float negligible = center == 0 ? top + float(std::log(std::max(0.0, 1 - p) / double(n))) : possible;
    const int end = bin_of(negligible, top, center);
    int32_t bins[kChunk];
    uint32_t mask[kChunk / 32];
    int first = 0, last = end, border;
    if (n >= kMinSampled) narrow_bins(keys.logits, n, top, center, p, first, last);
    double mass;
    for (;; first = 0, last = end) {
        const Histogram h = histogram(keys.logits, n, top, center, 1, first, last);
        mass = p * h.total - h.before_first;
        for (border = first; border < kBins - 1 && h.sums[border] < mass; ++border) mass -= h.sums[border];
        if ((first == 0 || mass > 0) && (border <= last || last == end)) break;  // else the sample misled
    }
    std::vector<Item> items;
    int64_t at_most = 0;
    for_chunks(n, [&](int64_t start, int count) {
        const float* x = keys.logits + start;
        bins_of(x, count, top, center, bins);
        at_most += count_up_to(bins, border);
        mark_between(bins, border, border, mask);
        for_bits(mask, [&](int i) {
            if (x[i] >= possible) items.push_back({keys.of(x[i]), weight(x[i], top, 1), start + i});
        });
    });
    if (items.empty()) return {kImpossible, n, n};  // rounding left a rest after the last weight
    const Item final = fewest_with(items.data(), items.size(), mass);
    return {final.key, final.index, at_most};
}

}  // namespace pyinfer
