// Code books: tables of four or eight quants each, of which formats store the index.
#pragma once
#include <cstdint>

namespace pyinfer {
namespace PYINFER_ISA {

// A code book of N entries of four values (Halves = 1) or eight (Halves = 2), in the two forms in which instruction
// sets look it up: `words`, or `nibbles` and then `bytes`.
//   words[i]      the bytes of entry i, a quad in a word
//   nibbles[i]    the entry's codes in 16 bits: those of values 0, 2, 1, 3 in nibbles, from the lowest on; of eight
//   values,
//                 a nibble has the code of value v in its low two bits and that of value v + 4 in its high ones
//   bytes[h][n]   the byte of value v + 4 * h, if its nibble is n
template <int N, int Halves>
struct CodeBook {
    uint32_t words[N][Halves];
    alignas(64) uint16_t nibbles[N];
    alignas(16) uint8_t bytes[Halves][16];
};

template <int Bits, int Halves, int N, int M>
constexpr CodeBook<N, Halves> code_book(const uint16_t (&grid)[N], const uint8_t (&bytes)[M]) {
    constexpr int kPlace[] = {0, 2, 1, 3}, kCode = (1 << Bits) - 1;
    CodeBook<N, Halves> out{};
    for (int i = 0; i < N; ++i)
        for (int j = 0; j < 4 * Halves; ++j) {
            const int code = grid[i] >> Bits * j & kCode;
            out.words[i][j / 4] |= uint32_t(bytes[code]) << j % 4 * 8;
            out.nibbles[i] |= uint16_t(code << (kPlace[j % 4] * 4 + j / 4 * Bits));
        }
    for (int h = 0; h < Halves; ++h)
        for (int n = 0; n < 16; ++n) out.bytes[h][n] = bytes[n >> h * Bits & kCode];
    return out;
}

}  // namespace PYINFER_ISA
}  // namespace pyinfer
