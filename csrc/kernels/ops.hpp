// The operations of a plan: what each one reads, writes and is told. Independent of the instruction set.
//
// A plan is an array of Op. Each instruction set has a table of OpKernel, indexed by OpKind: `units` says into how many
// independent units the operation splits for a pass, `run` computes one of them. Which thread runs a unit never
// changes a result. All matrices are row-major float32 [n_tokens, columns] unless said otherwise.
#pragma once
#include <cstdint>

namespace pyinfer {

constexpr int kMaxSegments = 4;
constexpr int kPage = 64;    // positions of a KV page: one block of the online softmax
constexpr int kSplit = 512;  // positions of a split: attention partials are merged in this grain, whoever computes them

// Activations [n, k] in the forms that their readers want; a null pointer is a form nobody wants.
// Tiles hold up to kTile tokens side by side (w = 1, 2, 4 or 8; see kernels/tile.hpp), quantized per 32 values.
struct Activations {
    int64_t k;
    float* rows;           // [n][k]
    float* tiles;          // tiles [k][w]
    int8_t* quants;        // tiles [k/4][w][4]
    float* scales;         // tiles [k/32][w]
    int32_t* offset_sums;  // tiles [k/16][w]: minus the sum of 16 quants
    int32_t* pair_sums;    // tiles [k/32][w]: both offset_sums of 32 quants, as int16 pairs
    float* block_sums;     // tiles [k/32][w]: scale * minus the sum of 32 quants
};

// A matrix [n_rows, k] in row groups (see formats/block.hpp), or in rows as the file has them.
struct Weight {
    const uint8_t* data;
    int64_t n_rows, k, group_bytes;  // group_bytes: of 16 rows, either way
    int32_t format;                  // ggml type id
    bool row_major;                  // as in the file; of any alignment
};

struct KVCache {             // of one layer
    uint8_t *keys, *values;  // of page 0, head 0: see kernels/kv.hpp
    int64_t page_stride;     // bytes from page to page, of all layers
    int64_t k_head, v_head;  // bytes from KV head to KV head
    int32_t format, n_kv_heads, head_dim;
};

enum OpKind : int32_t { kEmbed, kNorm, kMatmul, kAngles, kRope, kAttention, kMerge, kGlu, kSoftcap, kPack, kOpKinds };
enum CountKind : int32_t { kTokens, kOutputs };  // whether an operation's rows are the batch's tokens or its outputs
enum Activation : int32_t { kSilu, kGelu, kGeluErf };

struct Embed {  // out = scale * the token's row of `weight` + the position's row of `positions` + added
    Weight weight;
    float scale;
    Weight positions;    // without data: none
    const float* added;  // [k] or null
    Activations out;
};

// x += post ? norm(y) * post : y;  out = norm(x) * weight + bias, which may be x itself
struct Norm {
    float* x;             // [n, k]; with gather: rows are picked by the batch's outputs
    const float* y;       // or null
    const float* post;    // or null
    const float* weight;  // [k]
    const float* bias;    // [k] or null
    float eps;
    int32_t gather;
    int32_t centered;  // of x, the mean is taken away first (LayerNorm); else RMSNorm
    Activations out;
};

struct Segment {
    Weight weight;
    float* out;  // [n, ld]
    int64_t ld;
    const float* bias;  // [n_rows] or null
    float scale;
};

struct Matmul {  // for each segment: out = scale * (src @ weight.T) + bias
    Activations src;
    int32_t n_segments;
    Segment segments[kMaxSegments];
};

struct Angles {              // out[t] = cos and sin of position * inv_freq, times mscale
    const double* inv_freq;  // [n_pairs]
    int32_t n_pairs;
    float mscale;
    float* out;  // [n, 2, n_pairs]
};

struct Rope {  // norms and rotates the heads of q and k; stores k and v in the cache
    float* q;  // [n, n_heads * head_dim], in place
    float* k;  // [n, n_kv_heads * head_dim]
    float* v;
    int32_t n_heads, n_pairs, neox;
    float eps, q_scale;
    const float *q_norm, *k_norm;  // [head_dim] or null
    const float* angles;           // [n, 2, n_pairs]; null: nothing turns
    KVCache cache;
};

struct Attention {
    const float* q;  // [n, n_heads * head_dim]
    float* out;      // [n, n_heads * head_dim]
    float* partial;  // splits that wait to be merged: [..][n_heads][2 + head_dim]: maximum, sum, weighted values
    int32_t n_heads, window;  // window 0: none
    int32_t causal;           // a token sees positions up to its own; else all of its sequence
    float softcap;            // 0: none
    KVCache cache;
};

struct Merge {  // merges attention's splits, where it made any, and packs its rows
    Attention attention;
    Activations out;
};

struct Glu {  // out = act(gate) * up: the products of two segments, whose own `out` is not used; of one, act(gate)
    Matmul product;
    Activation act;
    Activations out;
};

struct Softcap {  // x = cap * tanh(x / cap)
    float* x;
    int64_t k;
    float cap;
};

struct Pack {  // rows to tiles
    const float* x;
    Activations out;
};

struct Op {
    OpKind kind;
    CountKind count;
    union {
        Embed embed;
        Norm norm;
        Matmul matmul;
        Angles angles;
        Rope rope;
        Attention attention;
        Merge merge;
        Glu glu;
        Softcap softcap;
        Pack pack;
    };
};

// Consecutive tokens of one sequence, which attention treats together.
struct QueryTile {
    int32_t first, n_tokens;
    int32_t n_splits, first_split;  // splits of kSplit positions; how many splits the tiles before it have
    int32_t first_partial;          // the same, times their tokens
};

// What varies from pass to pass.
struct Batch {
    int32_t n_tokens, n_outputs, n_threads;
    const int32_t* tokens;      // [n_tokens]
    const int32_t* positions;   // [n_tokens]
    const int32_t* sequences;   // [n_tokens]
    const int32_t* outputs;     // [n_outputs] rows whose logits are wanted
    const int32_t* page_table;  // [n_sequences][max_pages]
    const int32_t* lengths;     // [n_sequences] one more than a sequence's last position in this pass
    int64_t max_pages;
    const QueryTile* tiles;
    int32_t n_tiles;
    int32_t n_splits;  // of all tiles, for one KV head
    int32_t split;     // whether splits are units of their own
    const int32_t* tile_of_token;

    int32_t rows(CountKind count) const { return count == kTokens ? n_tokens : n_outputs; }
};

// One thread's private memory.
struct Worker {
    uint8_t* scratch;
};

struct OpKernel {
    int32_t (*units)(const Op&, const Batch&);
    void (*run)(const Op&, const Batch&, const Worker&, int32_t unit);
};

struct FormatInfo {
    int32_t format, block, block_bytes;
    bool quantized;  // products with it take quantized activations
    // row-major blocks of up to 16 rows to one row group; rows beyond n_rows become zero
    void (*interleave)(const uint8_t* rows, int64_t row_bytes, int64_t n_rows, int64_t n_blocks, uint8_t* group);
    void (*dequantize)(const uint8_t* row, int64_t n_blocks, float* out);
    void (*dequantize_grouped)(const uint8_t* group, int lane, int64_t n_blocks, float* out);
};

struct Kernels {
    const char* name;
    int32_t tile;  // tokens of a full activation tile
    OpKernel ops[kOpKinds];
    const FormatInfo* (*format)(int32_t format);  // null: unknown
    int64_t (*scratch_bytes)(int32_t max_tokens, int32_t max_row, int32_t tile_rows, int32_t head_dim);
    int64_t (*dot_limit)(int64_t n, int32_t* sink);  // see kernels/dot_limit.hpp
    void (*rotate_keys)(const KVCache& c, int64_t page, int kv_head, const float* angles, int n_pairs, bool neox,
                        float* x);  // see kernels/shift.hpp
};

}  // namespace pyinfer
