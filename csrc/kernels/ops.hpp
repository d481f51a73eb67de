// What operations are made of: activations, weights, caches, and what varies from pass to pass. Independent of the
// instruction set.
//
// The operations themselves are in ops/, one file each; ops/all.hpp lists them. All matrices are row-major float32
// [n_tokens, columns] unless said otherwise. "Rows" of an operation are a pass's tokens, its outputs (rows that are
// wanted after the last norm), its logits (the first of those), or as many as an earlier operation of the pass counted.
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
    int64_t page_stride;     // bytes from page to page
    int64_t k_head, v_head;  // bytes of a page's keys, and of its values, for one KV head
    int32_t format;          // ggml type id of the elements
    int32_t n_kv_heads;
    int32_t k_dim, v_dim;  // dimensions of a head's keys (and queries) and of its values
    int32_t table;         // which of the pass's page tables has the sequences' pages
};

// Of each sequence: its pages in the order of positions or, for recurrent layers, the row of its state.
struct Table {
    const int32_t* entries;  // [n_sequences][max_entries]
    int64_t max_entries;
};

// Consecutive tokens of one sequence, which attention treats together.
struct QueryTile {
    int32_t first, n_tokens;
    int32_t n_splits, first_split;  // splits of kSplit positions; how many splits the tiles before it have
    int32_t first_partial;          // the same, times their tokens
};

// What varies from pass to pass. Everything that is an index was checked before.
struct Batch {
    int32_t n_tokens;
    int32_t n_outputs;  // rows that are wanted after the last norm
    int32_t n_logits;   // the first of the outputs: those whose logits are wanted
    int32_t n_threads;
    const int32_t* tokens;     // [n_tokens] ids; -1: the row is one of `embeddings`
    const int32_t* positions;  // [n_axes][n_tokens]; axis 0 is the place in the sequence, which is that in the cache
    int64_t axis_stride;       // from axis to axis of positions; 0: all axes are alike
    const int32_t* sequences;  // [n_tokens]
    const int32_t* outputs;    // [n_outputs] tokens
    const float* embeddings;   // [n_embedded][k]
    const int32_t* embedded;   // [n_tokens] rows of `embeddings`, where the token is -1
    const Table* tables;       // of each memory group
    const int32_t* lengths;    // [n_sequences] one more than a sequence's last position in this pass
    const QueryTile* tiles;
    int32_t n_tiles;
    int32_t n_splits;  // of all tiles, for one KV head
    int32_t split;     // whether splits are units of their own
    const int32_t* tile_of_token;
    float* partials;  // splits that wait to be merged: [..][n_heads][2 + padded v_dim]: maximum, sum, weighted values
};

// One thread's private memory.
struct Worker {
    uint8_t* scratch;
};

struct FormatInfo {
    int32_t format, block, block_bytes;
    bool quantized;  // products with it take quantized activations
    // row-major blocks of up to 16 rows to one row group; rows beyond n_rows become zero
    void (*interleave)(const uint8_t* rows, int64_t row_bytes, int64_t n_rows, int64_t n_blocks, uint8_t* group);
    void (*dequantize)(const uint8_t* row, int64_t n_blocks, float* out);
    void (*dequantize_grouped)(const uint8_t* group, int lane, int64_t n_blocks, float* out);
};

}  // namespace pyinfer
