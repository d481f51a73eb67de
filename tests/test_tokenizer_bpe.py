"""Byte-level BPE: ids equal those of Hugging Face's BPE, every text comes back, every length is linear."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from tiny_vocabularies import BYTE, CONTROL, NORMAL, UNUSED, bpe_metadata, gpt2_alphabet

from pyinfer.errors import TokenizerError
from pyinfer.tokenizer import load_tokenizer, tokenizer_from_metadata
from pyinfer.tokenizer.pretokenizers import PRE_TOKENIZERS

ALPHABET = gpt2_alphabet()
LETTERS = "abc"
WORDS = st.text(LETTERS, min_size=1, max_size=12)


@st.composite
def merge_lists(draw):
    """Merges over a few letters, of which some join what earlier ones gave."""
    parts = list(LETTERS)
    merges = []
    for _ in range(draw(st.integers(0, 12))):
        left, right = draw(st.sampled_from(parts)), draw(st.sampled_from(parts))
        merges.append(f"{left} {right}")
        parts.append(left + right)
    return list(dict.fromkeys(merges))


def hugging_face(metadata, ignore_merges=False):
    tokenizers = pytest.importorskip("tokenizers")
    tokens = [t if isinstance(t, str) else t.decode() for t in metadata["tokenizer.ggml.tokens"]]
    merges = [m if isinstance(m, str) else m.decode() for m in metadata["tokenizer.ggml.merges"]]
    vocabulary = {token: i for i, token in reversed(list(enumerate(tokens)))}
    pairs = [tuple(m.split(" ")) for m in dict.fromkeys(merges)]
    model = tokenizers.models.BPE(vocabulary, pairs, ignore_merges=ignore_merges)
    return tokenizers.Tokenizer(model)


@settings(max_examples=300, deadline=None)
@given(merges=merge_lists(), word=WORDS)
def test_words_are_merged_as_by_hugging_face(merges, word):
    metadata = bpe_metadata(merges)

    ids = tokenizer_from_metadata(metadata).encode(word)

    assert ids == hugging_face(metadata).encode(word).ids


@pytest.fixture(scope="module", params=["gpt-2", "llama-bpe", "qwen2"])
def real(request, reference):
    from pyinfer.gguf import GGUFFile

    path = reference / "vocab" / f"ggml-vocab-{request.param}.gguf"
    with GGUFFile(path) as file:
        oracle = hugging_face(file.metadata, PRE_TOKENIZERS[request.param].whole_words)
    tokenizers = pytest.importorskip("tokenizers")
    (pattern,) = PRE_TOKENIZERS[request.param].patterns
    greedy = pattern.replace("++", "+").replace("*+", "*") + r"|\s+"
    oracle.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(greedy), "isolated"),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return load_tokenizer(path), oracle


# Assigned characters only: what is a letter among the others depends on the engine's version of Unicode.
TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cn", "Co")), max_size=40) | st.lists(
    st.sampled_from(
        ["the ", "Tokenizer", "  ", "\n", "don't", "123", " naïve", "日本語", "Привет", "😀", "<|im_end|>", "def f(x):"]
    )
).map("".join)


@settings(max_examples=200, deadline=None)
@given(text=TEXTS)
def test_ids_of_real_vocabularies_equal_those_of_hugging_face(real, text):
    tokenizer, oracle = real

    assert tokenizer.encode(text, add_special=False) == oracle.encode(text).ids


@settings(max_examples=200, deadline=None)
@given(text=TEXTS)
def test_a_text_comes_back(real, text):
    tokenizer, _ = real

    assert tokenizer.decode(tokenizer.encode(text, add_special=False)) == text
    assert tokenizer.decode(tokenizer.encode(text, add_special=False, parse_special=True)) == text


@pytest.mark.parametrize("text", ["a" * 2**20, " " * 2**20, "\n" * 2**20, "😀" * 2**18, "<|" * 2**19])
def test_a_megabyte_of_one_thing_comes_back(real, text):
    tokenizer, _ = real

    assert tokenizer.decode(tokenizer.encode(text, add_special=False)) == text


def test_the_merge_of_the_lowest_rank_comes_first_and_the_leftmost_of_equals():
    tokenizer = tokenizer_from_metadata(bpe_metadata(["b c", "a b", "a a"]))

    assert tokenizer.decode_bytes(tokenizer.encode("abc")[:1]) == b"a"
    assert [tokenizer.token_bytes(i) for i in tokenizer.encode("aaa")] == [b"aa", b"a"]


def test_a_word_that_is_a_token_needs_no_merges_where_the_pre_tokenizer_says_so():
    metadata = bpe_metadata(special={"hello": NORMAL}, pre="llama-bpe")

    assert tokenizer_from_metadata(metadata).encode("hello") == [256]
    assert len(tokenizer_from_metadata({**metadata, "tokenizer.ggml.pre": "qwen2"}).encode("hello")) == 5


def test_a_merge_whose_result_is_no_token_falls_back_to_bytes():
    metadata = bpe_metadata(["a b"])
    metadata["tokenizer.ggml.tokens"].remove("ab")
    metadata["tokenizer.ggml.token_type"] = metadata["tokenizer.ggml.token_type"][:-1]

    assert tokenizer_from_metadata(metadata).decode_bytes([97, 98]) == b"ab"
    assert tokenizer_from_metadata(metadata).encode("ab") == [97, 98]


def test_bytes_without_a_token_are_left_out_as_in_llama_cpp():
    metadata = bpe_metadata()
    metadata["tokenizer.ggml.tokens"][ord("x")] = "unlikely"

    assert tokenizer_from_metadata(metadata).encode("axb") == [97, 98]


def test_unused_tokens_are_no_text():
    tokenizer = tokenizer_from_metadata(bpe_metadata(special={"[PAD0]": UNUSED, "odd": BYTE}))

    assert tokenizer.decode([97, 256, 257]) == "a"


def test_recent_words_do_not_mix_up():
    tokenizer = tokenizer_from_metadata(bpe_metadata(["a b"]))
    words = [f"{i:x}" for i in range(100_000)]

    for _ in range(2):
        assert tokenizer.decode(tokenizer.encode(" ".join(words))) == " ".join(words)


def test_an_unknown_pre_tokenizer_is_a_warning_and_cuts_as_most_do():
    with pytest.warns(UserWarning, match=r"tokenizer\.ggml\.pre is 'elvish', which is not known.*as for 'llama-bpe'"):
        tokenizer = tokenizer_from_metadata(bpe_metadata(["1 2", "12 3", "123 4"], pre="elvish", bos_token_id=0))
    assert not tokenizer.add_bos
    assert tokenizer.decode_bytes(tokenizer.encode("1234")[:1]) == b"123", "digits come in threes"


@pytest.mark.parametrize("pre", ["sarvam-moe", "whitespace"])
def test_pre_tokenizers_with_rules_of_their_own_are_refused(pre):
    with pytest.raises(TokenizerError, match=rf"tokenizer\.ggml\.pre is '{pre}', which is not supported"):
        tokenizer_from_metadata(bpe_metadata(pre=pre))


CHARACTERS = ["▁", "a", "b", "é", "\n", "▁a", "ab", "▁ab", "\n\n", "éa", "▁▁"]
CHARACTER_MERGES = ["▁ a", "a b", "▁a b", "é a", "▁ ▁"]  # none for "\n\n"


def gemma4_metadata(**keys):
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    tokens = ["<pad>", "<bos>", *bytes_, *CHARACTERS]
    return {
        "tokenizer.ggml.model": "gemma4",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array([3, 3] + [6] * 256 + [1] * len(CHARACTERS), np.int32),
        "tokenizer.ggml.merges": CHARACTER_MERGES,
        "tokenizer.ggml.bos_token_id": 1,
        **{f"tokenizer.ggml.{name}": value for name, value in keys.items()},
    }


@settings(max_examples=300, deadline=None)
@given(text=st.text("ab é▁€q\n", max_size=16))
def test_merges_of_characters_are_those_of_hugging_face(text):
    tokenizers = pytest.importorskip("tokenizers")
    tokens = gemma4_metadata()["tokenizer.ggml.tokens"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    theirs = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocabulary, [tuple(m.split(" ")) for m in CHARACTER_MERGES], byte_fallback=True)
    )
    theirs.normalizer = tokenizers.normalizers.Replace(" ", "▁")
    ours = tokenizer_from_metadata(gemma4_metadata())
    found = ours.encode(text, add_special=False)
    newlines = vocabulary["\n\n"]  # a run of newlines that is a token is that token
    plain = [i for token in found for i in ([vocabulary["\n"]] * 2 if token == newlines else [token])]
    assert plain == theirs.encode(text).ids
    assert ours.decode(found) == text.replace("▁", " ")


def test_characters_begin_with_the_begin_token_and_newlines_stay_whole():
    tokenizer = tokenizer_from_metadata(gemma4_metadata(add_bos_token=False))
    first = 2 + 256
    assert tokenizer.encode(" ab") == [1, first + CHARACTERS.index("▁ab")]
    assert tokenizer.encode("\n\n", add_special=False) == [first + CHARACTERS.index("\n\n")]
    assert tokenizer.encode("\n\n\n", add_special=False) == [first + CHARACTERS.index("\n")] * 3
    assert tokenizer.encode("€", add_special=False) == [2 + byte for byte in "€".encode()]


def test_no_pre_tokenizer_is_the_default_one():
    metadata = bpe_metadata(["1 2", "1 3"])
    del metadata["tokenizer.ggml.pre"]

    assert len(tokenizer_from_metadata(metadata).encode("12341234")) == 6


@pytest.mark.parametrize("merge", ["", "ab", "a ", " ", "\xff"])
def test_a_line_that_is_no_merge_is_refused_by_its_number(merge):
    with pytest.raises(TokenizerError, match=r"merges\[1\]"):
        tokenizer_from_metadata({**bpe_metadata(["a b"]), "tokenizer.ggml.merges": ["a b", merge]})


@settings(max_examples=200, deadline=None)
@given(
    tokens=st.lists(st.binary(max_size=6), min_size=1, max_size=8),
    merges=st.lists(st.binary(max_size=8), max_size=8),
    types=st.lists(st.integers(-5, 9), min_size=8, max_size=8),
    text=st.text(max_size=20),
)
def test_a_senseless_vocabulary_gives_ids_or_a_tokenizer_error(tokens, merges, types, text):
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.token_type": np.array(types, np.int32),
    }
    try:
        tokenizer = tokenizer_from_metadata(metadata)
    except TokenizerError:
        return
    ids = tokenizer.encode(text, parse_special=True)

    assert all(0 <= i < len(tokens) for i in ids)
    tokenizer.decode(range(len(tokens)))


def test_a_control_token_is_never_the_result_of_merges():
    metadata = bpe_metadata(["< s", "<s >"], pre="llama-bpe")
    metadata["tokenizer.ggml.token_type"][-1] = CONTROL

    assert tokenizer_from_metadata(metadata).encode("<s>")[-1] != len(metadata["tokenizer.ggml.tokens"]) - 1
