"""SentencePiece's BPE by scores equals a plain, slow rendering of its definition."""

from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from tiny_vocabularies import CONTROL, NORMAL, USER_DEFINED, spm_metadata

from pyinfer.errors import TokenizerError
from pyinfer.tokenizer import load_tokenizer, tokenizer_from_metadata

FIRST_PIECE = 3 + 256
PIECES = st.dictionaries(
    st.text("ab▁é", min_size=1, max_size=4), st.sampled_from([-1.0, -2.0, -3.5, 0.0, 1.0]), max_size=25
)


def join_slowly(pieces: dict[str, float], text: str) -> list[int]:
    """The definition: join the neighbours with the best score, the leftmost of equals, again and again."""
    ids = {piece: FIRST_PIECE + i for i, piece in enumerate(pieces)}
    symbols = list(text.replace(" ", "▁"))
    while True:
        pairs = [(-pieces[a + b], i) for i, (a, b) in enumerate(pairwise(symbols)) if a + b in pieces]
        if not pairs:
            return [
                i for s in symbols for i in ([ids[s]] if s in ids else [3 + b for b in s.replace("▁", " ").encode()])
            ]
        _, i = min(pairs)
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]


@settings(max_examples=500, deadline=None)
@given(pieces=PIECES, text=st.text("ab é", max_size=16))
def test_pieces_are_joined_as_defined(pieces, text):
    tokenizer = tokenizer_from_metadata(spm_metadata(pieces, add_space_prefix=False))

    assert tokenizer.encode(text, add_special=False) == join_slowly(pieces, text)


def test_a_real_vocabulary_gives_what_the_definition_gives(reference):
    from pyinfer.gguf import GGUFFile

    path = reference / "vocab" / "ggml-vocab-llama-spm.gguf"
    tokenizer = load_tokenizer(path)
    with GGUFFile(path) as file:
        texts = [t if isinstance(t, str) else t.decode() for t in file.metadata["tokenizer.ggml.tokens"]]
        scores = file.metadata["tokenizer.ggml.scores"].tolist()
    pieces = dict(zip(texts[FIRST_PIECE:], scores[FIRST_PIECE:], strict=True))

    @settings(max_examples=200, deadline=None)
    @given(
        st.text(max_size=30) | st.lists(st.sampled_from(["the ", "  ", "\n", "Привет", " naïve", "日本"])).map("".join)
    )
    def check(text):
        expected = join_slowly(pieces, " " + text) if text else []
        assert tokenizer.encode(text, add_special=False) == expected
        assert tokenizer.decode(expected) == text.replace("▁", " ")

    check()


@pytest.mark.parametrize("text", ["a" * 2**20, " " * 2**20, "a " * 2**19, "😀" * 2**18])
def test_a_megabyte_of_one_thing_comes_back(text):
    pieces = {"▁" * n: -1.0 - n for n in range(1, 17)} | {"a" * n: -20.0 - n for n in (2, 4, 8)} | {"a▁": -3.0}
    tokenizer = tokenizer_from_metadata(spm_metadata(pieces))

    assert tokenizer.decode(tokenizer.encode(text), skip_special=True) == text


def test_a_space_is_put_before_a_text_and_taken_away_again():
    tokenizer = tokenizer_from_metadata(spm_metadata({"▁a": -1.0}))

    ids = tokenizer.encode("a")

    assert ids == [1, FIRST_PIECE]
    assert tokenizer.decode(ids, skip_special=True) == tokenizer.decode(ids[1:]) == "a"
    assert tokenizer.decode_bytes(ids[1:]) == b" a"
    assert tokenizer.stream_decoder(continues=True).push(FIRST_PIECE) == " a"


def test_no_space_is_put_where_the_file_says_so():
    tokenizer = tokenizer_from_metadata(spm_metadata({"▁a": -1.0, "a": -1.0}, add_space_prefix=False))

    assert tokenizer.encode("a", add_special=False) == [FIRST_PIECE + 1]
    assert tokenizer.decode([FIRST_PIECE]) == " a"


def test_user_defined_text_stays_whole_and_ordinary_texts_beside_it_get_their_space():
    metadata = spm_metadata({"▁a": -1.0}, special={"<b>": USER_DEFINED})
    tokenizer = tokenizer_from_metadata(metadata)

    assert tokenizer.encode("a<b>a", add_special=False) == [FIRST_PIECE, FIRST_PIECE + 1, FIRST_PIECE]


def test_control_texts_are_never_joined_from_plain_text():
    tokenizer = tokenizer_from_metadata(spm_metadata({"<s": -1.0, "</": -1.0, "</s": -1.0}))

    assert not {1, 2} & set(tokenizer.encode("<s></s>", add_special=False))


def test_a_character_without_piece_or_bytes_is_the_unknown_token():
    tokenizer = tokenizer_from_metadata(spm_metadata({"▁": -1.0, "a": -1.0}, byte_tokens=False))

    assert tokenizer.encode("aé", add_special=False) == [3, 4, 0]


def test_scores_that_are_no_numbers_are_refused():
    metadata = spm_metadata({"a": float("nan")})

    with pytest.raises(TokenizerError, match=rf"scores\[{FIRST_PIECE}\] is not a number"):
        tokenizer_from_metadata(metadata)


@settings(max_examples=200, deadline=None)
@given(
    tokens=st.lists(st.binary(max_size=6), min_size=1, max_size=8),
    types=st.lists(st.integers(-5, 9), min_size=8, max_size=8),
    scores=st.lists(st.floats(width=32, allow_nan=False), min_size=8, max_size=8),
    text=st.text(max_size=20),
)
def test_a_senseless_vocabulary_gives_ids_or_a_tokenizer_error(tokens, types, scores, text):
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": np.array(scores, np.float32),
        "tokenizer.ggml.token_type": np.array(types, np.int32),
    }
    try:
        tokenizer = tokenizer_from_metadata(metadata)
        ids = tokenizer.encode(text, parse_special=True)
    except TokenizerError:
        return

    assert all(0 <= i < len(tokens) for i in ids)
    tokenizer.decode(range(len(tokens)))


def test_types_matter_only_where_the_file_has_them():
    metadata = spm_metadata({"▁": -1.0}, special={"x": NORMAL, "y": CONTROL})
    del metadata["tokenizer.ggml.token_type"]

    assert tokenizer_from_metadata(metadata).encode("é", add_special=False) == [FIRST_PIECE, 3 + 0xC3, 3 + 0xA9]
