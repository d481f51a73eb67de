// Activation tiles: tokens side by side, so that a product reads one stream and broadcasts from it.
//
// Tokens 0..n-1 are cut into tiles of kTile tokens; the last one is as wide as the next power of two. The tile whose
// first token is `first` begins at element `first * k` of an array of k values a token. Lanes from n on hold old,
// finite numbers that nobody reads. Quantization: 32 columns share scale = max|x| / 127, quants are rounded to the
// nearest even number.
#pragma once
#include "kernels/ops.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

struct Tile {
    int first, width;  // tokens [first, first + width)
};

// The tile of n tokens that a token belongs to.
inline Tile tile_of(int token, int n) {
    const int first = token / Vec::kTile * Vec::kTile, left = n - first;
    int width = 1;
    while (width < left && width < Vec::kTile) width *= 2;
    return {first, width};
}

// Writes x [32], columns [column, column + 32) of token t, quantized, with the negated sums of its quants.
inline void quantize32(const Activations& out, int t, Tile tile, int64_t column, const float* x) {
    constexpr int L = Vec::L;
    Vec::F peaks = Vec::abs(Vec::load(x));
    for (int i = L; i < 32; i += L) peaks = Vec::max(peaks, Vec::abs(Vec::load(x + i)));
    const float peak = Vec::max_lane(peaks);
    const float scale = peak / 127.0f;
    const float inverse = peak > 0 && scale > 0 ? 127.0f / peak : 0.0f;
    alignas(64) uint8_t q[32];
    int32_t sums[2] = {0, 0};  // minus the sum of 16 quants each
    for (int i = 0; i < 32; i += L) {
        const Vec::I r = Vec::round(Vec::load(x + i) * inverse);
        Vec::store_u8(q + i, Vec::U(r));
        sums[i / 16] -= int32_t(Vec::sum(Vec::to_float(r)));  // exact: whole numbers below 2^24
    }
    const int w = tile.width, lane = t - tile.first;
    int8_t* quants = out.quants + tile.first * out.k + column * w + lane * 4;
    for (int i = 0; i < 8; ++i) memcpy(quants + i * w * 4, q + 4 * i, 4);
    const int64_t block = tile.first * (out.k / 32) + column / 32 * w + lane;
    out.scales[block] = scale;
    out.pair_sums[block] = int32_t((uint32_t(sums[0]) & 0xffff) | uint32_t(sums[1]) << 16);
    out.block_sums[block] = scale * float(sums[0] + sums[1]);
    int32_t* offset_sums = out.offset_sums + tile.first * (out.k / 16) + column / 16 * w + lane;
    offset_sums[0] = sums[0];
    offset_sums[w] = sums[1];
}

// Writes x [n], columns [column, column + n) of token t, in every form that is wanted; column and n are multiples of 32
// where quants are wanted.
inline void emit(const Activations& out, int t, int n_tokens, int64_t column, int64_t n, const float* x) {
    const Tile tile = tile_of(t, n_tokens);
    if (out.rows && out.rows + t * out.k + column != x) memcpy(out.rows + t * out.k + column, x, n * sizeof(float));
    if (out.tiles) {
        float* to = out.tiles + tile.first * out.k + column * tile.width + (t - tile.first);
        for (int64_t i = 0; i < n; ++i) to[i * tile.width] = x[i];
    }
    if (out.quants)
        for (int64_t i = 0; i < n; i += 32) quantize32(out, t, tile, column + i, x + i);
}

}  // namespace PYINFER_ISA
}  // namespace pyinfer
