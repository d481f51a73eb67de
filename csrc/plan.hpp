// Executes a recorded plan: one OpenMP parallel region a pass, in which operations follow one another.
//
// Threads take units of an operation from a shared counter, so that a thread that lost its core leaves its share to
// the others. Who finds no unit left waits until the last one is done, spinning briefly, then asleep.
//
// Invariants:
// - An operation begins once all units of those before it are done, so it may read what they wrote, row counts too.
// - A thread may come to an operation after others have done all of it and gone on. It must then find the number of
//   units that they found, so a row count that is written in a pass is written by one operation only.
// - After each operation the calling thread looks whether to end: `stop` is set, or, if it may handle signals, Ctrl-C
// was
//   pressed. Then no thread begins an operation after the next one.
// - Nothing here allocates, throws or needs the GIL (but `interrupted`).
#pragma once
#ifdef _OPENMP
#include <omp.h>
#endif
#include <atomic>
#include <chrono>
#include <climits>
#include <cstdint>

#include "ops/all.hpp"
#include "platform.hpp"

namespace pyinfer {

// How far an operation is. It is done when all its units are, whichever threads were there: one that lost its core
// between two units is not waited for.
class Progress {
  public:
    void start() {
        next_.store(0, std::memory_order_relaxed);
        done_.store(0, std::memory_order_relaxed);
    }
    // The next unit that nobody has taken; `units` or more: there is none.
    uint32_t take() { return next_.fetch_add(1, std::memory_order_relaxed); }
    void finish(uint32_t units, std::atomic<uint32_t>& sleepers) {
        if (done_.fetch_add(1) + 1 == units && sleepers.load() != 0) wake_all(done_);
    }
    void wait(uint32_t units, std::atomic<uint32_t>& sleepers) {
        for (int i = 0; i < kSpins; ++i) {
            if (done_.load(std::memory_order_acquire) == units) return;
            spin_pause();
        }
        sleepers.fetch_add(1);
        for (uint32_t now; (now = done_.load()) != units;) sleep_while(done_, now);
        sleepers.fetch_sub(1);
    }

  private:
    static constexpr int kSpins = 4000;  // some tens of microseconds: longer than most operations' tails
    std::atomic<uint32_t> next_{0}, done_{0};
};

inline Progress* new_progress(int32_t n) { return new Progress[n]; }
inline void delete_progress(Progress* progress) { delete[] progress; }

// Set from any thread to end the pass under way.
class StopFlag {
  public:
    void set() { set_.store(true, std::memory_order_relaxed); }
    void clear() { set_.store(false, std::memory_order_relaxed); }
    bool is_set() const { return set_.load(std::memory_order_relaxed); }

  private:
    std::atomic<bool> set_{false};
};

enum PassEnd { kDone, kStopped, kInterrupted };

struct PlanRun {
    const Kernels* kernels;
    const Op* ops;
    int32_t n_ops;
    Progress* progress;  // [n_ops]
    uint8_t* scratch;    // [n_threads][scratch_bytes]
    int64_t scratch_bytes;
    int64_t* nanoseconds;  // [n_ops], added to; or null
    const StopFlag* stop;
    bool (*interrupted)();  // whether a signal's handler raised; null: this thread handles no signals
};

inline PassEnd run_plan(const PlanRun& run, const Batch& batch) {
    using Clock = std::chrono::steady_clock;
    for (int32_t i = 0; i < run.n_ops; ++i) run.progress[i].start();
    std::atomic<uint32_t> sleepers{0};
    std::atomic<int32_t> last{INT32_MAX};  // operation to begin
    PassEnd end = kDone;                   // written by the calling thread only
#ifdef _OPENMP
#pragma omp parallel num_threads(batch.n_threads)
#endif
    {
        int32_t me = 0;
#ifdef _OPENMP
        me = omp_get_thread_num();
#endif
        const Worker worker{run.scratch + me * run.scratch_bytes};
        Clock::time_point asked = Clock::now(), began = asked;
        for (int32_t i = 0; i < run.n_ops && i <= last.load(std::memory_order_relaxed); ++i) {
            const Op& op = run.ops[i];
            const OpKernel& kernel = run.kernels->ops[op.kind];
            const uint32_t units = uint32_t(kernel.units(op, batch));
            if (units == 0) continue;
            Progress& progress = run.progress[i];
            for (uint32_t unit; (unit = progress.take()) < units;) {
                kernel.run(op, batch, worker, int32_t(unit));
                progress.finish(units, sleepers);
            }
            if (me == 0 && end == kDone) {
                if (run.stop->is_set()) {
                    end = kStopped;
                } else if (run.interrupted) {
                    const Clock::time_point now = Clock::now();
                    if (now - asked > std::chrono::milliseconds(50)) {
                        asked = now;
                        if (run.interrupted()) end = kInterrupted;
                    }
                }
                if (end != kDone) last.store(i, std::memory_order_relaxed);
            }
            progress.wait(units, sleepers);
            if (me == 0 && run.nanoseconds) {
                const Clock::time_point now = Clock::now();
                run.nanoseconds[i] += std::chrono::duration_cast<std::chrono::nanoseconds>(now - began).count();
                began = now;
            }
        }
    }
    return end;
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
#if defined(_OPENMP) && __GNUC__ >= 9 && !defined(__clang__)  // LLVM's runtime would end those of all threads
    omp_pause_resource_all(omp_pause_hard);
#endif
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
