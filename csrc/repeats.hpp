// Which tokens would continue a repetition, and how long it is already: the DRY sampler lowers their logits.
//
// The Z-algorithm (Gusfield 1997, 1.3) on the sequence read backwards: z[k] is how many tokens before and at position k
// from the end equal those at the end. Linear in the length of the sequence.
#pragma once
#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace pyinfer {

// For every token that follows an earlier copy of the sequence's last tokens: the length of the longest such copy, at
// most `limit`. Copies shorter than `shortest` do not count. Returns {token: length}.
inline std::unordered_map<int64_t, int64_t> repeats(const int64_t* tokens, int64_t n, int64_t limit, int64_t shortest) {
    const auto from_end = [=](int64_t k) { return tokens[n - 1 - k]; };
    std::unordered_map<int64_t, int64_t> longest;
    std::vector<int64_t> z(n);
    int64_t left = 0, right = 0;  // of the copy that reaches farthest: z[left] = right - left
    for (int64_t k = 1; k < n; ++k) {
        int64_t length = k < right ? std::min(right - k, z[k - left]) : 0;
        while (k + length < n && from_end(length) == from_end(k + length)) ++length;
        z[k] = length;
        if (k + length > right) {
            left = k;
            right = k + length;
        }
        length = std::min(length, limit);
        if (length < shortest) continue;
        int64_t& known = longest[from_end(k - 1)];
        known = std::max(known, length);
    }
    return longest;
}

}  // namespace pyinfer
