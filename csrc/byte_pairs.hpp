// Byte-level BPE, and BPE of characters: what the vocabulary and the merges of a file mean, and the ids of words.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "joining.hpp"
#include "scored_pieces.hpp"

namespace pyinfer {

// Tokens are kept as the bytes that they stand for, not in GPT-2's printable alphabet. Several threads
// may encode at once.
class BytePairs {
  public:
    // alphabet[c]: the byte that code point c stands for, or -1 (c < 512; greater ones stand for no byte).
    void set_alphabet(const int16_t* alphabet) { std::copy(alphabet, alphabet + 512, alphabet_.begin()); }

    // Merges join characters, not bytes, and spaces are written as U+2581. byte_values[i]: the byte that token i stands
    // for, or -1; those of a character without a token are its ids. Called before tokens are added.
    void set_characters(const int16_t* byte_values, int32_t n) {
        characters_ = true;
        byte_symbols_.fill(-1);
        byte_values_.assign(byte_values, byte_values + n);
        for (int32_t i = n - 1; i >= 0; --i)
            if (byte_values[i] >= 0) byte_symbols_[byte_values[i]] = i;
    }

    void add_tokens(const char* buffer, const int64_t* offsets, const int64_t* lengths, const int32_t* types,
                    int32_t n) {
        size_t bytes = 0;
        for (int32_t i = 0; i < n; ++i) bytes += static_cast<size_t>(lengths[i]);
        strings_.reserve(static_cast<size_t>(n) + 1024, bytes + (bytes >> 3));
        std::string decoded;
        for (int32_t i = 0; i < n; ++i) {
            const std::string_view text(buffer + offsets[i], static_cast<size_t>(lengths[i]));
            const int32_t type = types[i];
            if (characters_ && byte_values_[i] >= 0) {
                const char byte = static_cast<char>(byte_values_[i]);
                strings_.append({&byte, 1});
                continue;
            }
            if (type == UNUSED || type == BYTE) {
                strings_.append({});
                continue;
            }
            const bool ordinary = type != CONTROL && type != UNKNOWN && type != USER_DEFINED;
            const bool spelled = to_bytes(text, decoded);
            strings_.append(ordinary && spelled ? std::string_view(decoded) : text);
            // A user-defined token that the alphabet can spell may also be the result of merges.
            if (spelled && !text.empty() && (ordinary || (type == USER_DEFINED && decoded == text))) strings_.index(i);
        }
        n_tokens_ = n;
        for (int c = 0; c < 256 && !characters_; ++c) {
            const char byte = static_cast<char>(c);
            byte_symbols_[c] = intern({&byte, 1});
        }
    }

    // Rank r is the line "left right" number r. Returns the first line that is not of that form, or -1.
    int64_t add_merges(const char* buffer, const int64_t* offsets, const int64_t* lengths, int64_t n) {
        const size_t size = table_size(static_cast<size_t>(n));
        merges_.assign(size, {0, 0, -1});
        std::string left, right, both;
        for (int64_t r = 0; r < n; ++r) {
            const std::string_view line(buffer + offsets[r], static_cast<size_t>(lengths[r]));
            const size_t space = line.find(' ', 1);
            if (space == std::string_view::npos || space + 1 == line.size()) return r;
            // A side that the alphabet cannot spell never occurs in a text.
            if (!to_bytes(line.substr(0, space), left) || !to_bytes(line.substr(space + 1), right)) continue;
            both.assign(left).append(right);
            const int32_t a = intern(left), b = intern(right), id = intern(both);
            const uint64_t key = pair_key(a, b);
            size_t slot = mix(key) & (size - 1);
            while (merges_[slot].id >= 0 && merges_[slot].key != key) slot = (slot + 1) & (size - 1);
            if (merges_[slot].id < 0) merges_[slot] = {key, static_cast<uint32_t>(r), id};
        }
        return -1;
    }

    // Appends the ids of n pre-tokenized words. `whole`: a word that is a token becomes that token, without merges;
    // with characters, a word of newlines always does.
    void encode(const std::string_view* words, size_t n, bool whole, std::vector<int32_t>& out) {
        workspace_.with([&](Workspace& workspace) {
            for (size_t i = 0; i < n; ++i) encode_word(words[i], whole, workspace, out);
        });
    }

    int32_t find(std::string_view bytes) const {
        const int32_t id = strings_.find(bytes);
        return id < n_tokens_ ? id : -1;
    }
    std::string_view bytes(int32_t id) const { return strings_.at(id); }

  private:
    void encode_word(std::string_view word, bool whole, Workspace& workspace, std::vector<int32_t>& out) const {
        if (workspace.cache.find(word, out)) return;
        std::vector<Symbol>& symbols = workspace.symbols;
        const size_t first = out.size();
        const bool newlines = characters_ && word.find_first_not_of('\n') == std::string_view::npos;
        const int32_t id = whole || newlines ? strings_.find(word) : -1;
        if (id >= 0 && id < n_tokens_) {
            out.push_back(id);
        } else {
            symbols.clear();
            for (size_t i = 0, length = 1; i < word.size(); i += length) {
                if (characters_) length = character_length(word.substr(i));
                const int32_t symbol =
                    characters_ ? strings_.find(word.substr(i, length)) : byte_symbols_[static_cast<uint8_t>(word[i])];
                symbols.push_back({static_cast<uint32_t>(i), static_cast<uint32_t>(length), symbol, 0, 0});
            }
            link(symbols);
            join_pairs(symbols, [this](const Symbol& a, const Symbol& b) { return joined(a.id, b.id); });
            for (const Symbol& s : symbols) {
                if (s.length == 0) continue;
                if (s.id >= 0 && s.id < n_tokens_) {
                    out.push_back(s.id);
                } else {  // no token: those of its bytes that are tokens
                    for (uint32_t i = s.start; i < s.start + s.length; ++i) {
                        const int32_t byte = byte_symbols_[static_cast<uint8_t>(word[i])];
                        if (byte >= 0 && byte < n_tokens_) out.push_back(byte);
                    }
                }
            }
            workspace.shrink();
        }
        workspace.cache.put(word, out.data() + first, out.size() - first);
    }
    struct Merge {
        uint64_t key;
        uint32_t rank;
        int32_t id;
    };
    static uint64_t pair_key(int32_t a, int32_t b) {
        return static_cast<uint64_t>(static_cast<uint32_t>(a)) << 32 | static_cast<uint32_t>(b);
    }
    Joined joined(int32_t a, int32_t b) const {
        if (merges_.empty()) return {0, -1};
        const uint64_t key = pair_key(a, b);
        for (size_t slot = mix(key);; ++slot) {
            const Merge& m = merges_[slot & (merges_.size() - 1)];
            if (m.id < 0 || m.key == key) return {m.rank, m.id};
        }
    }
    int32_t intern(std::string_view s) {
        int32_t i = strings_.find(s);
        if (i < 0) {
            i = strings_.size();
            strings_.append(s);
            strings_.index(i);
        }
        return i;
    }
    // False if a character is not of the alphabet (or the text is not UTF-8); every one of it has one or two bytes.
    bool to_bytes(std::string_view text, std::string& out) const {
        out.clear();
        if (characters_) {
            ScoredPieces::unescape(text, out);
            return true;
        }
        for (size_t i = 0; i < text.size(); ++i) {
            uint32_t c = static_cast<uint8_t>(text[i]);
            if (c >= 0x80) {
                if (c < 0xC2 || c > 0xC7 || ++i == text.size()) return false;
                const uint8_t second = static_cast<uint8_t>(text[i]);
                if ((second & 0xC0) != 0x80) return false;
                c = (c & 0x1F) << 6 | (second & 0x3F);
            }
            if (alphabet_[c] < 0) return false;
            out.push_back(static_cast<char>(alphabet_[c]));
        }
        return true;
    }

    std::array<int16_t, 512> alphabet_{};
    bool characters_ = false;           // instead of the alphabet's bytes
    std::vector<int16_t> byte_values_;  // with characters: of each token
    std::array<int32_t, 256> byte_symbols_{};
    Strings strings_;
    std::vector<Merge> merges_;
    int32_t n_tokens_ = 0;
    SharedWorkspace workspace_;
};

}  // namespace pyinfer
