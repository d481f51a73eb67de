// SentencePiece's precompiled map of characters (`tokenizer.ggml.precompiled_charsmap`): the longest prefix of a text
// that is in the map is replaced. It is a double array (Aoe 1989) with XOR for its offsets, and the replacements, each
// with a zero at its end. A node has 32 bits: 0-7 the byte that leads to it, 8 whether a prefix ends there, 9 whether
// the offset is in units of 256, 10-30 the offset to its children; the child by byte 0 has the place of the
// replacement in bits 0-30.
//
// The map comes from a file and may be damaged: every place is checked before it is read.
#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace pyinfer {

class Charsmap {
  public:
    static constexpr size_t MAX_PREFIX = 256;  // bytes; those of Unicode's normal forms have fewer than 40

    // replacements: ends with a zero, and has one after at most MAX_REPLACEMENT bytes (pyinfer/tokenizer/unigram.py).
    void set(const uint32_t* nodes, size_t n_nodes, const char* replacements, size_t n_bytes) {
        nodes_.assign(nodes, nodes + n_nodes);
        replacements_.assign(replacements, n_bytes);
    }

    struct Match {
        size_t length = 0;             // of the prefix in bytes; 0: none is in the map
        std::string_view replacement;  // of the prefix
        bool damaged = false;          // a place lies outside the map
    };

    Match find(std::string_view text) const {
        Match match;
        if (nodes_.empty()) return match;
        size_t node = offset(nodes_[0]);
        const size_t n = text.size() < MAX_PREFIX ? text.size() : MAX_PREFIX;
        for (size_t i = 0; i < n; ++i) {
            const uint8_t byte = static_cast<uint8_t>(text[i]);
            node ^= byte;
            if (byte == 0) break;
            if (node >= nodes_.size()) return damage();
            const uint32_t unit = nodes_[node];
            if ((unit & 0x800000FFu) != byte) break;
            node ^= offset(unit);
            if (!(unit >> 8 & 1)) continue;
            if (node >= nodes_.size()) return damage();
            const size_t at = nodes_[node] & 0x7FFFFFFFu;
            if (at >= replacements_.size()) return damage();
            match.length = i + 1;
            match.replacement = std::string_view(replacements_.data() + at, std::strlen(replacements_.data() + at));
        }
        return match;
    }

  private:
    static size_t offset(uint32_t unit) { return static_cast<size_t>(unit >> 10) << ((unit & (1u << 9)) >> 6); }
    static Match damage() {
        Match match;
        match.damaged = true;
        return match;
    }

    std::vector<uint32_t> nodes_;
    std::string replacements_;
};

}  // namespace pyinfer
