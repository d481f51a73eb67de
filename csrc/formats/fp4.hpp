// Formats whose 4-bit quants index sixteen values: IQ4_NL and IQ4_XS (a non-linear scale), MXFP4 and NVFP4 (E2M1
// floats, doubled to be whole).
//
// MXFP4: OCP Microscaling Formats 1.0. NVFP4: four sub-blocks of 16 with an unsigned E4M3 scale each.
#pragma once
#include "formats/legacy.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

// -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113, plus 128
constexpr uint8_t kNonLinear[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};
// 0, 1, 2, 3, 4, 6, 8, 12 and their negatives, plus 16
constexpr uint8_t kE2M1[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};

struct IQ4_NL : HalfScale {
    static constexpr int kBlock = 32, kBytes = 18, kSubBlock = 32, kOffsetLog2 = 7, kMaxQuant = 255;
    static constexpr int kMinSubBlock = 0;
    static constexpr Field kFields[] = {{0, 2, 2}, {2, 16, 4}};
    template <class V, class B>
    static typename V::U quad(const B& b, int, int v) {
        return V::lookup16(kNonLinear, nibble_quad<V>(b, 2, v));
    }
};

struct IQ4_XS {
    static constexpr int kBlock = 256, kBytes = 136, kSubBlock = 32, kOffsetLog2 = 7, kMaxQuant = 255;
    static constexpr int kMinSubBlock = 0;
    static constexpr Field kFields[] = {{0, 4, 2}, {4, 132, 4}};
    template <class V, class B>
    static typename V::F scale(const B& b, int s) {
        const typename V::U low = b.word(4) >> (4 * s) & 15, high = b.u16(2) >> (2 * s) & 3;
        return b.half(0) * V::to_float((typename V::I)(low | high << 4) - 32);
    }
    template <class V, class B>
    static typename V::U quad(const B& b, int s, int v) {
        return V::lookup16(kNonLinear, nibble_quad<V>(b, 8 + 16 * s, v));
    }
};

struct MXFP4 {
    static constexpr int kBlock = 32, kBytes = 17, kSubBlock = 32, kOffsetLog2 = 4, kMaxQuant = 28;
    static constexpr int kMinSubBlock = 0;
    static constexpr Field kFields[] = {{0, 1, 1}, {1, 16, 4}};
    // 2^(e - 128): half of the power of two that the exponent byte stands for, since the values are doubled
    template <class V, class B>
    static typename V::F scale(const B& b, int) {
        const typename V::U e = b.u8(0);
        return V::as_float(e < 2 ? (typename V::U)(0x00200000u << e) : (typename V::U)((e - 1) << 23));
    }
    template <class V, class B>
    static typename V::U quad(const B& b, int, int v) {
        return V::lookup16(kE2M1, nibble_quad<V>(b, 1, v));
    }
};

struct NVFP4 {
    static constexpr int kBlock = 64, kBytes = 36, kSubBlock = 16, kOffsetLog2 = 4, kMaxQuant = 28;
    static constexpr int kMinSubBlock = 0;
    static constexpr Field kFields[] = {{0, 4, 1}, {4, 32, 4}};
    // half of an unsigned E4M3 float; 0x7f, its NaN, counts as zero
    template <class V, class B>
    static typename V::F scale(const B& b, int s) {
        using U = typename V::U;
        const U x = b.u8(s), exponent = x >> 3 & 15, mantissa = x & 7;
        const typename V::F tiny = to_float<V>(mantissa) * 0x1p-10f;
        U bits;
        memcpy(&bits, &tiny, sizeof bits);
        bits = exponent != 0 ? (exponent + 119) << 23 | mantissa << 20 : bits;
        return V::as_float(x == 0x7f ? U{} : bits);
    }
    template <class V, class B>
    static typename V::U quad(const B& b, int s, int v) {
        return V::lookup16(kE2M1, (b.word(4 + 8 * s + v % 2 * 4) >> (v / 2 * 4)) & 0x0f0f0f0f);
    }
};

}  // namespace PYINFER_ISA
}  // namespace pyinfer
