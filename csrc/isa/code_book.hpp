// Code books: tables of quants that formats name by an index, in the forms in which instruction sets look them up.
#pragma once
#include <cstdint>

namespace pyinfer {
namespace PYINFER_ISA {

// A code book of N entries of four values (Halves = 1) or eight (2), as an instruction set likes to look it up:
//   words[i]      the bytes of entry i, four values in a word
//   nibbles[i]    its codes in 16 bits, values 0, 2, 1, 3 in the nibbles from the lowest on; of eight values, nibbles
//                 have that of value v in the low two bits, that of v + 4 in the high ones
//   bytes[h][n]   the byte of half h that a nibble n stands for
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
