"""C++ declarations of the kernels' interface; see kernels/ops.hpp and plan.hpp for what they mean."""

from libc.stdint cimport int32_t, int64_t, uint8_t, int8_t, uint64_t
from libcpp cimport bool as bool_t


cdef extern from "kernels/ops.hpp" namespace "pyinfer" nogil:
    const int kMaxSegments, kPage, kSplit, kOpKinds

    ctypedef struct Activations:
        int64_t k
        float* rows
        float* tiles
        int8_t* quants
        float* scales
        int32_t* offset_sums
        int32_t* pair_sums
        float* block_sums

    ctypedef struct Weight:
        const uint8_t* data
        int64_t n_rows, k, group_bytes
        int32_t format
        bool_t row_major

    ctypedef struct KVCache:
        uint8_t* keys
        uint8_t* values
        int64_t page_stride, k_head, v_head
        int32_t format, n_kv_heads, head_dim

    ctypedef enum OpKind:
        kEmbed, kNorm, kMatmul, kAngles, kRope, kAttention, kMerge, kGlu, kSoftcap, kPack

    ctypedef enum CountKind:
        kTokens, kOutputs

    ctypedef enum Activation:
        kSilu, kGelu, kGeluErf

    ctypedef struct Embed:
        Weight weight
        float scale
        Weight positions
        const float* added
        Activations out

    ctypedef struct Norm:
        float* x
        const float* y
        const float* post
        const float* weight
        const float* bias
        float eps
        int32_t gather, centered
        Activations out

    ctypedef struct Segment:
        Weight weight
        float* out
        int64_t ld
        const float* bias
        float scale

    ctypedef struct Matmul:
        Activations src
        int32_t n_segments
        Segment segments[4]

    ctypedef struct Angles:
        const double* inv_freq
        int32_t n_pairs
        float mscale
        float* out

    ctypedef struct Rope:
        float* q
        float* k
        float* v
        int32_t n_heads, n_pairs, neox
        float eps, q_scale
        const float* q_norm
        const float* k_norm
        const float* angles
        KVCache cache

    ctypedef struct Attention:
        const float* q
        float* out
        float* partial
        int32_t n_heads, window, causal
        float softcap
        KVCache cache

    ctypedef struct Merge:
        Attention attention
        Activations out

    ctypedef struct Glu:
        Matmul product
        Activation act
        Activations out

    ctypedef struct Softcap:
        float* x
        int64_t k
        float cap

    ctypedef struct Pack:
        const float* x
        Activations out

    ctypedef struct Op:
        OpKind kind
        CountKind count
        Embed embed
        Norm norm
        Matmul matmul
        Angles angles
        Rope rope
        Attention attention
        Merge merge
        Glu glu
        Softcap softcap
        Pack pack

    ctypedef struct QueryTile:
        int32_t first, n_tokens, n_splits, first_split, first_partial

    ctypedef struct Batch:
        int32_t n_tokens, n_outputs, n_threads
        const int32_t* tokens
        const int32_t* positions
        const int32_t* sequences
        const int32_t* outputs
        const int32_t* page_table
        const int32_t* lengths
        int64_t max_pages
        const QueryTile* tiles
        int32_t n_tiles, n_splits, split
        const int32_t* tile_of_token

    ctypedef struct FormatInfo:
        int32_t format, block, block_bytes
        bool_t quantized
        void (*dequantize)(const uint8_t* row, int64_t n_blocks, float* out) noexcept nogil

    ctypedef struct Kernels:
        const char* name
        int32_t tile
        const FormatInfo* (*format)(int32_t format) noexcept nogil
        int64_t (*scratch_bytes)(int32_t max_tokens, int32_t max_row, int32_t tile_rows, int32_t head_dim) noexcept nogil
        int64_t (*dot_limit)(int64_t n, int32_t* sink) noexcept nogil
        void (*rotate_keys)(const KVCache& c, int64_t page, int kv_head, const float* angles, int n_pairs, bool_t neox,
                            float* x) noexcept nogil


cdef extern from "isa/select.hpp" namespace "pyinfer" nogil:
    ctypedef struct Variant:
        const char* name
        Kernels (*make)() noexcept nogil
    const Variant kVariants[4]
    const int kNumVariants


cdef extern from "plan.hpp" namespace "pyinfer" nogil:
    cppclass Progress:
        pass
    ctypedef struct PlanRun:
        const Kernels* kernels
        const Op* ops
        int32_t n_ops
        Progress* progress
        uint8_t* scratch
        int64_t scratch_bytes
        int64_t* nanoseconds
        bool_t (*interrupted)() noexcept nogil
    bool_t run_plan(const PlanRun& run, const Batch& batch) noexcept nogil
    void interleave_rows(const FormatInfo& format, const uint8_t* rows, const Weight& w, int32_t n_threads) noexcept nogil
    void release_threads() noexcept nogil
    bool_t cpu_supports(const char* isa) noexcept nogil


cdef extern from "limits.hpp" namespace "pyinfer" nogil:
    uint64_t read_words(const uint64_t* words, int64_t n) noexcept nogil
    double read_rate(const uint64_t* words, int64_t n, uint64_t& sum) noexcept nogil
    double dot_rate(const Kernels& kernels, double seconds) noexcept nogil
