// Steps of sampling that look at every logit: weights, the cuts of top-k, min-p, top-p and typical-p, the draw.
//
// Candidates are token ids [n] and logits [n], in ascending order of ids. A filter first finds a cut, then applies it;
// what is left stays in that order. Sums have the same terms in the same order for any width of vectors, and no
// multiplication is fused with an addition, so that a seed gives the same tokens on every processor. No logit is NaN or
// +inf; those of -inf are impossible, and at least one is not.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

// Marks loops without branches, which the compiler turns into vectors: they are compiled for wide vectors, too, and the
// loader chooses.
#if defined(__x86_64__) && defined(__GLIBC__) && __GNUC__ >= 12 && !defined(__clang__)
#define PYINFER_VECTORS __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define PYINFER_VECTORS
#endif

namespace pyinfer {

constexpr int kLanes = 16;          // sums that run side by side
constexpr int kSpan = 32;           // logits that a search skips together, if none of them matters
constexpr int kChunk = 512;         // logits whose keys and weights are computed at a time, in L1
constexpr int kMinSampled = 16384;  // from so many logits on, to look at a sample first saves more time than it takes
constexpr int kBins = 2048;         // of the histogram of weight over distance
constexpr float kRange = 24;        // nats of distance that the histogram covers; what lies farther is in the last bin
constexpr float kImpossible = -std::numeric_limits<float>::infinity();

inline float next_above(float x) { return std::nextafter(x, -kImpossible); }

PYINFER_VECTORS float largest(const float* x, int64_t n) {
    float lanes[kSpan];
    std::fill_n(lanes, kSpan, kImpossible);
    for (; n >= kSpan; n -= kSpan, x += kSpan)
        for (int l = 0; l < kSpan; ++l) lanes[l] = x[l] > lanes[l] ? x[l] : lanes[l];
    for (int l = 0; l < n; ++l) lanes[0] = std::max(lanes[0], x[l]);
    return *std::max_element(lanes, lanes + kSpan);
}

// The start of the first span from `i` on with a value of at least `floor`, or of the rest that does not fill a span.
PYINFER_VECTORS int64_t next_span(const float* x, int64_t i, int64_t n, float floor) {
    for (; i + kSpan <= n; i += kSpan) {
        int any = 0;
        for (int l = 0; l < kSpan; ++l) any |= x[i + l] >= floor;
        if (any) break;
    }
    return i;
}

// Calls f(i) for every index, in order, without spans that have no value of at least `floor`. While one span after the
// other has such a value, the next ones are checked less and less often.
template <class F>
void for_spans(const float* x, int64_t n, float floor, F f) {
    int64_t run = kSpan;
    for (int64_t end = 0, i; (i = next_span(x, end, n, floor)) < n;) {
        run = i == end ? 2 * run : kSpan;
        for (end = std::min(n, i + run); i < end; ++i) f(i);
    }
}

// Calls f(start, count) for one chunk after the other.
template <class F>
void for_chunks(int64_t n, F f) {
    for (int64_t start = 0; start < n; start += kChunk) f(start, int(std::min<int64_t>(kChunk, n - start)));
}

// 2^x for -127 <= x <= 0, where 2^-127 is 0; relative error 2e-7.
inline float power_of_2(float x) {
    constexpr float kRound = 12582912;  // 1.5 * 2^23: adding it rounds to a whole number in the low bits
    const float shifted = x + kRound, f = x - (shifted - kRound);
    float p = 1.5403530e-4f;  // Taylor: ln(2)^i / i!
    p = p * f + 1.3333558e-3f;
    p = p * f + 9.6181291e-3f;
    p = p * f + 5.5504109e-2f;
    p = p * f + 2.4022651e-1f;
    p = p * f + 6.9314718e-1f;
    p = p * f + 1;
    uint32_t bits;
    memcpy(&bits, &shifted, 4);
    bits = (bits << 23) + 0x3f800000u;
    float power;
    memcpy(&power, &bits, 4);
    return p * power;
}

template <class T>
double sum_lanes(const T (&lanes)[kLanes]) {
    double sum = 0;
    for (T lane : lanes) sum += lane;
    return sum;
}

inline float exponent(float x, float top, float scale) {
    const float y = (x - top) * (scale * 1.44269504f);
    return y > -127 ? y : -127;
}

inline float weight(float x, float top, float scale) { return power_of_2(exponent(x, top, scale)); }

// Writes the weights e^((x - top) * scale) of up to a chunk of logits; returns their sum.
PYINFER_VECTORS double weigh(const float* x, int n, float top, float scale, float* weights) {
    // in a loop of its own, since the compiler would branch around the polynomial
    for (int i = 0; i < n; ++i) weights[i] = exponent(x[i], top, scale);
    float lanes[kLanes] = {};
    for (; n >= kLanes; n -= kLanes, weights += kLanes)
        for (int l = 0; l < kLanes; ++l) lanes[l] += weights[l] = power_of_2(weights[l]);
    for (int l = 0; l < n; ++l) lanes[l] += weights[l] = power_of_2(weights[l]);
    return sum_lanes(lanes);
}

inline double weigh_all(const float* x, int64_t n, float top, float scale, float* weights) {
    double total = 0;
    for_chunks(n, [&](int64_t start, int count) { total += weigh(x + start, count, top, scale, weights + start); });
    return total;
}

inline double total_weight(const float* x, int64_t n, float top) {
    float weights[kChunk];
    double total = 0;
    for_chunks(n, [&](int64_t start, int count) { total += weigh(x + start, count, top, 1, weights); });
    return total;
}

// The sum of weights times how far their logits lie below `top`.
PYINFER_VECTORS double weighted_below(const float* x, int n, float top, const float* weights) {
    constexpr float kFar = 200;  // where weights are 0, and `top - x` may be inf
    float lanes[kLanes] = {};
    for (; n >= kLanes; n -= kLanes, x += kLanes, weights += kLanes)
        for (int l = 0; l < kLanes; ++l) lanes[l] += weights[l] * std::min(top - x[l], kFar);
    for (int l = 0; l < n; ++l) lanes[l] += weights[l] * std::min(top - x[l], kFar);
    return sum_lanes(lanes);
}

// The mean of how far logits lie below the largest, by weight: the entropy minus the logarithm of the total weight.
inline double mean_below(const float* x, int64_t n, float top) {
    float weights[kChunk];
    double total = 0, below = 0;
    for_chunks(n, [&](int64_t start, int count) {
        total += weigh(x + start, count, top, 1, weights);
        below += weighted_below(x + start, count, top, weights);
    });
    return below / total;
}

struct Moments {
    double count, sum, squares;  // of (logit - top) over the possible logits
};

PYINFER_VECTORS void add_moments(const float* x, int n, float top, Moments& moments) {
    float possible[kChunk];
    for (int i = 0; i < n; ++i) possible[i] = x[i] > kImpossible ? x[i] : top;
    for (int i = 0; i < n; ++i) moments.count += x[i] > kImpossible;
    double sums[kLanes] = {}, squares[kLanes] = {};
    for (int start = 0; start + kLanes <= n; start += kLanes)
        for (int l = 0; l < kLanes; ++l) {
            const double d = double(possible[start + l]) - top;
            sums[l] += d;
            squares[l] += d * d;
        }
    for (int l = 0; l < n % kLanes; ++l) {
        const double d = double(possible[n - n % kLanes + l]) - top;
        sums[l] += d;
        squares[l] += d * d;
    }
    moments.sum += sum_lanes(sums);
    moments.squares += sum_lanes(squares);
}

// The standard deviation of the possible logits.
inline double deviation(const float* x, int64_t n, float top) {
    Moments m{};
    for_chunks(n, [&](int64_t start, int count) { add_moments(x + start, count, top, m); });
    const double mean = m.sum / m.count;
    return std::sqrt(std::max(0.0, m.squares / m.count - mean * mean));
}

// The index where the running sum of weights passes the fraction `uniform`, in [0, 1), of all; its weight is above 0.
inline int64_t draw(const float* x, int64_t n, float scale, double uniform) {
    const float top = largest(x, n);
    float weights[kChunk];
    std::vector<double> sums;
    double total = 0;
    for_chunks(n, [&](int64_t start, int count) {
        sums.push_back(weigh(x + start, count, top, scale, weights));
        total += sums.back();
    });
    double rest = uniform * total;
    size_t chunk = 0;
    for (; chunk + 1 < sums.size() && rest >= sums[chunk]; ++chunk) rest -= sums[chunk];
    while (sums[chunk] == 0) --chunk;  // rounding left a rest after the last weight
    const int64_t start = int64_t(chunk) * kChunk;
    const int count = int(std::min<int64_t>(kChunk, n - start));
    weigh(x + start, count, top, scale, weights);
    int found = 0;
    for (int i = 0; i < count && rest >= 0; ++i) {
        if (weights[i] > 0) found = i;
        rest -= weights[i];
    }
    return start + found;
}

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

PYINFER_VECTORS int64_t count_at_least(const float* x, int64_t n, float floor) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; ++i) count += x[i] >= floor;
    return count;
}

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
