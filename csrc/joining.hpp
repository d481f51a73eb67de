// The one algorithm of both BPE and SentencePiece's "llama" model: join the best pair of neighbours, the leftmost of
// equals, until no pair can be joined. A heap of candidates over a doubly linked list makes it O(n log n) for any text
// of n symbols.
//
// A *symbol* is an interned string: tokens have their ids, then come strings that occur in merges only. Callers have
// checked that offsets and lengths lie in the buffers; ids and types are checked in Python.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <string_view>
#include <vector>

#include "strings.hpp"

namespace pyinfer {

// Token types of `tokenizer.ggml.token_type`.
enum TokenType : int32_t { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5, BYTE = 6 };

struct Symbol {
    uint32_t start, length;  // bytes of the text; length 0: joined into its left neighbour
    int32_t id;              // symbol number, or -1
    int32_t prev, next;
};

struct Joined {
    uint32_t order;  // the pair with the smallest is joined first
    int32_t id;      // symbol of the joined pair; -1: this pair is never joined
};

// Joins pairs of neighbours in place until `pair(left, right) -> Joined` gives none to join.
template <class Pair>
void join_pairs(std::vector<Symbol>& symbols, const Pair& pair) {
    struct Candidate {
        uint32_t order;
        int32_t left, right, id;
        uint32_t length;  // bytes of both when the candidate was found; differs if one has been joined since
    };
    const auto later = [](const Candidate& a, const Candidate& b) {
        return a.order != b.order ? a.order > b.order : a.left > b.left;
    };
    static thread_local std::vector<Candidate> heap;
    heap.clear();
    const auto consider = [&](int32_t left, int32_t right) {
        if (left < 0 || right < 0) return false;
        const Joined joined = pair(symbols[left], symbols[right]);
        if (joined.id < 0) return false;
        heap.push_back({joined.order, left, right, joined.id, symbols[left].length + symbols[right].length});
        return true;
    };
    for (size_t i = 1; i < symbols.size(); ++i) consider(static_cast<int32_t>(i - 1), static_cast<int32_t>(i));
    std::make_heap(heap.begin(), heap.end(), later);
    while (!heap.empty()) {
        std::pop_heap(heap.begin(), heap.end(), later);
        const Candidate best = heap.back();
        heap.pop_back();
        Symbol& left = symbols[best.left];
        Symbol& right = symbols[best.right];
        if (left.length == 0 || right.length == 0 || left.length + right.length != best.length) continue;
        left.length += right.length;
        left.id = best.id;
        left.next = right.next;
        right.length = 0;
        if (right.next >= 0) symbols[right.next].prev = best.left;
        if (consider(left.prev, best.left)) std::push_heap(heap.begin(), heap.end(), later);
        if (consider(best.left, left.next)) std::push_heap(heap.begin(), heap.end(), later);
    }
    if (heap.capacity() > (1u << 16)) std::vector<Candidate>().swap(heap);
}

inline void link(std::vector<Symbol>& symbols) {
    const int32_t n = static_cast<int32_t>(symbols.size());
    for (int32_t i = 0; i < n; ++i) {
        symbols[i].prev = i - 1;
        symbols[i].next = i + 1 < n ? i + 1 : -1;
    }
}

// The ids of recent short words. Its size is bounded: a word has one slot, and replaces the word that is there.
class WordCache {
  public:
    static constexpr size_t SLOTS = 1 << 15, MAX_BYTES = 27, MAX_IDS = 8;
    bool find(std::string_view word, std::vector<int32_t>& out) const {
        if (entries_.empty() || word.size() > MAX_BYTES) return false;
        const Entry& e = entries_[hash_bytes(word) % SLOTS];
        if (e.bytes != word.size() || std::memcmp(e.text, word.data(), e.bytes) != 0) return false;
        out.insert(out.end(), e.ids, e.ids + e.n_ids);
        return true;
    }
    void put(std::string_view word, const int32_t* ids, size_t n_ids) {
        if (word.empty() || word.size() > MAX_BYTES || n_ids > MAX_IDS) return;
        if (entries_.empty()) entries_.resize(SLOTS);
        Entry& e = entries_[hash_bytes(word) % SLOTS];
        e.bytes = static_cast<uint8_t>(word.size());
        e.n_ids = static_cast<uint8_t>(n_ids);
        std::memcpy(e.text, word.data(), word.size());
        std::copy(ids, ids + n_ids, e.ids);
    }

  private:
    struct Entry {
        uint8_t bytes = 0, n_ids = 0;  // bytes 0: free
        char text[MAX_BYTES];
        int32_t ids[MAX_IDS];
    };
    std::vector<Entry> entries_;
};

// What encoding writes to: one thread at a time may use it.
struct Workspace {
    WordCache cache;
    std::vector<Symbol> symbols;

    void shrink() {
        if (symbols.capacity() > (1u << 16)) std::vector<Symbol>().swap(symbols);
    }
};

// The workspace that the threads of one tokenizer share. A thread that finds it in use takes one of its own: nobody
// waits, and so a process that forks while another thread encodes has a lock in it that no one will ever release, and
// goes on.
class SharedWorkspace {
  public:
    // Calls f(workspace).
    template <class F>
    auto with(F f) {
        const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
        if (lock.owns_lock()) return f(shared_);
        Workspace own;
        return f(own);
    }

  private:
    std::mutex mutex_;
    Workspace shared_;
};

}  // namespace pyinfer
