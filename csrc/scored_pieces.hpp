// SentencePiece's BPE by scores ("llama"): pieces are UTF-8, with spaces as they are; text without a piece becomes
// tokens of its bytes.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "joining.hpp"

namespace pyinfer {

// Several threads may encode at once.
class ScoredPieces {
  public:
    // Texts have spaces already; byte_values[i] is the byte of a byte token, else -1.
    void add_tokens(const char* buffer, const int64_t* offsets, const int64_t* lengths, const int32_t* types,
                    const int16_t* byte_values, const float* scores, int32_t n) {
        size_t bytes = 0;
        for (int32_t i = 0; i < n; ++i) bytes += static_cast<size_t>(lengths[i]);
        strings_.reserve(static_cast<size_t>(n), bytes);
        byte_tokens_.fill(-1);
        joins_space_[' '] = true;
        orders_.resize(static_cast<size_t>(n));
        std::string piece;
        for (int32_t i = 0; i < n; ++i) {
            const std::string_view text(buffer + offsets[i], static_cast<size_t>(lengths[i]));
            orders_[i] = order(scores[i]);
            const bool special = types[i] == CONTROL || types[i] == UNKNOWN || types[i] == USER_DEFINED;
            if (byte_values[i] >= 0) {
                piece.assign(1, static_cast<char>(byte_values[i]));
                if (byte_tokens_[byte_values[i]] < 0) byte_tokens_[byte_values[i]] = i;
            } else if (special) {
                piece.assign(text);
            } else {
                unescape(text, piece);
            }
            strings_.append(piece);
            // A user-defined text with spaces has them as they are, so it is never a result of joining.
            const bool joinable = !special || (types[i] == USER_DEFINED && piece.find(' ') == std::string::npos);
            if (!joinable || byte_values[i] >= 0 || piece.empty()) continue;
            strings_.index(i);
            longest_ = std::max(longest_, piece.size());
            for (size_t k = 1; k < piece.size(); ++k)
                if (piece[k] == ' ') joins_space_[static_cast<uint8_t>(piece[k - 1])] = true;
        }
        if (longest_ == 0) longest_ = 1;
    }

    // Appends the ids of valid UTF-8. Returns the position of a character without a token, or -1.
    // unknown: the id for such a character, or -1.
    int64_t encode(std::string_view text, int32_t unknown, std::vector<int32_t>& out) {
        return workspace_.with([&](Workspace& workspace) -> int64_t {
            size_t start = 0;
            while (start < text.size()) {
                // A byte that no piece has before a space ends a word: no join crosses that border.
                size_t end = start + 1;
                while (end < text.size() && (text[end] != ' ' || joins_space_[static_cast<uint8_t>(text[end - 1])]))
                    ++end;
                const int64_t bad = encode_word(text.substr(start, end - start), unknown, workspace, out);
                if (bad >= 0) return static_cast<int64_t>(start) + bad;
                start = end;
            }
            return -1;
        });
    }

    int32_t find(std::string_view bytes) const { return strings_.find(bytes); }
    std::string_view bytes(int32_t id) const { return strings_.at(id); }

    // Replaces U+2581, which stands for a space.
    static void unescape(std::string_view text, std::string& out) {
        out.clear();
        size_t i = 0;
        for (size_t at; (at = text.find("\xe2\x96\x81", i)) != std::string_view::npos; i = at + 3) {
            out.append(text.substr(i, at - i));
            out.push_back(' ');
        }
        out.append(text.substr(i));
    }

  private:
    int64_t encode_word(std::string_view word, int32_t unknown, Workspace& workspace, std::vector<int32_t>& out) const {
        if (workspace.cache.find(word, out)) return -1;
        std::vector<Symbol>& symbols = workspace.symbols;
        const size_t first = out.size();
        symbols.clear();
        for (size_t i = 0; i < word.size();) {
            const uint8_t lead = static_cast<uint8_t>(word[i]);
            const size_t length = std::min<size_t>(lead < 0x80   ? 1
                                                   : lead < 0xE0 ? 2
                                                   : lead < 0xF0 ? 3
                                                                 : 4,
                                                   word.size() - i);
            const int32_t id = strings_.find(word.substr(i, length));
            symbols.push_back({static_cast<uint32_t>(i), static_cast<uint32_t>(length), id, 0, 0});
            i += length;
        }
        link(symbols);
        join_pairs(symbols, [&](const Symbol& a, const Symbol& b) {
            const size_t length = static_cast<size_t>(a.length) + b.length;
            const int32_t id = length > longest_ ? -1 : strings_.find(word.substr(a.start, length));
            return Joined{id < 0 ? 0 : orders_[id], id};
        });
        int64_t bad = -1;
        for (const Symbol& s : symbols) {
            if (s.length == 0 || bad >= 0) continue;
            if (s.id >= 0) {
                out.push_back(s.id);
                continue;
            }
            bool known = true;
            for (uint32_t i = s.start; i < s.start + s.length; ++i)
                known = known && byte_tokens_[static_cast<uint8_t>(word[i])] >= 0;
            if (known) {
                for (uint32_t i = s.start; i < s.start + s.length; ++i)
                    out.push_back(byte_tokens_[static_cast<uint8_t>(word[i])]);
            } else if (unknown >= 0) {
                out.push_back(unknown);
            } else {
                bad = s.start;
            }
        }
        workspace.shrink();
        if (bad < 0) workspace.cache.put(word, out.data() + first, out.size() - first);
        return bad;
    }
    // Greater scores first; -0 equals 0. Scores are not NaN.
    static uint32_t order(float score) {
        score += 0.0f;
        uint32_t bits;
        std::memcpy(&bits, &score, 4);
        const uint32_t ascending = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
        return ~ascending;
    }

    Strings strings_;
    std::vector<uint32_t> orders_;
    std::array<int32_t, 256> byte_tokens_{};
    size_t longest_ = 0;
    std::array<bool, 256> joins_space_{};  // bytes before a space in some piece
    SharedWorkspace workspace_;
};

}  // namespace pyinfer
