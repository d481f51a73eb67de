// Hash tables of byte strings: a vocabulary finds its tokens in one.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace pyinfer {

inline uint64_t mix(uint64_t x) {
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    return x ^ (x >> 32);
}

inline uint64_t hash_bytes(std::string_view s) {
    uint64_t h = s.size() * 0x9e3779b97f4a7c15u;
    size_t i = 0;
    for (; i + 8 <= s.size(); i += 8) {
        uint64_t word;
        std::memcpy(&word, s.data() + i, 8);
        h = (h ^ word) * 0x9fb21c651e98df25u;
        h ^= h >> 29;
    }
    uint64_t tail = 0;
    std::memcpy(&tail, s.data() + i, s.size() - i);
    return mix(h ^ tail);
}

// Bytes of a text's first character by its first byte, at most those that are there.
inline size_t character_length(std::string_view text) {
    const uint8_t lead = static_cast<uint8_t>(text[0]);
    const size_t length = lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    return std::min(length, text.size());
}

inline size_t table_size(size_t entries) {
    size_t size = 16;
    while (size < entries * 2) size *= 2;
    return size;
}

// Strings, numbered in the order in which they are added; those that were indexed can be found by their bytes.
class Strings {
  public:
    void reserve(size_t strings, size_t bytes) {
        ends_.reserve(strings);
        arena_.reserve(bytes);
        slots_.assign(table_size(strings), -1);
    }
    int32_t size() const { return static_cast<int32_t>(ends_.size()); }
    std::string_view at(int32_t i) const {
        const size_t start = i ? ends_[i - 1] : 0;
        return {arena_.data() + start, ends_[i] - start};
    }
    void append(std::string_view s) {
        arena_.append(s);
        ends_.push_back(arena_.size());
    }
    // Makes string i findable; of equal strings the first stays.
    void index(int32_t i) {
        if (++indexed_ * 2 > slots_.size()) grow();
        place(i);
    }
    int32_t find(std::string_view s) const {
        if (slots_.empty()) return -1;
        for (size_t slot = hash_bytes(s);; ++slot) {
            const int32_t i = slots_[slot & (slots_.size() - 1)];
            if (i < 0 || at(i) == s) return i;
        }
    }

  private:
    void place(int32_t i) {
        for (size_t slot = hash_bytes(at(i));; ++slot) {
            int32_t& entry = slots_[slot & (slots_.size() - 1)];
            if (entry < 0) {
                entry = i;
                return;
            }
            if (at(entry) == at(i)) return;
        }
    }
    void grow() {
        std::vector<int32_t> old(std::max<size_t>(16, slots_.size() * 2), -1);
        old.swap(slots_);
        for (int32_t i : old)
            if (i >= 0) place(i);
    }
    std::string arena_;           // the bytes of all strings, one after the other
    std::vector<size_t> ends_;    // of string i in the arena
    std::vector<int32_t> slots_;  // hash table of string numbers, -1: free; a power of two of them, at most half full
    size_t indexed_ = 0;          // strings in the table, with equal ones
};

}  // namespace pyinfer
