// Vocabularies as hash tables, and the one algorithm of both BPE and SentencePiece's "llama" model: join the best pair
// of neighbours, the leftmost of equals, until no pair can be joined. A heap of candidates over a doubly linked list
// makes it O(n log n) for any text of n symbols.
//
// Strings are bytes. A *symbol* is an interned string: tokens have their ids, then come strings that occur in merges
// only. Callers have checked that offsets and lengths lie in the buffers; ids and types are checked in Python.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pyinfer {

// Token types of `tokenizer.ggml.token_type`.
enum TokenType : int32_t { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5, BYTE = 6 };

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

// Byte-level BPE. Tokens are kept as the bytes that they stand for, not in GPT-2's printable alphabet. Several threads
// may encode at once.
class BytePairs {
  public:
    // alphabet[c]: the byte that code point c stands for, or -1 (c < 512; greater ones stand for no byte).
    void set_alphabet(const int16_t* alphabet) { std::copy(alphabet, alphabet + 512, alphabet_.begin()); }

    void add_tokens(const char* buffer, const int64_t* offsets, const int64_t* lengths, const int32_t* types,
                    int32_t n) {
        size_t bytes = 0;
        for (int32_t i = 0; i < n; ++i) bytes += static_cast<size_t>(lengths[i]);
        strings_.reserve(static_cast<size_t>(n) + 1024, bytes + (bytes >> 3));
        std::string decoded;
        for (int32_t i = 0; i < n; ++i) {
            const std::string_view text(buffer + offsets[i], static_cast<size_t>(lengths[i]));
            const int32_t type = types[i];
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
        for (int c = 0; c < 256; ++c) {
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

    // Appends the ids of n pre-tokenized words. `whole`: a word that is a token becomes that token, without merges.
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
        const int32_t id = whole ? strings_.find(word) : -1;
        if (id >= 0 && id < n_tokens_) {
            out.push_back(id);
        } else {
            symbols.resize(word.size());
            for (size_t i = 0; i < word.size(); ++i) {
                const int32_t symbol = byte_symbols_[static_cast<uint8_t>(word[i])];
                symbols[i] = {static_cast<uint32_t>(i), 1, symbol, 0, 0};
            }
            link(symbols);
            join_pairs(symbols, [this](const Symbol& a, const Symbol& b) { return joined(a.id, b.id); });
            for (const Symbol& s : symbols) {
                if (s.length == 0) continue;
                if (s.id < n_tokens_) {
                    out.push_back(s.id);
                } else {  // the result of a merge that is no token: those of its bytes that are tokens
                    for (uint32_t i = s.start; i < s.start + s.length; ++i) {
                        const int32_t byte = byte_symbols_[static_cast<uint8_t>(word[i])];
                        if (byte < n_tokens_) out.push_back(byte);
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
    std::array<int32_t, 256> byte_symbols_{};
    Strings strings_;
    std::vector<Merge> merges_;
    int32_t n_tokens_ = 0;
    SharedWorkspace workspace_;
};

// SentencePiece's BPE by scores ("llama"): pieces are UTF-8, with spaces as they are; text without a piece becomes
// tokens of its bytes.
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
