// Finds special tokens in a text: the longest first, wherever they are, and of equal lengths the leftmost. Time is
// O(bytes of the text * distinct lengths of tokens), after a filter on two bytes that few positions pass.
#pragma once
#include <algorithm>
#include <bitset>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "strings.hpp"

namespace pyinfer {

struct Fragment {
    int64_t start, end;  // bytes of the text
    int32_t id;          // token, or -1 for plain text
};

class SpecialTokens {
  public:
    void add(std::string_view text, int32_t id, bool control, bool strip_left, bool strip_right) {
        if (text.empty()) return;
        if (strings_.size() == 0) strings_.reserve(16, 256);
        strings_.append(text);
        strings_.index(strings_.size() - 1);
        tokens_.push_back({id, control, strip_left, strip_right});
        if (text.size() == 1) {
            for (size_t second = 0; second < 256; ++second) prefixes_.set(prefix(text[0], static_cast<char>(second)));
        } else {
            prefixes_.set(prefix(text[0], text[1]));
        }
        lengths_.push_back(text.size());
        std::sort(lengths_.begin(), lengths_.end(), std::greater<size_t>());
        lengths_.erase(std::unique(lengths_.begin(), lengths_.end()), lengths_.end());
    }

    // The text as fragments of plain text and tokens, in order. Control tokens are plain text unless `control`.
    std::vector<Fragment> split(std::string_view text, bool control) const {
        std::vector<size_t> starts;
        for (size_t i = 0; i < text.size(); ++i)
            if (prefixes_[prefix(text[i], i + 1 < text.size() ? text[i + 1] : '\0')]) starts.push_back(i);
        std::vector<Fragment> found;
        if (!starts.empty()) {
            std::vector<bool> taken(text.size());
            for (const size_t length : lengths_) take(text, length, control, starts, taken, found);
        }
        std::sort(found.begin(), found.end(), [](const Fragment& a, const Fragment& b) { return a.start < b.start; });
        std::vector<Fragment> all;
        int64_t at = 0;
        for (const Fragment& f : found) {
            if (f.start > at) all.push_back({at, f.start, -1});
            all.push_back(f);
            at = f.end;
        }
        if (at < static_cast<int64_t>(text.size())) all.push_back({at, static_cast<int64_t>(text.size()), -1});
        return all;
    }

  private:
    struct Token {
        int32_t id;
        bool control;                  // found only when asked for
        bool strip_left, strip_right;  // white space beside it belongs to it
    };
    static size_t prefix(char a, char b) {
        return static_cast<size_t>(static_cast<uint8_t>(a)) << 8 | static_cast<uint8_t>(b);
    }
    static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

    void take(std::string_view text, size_t length, bool control, const std::vector<size_t>& starts,
              std::vector<bool>& taken, std::vector<Fragment>& found) const {
        for (const size_t at : starts) {
            if (at + length > text.size()) break;
            // A token that was taken before is at least as long, so if it overlaps this one it covers one of its ends.
            if (taken[at] || taken[at + length - 1]) continue;
            const int32_t i = strings_.find(text.substr(at, length));
            if (i < 0 || (tokens_[i].control && !control)) continue;
            size_t start = at, end = at + length;
            while (tokens_[i].strip_left && start > 0 && !taken[start - 1] && is_space(text[start - 1])) --start;
            while (tokens_[i].strip_right && end < text.size() && !taken[end] && is_space(text[end])) ++end;
            std::fill(taken.begin() + static_cast<int64_t>(start), taken.begin() + static_cast<int64_t>(end), true);
            found.push_back({static_cast<int64_t>(start), static_cast<int64_t>(end), tokens_[i].id});
        }
    }

    Strings strings_;
    std::vector<Token> tokens_;
    std::vector<size_t> lengths_;  // bytes, distinct, descending
    std::bitset<65536> prefixes_;  // the first two bytes of some token
};

}  // namespace pyinfer
