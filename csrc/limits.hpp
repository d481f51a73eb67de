// What the machine can do at best: reading memory, and dot products on registers. For benchmarks.
//
// A limit is the rate of one thread while others do the same: the median of rounds, each far shorter than the system's
// time slices, so that rounds in which the thread lost its core do not count.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include "kernels/ops.hpp"

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

inline double median(std::vector<double>& values) {
    std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
    return values[values.size() / 2];
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

// Bytes a second that this thread reads; n: at least kRound words. Adds their sum to `sum`, since the compiler would
// leave out what nobody reads.
inline double read_rate(const uint64_t* words, int64_t n, uint64_t& sum) {
    constexpr int64_t kRound = 1 << 17;  // words: 1 MiB
    std::vector<double> rates;
    Stopwatch watch;
    for (int64_t i = 0; i + kRound <= n; i += kRound) {
        sum += read_words(words + i, kRound);
        rates.push_back(kRound * 8 / watch.lap());
    }
    return median(rates);
}

// Multiply-accumulates a second, over `seconds`.
inline double dot_rate(const Kernels& kernels, double seconds) {
    constexpr double kRound = 1e-4;  // seconds
    alignas(64) int32_t sink[16];
    std::vector<double> rates;
    Stopwatch watch;
    double all = 0;
    for (int64_t n = 256; rates.empty() || all < seconds;) {
        const int64_t macs = kernels.dot_limit(n, sink);
        const double took = watch.lap();
        all += took;
        if (took < kRound)
            n *= 2;
        else
            rates.push_back(double(macs) / took);
    }
    return median(rates);
}

}  // namespace pyinfer
