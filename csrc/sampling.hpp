// Steps of sampling that look at every logit: weights, the cuts of top-k, min-p, top-p and typical-p, the draw.
//
// Candidates are ids and logits, in the order of their ids, and stay in it. A cut is found first and applied then. Sums
// have the same terms in the same order for any width of vectors, and nothing is fused, so that a seed gives the same
// tokens on every processor. No logit is NaN or +inf; those of -inf are impossible, and one at least is not.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

// Loops without branches, which the compiler turns into vectors: compiled for wide ones, too, and chosen when loaded.
#if defined(__x86_64__) && defined(__GLIBC__) && __GNUC__ >= 12 && !defined(__clang__)
#define PYINFER_VECTORS __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define PYINFER_VECTORS
#endif

namespace pyinfer {

constexpr int kLanes = 16;     // sums that run side by side
constexpr int kBlock = 32;     // values that a search passes over at once where none of them matters
constexpr int kStretch = 512;  // logits of which keys and weights are made at a time, in the first-level cache
constexpr int kGuess = 16384;  // logits, from which on a sample of them saves more time than it takes
constexpr int kBins = 2048;    // of the histogram over
constexpr float kRange = 24;   // nats; all that lies farther away is in the last bin
constexpr float kNever = -std::numeric_limits<float>::infinity();

inline float next_above(float x) { return std::nextafter(x, -kNever); }

PYINFER_VECTORS float largest(const float* x, int64_t n) {
    float lanes[kBlock];
    std::fill_n(lanes, kBlock, kNever);
    for (; n >= kBlock; n -= kBlock, x += kBlock)
        for (int l = 0; l < kBlock; ++l) lanes[l] = x[l] > lanes[l] ? x[l] : lanes[l];
    for (int l = 0; l < n; ++l) lanes[0] = std::max(lanes[0], x[l]);
    return *std::max_element(lanes, lanes + kBlock);
}

// The start of the first block from `i` on with a value of at least `floor`, or of what does not fill a block.
PYINFER_VECTORS int64_t next_block(const float* x, int64_t i, int64_t n, float floor) {
    for (; i + kBlock <= n; i += kBlock) {
        int any = 0;
        for (int l = 0; l < kBlock; ++l) any |= x[i + l] >= floor;
        if (any) break;
    }
    return i;
}

// Calls f(i) for every index, in order, but for blocks without a value of at least `floor`; the more blocks with one
// come one after the other, the less often is looked.
template <class F>
void for_blocks(const float* x, int64_t n, float floor, F f) {
    int64_t run = kBlock;
    for (int64_t end = 0, i; (i = next_block(x, end, n, floor)) < n;) {
        run = i == end ? 2 * run : kBlock;
        for (end = std::min(n, i + run); i < end; ++i) f(i);
    }
}

// Calls f(start, count) for stretch after stretch.
template <class F>
void for_stretches(int64_t n, F f) {
    for (int64_t start = 0; start < n; start += kStretch) f(start, int(std::min<int64_t>(kStretch, n - start)));
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

// The weights of at most a stretch, e^((x - top) * scale); returns their sum.
PYINFER_VECTORS double weigh(const float* x, int n, float top, float scale, float* weights) {
    // by itself, since the compiler would branch around the polynomial
    for (int i = 0; i < n; ++i) weights[i] = exponent(x[i], top, scale);
    float lanes[kLanes] = {};
    for (; n >= kLanes; n -= kLanes, weights += kLanes)
        for (int l = 0; l < kLanes; ++l) lanes[l] += weights[l] = power_of_2(weights[l]);
    for (int l = 0; l < n; ++l) lanes[l] += weights[l] = power_of_2(weights[l]);
    return sum_lanes(lanes);
}

inline double weigh_all(const float* x, int64_t n, float top, float scale, float* weights) {
    double total = 0;
    for_stretches(n, [&](int64_t start, int count) { total += weigh(x + start, count, top, scale, weights + start); });
    return total;
}

inline double total_weight(const float* x, int64_t n, float top) {
    float weights[kStretch];
    double total = 0;
    for_stretches(n, [&](int64_t start, int count) { total += weigh(x + start, count, top, 1, weights); });
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

// How far logits lie below the largest on average, by weight: the entropy less the logarithm of the total weight.
inline double mean_below(const float* x, int64_t n, float top) {
    float weights[kStretch];
    double total = 0, below = 0;
    for_stretches(n, [&](int64_t start, int count) {
        total += weigh(x + start, count, top, 1, weights);
        below += weighted_below(x + start, count, top, weights);
    });
    return below / total;
}

struct Moments {
    double count, sum, squares;  // of the possible logits, less `top`
};

PYINFER_VECTORS void add_moments(const float* x, int n, float top, Moments& moments) {
    float possible[kStretch];
    for (int i = 0; i < n; ++i) possible[i] = x[i] > kNever ? x[i] : top;
    for (int i = 0; i < n; ++i) moments.count += x[i] > kNever;
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
    for_stretches(n, [&](int64_t start, int count) { add_moments(x + start, count, top, m); });
    const double mean = m.sum / m.count;
    return std::sqrt(std::max(0.0, m.squares / m.count - mean * mean));
}

// The index where the running sum of weights passes the fraction `uniform`, in [0, 1), of all; its weight is above 0.
inline int64_t draw(const float* x, int64_t n, float scale, double uniform) {
    const float top = largest(x, n);
    float weights[kStretch];
    std::vector<double> sums;
    double total = 0;
    for_stretches(n, [&](int64_t start, int count) {
        sums.push_back(weigh(x + start, count, top, scale, weights));
        total += sums.back();
    });
    double rest = uniform * total;
    size_t stretch = 0;
    for (; stretch + 1 < sums.size() && rest >= sums[stretch]; ++stretch) rest -= sums[stretch];
    while (sums[stretch] == 0) --stretch;  // rounding left a rest behind the last weight
    const int64_t start = int64_t(stretch) * kStretch;
    const int count = int(std::min<int64_t>(kStretch, n - start));
    weigh(x + start, count, top, scale, weights);
    int found = 0;
    for (int i = 0; i < count && rest >= 0; ++i) {
        if (weights[i] > 0) found = i;
        rest -= weights[i];
    }
    return start + found;
}

// What candidates are ordered by: the logits, or minus how far they lie from `center` below the largest, `top`.
struct Keys {
    const float* logits;
    bool plain;
    float top, center;
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

// Keys above `key` pass, and of those that equal it the ones up to index `last`; so do no more than `at_most`.
struct Cut {
    float key;
    int64_t last, at_most;
};

PYINFER_VECTORS int64_t count_at_least(const float* x, int64_t n, float floor) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; ++i) count += x[i] >= floor;
    return count;
}

// Writes the ids and logits that pass, and maybe one more; returns how many pass.
inline int64_t compact(const Keys& keys, Cut cut, const int32_t* ids, int64_t n, int32_t* out_ids, float* out_logits) {
    float buffer[kStretch];
    int64_t m = 0;
    for_stretches(n, [&](int64_t start, int count) {
        const float* key = keys_of(keys, start, count, buffer);
        for_blocks(key, count, cut.key, [&](int64_t i) {
            out_ids[m] = ids[start + i];
            out_logits[m] = keys.logits[start + i];
            m += (key[i] > cut.key) | ((key[i] == cut.key) & (start + i <= cut.last));
        });
    });
    return m;
}

PYINFER_VECTORS void mark_below(const float* keys, const float* x, int n, float floor, float* out) {
    for (int i = 0; i < n; ++i) out[i] = keys[i] >= floor ? x[i] : kNever;
}

// Writes all logits, -inf for those that do not pass.
inline void mark(const Keys& keys, Cut cut, int64_t n, float* out) {
    float buffer[kStretch];
    for_stretches(n, [&](int64_t start, int count) {
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

// As compact and mark, for the indices whose bits are set.
inline void compact_bits(const uint32_t* mask, const float* x, int64_t n, int32_t* out_ids, float* out_logits) {
    for (int64_t start = 0; start < n; start += 32)
        for (uint32_t word = mask[start / 32]; word; word &= word - 1) {
            const int64_t i = start + __builtin_ctz(word);
            if (i >= n) break;
            *out_ids++ = int32_t(i);
            *out_logits++ = x[i];
        }
}

// Beside compact_bits, NaNs stay where they are, set or not; out may be x.
PYINFER_VECTORS void mark_bits(const uint32_t* mask, const float* x, int64_t n, float* out) {
    for (int64_t start = 0; start < n; start += 32) {
        const uint32_t word = mask[start / 32];
        const int count = int(std::min<int64_t>(32, n - start));
        for (int l = 0; l < count; ++l) {
            const float most = word >> l & 1 ? -kNever : kNever, value = x[start + l];
            out[start + l] = value > most ? most : value;
        }
    }
}

struct Item {
    float key, weight;
    int64_t index;
};

inline bool before(const Item& a, const Item& b) { return a.key != b.key ? a.key > b.key : a.index < b.index; }

// The cut that leaves the k largest logits, the first of equals.
inline Cut k_largest(const float* x, int64_t n, int64_t k) {
    std::vector<Item> items;
    items.reserve(2 * k + 4 * kBlock);
    float floor = std::numeric_limits<float>::lowest();  // just above the k-th largest so far: equals lose to it
    const auto prune = [&] {
        if (int64_t(items.size()) < k) return;
        std::nth_element(items.begin(), items.begin() + (k - 1), items.end(), before);
        items.resize(k);
        floor = next_above(items.back().key);
    };
    for (int64_t i = 0; (i = next_block(x, i, n, floor)) < n;) {
        for (const int64_t end = std::min(n, i + kBlock); i < end; ++i)
            if (x[i] >= floor) items.push_back({x[i], 0, i});
        if (items.size() + kBlock > items.capacity()) prune();
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

// The bins of a stretch; kBins behind its end.
PYINFER_VECTORS void bins_of(const float* x, int n, float top, float center, int32_t* bins) {
    for (int i = 0; i < n; ++i) bins[i] = bin_of(x[i], top, center);
    for (int i = n; i < kStretch; ++i) bins[i] = kBins;
}

// The weight of a stretch in bins before the first.
PYINFER_VECTORS double weight_before(const int32_t* bins, const float* weights, int first) {
    float before[kStretch];  // by themselves, since the compiler makes worse vectors of it all in one loop
    for (int i = 0; i < kStretch; ++i) before[i] = bins[i] < first ? weights[i] : 0;
    double lanes[kLanes] = {};
    for (int start = 0; start < kStretch; start += kLanes)
        for (int l = 0; l < kLanes; ++l) lanes[l] += before[start + l];
    return sum_lanes(lanes);
}

PYINFER_VECTORS int count_up_to(const int32_t* bins, int last) {
    int count = 0;
    for (int i = 0; i < kStretch; ++i) count += bins[i] <= last;
    return count;
}

// Sets the bits of those of a stretch that are in bins from `first` to `last`.
PYINFER_VECTORS void mark_between(const int32_t* bins, int first, int last, uint32_t* mask) {
    const uint32_t most = last - first;
    for (int start = 0; start < kStretch; start += 32) {
        uint32_t word = 0;
        for (int l = 0; l < 32; ++l) word |= uint32_t(uint32_t(bins[start + l] - first) <= most) << l;
        mask[start / 32] = word;
    }
}

// Calls f(i) for every bit of a stretch that is set.
template <class F>
void for_bits(const uint32_t* mask, F f) {
    for (int start = 0; start < kStretch; start += 64) {
        uint64_t word = uint64_t(mask[start / 32 + 1]) << 32 | mask[start / 32];
        for (; word; word &= word - 1) f(start + __builtin_ctzll(word));
    }
}

struct Histogram {
    double total = 0, before = 0;                           // all weight, and that in bins before the first
    std::vector<double> sums = std::vector<double>(kBins);  // from the first bin to the last; others mean nothing
};

// Of weight over distance. Additions one by one take the most time, so the fewer are from `first` to `last` the better.
inline Histogram histogram(const float* x, int64_t n, float top, float center, float scale, int first, int last) {
    float weights[kStretch] = {};
    int32_t bins[kStretch];
    uint32_t mask[kStretch / 32];
    const bool all = n <= kStretch || (first == 0 && last == kBins - 1);
    Histogram h;
    double* sums = h.sums.data();
    for_stretches(n, [&](int64_t start, int count) {
        h.total += weigh(x + start, count, top, scale, weights);
        bins_of(x + start, count, top, center, bins);
        if (first > 0) h.before += weight_before(bins, weights, first);
        if (!all) mark_between(bins, first, last, mask);
        if (all || count_bits(mask, kStretch) > kStretch / 2)
            for (int i = 0; i < count; ++i) sums[bins[i]] += weights[i];
        else
            for_bits(mask, [&](int i) { sums[bins[i]] += weights[i]; });
    });
    return h;
}

// The last of the fewest items, largest keys first, whose weights add up to `mass`; n > 0.
inline Item enough(Item* items, size_t n, double mass) {
    while (n > 1) {
        const size_t half = n / 2;
        std::nth_element(items, items + half, items + n, before);
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

// Narrows `first` and `last` to the bins between which the sum of weights passes the share p, going by a sample: it is
// probably right, and leaves them where a sample tells nothing.
inline void guess(const float* x, int64_t n, float top, float center, double p, int& first, int& last) {
    std::vector<float> sample;
    for_stretches(n, [&](int64_t start, int count) {
        sample.insert(sample.end(), x + start, x + start + std::min(count, kLanes));
    });
    // or a few logits, that may not be in it, have much of the weight
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
    const double margin = 3 * std::sqrt(variance);  // one guess of 400 is wrong
    sum = weights.sums[first];
    while (first < last && sum < p * weights.total - margin) sum += weights.sums[++first];
    int end = first;
    while (end < last && sum < p * weights.total + margin) sum += weights.sums[++end];
    last = end;
}

// The cut that leaves the fewest candidates, nearest to `center` below the largest logit first, that have at least the
// share p of all weight. A histogram of weight over distance finds the bin where the sum passes p; only that bin is
// looked into. Of large sets, the histogram is made of the bins near a guess first.
inline Cut share(const Keys& keys, int64_t n, double p) {
    const float top = keys.top, center = keys.center, possible = std::numeric_limits<float>::lowest();
    // in the order of weight, those below have less than the share 1 - p altogether, as the largest weight is 1
    const float negligible = center == 0 ? top + float(std::log(std::max(0.0, 1 - p) / double(n))) : possible;
    const int end = bin_of(negligible, top, center);
    int32_t bins[kStretch];
    uint32_t mask[kStretch / 32];
    int first = 0, last = end, border;
    if (n >= kGuess) guess(keys.logits, n, top, center, p, first, last);
    double mass;
    for (;; first = 0, last = end) {
        const Histogram h = histogram(keys.logits, n, top, center, 1, first, last);
        mass = p * h.total - h.before;
        for (border = first; border < kBins - 1 && h.sums[border] < mass; ++border) mass -= h.sums[border];
        if ((first == 0 || mass > 0) && (border <= last || last == end)) break;  // or the guess was wrong
    }
    std::vector<Item> items;
    int64_t at_most = 0;
    for_stretches(n, [&](int64_t start, int count) {
        const float* x = keys.logits + start;
        bins_of(x, count, top, center, bins);
        at_most += count_up_to(bins, border);
        mark_between(bins, border, border, mask);
        for_bits(mask, [&](int i) {
            if (x[i] >= possible) items.push_back({keys.of(x[i]), weight(x[i], top, 1), start + i});
        });
    });
    if (items.empty()) return {kNever, n, n};  // rounding left a rest behind the last weight
    const Item final = enough(items.data(), items.size(), mass);
    return {final.key, final.index, at_most};
}

}  // namespace pyinfer
