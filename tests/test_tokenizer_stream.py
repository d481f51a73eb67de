"""Text that is decoded token by token is the text that is decoded at once, and never has half a character."""

import hypothesis.strategies as st
from hypothesis import given, settings
from tiny_vocabularies import CONTROL, bpe_metadata, spm_metadata

from pyinfer.tokenizer import tokenizer_from_metadata

TOKENIZERS = [
    tokenizer_from_metadata(bpe_metadata(["a b", "Ã ©", "ð Ł"], special={"<|im_end|>": CONTROL})),
    tokenizer_from_metadata(spm_metadata({"▁a": 0.0, "é": 0.0, "▁": 0.0}, special={"<end>": CONTROL})),
]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(TOKENIZERS), st.data(), st.booleans())
def test_streamed_text_is_the_decoded_text(tokenizer, data, skip_special):
    ids = data.draw(st.lists(st.integers(0, tokenizer.n_vocab - 1), max_size=30))
    decoder = tokenizer.stream_decoder(skip_special)

    streamed = [decoder.push(i) for i in ids] + [decoder.finish()]

    assert "".join(streamed) == tokenizer.decode(ids, skip_special)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(TOKENIZERS), st.text(max_size=20))
def test_no_half_character_is_ever_streamed(tokenizer, text):
    decoder = tokenizer.stream_decoder(skip_special=True)
    expected = text.replace("▁", " ") if tokenizer.adds_space else text
    so_far = ""

    for i in tokenizer.encode(text):
        so_far += decoder.push(i)
        assert expected.startswith(so_far)

    assert so_far == expected
    assert decoder.finish() == ""


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=20))
def test_bytes_that_are_no_text_become_replacement_characters(data):
    tokenizer = TOKENIZERS[0]

    assert tokenizer.decode(data) == data.decode(errors="replace")
    assert tokenizer.decode_bytes(data) == data
