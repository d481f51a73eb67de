// Loops over all logits of a row: the largest, weights (probabilities times a constant), moments, the draw.
//
// Sums have the same terms in the same order for any width of vectors, and no multiplication is fused with an addition,
// so that a seed gives the same tokens on every processor. No logit is NaN or +inf; those of -inf are impossible, and
// at least one is not.
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

constexpr int kLanes = 16;   // sums that run side by side
constexpr int kSpan = 32;    // logits that a search skips together, if none of them matters
constexpr int kChunk = 512;  // logits whose keys and weights are computed at a time, in L1
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

PYINFER_VECTORS int64_t count_at_least(const float* x, int64_t n, float floor) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; ++i) count += x[i] >= floor;
    return count;
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

}  // namespace pyinfer
