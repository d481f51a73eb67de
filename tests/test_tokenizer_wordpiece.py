"""WordPiece gives the ids of Hugging Face's `tokenizers`, and ids become text again."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_vocabularies import wordpiece_metadata
from tokenizers import BertWordPieceTokenizer

from pyinfer.errors import TokenizerError
from pyinfer.tokenizer import load_tokenizer, tokenizer_from_metadata
from pyinfer.tokenizer.wordpiece import WordSplitter

# pieces of one and more characters, in several scripts; "q" and "ж" can only follow, "z" and "щ" can't
LETTERS = [*"abcdefghijklmnoprstuvwxyzàеёщσ1234中国한!,.-[]$+'#🚀"]
PIECES = [*LETTERS, *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxy1234еёжσᅡᆫ"), *["the", "un", "aff", "want"]]
PIECES += ["##aff", "##able", "##ing", "##ed", "##ab", "wanted", "12", "##34", "мир", "##ир"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Unicode's newer versions move characters between categories, and not all libraries follow at once
STABLE = st.characters(exclude_categories=("Cs", "Cn")).filter(
    lambda c: unicodedata.ucd_3_2_0.category(c) == unicodedata.category(c)
)
TEXTS = st.one_of(
    st.lists(st.sampled_from([*PIECES, " ", "  ", "\n", "#", "Ä", "É", "\u0301", "\u200d", "\x00", "\ufffd"]))
    .map("".join)
    .map(lambda text: text.replace("##", "")),
    st.text(STABLE),
)


@pytest.fixture(scope="module")
def tiny():
    return tokenizer_from_metadata(wordpiece_metadata(PIECES))


@pytest.fixture(scope="module")
def of_hugging_face():
    return BertWordPieceTokenizer({token: i for i, token in enumerate([*SPECIAL, *PIECES])})


def test_known_texts(tiny):
    tokens = [*SPECIAL, *PIECES]

    def pieces(text):
        return [tokens[i] for i in tiny.encode(text, add_special=False)]

    assert pieces("Unaffable, the WANTED!") == ["un", "##aff", "##able", ",", "the", "wanted", "!"]
    assert pieces("the中国Café") == ["the", "中", "国", "c", "##a", "##f", "##e"]
    assert pieces("qa ЖИР") == ["[UNK]", "[UNK]"]
    assert pieces("МИР 1234") == ["мир", "12", "##34"]
    assert pieces("a" * 100) == ["a", *["##a"] * 99]
    assert pieces("a" * 101 + " a") == ["[UNK]", "a"]


@given(text=TEXTS)
def test_any_text_gives_the_ids_of_hugging_face(tiny, of_hugging_face, text):
    assert tiny.encode(text) == of_hugging_face.encode(text).ids


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("strip_accents", [True, False])
@given(text=st.one_of(TEXTS, st.text(STABLE)))
def test_any_text_gives_the_words_of_hugging_face(lowercase, strip_accents, text):
    theirs = BertWordPieceTokenizer(
        {t: i for i, t in enumerate(SPECIAL)}, lowercase=lowercase, strip_accents=strip_accents
    )
    normalized = theirs.normalizer.normalize_str(text)
    words = [word for word, _ in theirs.pre_tokenizer.pre_tokenize_str(normalized)]
    assert WordSplitter(lowercase, strip_accents).split(text) == words


# lowercase, strip_accents: as in the file (None: the key is absent), and how a model's pieces are found
@pytest.mark.parametrize(
    ("lowercase", "strip_accents", "pieces"),
    [
        (None, None, ["paris", "ecole", "e", "##t", "##e"]),
        (True, None, ["paris", "ecole", "e", "##t", "##e"]),
        (False, None, ["Paris", "École", "é", "##t", "##é"]),
        (True, False, ["paris", "école", "é", "##t", "##é"]),
        (False, True, ["Paris", "Ecole", "e", "##t", "##e"]),
    ],
)
def test_the_file_says_whether_case_and_accents_are_kept(lowercase, strip_accents, pieces):
    known = ["Paris", "paris", "École", "école", "Ecole", "ecole", "é", "e", "##t", "##é", "##e"]
    flags = {"normalizer.lowercase": lowercase, "normalizer.strip_accents": strip_accents}
    metadata = wordpiece_metadata(known, **{key: flag for key, flag in flags.items() if flag is not None})
    tokens = [*SPECIAL, *known]
    tokenizer = tokenizer_from_metadata(metadata)
    assert [tokens[i] for i in tokenizer.encode("Paris École été", add_special=False)] == pieces


def test_a_normalizer_key_that_is_no_truth_value_is_named():
    with pytest.raises(TokenizerError, match=r"tokenizer\.ggml\.normalizer\.lowercase is 1; expected true or false"):
        tokenizer_from_metadata(wordpiece_metadata(["a"], **{"normalizer.lowercase": 1}))


@given(text=TEXTS)
def test_the_real_vocabulary_gives_the_ids_of_hugging_face(reference, real, text):
    ours, theirs = real
    assert ours.encode(text) == theirs.encode(text).ids


@pytest.fixture(scope="module")
def real(reference):
    """The tokenizer of BERT's own vocabulary, and Hugging Face's."""
    from pyinfer.gguf import GGUFFile

    path = reference / "vocab" / "ggml-vocab-bert-bge.gguf"
    with GGUFFile(path) as file:
        tokens = list(file.metadata["tokenizer.ggml.tokens"])
    whole = [t if t in SPECIAL or t.startswith("[unused") else t[1:] if t[0] == "\u2581" else f"##{t}" for t in tokens]
    return load_tokenizer(path), BertWordPieceTokenizer({token: i for i, token in enumerate(whole)})


def test_a_text_stands_between_cls_and_sep(tiny):
    assert tiny.encode("a") == [2, 5, 3]
    assert tiny.encode("") == [2, 3]
    assert tiny.encode("a", add_special=False) == [5]
    assert (tiny.bos_id, tiny.eos_id) == (2, 3)


def test_special_tokens_in_a_text_are_text_unless_asked_for(tiny):
    assert 3 not in tiny.encode("[SEP]", add_special=False)
    assert tiny.encode("a[SEP]a", add_special=False, parse_special=True) == [5, 3, 5]


def test_ids_become_words_with_a_space_between(tiny):
    assert tiny.decode(tiny.encode("Unaffable  wanted!"), skip_special=True) == "unaffable wanted !"
    assert tiny.decode(tiny.encode("a")) == "[CLS]a[SEP]"


@given(text=st.text(STABLE))
def test_what_was_decoded_gives_the_same_ids_again(tiny, text):
    ids = tiny.encode(text, add_special=False)
    if 1 not in ids:
        assert tiny.encode(tiny.decode(ids), add_special=False) == ids


def test_ids_that_the_file_leaves_out_are_those_of_bert():
    metadata = wordpiece_metadata([f"w{i}" for i in range(200)])
    for name in ("unknown", "cls", "seperator"):
        del metadata[f"tokenizer.ggml.{name}_token_id"]
    assert tokenizer_from_metadata(metadata).encode("?") == [101, 100, 102]


def test_a_vocabulary_without_an_unknown_token_is_refused():
    metadata = wordpiece_metadata(["a"])
    del metadata["tokenizer.ggml.unknown_token_id"]
    with pytest.raises(TokenizerError, match="unknown_token_id is missing, and the vocabulary has 6 tokens"):
        tokenizer_from_metadata(metadata)


def test_bytes_that_are_no_text_in_a_vocabulary_do_no_harm():
    metadata = wordpiece_metadata(["a"])
    metadata["tokenizer.ggml.tokens"] = [t.encode() for t in metadata["tokenizer.ggml.tokens"]]
    metadata["tokenizer.ggml.tokens"][4] = b"\xff"
    tokenizer = tokenizer_from_metadata(metadata)
    assert tokenizer.encode("a", add_special=False) == [5]
    assert tokenizer.decode([4, 5]) == "\ufffd a"
