// F32, F16, BF16: products with them are float32 products with float32 activations.
#pragma once
#include "formats/block.hpp"

namespace pyinfer {
namespace PYINFER_ISA {

struct F32 {
    static constexpr int kBlock = 1, kBytes = 4;
    static constexpr Field kFields[] = {{0, 4, 4}};
    template <class V, class B>
    static typename V::F value(const B& b) {
        return V::as_float(b.word(0));
    }
};

struct F16 {
    static constexpr int kBlock = 1, kBytes = 2;
    static constexpr Field kFields[] = {{0, 2, 2}};
    template <class V, class B>
    static typename V::F value(const B& b) {
        return b.half(0);
    }
};

struct BF16 {
    static constexpr int kBlock = 1, kBytes = 2;
    static constexpr Field kFields[] = {{0, 2, 2}};
    template <class V, class B>
    static typename V::F value(const B& b) {
        return V::as_float(b.u16(0) << 16);
    }
};

}  // namespace PYINFER_ISA
}  // namespace pyinfer
