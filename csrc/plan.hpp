// Executes a recorded plan: one OpenMP parallel region a pass, a barrier between operations.
//
// Threads take units of an operation from a shared counter, so that a thread that lost its core leaves its share to
// the others. Barriers spin briefly, then sleep. Between operations the calling thread asks now and then whether to
// stop (Ctrl-C); the operation that was asked in is then the last one for all threads.
#pragma once
#ifdef _OPENMP
#include <omp.h>
#endif
#include <atomic>
#include <chrono>
#include <climits>
#include <cstdint>

#include "kernels/ops.hpp"
#include "platform.hpp"

namespace pyinfer {

class Barrier {
  public:
    void wait(uint32_t n_threads) {
        if (n_threads == 1) return;
        const uint32_t now = phase_.load(std::memory_order_acquire);
        if (arrived_.fetch_add(1) + 1 == n_threads) {
            arrived_.store(0);
            phase_.store(now + 1);
            if (sleepers_.load() != 0) wake_all(phase_);
            return;
        }
        for (int i = 0; i < kSpins; ++i) {
            if (phase_.load(std::memory_order_acquire) != now) return;
            spin_pause();
        }
        sleepers_.fetch_add(1);
        while (phase_.load() == now) sleep_while(phase_, now);
        sleepers_.fetch_sub(1);
    }

  private:
    static constexpr int kSpins = 4000;  // some tens of microseconds: longer than most operations' tails
    std::atomic<uint32_t> phase_{0}, arrived_{0}, sleepers_{0};
};

struct PlanRun {
    const Kernels* kernels;
    const Op* ops;
    int32_t n_ops;
    std::atomic<int32_t>* next_unit;  // [n_ops]
    uint8_t* scratch;                 // [n_threads][scratch_bytes]
    int64_t scratch_bytes;
    int64_t* nanoseconds;  // [n_ops], added to; or null
    bool (*interrupted)();
};

// Returns false when it was interrupted.
inline bool run_plan(const PlanRun& run, const Batch& batch) {
    using Clock = std::chrono::steady_clock;
    for (int32_t i = 0; i < run.n_ops; ++i) run.next_unit[i].store(0, std::memory_order_relaxed);
    Barrier barrier;
    std::atomic<int32_t> last{INT32_MAX};
    int32_t n_threads = batch.n_threads;
#ifdef _OPENMP
#pragma omp parallel num_threads(batch.n_threads)
#else
    n_threads = 1;
#endif
    {
        int32_t me = 0;
#ifdef _OPENMP
        me = omp_get_thread_num();
#pragma omp single
        n_threads = omp_get_num_threads();
#endif
        const Worker worker{run.scratch + me * run.scratch_bytes};
        Clock::time_point asked = Clock::now(), began = asked;
        for (int32_t i = 0; i < run.n_ops && i <= last.load(std::memory_order_relaxed); ++i) {
            const Op& op = run.ops[i];
            const OpKernel& kernel = run.kernels->ops[op.kind];
            const int32_t units = kernel.units(op, batch);
            if (units == 0) continue;
            for (int32_t unit; (unit = run.next_unit[i].fetch_add(1, std::memory_order_relaxed)) < units;)
                kernel.run(op, batch, worker, unit);
            if (me == 0) {
                const Clock::time_point now = Clock::now();
                if (now - asked > std::chrono::milliseconds(50)) {
                    asked = now;
                    if (run.interrupted()) last.store(i, std::memory_order_relaxed);
                }
            }
            barrier.wait(uint32_t(n_threads));
            if (me == 0 && run.nanoseconds) {
                const Clock::time_point now = Clock::now();
                run.nanoseconds[i] += std::chrono::duration_cast<std::chrono::nanoseconds>(now - began).count();
                began = now;
            }
        }
    }
    return last.load() == INT32_MAX;
}

// Splits 0..n over threads; for work outside of plans, such as loading.
template <class F>
void parallel_for(int64_t n, int32_t n_threads, F f) {
#ifdef _OPENMP
#pragma omp parallel for num_threads(n_threads) schedule(dynamic, 1)
#endif
    for (int64_t i = 0; i < n; ++i) f(i);
    (void)n_threads;
}

// Ends the threads that OpenMP keeps waiting, so that a fork has none to lose.
inline void release_threads() {
#if defined(_OPENMP) && _OPENMP >= 201811
    omp_pause_resource_all(omp_pause_hard);
#endif
}

// Sums 64-bit words, eight streams of them; the reading is what is timed.
inline uint64_t read_words(const uint64_t* words, int64_t n) {
    uint64_t sums[8] = {};
    for (int64_t i = 0; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; ++j) sums[j] += words[i + j];
    uint64_t sum = 0;
    for (uint64_t s : sums) sum += s;
    return sum;
}

// Row-major rows to row groups, in parallel. Both sides were checked by the caller.
inline void interleave_rows(const FormatInfo& format, const uint8_t* rows, const Weight& w, int32_t n_threads) {
    const int64_t n_blocks = w.k / format.block, row_bytes = n_blocks * format.block_bytes;
    parallel_for((w.n_rows + 15) / 16, n_threads, [&](int64_t g) {
        const int64_t left = w.n_rows - g * 16;
        format.interleave(rows + g * 16 * row_bytes, row_bytes, left < 16 ? left : 16, n_blocks,
                          const_cast<uint8_t*>(w.data) + g * w.group_bytes);
    });
}

}  // namespace pyinfer
