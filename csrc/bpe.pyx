# distutils: language = c++
"""Front ends of the C++ tokenizers: buffers in, lists of ids out.

A list of strings comes as (buffer uint8, offsets int64, lengths int64); the caller has checked that every one lies in
the buffer, that ids are in range and that parallel arrays are equally long (see pyinfer/tokenizer/vocabulary.py).
"""

from libc.stdint cimport int16_t, int32_t, int64_t, uint32_t
from libcpp cimport bool as cbool
from libcpp.string cimport string
from libcpp.vector cimport vector
from cpython.unicode cimport PyUnicode_AsUTF8AndSize


cdef extern from "<string_view>" namespace "std" nogil:
    cdef cppclass string_view:
        string_view()
        string_view(const char*, size_t)
        const char* data()
        size_t size()


cdef extern from "byte_pairs.hpp" namespace "pyinfer" nogil:
    cdef cppclass CBytePairs "pyinfer::BytePairs":
        void set_alphabet(const int16_t*)
        void set_characters(const int16_t*, int32_t) except +
        void add_tokens(const char*, const int64_t*, const int64_t*, const int32_t*, int32_t) except +
        int64_t add_merges(const char*, const int64_t*, const int64_t*, int64_t) except +
        void encode(const string_view*, size_t, cbool, vector[int32_t]&) except +
        int32_t find(string_view)
        string_view bytes(int32_t)


cdef extern from "scored_pieces.hpp" namespace "pyinfer" nogil:
    cdef cppclass CScoredPieces "pyinfer::ScoredPieces":
        void add_tokens(const char*, const int64_t*, const int64_t*, const int32_t*, const int16_t*, const float*,
                        int32_t) except +
        int64_t encode(string_view, size_t&, size_t, int32_t, vector[int32_t]&) except +
        int32_t find(string_view)
        string_view bytes(int32_t)


cdef extern from "unigram.hpp" namespace "pyinfer" nogil:
    cdef struct Spaces:
        cbool prefix
        cbool merge
        cbool continues

    cdef cppclass CUnigramPieces "pyinfer::UnigramPieces":
        void add_tokens(const char*, const int64_t*, const int64_t*, const int32_t*, const int16_t*, const float*,
                        int32_t) except +
        void set_charsmap(const uint32_t*, size_t, const char*, size_t) except +
        cbool normalize(string_view, Spaces, size_t, string&) except +
        int64_t encode(string_view, size_t&, size_t, int32_t, int32_t&, vector[int32_t]&) except +
        string_view bytes(int32_t)


cdef extern from "special_tokens.hpp" namespace "pyinfer" nogil:
    cdef struct Fragment:
        int64_t start
        int64_t end
        int32_t id

    cdef cppclass CSpecialTokens "pyinfer::SpecialTokens":
        void add(string_view, int32_t, cbool, cbool, cbool) except +
        vector[Fragment] split(string_view, cbool) except +


cdef enum:
    # after so many, another thread may have the GIL: to make a list of ids takes it
    WORDS_AT_ONCE = 4096
    IDS_AT_ONCE = 16384


cdef inline string_view view(bytes text):
    return string_view(<const char*> text, len(text))


cdef class BytePairs:
    """Byte-level BPE over a vocabulary and its merges; with byte_values, BPE of characters (see byte_pairs.hpp)."""

    cdef CBytePairs pairs
    cdef readonly int n_tokens

    def __cinit__(self, const int16_t[::1] alphabet, const unsigned char[::1] buffer, const int64_t[::1] offsets,
                  const int64_t[::1] lengths, const int32_t[::1] types, const int16_t[::1] byte_values=None):
        assert alphabet.shape[0] == 512 and offsets.shape[0] == lengths.shape[0] == types.shape[0] > 0
        self.n_tokens = offsets.shape[0]
        self.pairs.set_alphabet(&alphabet[0])
        if byte_values is not None:
            assert byte_values.shape[0] == self.n_tokens
            self.pairs.set_characters(&byte_values[0], self.n_tokens)
        cdef const char* text = <const char*> &buffer[0] if buffer.shape[0] else NULL
        self.pairs.add_tokens(text, &offsets[0], &lengths[0], &types[0], self.n_tokens)

    def add_merges(self, const unsigned char[::1] buffer, const int64_t[::1] offsets, const int64_t[::1] lengths):
        """Adds "left right" lines in the order of their ranks; gives the first line not of that form, or -1."""
        assert offsets.shape[0] == lengths.shape[0]
        if offsets.shape[0] == 0 or buffer.shape[0] == 0:
            return -1 if offsets.shape[0] == 0 else 0
        return self.pairs.add_merges(<const char*> &buffer[0], &offsets[0], &lengths[0], offsets.shape[0])

    def encode(self, list words, bint whole):
        """The ids of pre-tokenized words (str without surrogates); `whole`: tokens are taken before merges.

        Other threads run meanwhile.
        """
        cdef vector[int32_t] ids
        cdef vector[string_view] texts
        cdef Py_ssize_t size, first
        cdef const char* text
        cdef str word
        cdef list some
        all_ids = []
        for first in range(0, len(words), WORDS_AT_ONCE):
            some = words[first : first + WORDS_AT_ONCE]  # which keeps the words alive
            texts.clear()
            for word in some:
                text = PyUnicode_AsUTF8AndSize(word, &size)
                texts.push_back(string_view(text, size))
            ids.clear()
            with nogil:
                self.pairs.encode(texts.data(), texts.size(), whole, ids)
            all_ids += ids
        return all_ids

    def find(self, bytes text):
        """The id of the ordinary token that stands for these bytes, or -1."""
        return self.pairs.find(view(text))

    def token_bytes(self, int32_t token):
        """The bytes of a token in [0, n_tokens)."""
        assert 0 <= token < self.n_tokens
        cdef string_view piece = self.pairs.bytes(token)
        return piece.data()[:piece.size()]


cdef class ScoredPieces:
    """SentencePiece's BPE over pieces with scores."""

    cdef CScoredPieces pieces
    cdef readonly int n_tokens

    def __cinit__(self, const unsigned char[::1] buffer, const int64_t[::1] offsets, const int64_t[::1] lengths,
                  const int32_t[::1] types, const int16_t[::1] byte_values, const float[::1] scores):
        assert offsets.shape[0] == lengths.shape[0] == types.shape[0] == byte_values.shape[0] == scores.shape[0] > 0
        self.n_tokens = offsets.shape[0]
        cdef const char* text = <const char*> &buffer[0] if buffer.shape[0] else NULL
        self.pieces.add_tokens(text, &offsets[0], &lengths[0], &types[0], &byte_values[0], &scores[0], self.n_tokens)

    def encode(self, bytes text, int32_t unknown):
        """The ids of UTF-8 text and -1; or those before a character without a token and that character's position.

        Other threads run meanwhile.
        """
        cdef vector[int32_t] ids
        cdef string_view all_text = view(text)
        cdef size_t start = 0
        cdef int64_t bad = -1
        all_ids = []
        while bad < 0 and start < all_text.size():
            ids.clear()
            with nogil:
                bad = self.pieces.encode(all_text, start, IDS_AT_ONCE, unknown, ids)
            all_ids += ids
        return all_ids, bad

    def find(self, bytes text):
        """The id of the ordinary piece with these bytes, or -1."""
        return self.pieces.find(view(text))

    def token_bytes(self, int32_t token):
        """The bytes of a token in [0, n_tokens)."""
        assert 0 <= token < self.n_tokens
        cdef string_view piece = self.pieces.bytes(token)
        return piece.data()[:piece.size()]


cdef class UnigramPieces:
    """SentencePiece's unigram model over pieces with scores."""

    cdef CUnigramPieces pieces
    cdef readonly int n_tokens

    def __cinit__(self, const unsigned char[::1] buffer, const int64_t[::1] offsets, const int64_t[::1] lengths,
                  const int32_t[::1] types, const int16_t[::1] byte_values, const float[::1] scores):
        assert offsets.shape[0] == lengths.shape[0] == types.shape[0] == byte_values.shape[0] == scores.shape[0] > 0
        self.n_tokens = offsets.shape[0]
        cdef const char* text = <const char*> &buffer[0] if buffer.shape[0] else NULL
        self.pieces.add_tokens(text, &offsets[0], &lengths[0], &types[0], &byte_values[0], &scores[0], self.n_tokens)

    def set_charsmap(self, const uint32_t[::1] nodes, const unsigned char[::1] replacements):
        """The map of characters; replacements end with a zero each, the last one, too."""
        assert nodes.shape[0] > 0 and replacements.shape[0] > 0 and replacements[replacements.shape[0] - 1] == 0
        self.pieces.set_charsmap(&nodes[0], nodes.shape[0], <const char*> &replacements[0], replacements.shape[0])

    def normalize(self, bytes text, bint prefix, bint merge, bint continues, size_t max_bytes):
        """UTF-8 text as `encode` takes it; None if the map of characters is damaged, or for more than max_bytes.

        prefix: a space stands before it; merge: several spaces are one; continues: it continues a text without one.
        Other threads run meanwhile.
        """
        cdef string out
        cdef string_view all_text = view(text)
        cdef Spaces spaces = Spaces(prefix, merge, continues)
        cdef cbool done
        with nogil:
            done = self.pieces.normalize(all_text, spaces, max_bytes, out)
        return <bytes> out if done else None

    def encode(self, bytes text, int32_t unknown):
        """The ids of normalized text and -1; or those before a character without a token and that character's position.

        Other threads run meanwhile.
        """
        cdef vector[int32_t] ids
        cdef string_view all_text = view(text)
        cdef size_t start = 0
        cdef int64_t bad = -1
        cdef int32_t last = -1
        all_ids = []
        while bad < 0 and start < all_text.size():
            ids.clear()
            with nogil:
                bad = self.pieces.encode(all_text, start, IDS_AT_ONCE, unknown, last, ids)
            all_ids += ids
        return all_ids, bad

    def token_bytes(self, int32_t token):
        """The bytes of a token in [0, n_tokens)."""
        assert 0 <= token < self.n_tokens
        cdef string_view piece = self.pieces.bytes(token)
        return piece.data()[:piece.size()]


cdef class SpecialTokens:
    """The tokens that are found in a text before it is tokenized."""

    cdef CSpecialTokens tokens

    def add(self, bytes text, int32_t token, bint control, bint strip_left, bint strip_right):
        """A token's text; `control`: only found when asked for; strip: white space beside it belongs to it."""
        self.tokens.add(view(text), token, control, strip_left, strip_right)

    def split(self, bytes text, bint control):
        """(start, end, token id or -1 for plain text) of every part of the text, in bytes. Other threads run meanwhile."""
        cdef vector[Fragment] fragments
        cdef string_view all_text = view(text)
        with nogil:
            fragments = self.tokens.split(all_text, control)
        return [(f.start, f.end, f.id) for f in fragments]
