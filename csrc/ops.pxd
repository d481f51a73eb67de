"""C++ declarations of the kernels' interface. Structs are taken from the headers by structs.py."""

from libc.stdint cimport int32_t, int64_t, uint8_t, int8_t, uint64_t
from libcpp cimport bool as bool_t

include "structs.pxi"


cdef extern from "isa/select.hpp" namespace "pyinfer" nogil:
    ctypedef struct Variant:
        const char* name
        Kernels (*make)() noexcept nogil
    const Variant kVariants[4]
    const int kNumVariants


cdef extern from "plan.hpp" namespace "pyinfer" nogil:
    cppclass Progress:
        pass
    Progress* new_progress(int32_t n) except +
    void delete_progress(Progress* progress) noexcept
    cppclass StopFlag:
        void set() noexcept
        void clear() noexcept
    ctypedef enum PassEnd:
        kDone, kStopped, kInterrupted
    ctypedef struct PlanRun:
        const Kernels* kernels
        const Op* ops
        int32_t n_ops
        Progress* progress
        uint8_t* scratch
        int64_t scratch_bytes
        int64_t* nanoseconds
        const StopFlag* stop
        bool_t (*interrupted)() noexcept nogil
    PassEnd run_plan(const PlanRun& run, const Batch& batch) noexcept nogil
    void interleave_rows(const FormatInfo& format, const uint8_t* rows, const Weight& w, int32_t n_threads) noexcept nogil
    void release_threads() noexcept nogil
    bool_t cpu_supports(const char* isa) noexcept nogil


cdef extern from "limits.hpp" namespace "pyinfer" nogil:
    const int64_t kReadRound
    const double kDotRound
    uint64_t read_words(const uint64_t* words, int64_t n) noexcept nogil
    double read_rate(const uint64_t* words, int64_t n, uint64_t& sum, double* rates) noexcept nogil
    double dot_rate(const Kernels& kernels, double seconds, double* rates) noexcept nogil
