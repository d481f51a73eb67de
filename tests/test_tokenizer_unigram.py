"""Unigram vocabularies give the ids of Hugging Face's `tokenizers`, of SentencePiece and of the definition."""

import struct
from itertools import groupby

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from tiny_vocabularies import BYTE, CONTROL, UNUSED, USER_DEFINED, unigram_metadata
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import Unigram

from pyinfer.errors import TokenizerError
from pyinfer.tokenizer import tokenizer_from_metadata

FIRST_PIECE = 4  # after <s>, <pad>, </s> and <unk>
UNKNOWN = 3
SCORES = st.sampled_from([-1.0, -2.0, -3.5, -0.1, 0.0, 1.0])
PIECES = st.dictionaries(st.text("ab▁é", min_size=1, max_size=5), SCORES, min_size=1, max_size=25)
TEXTS = st.text("ab é▁q\n", max_size=16)


def cut_slowly(pieces: dict[str, float], text: str, unknown: float) -> list[str]:
    """The definition: of all ways to cut a text, one with the greatest sum; unknown: the score of other characters."""
    best: list[tuple[float, list[str]]] = [(0.0, [])]
    for end in range(1, len(text) + 1):
        ways = []
        for start in range(end):
            score = pieces.get(text[start:end], unknown if end - start == 1 else None)
            if score is not None:
                ways.append((best[start][0] + score, [*best[start][1], text[start:end]]))
        best.append(max(ways, key=lambda way: way[0]))
    return best[-1][1]


def ids_of(pieces: dict[str, float], cut: list[str]) -> list[int]:
    numbers = {piece: FIRST_PIECE + i for i, piece in enumerate(pieces)}
    ids = [numbers.get(piece, UNKNOWN) for piece in cut]
    return [i for i, run in groupby(ids) for i in ([i] if i == UNKNOWN else run)]


@settings(max_examples=400, deadline=None)
@given(pieces=PIECES, text=TEXTS)
def test_pieces_are_those_of_the_definition(pieces, text):
    tokenizer = tokenizer_from_metadata(unigram_metadata(pieces))
    cut = cut_slowly(pieces, text.replace(" ", "▁"), min(pieces.values()) - 10)
    found = tokenizer.encode(text, add_special=False)
    texts = {FIRST_PIECE + i: piece for i, piece in enumerate(pieces)}

    def total(ids):  # of equally good cuts any will do: which is taken is what the next test says
        return sum(pieces[texts[i]] if i in texts else -100 for i in ids)

    assert total(found) == pytest.approx(total(ids_of(pieces, cut)))


@settings(max_examples=400, deadline=None)
@given(pieces=PIECES, text=TEXTS)
def test_ids_are_those_of_hugging_face(pieces, text):
    theirs = Tokenizer(Unigram([("<unk>", 0.0), *pieces.items()], unk_id=0))
    theirs.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="never", split=False)
    ours = tokenizer_from_metadata(unigram_metadata(pieces)).encode(text, add_special=False)
    assert ours == [i - 1 + FIRST_PIECE if i else UNKNOWN for i in theirs.encode(text).ids]


# text, add_space_prefix, remove_extra_whitespaces: what is cut into pieces
@pytest.mark.parametrize(
    ("text", "prefix", "merge", "normal"),
    [
        ("a b", True, True, "▁a▁b"),
        ("  a   b  ", True, True, "▁a▁b"),
        ("  a   b  ", False, True, "▁a▁b"),
        ("a b", True, False, "▁a▁b"),
        (" a  b ", True, False, "▁▁a▁▁b▁"),
        (" a  b ", False, False, "▁a▁▁b▁"),
        ("a b", False, False, "a▁b"),
        ("   ", True, True, ""),
        ("   ", True, False, "▁▁▁"),
        ("", True, True, ""),
    ],
)
def test_spaces_are_written_as_the_file_says(text, prefix, merge, normal):
    pieces = {"a": -1.0, "b": -1.0, "▁": -1.0}
    flags = {"add_space_prefix": prefix, "remove_extra_whitespaces": merge}
    tokenizer = tokenizer_from_metadata(unigram_metadata(pieces, **flags))
    assert tokenizer.encode(text, add_special=False) == ids_of(pieces, list(normal))


def test_a_text_that_continues_another_gets_no_space():
    pieces = {"a": -1.0, "▁": -1.0, "▁a": -1.0}
    flags = {"add_space_prefix": True, "remove_extra_whitespaces": True}
    tokenizer = tokenizer_from_metadata(unigram_metadata(pieces, **flags))
    assert tokenizer.encode("a", add_special=False, continues=True) == [FIRST_PIECE]
    assert tokenizer.encode(" a", add_special=False, continues=True) == [FIRST_PIECE + 2]
    assert tokenizer.decode([FIRST_PIECE + 2, FIRST_PIECE + 2]) == "a a"


def test_what_stands_around_a_text_follows_the_file():
    pieces = {"a": -1.0}
    assert tokenizer_from_metadata(unigram_metadata(pieces)).encode("a") == [FIRST_PIECE, 2]
    both = unigram_metadata(pieces, add_bos_token=True, add_eos_token=True)
    assert tokenizer_from_metadata(both).encode("a") == [0, FIRST_PIECE, 2]
    assert tokenizer_from_metadata(both).encode("") == [0, 2]
    neither = unigram_metadata(pieces, add_bos_token=False, add_eos_token=False)
    assert tokenizer_from_metadata(neither).encode("a") == [FIRST_PIECE]
    t5 = {"tokenizer.ggml.model": "t5", "tokenizer.ggml.tokens": ["<pad>", "</s>", "<unk>", "a"]}
    assert tokenizer_from_metadata(t5).encode("aé") == [3, 2, 1]  # the ids of T5's own vocabulary


def test_special_and_user_defined_texts_are_found_before_pieces():
    pieces = {"<": -1.0, "s": -1.0, ">": -1.0, "m": -1.0}
    tokenizer = tokenizer_from_metadata(unigram_metadata(pieces, special={"<m>": USER_DEFINED}))
    assert tokenizer.encode("<m><s>", add_special=False) == [FIRST_PIECE + 4, 4, 5, 6]
    assert tokenizer.encode("<m><s>", add_special=False, parse_special=True) == [FIRST_PIECE + 4, 0]


def test_control_tokens_and_bytes_are_no_pieces_but_unused_tokens_are():
    special = {"x": CONTROL, "y": UNUSED, "<0x41>": BYTE}
    tokenizer = tokenizer_from_metadata(unigram_metadata({"a": -1.0}, special=special))
    assert tokenizer.encode("xayA", add_special=False) == [UNKNOWN, 4, 6, 7]


def test_bytes_stand_for_a_run_of_unknown_characters_if_all_of_them_have_tokens():
    special = {f"<0x{byte:02X}>": BYTE for byte in "é€".encode()}
    tokenizer = tokenizer_from_metadata(unigram_metadata({"a": -1.0}, special=special))
    assert tokenizer.encode("aé€a", add_special=False) == [4, 5, 6, 7, 8, 9, 4]
    assert tokenizer.decode([4, 5, 6, 7, 8, 9]) == "aé€"
    assert tokenizer.encode("aéqa", add_special=False) == [4, UNKNOWN, 4]


def test_an_unknown_character_without_a_token_for_it_is_an_error():
    metadata = {"tokenizer.ggml.model": "t5", "tokenizer.ggml.tokens": ["a", "b"]}
    with pytest.raises(TokenizerError, match="no token for 'é'"):
        tokenizer_from_metadata(metadata).encode("abé")


# A map of characters as SentencePiece compiles it, made by the plainest method.


def charsmap(replacements: dict[str, str]) -> np.ndarray:
    """The precompiled map: a double array, whose nodes lie 256 apart here, and the replacements."""
    texts, at = b"", {}
    for target in set(replacements.values()):
        at[target] = len(texts)
        texts += target.encode() + b"\0"
    trie: dict[bytes, int] = {b"": 0}
    for source in replacements:
        for end in range(1, len(source.encode()) + 1):
            trie.setdefault(source.encode()[:end], len(trie))
    ends = {source.encode(): at[target] for source, target in replacements.items()}
    units = np.zeros(256 * (len(trie) + 1), np.uint32)
    place = {b"": 0}  # of each prefix's node
    for prefix in sorted(trie, key=len):
        children = 256 * (trie[prefix] + 1)  # where the children of this node begin
        node = place[prefix]
        offset = node ^ children
        assert offset < 1 << 21
        units[node] = (offset << 10) | ((prefix in ends) << 8) | (prefix[-1] if prefix else 0)
        if prefix in ends:
            units[children] = ends[prefix] | 1 << 31
        for other in trie:
            if len(other) == len(prefix) + 1 and other[:-1] == prefix:
                place[other] = children ^ other[-1]
    raw = struct.pack("<I", units.nbytes) + units.tobytes() + texts
    return np.frombuffer(raw, np.uint8)


def replace_slowly(replacements: dict[str, str], text: str) -> str:
    """The longest prefix that is in the map is replaced, again and again."""
    out = ""
    while text:
        source = max((s for s in replacements if text.startswith(s)), key=len, default="")
        out += replacements.get(source, text[0])
        text = text[len(source) or 1 :]
    return out


@settings(max_examples=200, deadline=None)
@given(
    replacements=st.dictionaries(st.text("ＡBé﷽", min_size=1, max_size=4), st.text("ab ", max_size=4), min_size=1),
    text=st.text("ＡBé﷽a ", max_size=12),
)
def test_the_longest_prefix_in_the_map_is_replaced(replacements, text):
    pieces = dict.fromkeys("ＡBé﷽ab▁", -1.0)
    replacements.setdefault("B", "b")
    metadata = unigram_metadata(pieces, precompiled_charsmap=charsmap(replacements))
    expected = ids_of(pieces, list(replace_slowly(replacements, text).replace(" ", "▁")))
    assert tokenizer_from_metadata(metadata).encode(text, add_special=False) == expected
    signed = unigram_metadata(pieces, precompiled_charsmap=charsmap(replacements).view(np.int8))
    assert tokenizer_from_metadata(signed).encode(text, add_special=False) == expected


@settings(max_examples=300, deadline=None)
@given(data=st.data(), text=st.text(max_size=20))
def test_a_damaged_map_gives_ids_or_an_error(data, text):
    raw = charsmap({"Ａ": "A", "ＡＢ": "AB", "é": "e"}).copy()
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        tokenizer = tokenizer_from_metadata(unigram_metadata({"a": -1.0}, precompiled_charsmap=raw))
        for part in (text, "ＡＢé", "Ａ" * 50, "é\0Ａ"):
            tokenizer.encode(part)
    except TokenizerError as error:
        assert "precompiled_charsmap" in str(error)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (np.zeros(3, np.uint8), "has 3 bytes"),
        (np.frombuffer(struct.pack("<II", 2**32 - 4, 0) + b"a\0", np.uint8), "4294967292 are said to be its nodes"),
        (np.frombuffer(struct.pack("<II", 4, 0), np.uint8), "has 8 bytes, of which 4"),
        (np.frombuffer(struct.pack("<II", 3, 0) + b"a\0", np.uint8), "of which 3"),
        (np.frombuffer(struct.pack("<II", 4, 0) + b"a", np.uint8), "no end within 256 bytes"),
        (np.frombuffer(struct.pack("<II", 4, 0) + b"a" * 257 + b"\0", np.uint8), "no end within 256 bytes"),
        (np.zeros(16, np.uint32), "no array of bytes"),
        ("abc", "no array of bytes"),
    ],
)
def test_a_map_that_is_none_is_refused(raw, says):
    with pytest.raises(TokenizerError, match=rf"tokenizer\.ggml\.precompiled_charsmap.*{says}"):
        tokenizer_from_metadata(unigram_metadata({"a": -1.0}, precompiled_charsmap=raw))


def test_an_empty_map_is_no_map():
    metadata = unigram_metadata({"a": -1.0}, precompiled_charsmap=np.zeros(0, np.uint8))
    assert tokenizer_from_metadata(metadata).encode("a", add_special=False) == [4]


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
def test_scores_that_have_no_sum_are_refused(score):
    with pytest.raises(TokenizerError, match=rf"scores\[{FIRST_PIECE}\] is {score}"):
        tokenizer_from_metadata(unigram_metadata({"a": score}))


def test_a_piece_is_not_longer_than_the_time_for_a_text_allows():
    assert tokenizer_from_metadata(unigram_metadata({"a" * 1024: -1.0})).n_vocab == 5
    with pytest.raises(TokenizerError, match=r"tokens\[4\] has 1025 bytes"):
        tokenizer_from_metadata(unigram_metadata({"a" * 1025: -1.0}))


@pytest.mark.parametrize("text", ["a" * 2**20, " " * 2**20, "a " * 2**19, "😀" * 2**18, "b" * 2**20])
def test_a_megabyte_of_one_thing_comes_back(text):
    pieces = {"▁" * n: -1.0 - n for n in range(1, 17)} | {"a" * n: -20.0 - n for n in range(1, 1024, 7)} | {"😀": -1.0}
    tokenizer = tokenizer_from_metadata(unigram_metadata(pieces))
    decoded = tokenizer.decode(tokenizer.encode(text), skip_special=True)
    assert decoded == ("" if "b" in text else text)


@settings(max_examples=200, deadline=None)
@given(
    tokens=st.lists(st.binary(max_size=6), min_size=1, max_size=8),
    types=st.lists(st.integers(-5, 9), min_size=8, max_size=8),
    scores=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=8, max_size=8),
    text=st.text(max_size=20),
)
def test_any_vocabulary_gives_ids_or_an_error(tokens, types, scores, text):
    metadata = {
        "tokenizer.ggml.model": "t5",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array(types, np.int32),
        "tokenizer.ggml.scores": np.array(scores, np.float32),
    }
    try:
        tokenizer = tokenizer_from_metadata(metadata)
        ids = tokenizer.encode(text)
        tokenizer.decode(ids)
    except TokenizerError:
        return
    assert all(0 <= i < len(tokens) for i in ids)
