"""Special tokens, begin and end of a text, and metadata that makes no sense."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from tiny_vocabularies import CONTROL, NORMAL, UNKNOWN, USER_DEFINED, bpe_metadata, spm_metadata

from pyinfer.errors import TokenizerError
from pyinfer.gguf import GGUFWriter
from pyinfer.tokenizer import load_tokenizer, tokenizer_from_metadata

CHATML = {"<|im_start|>": CONTROL, "<|im_end|>": CONTROL, "<tool>": USER_DEFINED, "<tool>>": USER_DEFINED}
START, END, TOOL, LONG_TOOL = 256, 257, 258, 259


def tokenizer_of(special=CHATML, **keys):
    return tokenizer_from_metadata(bpe_metadata(special=special, **keys))


def test_control_tokens_in_a_text_are_plain_text_unless_asked_for():
    tokenizer = tokenizer_of()

    assert tokenizer.encode("a<|im_end|>", parse_special=True) == [97, END]
    assert tokenizer.encode("a<|im_end|>") == list(b"a<|im_end|>")


def test_user_defined_tokens_are_always_found_and_the_longest_wins():
    assert tokenizer_of().encode("a<tool>b<tool>>") == [97, TOOL, 98, LONG_TOOL]


def find_slowly(text: bytes, special: dict[bytes, int]) -> list[tuple[int, int, int]]:
    """The definition: each token in order of falling length cuts the plain pieces that are left."""
    parts = [(text, -1)]
    for token, i in sorted(special.items(), key=lambda item: -len(item[0])):
        cut = []
        for piece, found in parts:
            if found >= 0:
                cut.append((piece, found))
                continue
            for k, plain in enumerate(piece.split(token)):
                cut += ([(token, i)] if k else []) + ([(plain, -1)] if plain else [])
        parts = cut
    return [(piece, i) for piece, i in parts if piece]


# Of equal lengths none may overlap another, for then their order would matter.
@settings(max_examples=300, deadline=None)
@given(
    lengths=st.sets(st.integers(1, 6), max_size=4),
    data=st.data(),
    text=st.text("ab<", max_size=30),
)
def test_special_tokens_are_found_longest_first(lengths, data, text):
    special = {data.draw(st.text("ab<", min_size=n, max_size=n)): USER_DEFINED for n in sorted(lengths)}
    tokenizer = tokenizer_of(special)
    ids = {token.encode(): 256 + k for k, token in enumerate(special)}

    expected = [i for piece, found in find_slowly(text.encode(), ids) for i in ([found] if found >= 0 else piece)]

    assert tokenizer.encode(text) == expected


def test_white_space_beside_special_tokens_of_phi_3_belongs_to_them():
    metadata = bpe_metadata(special={"<|end|>": CONTROL, "<s>": CONTROL})
    text = "a <|end|> \n b<s> c"

    plain = tokenizer_from_metadata(metadata).encode(text, parse_special=True)
    stripped = tokenizer_from_metadata({**metadata, "general.name": "Phi-3 mini"}).encode(text, parse_special=True)

    assert plain == [97, 32, 256, *b" \n b", 257, *b" c"]
    assert stripped == [97, 32, 256, *b"b", 257, *b" c"]


def test_white_space_before_the_mask_of_jina_belongs_to_it():
    tokenizer = tokenizer_of({"<mask>": CONTROL}, pre="jina-v2-de")

    assert tokenizer.encode("a  <mask> b", parse_special=True) == [97, 256, *b" b"]


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (bpe_metadata(bos_token_id=1, eos_token_id=2), [97]),
        (bpe_metadata(bos_token_id=1, eos_token_id=2, add_bos_token=True, add_eos_token=True), [1, 97, 2]),
        (bpe_metadata(bos_token_id=1, pre="llama-bpe"), [1, 97]),
        (bpe_metadata(bos_token_id=1, pre="llama-bpe", add_bos_token=False), [97]),
        (bpe_metadata(bos_token_id=999, add_bos_token=True), [97]),
        (bpe_metadata(add_bos_token=True, add_eos_token=True), [97]),
        (spm_metadata({"▁a": 0.0}), [1, 259]),
        (spm_metadata({"▁a": 0.0}, add_bos_token=False, add_eos_token=True), [259, 2]),
    ],
)
def test_begin_and_end_tokens_are_added_as_the_file_or_the_kind_of_model_says(metadata, expected):
    tokenizer = tokenizer_from_metadata(metadata)

    assert tokenizer.encode("a") == expected
    assert tokenizer.encode("a", add_special=False) == [i for i in expected if i in (97, 259)]


def test_an_empty_text_has_no_tokens_of_its_own():
    assert tokenizer_of().encode("") == []
    assert tokenizer_from_metadata(spm_metadata({})).encode("") == [1]


@pytest.mark.parametrize(
    ("special", "keys", "ends"),
    [
        ({"<|im_end|>": CONTROL}, {}, {256}),
        ({"<|im_end|>": NORMAL}, {"eos_token_id": 0}, {0, 256}),
        ({"<x>": CONTROL, "<y>": CONTROL}, {"eot_token_id": 256, "eom_token_id": 257}, {256, 257}),
        ({"<|end|>": CONTROL, "<|endoftext|>": CONTROL}, {}, {256, 257}),
        ({"<|end|>": CONTROL, "<|return|>": CONTROL, "<|call|>": CONTROL}, {}, {257, 258}),
        ({"</s>": NORMAL, "<|tool_response>": CONTROL}, {}, {257}),
        ({"<x>": CONTROL}, {}, set()),
    ],
)
def test_ends_of_generation_are_known_by_key_and_by_text(special, keys, ends):
    assert tokenizer_of(special, **keys).eog_ids == ends


def test_control_tokens_can_be_left_out_of_the_text():
    tokenizer = tokenizer_of({**CHATML, "<unk>": UNKNOWN})
    ids = [START, 97, TOOL, 260, END]

    assert tokenizer.decode(ids) == "<|im_start|>a<tool><unk><|im_end|>"
    assert tokenizer.decode(ids, skip_special=True) == "a<tool>"


@pytest.mark.parametrize("token", [-1, 260, 2**70, 1.0, "a", None])
def test_an_id_out_of_range_is_refused_with_the_range(token):
    tokenizer = tokenizer_of()

    for call in (lambda: tokenizer.decode([97, token]), lambda: tokenizer.token_bytes(token)):
        with pytest.raises(TokenizerError, match=r"token id .*(out of range.* 0 to 259|expected an int)"):
            call()
    assert tokenizer.decode([np.int32(97)]) == "a"


@pytest.mark.parametrize("ids", [5, None, "a"])
def test_what_holds_no_ids_is_refused(ids):
    tokenizer = tokenizer_of()

    for decode in (tokenizer.decode, tokenizer.decode_bytes):
        with pytest.raises(TokenizerError, match=f"token ids are a {type(ids).__name__}; expected a list of ints"):
            decode(ids)


def test_text_that_is_not_unicode_is_refused_with_its_position():
    with pytest.raises(TokenizerError, match=r"lone surrogate U\+D800 at position 2"):
        tokenizer_of().encode("ab\ud800")
    with pytest.raises(TokenizerError, match="text is a bytes; expected str"):
        tokenizer_of().encode(b"ab")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("model", None, "model is missing; known are gpt2, gemma4, llama"),
        ("model", "elvish", "model is 'elvish', which is not known; known are gpt2, gemma4, llama"),
        ("model", 3, "model is a int; expected a string"),
        ("tokens", None, "tokens is missing"),
        ("tokens", [], "tokens has 0 tokens"),
        ("tokens", "abc", "tokens is a str; expected an array of strings"),
        ("tokens", [1, 2], r"tokens\[0\] is a int; expected a string"),
        ("token_type", np.zeros(3, np.int32), "token_type has 3 values for 256 tokens"),
        ("token_type", ["a"], "token_type is not an array of numbers"),
        ("merges", None, "merges is missing"),
        ("pre", 3, "pre is a int; expected a string"),
        ("pre", b"\xff", "pre is text that is not UTF-8"),
        ("add_bos_token", "yes", "add_bos_token is 'yes'; expected true or false"),
        ("add_bos_token", 255, "add_bos_token is 255; expected true or false"),
        ("bos_token_id", "1", "bos_token_id is '1'; expected the id of a token"),
        ("eos_token_id", True, "eos_token_id is True; expected the id of a token"),
    ],
)
def test_metadata_that_makes_no_sense_is_refused_by_key(key, value, says):
    metadata = {**bpe_metadata(), f"tokenizer.ggml.{key}": value}

    with pytest.raises(TokenizerError, match=says):
        tokenizer_from_metadata({k: v for k, v in metadata.items() if v is not None})


def test_metadata_that_makes_no_sense_and_is_not_needed_does_no_harm():
    odd_types = np.array([NORMAL] * 252 + [0, 7, -1, 2**31 - 1], np.int64)
    metadata = {
        **bpe_metadata(),
        "tokenizer.ggml.token_type": odd_types,
        "tokenizer.ggml.merges": np.zeros(0, np.int32),  # an empty array of any type
        "tokenizer.ggml.bos_token_id": 2**32 - 1,  # as files write -1
        "general.name": b"\xff",
        "general.tags": 7,
    }
    tokenizer = tokenizer_from_metadata(metadata)
    assert tokenizer.decode(tokenizer.encode("añ")) == "añ"
    assert tokenizer.bos_id is None and not tokenizer.special_texts


@pytest.mark.parametrize("template", [b"\xff", 3])
def test_a_chat_template_that_is_no_text_is_ignored_with_a_warning(template):
    metadata = {**bpe_metadata(), "tokenizer.chat_template": template, "tokenizer.chat_template.rag": "{{ x }}"}
    with pytest.warns(UserWarning, match=r"the chat template is ignored: tokenizer\.chat_template is"):
        tokenizer = tokenizer_from_metadata(metadata)
    assert tokenizer.chat_template is None and tokenizer.chat_templates == {"rag": "{{ x }}"}


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, 9), (8, 1), (0, -1), (2**62, 2**62)])
def test_strings_outside_their_buffer_are_refused(offset, length):
    class Strings:
        buffer = b"abcd"
        offsets = np.array([0, offset])
        lengths = np.array([1, length])

    with pytest.raises(TokenizerError, match="outside the array's 4 bytes"):
        tokenizer_from_metadata({**bpe_metadata(), "tokenizer.ggml.tokens": Strings()})


def test_of_equal_texts_the_first_token_is_taken():
    metadata = bpe_metadata(special={"a": NORMAL, "<x>": CONTROL, "<x>>": CONTROL})
    metadata["tokenizer.ggml.tokens"][-1] = "<x>"

    assert tokenizer_from_metadata(metadata).encode("a<x>", parse_special=True) == [97, 257]


def test_a_model_without_vocabulary_takes_ids_only():
    tokenizer = tokenizer_from_metadata(
        {"tokenizer.ggml.model": "test", "general.architecture": "llama", "llama.vocab_size": 128}
    )

    assert tokenizer.n_vocab == 128
    assert tokenizer.bos_id is None and tokenizer.eog_ids == frozenset()
    for call in (lambda: tokenizer.encode("a"), lambda: tokenizer.decode([1])):
        with pytest.raises(TokenizerError, match="no vocabulary"):
            call()


def test_a_tiny_model_of_ids_loads(reference):
    tokenizer = load_tokenizer(reference / "archs" / "llama-dense.gguf")

    assert tokenizer.n_vocab == 128


def test_an_unknown_vocabulary_is_refused_with_the_name_of_the_file(tmp_path):
    path = tmp_path / "m.gguf"
    GGUFWriter(path, {"tokenizer.ggml.model": "elvish"}).write()
    with pytest.raises(TokenizerError, match=r"m\.gguf: tokenizer\.ggml\.model is 'elvish'"):
        load_tokenizer(path)


def test_a_text_that_continues_another_has_no_space_before_it():
    tokenizer = tokenizer_from_metadata(spm_metadata({"▁a": 0.0, "a": -1.0, "▁": -2.0}))

    assert tokenizer.decode_bytes(tokenizer.encode("a", add_special=False)) == b" a"
    assert tokenizer.decode_bytes(tokenizer.encode("a", add_special=False, continues=True)) == b"a"
    assert tokenizer.decode_bytes(tokenizer.encode(" a", add_special=False, continues=True)) == b" a"


def test_tokens_by_their_types():
    tokenizer = tokenizer_of({**CHATML, "<unk>": UNKNOWN})

    assert tokenizer.ids_of_types(CONTROL, UNKNOWN) == [START, END, 260]
    assert tokenizer.ids_of_types(USER_DEFINED) == [TOOL, LONG_TOOL]
