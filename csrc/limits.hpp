// What the machine can do at best: reading memory, and dot products on registers. For benchmarks.
//
// A limit is the rate of one thread while others do the same: the median of rounds, each far shorter than the system's
// time slices, so that rounds in which the thread lost its core do not count.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstdint>

#include "ops/all.hpp"

namespace pyinfer {

class Stopwatch {
  public:
    // Seconds since the last call.
    double lap() {
        const Clock::time_point before = last_;
        last_ = Clock::now();
        return std::chrono::duration<double>(last_ - before).count();
    }

  private:
    using Clock = std::chrono::steady_clock;
    Clock::time_point last_ = Clock::now();
};

inline double median(double* values, int64_t n) {
    std::nth_element(values, values + n / 2, values + n);
    return values[n / 2];
}

// Reads n 64-bit words and returns their sum, made of eight sums side by side. One core reads faster with prefetches.
inline uint64_t read_words(const uint64_t* words, int64_t n) {
    uint64_t sums[8] = {};
    for (int64_t i = 0; i + 8 <= n; i += 8) {
        __builtin_prefetch(words + i + 1024);
        for (int j = 0; j < 8; ++j) sums[j] += words[i + j];
    }
    uint64_t sum = 0;
    for (uint64_t s : sums) sum += s;
    return sum;
}

constexpr int64_t kReadRound = 1 << 17;  // words of a round: 1 MiB
constexpr double kDotRound = 1e-4;       // seconds that a round takes at least

// Bytes a second that this thread reads; n: at least kReadRound words. Adds their sum to `sum`, since the compiler
// would leave out what nobody reads. rates: for use here, [n / kReadRound].
inline double read_rate(const uint64_t* words, int64_t n, uint64_t& sum, double* rates) {
    int64_t n_rounds = 0;
    Stopwatch watch;
    for (int64_t i = 0; i + kReadRound <= n; i += kReadRound) {
        sum += read_words(words + i, kReadRound);
        rates[n_rounds++] = kReadRound * 8 / watch.lap();
    }
    return median(rates, n_rounds);
}

// Multiply-accumulates a second, over `seconds`. rates: for use here, [seconds / kDotRound + 2].
inline double dot_rate(const Kernels& kernels, double seconds, double* rates) {
    alignas(64) int32_t sink[16];
    int64_t n_rounds = 0;
    Stopwatch watch;
    double all = 0;
    for (int64_t n = 256; n_rounds == 0 || all < seconds;) {
        const int64_t macs = kernels.dot_limit(n, sink);
        const double took = watch.lap();
        all += took;
        if (took < kDotRound)
            n *= 2;
        else
            rates[n_rounds++] = double(macs) / took;
    }
    return median(rates, n_rounds);
}

}  // namespace pyinfer
