// A static trie of byte strings: which of them a text begins with. A node's children are neighbours, in the order of
// their bytes.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

namespace pyinfer {

class Trie {
  public:
    using Entry = std::pair<std::string_view, int32_t>;  // a text that is not empty, and its id

    // Of equal texts the smallest id stays. All texts together have fewer than 2^31 bytes.
    void build(std::vector<Entry> entries) {
        std::sort(entries.begin(), entries.end());
        struct Range {
            size_t first, end;  // of the entries that go through a node
        };
        std::vector<Range> ranges = {{0, entries.size()}};
        nodes_.assign(1, {0, 0, -1});
        labels_.assign(1, 0);
        size_t depth = 0, level_end = 1;
        for (size_t node = 0; node < nodes_.size(); ++node) {
            if (node == level_end) {
                ++depth;
                level_end = nodes_.size();
            }
            auto [i, end] = ranges[node];
            if (i < end && entries[i].first.size() == depth) {
                nodes_[node].id = entries[i].second;
                while (i < end && entries[i].first.size() == depth) ++i;
            }
            nodes_[node].first = static_cast<uint32_t>(nodes_.size());
            while (i < end) {
                const char byte = entries[i].first[depth];
                const size_t first = i;
                while (i < end && entries[i].first[depth] == byte) ++i;
                nodes_.push_back({0, 0, -1});
                labels_.push_back(static_cast<uint8_t>(byte));
                ranges.push_back({first, i});
                ++nodes_[node].n_children;
            }
        }
        roots_.fill(NONE);
        for (uint32_t k = 0; k < nodes_[0].n_children; ++k) roots_[labels_[nodes_[0].first + k]] = nodes_[0].first + k;
    }

    static constexpr uint32_t NONE = 0xFFFFFFFF;

    // The node of a text of one byte, or NONE.
    uint32_t root(char byte) const { return roots_[static_cast<uint8_t>(byte)]; }
    // The node that is reached by one more byte, or NONE.
    uint32_t child(uint32_t node, char byte) const {
        const Node& n = nodes_[node];
        if (n.n_children == 0) return NONE;
        const void* found = std::memchr(&labels_[n.first], static_cast<uint8_t>(byte), n.n_children);
        return found ? static_cast<uint32_t>(static_cast<const uint8_t*>(found) - labels_.data()) : NONE;
    }
    // The id of the text that ends at a node, or -1.
    int32_t id(uint32_t node) const { return nodes_[node].id; }

  private:
    struct Node {
        uint32_t first, n_children;
        int32_t id;
    };
    std::vector<Node> nodes_ = {{0, 0, -1}};
    std::vector<uint8_t> labels_ = {0};  // the byte that leads to each node
    std::array<uint32_t, 256> roots_{};
};

}  // namespace pyinfer
