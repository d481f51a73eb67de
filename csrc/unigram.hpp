// SentencePiece's unigram model (Kudo 2018, arXiv:1804.10959): of all ways to cut a text into pieces, the one whose
// scores have the greatest sum (Viterbi's algorithm).
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "charsmap.hpp"
#include "joining.hpp"
#include "scored_pieces.hpp"
#include "strings.hpp"
#include "trie.hpp"

namespace pyinfer {

constexpr std::string_view SPACE_MARK = "\xe2\x96\x81";  // U+2581, which stands for a space

// How spaces are written; see UnigramPieces::normalize.
struct Spaces {
    bool prefix;     // a mark stands before the text
    bool merge;      // several spaces are one, and those at the end of the text none
    bool continues;  // the text continues another one, which ended with no space
};

// Several threads may encode at once.
class UnigramPieces {
  public:
    static constexpr float UNKNOWN_PENALTY = 10;  // below the least score of a piece

    // byte_values[i] is the byte of a byte token, else -1. Scores are finite; no piece has more than 1024 bytes
    // (pyinfer/tokenizer/unigram.py), so time is linear in the text whatever the vocabulary.
    void add_tokens(const char* buffer, const int64_t* offsets, const int64_t* lengths, const int32_t* types,
                    const int16_t* byte_values, const float* scores, int32_t n) {
        size_t bytes = 0;
        for (int32_t i = 0; i < n; ++i) bytes += static_cast<size_t>(lengths[i]);
        strings_.reserve(static_cast<size_t>(n), bytes);
        byte_tokens_.fill(-1);
        scores_.resize(static_cast<size_t>(n));
        std::vector<Trie::Entry> entries;
        std::string shown;
        float least = std::numeric_limits<float>::max();
        for (int32_t i = 0; i < n; ++i) {
            const std::string_view text(buffer + offsets[i], static_cast<size_t>(lengths[i]));
            const bool piece =
                byte_values[i] < 0 && (types[i] == NORMAL || types[i] == USER_DEFINED || types[i] == UNUSED);
            if (byte_values[i] >= 0) {
                shown.assign(1, static_cast<char>(byte_values[i]));
                if (byte_tokens_[byte_values[i]] < 0) byte_tokens_[byte_values[i]] = i;
            } else if (types[i] == CONTROL || types[i] == UNKNOWN || types[i] == USER_DEFINED) {
                shown.assign(text);
            } else {
                ScoredPieces::unescape(text, shown);
            }
            strings_.append(shown);
            scores_[i] = types[i] == USER_DEFINED ? 0 : scores[i];
            if (types[i] == NORMAL) least = std::min(least, scores[i]);
            if (!piece || text.empty()) continue;
            entries.push_back({text, i});
            for (size_t k = 1; k < text.size(); ++k) {  // also where a piece ends within a mark
                const std::string_view rest = text.substr(k, SPACE_MARK.size());
                if (rest == SPACE_MARK.substr(0, rest.size())) joins_space_[static_cast<uint8_t>(text[k - 1])] = true;
            }
        }
        unknown_score_ = least - UNKNOWN_PENALTY;
        trie_.build(std::move(entries));
    }

    void set_charsmap(const uint32_t* nodes, size_t n_nodes, const char* replacements, size_t n_bytes) {
        charsmap_.set(nodes, n_nodes, replacements, n_bytes);
    }

    // Writes UTF-8 text with its characters replaced and SPACE_MARK for spaces. False if the map of characters is
    // damaged, or the result has more than max_bytes.
    bool normalize(std::string_view text, Spaces spaces, size_t max_bytes, std::string& out) const {
        out.clear();
        bool in_word = spaces.continues, prefix = spaces.prefix && !spaces.continues;
        for (size_t at = 0; at < text.size();) {
            const Charsmap::Match match = charsmap_.find(text.substr(at));
            if (match.damaged || out.size() > max_bytes) return false;
            const size_t length = match.length ? match.length : valid_length(text.substr(at));
            std::string_view piece = match.length ? match.replacement : text.substr(at, length);
            if (length == 0) piece = "\xef\xbf\xbd";  // the map took only a part of a character
            at += std::max<size_t>(1, length);
            for (const char c : piece) {
                if (c == ' ') {
                    in_word = false;
                    if (!spaces.merge) out.append(SPACE_MARK);
                    continue;
                }
                if (!in_word && (prefix || spaces.merge)) {
                    out.append(SPACE_MARK);
                    prefix = false;
                }
                in_word = true;
                out.push_back(c);
            }
        }
        return out.size() <= max_bytes;
    }

    // Appends the ids of normalized text from `start` on, until the text ends or `out` has `enough` ids; `start` moves
    // to where to go on. Neighbouring unknown characters give the id `unknown` once; -1: there is no such id, and the
    // position of such a character is returned, else -1. The caller keeps the last id in `last` between calls.
    int64_t encode(std::string_view text, size_t& start, size_t enough, int32_t unknown, int32_t& last,
                   std::vector<int32_t>& out) {
        return workspace_.with([&](Workspace& workspace) -> int64_t {
            std::vector<int32_t> ids;
            while (start < text.size() && out.size() < enough) {
                // A byte that no piece has before a mark ends a word: no piece crosses that border.
                size_t end = start + 1;
                while (end < text.size() && (text.substr(end, SPACE_MARK.size()) != SPACE_MARK ||
                                             joins_space_[static_cast<uint8_t>(text[end - 1])]))
                    ++end;
                ids.clear();
                const std::string_view word = text.substr(start, end - start);
                const int64_t bad = encode_word(word, unknown, workspace.cache, ids);
                if (bad >= 0) return static_cast<int64_t>(start) + bad;
                for (const int32_t id : ids) {
                    if (id != unknown || last != unknown) out.push_back(id);
                    last = id;
                }
                start = end;
            }
            return -1;
        });
    }

    std::string_view bytes(int32_t id) const { return strings_.at(id); }

  private:
    struct Best {
        double score;
        int32_t id;       // of the last piece; -1: an unknown character
        uint32_t length;  // of it in bytes; 0: no cut leads here
    };

    int64_t encode_word(std::string_view word, int32_t unknown, WordCache& cache, std::vector<int32_t>& out) const {
        if (cache.find(word, out)) return -1;
        static thread_local std::vector<Best> best;
        best.assign(word.size() + 1, {0, -1, 0});
        for (size_t at = 0, length; at < word.size(); at += length) {
            length = character_length(word.substr(at));
            const double score = best[at].score;
            bool known = false;
            uint32_t node = trie_.root(word[at]);
            for (size_t end = at + 1; node != Trie::NONE; ++end) {
                if (const int32_t id = trie_.id(node); id >= 0) {
                    known = known || end - at == length;
                    consider(best[end], score + scores_[id], id, end - at);
                }
                if (end == word.size()) break;
                node = trie_.child(node, word[end]);
            }
            if (!known) consider(best[at + length], score + unknown_score_, -1, length);
        }
        const size_t first = out.size();
        int64_t bad = -1;
        for (size_t end = word.size(); end > 0 && bad < 0;) {
            size_t start = end;  // of a piece, or of neighbouring unknown characters
            do {
                start -= best[start].length;
            } while (best[end].id < 0 && start > 0 && best[start].id < 0);
            if (best[end].id >= 0) {
                out.push_back(best[end].id);
            } else if (std::all_of(word.begin() + start, word.begin() + end, [&](char c) { return byte(c) >= 0; })) {
                for (size_t i = end; i > start; --i) out.push_back(byte(word[i - 1]));
            } else if (unknown >= 0) {
                out.push_back(unknown);
            } else {
                bad = static_cast<int64_t>(start);
            }
            end = start;
        }
        std::reverse(out.begin() + static_cast<int64_t>(first), out.end());
        if (best.capacity() > (1u << 16)) std::vector<Best>().swap(best);
        if (bad < 0) cache.put(word, out.data() + first, out.size() - first);
        return bad;
    }
    static void consider(Best& best, double score, int32_t id, size_t length) {
        if (best.length == 0 || score > best.score) best = {score, id, static_cast<uint32_t>(length)};
    }
    int32_t byte(char c) const { return byte_tokens_[static_cast<uint8_t>(c)]; }

    // character_length, but 0 where it is no whole character.
    static size_t valid_length(std::string_view text) {
        if ((static_cast<uint8_t>(text[0]) & 0xC0) == 0x80) return 0;
        const size_t length = character_length(text);
        for (size_t i = 1; i < length; ++i)
            if ((static_cast<uint8_t>(text[i]) & 0xC0) != 0x80) return 0;
        return length;
    }

    Strings strings_;  // what tokens stand for
    Trie trie_;
    Charsmap charsmap_;
    std::vector<float> scores_;
    float unknown_score_ = 0;
    std::array<int32_t, 256> byte_tokens_{};
    std::array<bool, 256> joins_space_{};  // bytes before a mark in some piece
    SharedWorkspace workspace_;
};

}  // namespace pyinfer
