"""Guides: texts that look as described, and that always come to an end."""

import gc
import json
import re
import weakref
from typing import Literal

import numpy as np
import pytest
import regex
from guided_texts import ADDRESS, SCHEMAS, greedy_over, random_choice, tiny_tokenizer, write
from tiny_vocabularies import NORMAL, bpe_metadata, spm_metadata

from pyinfer.errors import ParameterError
from pyinfer.guides.guide import Guide
from pyinfer.guides.masks import allowed_ids
from pyinfer.guides.matcher import GuideMatcher
from pyinfer.tokenizer import load_tokenizer, tokenizer_from_metadata

VOCABULARIES = ["tiny", "llama-spm", "qwen2"]


@pytest.fixture(scope="module", params=VOCABULARIES)
def tokenizer(request):
    if request.param == "tiny":
        return tiny_tokenizer()
    reference = request.getfixturevalue("reference")
    return load_tokenizer(reference / "vocab" / f"ggml-vocab-{request.param}.gguf")


@pytest.fixture(scope="module")
def tiny():
    return tiny_tokenizer()


@pytest.mark.parametrize("whitespace", [True, False], ids=["free", "fixed"])
@pytest.mark.parametrize("name", SCHEMAS)
def test_json_meets_its_schema_and_ends(tokenizer, name, whitespace):
    jsonschema = pytest.importorskip("jsonschema")
    guide = Guide.json(SCHEMAS[name], whitespace)

    for seed in range(2):
        written = write(guide, tokenizer, random_choice(tokenizer, seed))

        assert written.finished, written.text
        value = json.loads(written.text)
        jsonschema.validate(value, SCHEMAS[name], cls=jsonschema.Draft202012Validator)
        if not whitespace and name != "const":  # numbers and escapes have several spellings
            assert "\n" not in written.text


def test_greedy_choice_of_the_same_logits_everywhere_meets_the_schema(tokenizer):
    logits = np.random.default_rng(5).standard_normal(tokenizer.n_vocab).astype(np.float32)
    logits[tokenizer.encode('"', add_special=False, continues=True)] += 10

    written = greedy_over(logits, tokenizer, Guide.json(ADDRESS))

    assert written.finished
    assert json.loads(written.text).keys() == {"street", "zip"}


def test_white_space_between_elements_has_bounds(tiny):
    space = tiny.encode(" ")[0]
    guide = Guide.json(ADDRESS)

    written = write(guide, tiny, lambda ids: space if space in ids else int(ids[0]), max_tokens=200)

    assert written.text.startswith('{ "street" : "  ')


def test_fixed_white_space_is_that_of_json_dumps(tokenizer):
    value = {"list": [1, 2], "empty": [], "inner": {"a": True}}
    guide = Guide.json({"const": value}, whitespace=False)

    written = write(guide, tokenizer, random_choice(tokenizer, 0))

    assert written.text == json.dumps(value)


@pytest.mark.parametrize(
    "pattern",
    [
        r"[a-c]{3,9}",
        r"(\+\d{1,3} )?\(\d{3}\) \d{3}-\d{4}",
        r"(yes|no|maybe)(, (yes|no))*",
        r"[A-Z][a-z]+b",
        r"[äöü€]{2,4}x?",
        r"^a/b\\c\n#$",
        r"(?i)hello",
        r"\w{2,6}\s\d",
        r"a*",
        r"",
    ],
)
def test_a_text_is_matched_by_the_whole_expression(tokenizer, pattern):
    for seed in range(4):
        written = write(Guide.regex(pattern), tokenizer, random_choice(tokenizer, seed, patience=8))

        assert written.finished
        assert regex.fullmatch(pattern, written.text), written.text


def test_each_choice_is_written_and_nothing_else(tokenizer):
    choices = ["yes", "no", "yesterday", 'with "quotes" | and [signs]', "日本", "é", " leading", "a\nb", "yes"]
    guide = Guide.choice(choices)

    texts = {write(guide, tokenizer, random_choice(tokenizer, seed)).text for seed in range(60)}

    assert texts == set(choices)


def test_thousands_of_choices(tiny):
    choices = [f"choice {i:05}" for i in range(10_000)]

    assert write(Guide.choice(choices), tiny, random_choice(tiny, 0)).text in choices


def test_a_choice_that_begins_another_may_end_or_go_on(tiny):
    matcher = Guide.choice(["a", "abc"]).matcher(tiny)
    matcher.accept(tiny.encode("a")[0])

    allowed = allowed_ids(matcher.mask(), tiny.n_vocab)

    assert matcher.complete and not matcher.finished
    assert tiny.eog_ids <= set(allowed)
    assert {tiny.token_bytes(i) for i in set(allowed) - tiny.eog_ids} == {b"b"}


def test_lark_with_a_schema_inside(tokenizer):
    guide = Guide.lark('start: "<call>" call "</call>"\ncall: %json {"type": "object", "maxProperties": 0}')

    written = write(guide, tokenizer, random_choice(tokenizer, 0))

    assert re.fullmatch(r"<call>\{\s*\}</call>", written.text)


def test_a_token_of_the_vocabulary_by_its_name_and_by_its_id(tiny):
    start = tiny.encode("<|tool|>", parse_special=True)

    for grammar in (Guide.lark('start: "a" <|tool|>'), Guide.gbnf(f'root ::= "a" <[{start[0]}]>')):
        assert write(grammar, tiny, random_choice(tiny, 0)).tokens == [*tiny.encode("a"), *start]


def test_control_tokens_never_stand_for_their_text(tiny):
    written = write(Guide.regex(re.escape("<|tool|><|im_end|>")), tiny, random_choice(tiny, 0))

    assert written.text == "<|tool|><|im_end|>"
    assert not any(tiny.is_special(token) for token in written.tokens)


def test_a_text_ends_only_where_it_is_complete(tokenizer):
    matcher = Guide.regex("ab|abab").matcher(tokenizer)

    for token in tokenizer.encode("abab", add_special=False, continues=True):
        assert tokenizer.eog_ids.isdisjoint(allowed_ids(matcher.mask())) or matcher.complete
        matcher.accept(token)

    assert matcher.finished and matcher.complete
    assert matcher.forced() == []
    assert set(allowed_ids(matcher.mask())) == tokenizer.eog_ids


@pytest.mark.parametrize("end", ["<|im_end|>", "<|endoftext|>"])
def test_any_end_token_ends_a_text_that_could_go_on(tiny, end):
    (token,) = tiny.encode(end, parse_special=True)
    matcher = Guide.regex("a+").matcher(tiny)
    with pytest.raises(ParameterError, match="can't follow"):
        matcher.accept(token)
    matcher.accept(97)

    matcher.accept(token)

    assert matcher.finished


def test_forced_tokens_are_those_of_encode_and_agree_with_the_mask(tokenizer):
    matcher = Guide.regex("The quick brown fox, 日本語 jumps[.!]").matcher(tokenizer)
    expected = tokenizer.encode("The quick brown fox, 日本語 jumps", add_special=False, continues=True)

    forced = matcher.forced()

    # the last ones may be written otherwise together with what follows
    assert len(forced) >= len(expected) - 2
    assert forced == expected[: len(forced)]
    for token in forced:
        assert allowed_ids(matcher.mask()).tolist() == [token]
        matcher.accept(token)
    if len(forced) == len(expected):
        assert {tokenizer.token_bytes(i)[:1] for i in allowed_ids(matcher.mask())} == {b".", b"!"}


def test_with_fixed_white_space_most_tokens_are_forced(tokenizer):
    schema = {"type": "object", "properties": {f"property_{i}": {"type": "boolean"} for i in range(8)}}
    schema |= {"required": list(schema["properties"]), "additionalProperties": False}

    written = write(Guide.json(schema, whitespace=False), tokenizer, random_choice(tokenizer, 0))

    assert written.n_forced > 0.7 * len(written.tokens)


def test_texts_are_the_same_whether_forced_tokens_are_taken_or_drawn(tokenizer):
    guide = Guide.json(SCHEMAS["reference"], whitespace=False)

    def first(ids):
        return int(ids[0])

    forced = write(guide, tokenizer, first, max_tokens=40)
    drawn = write(guide, tokenizer, first, max_tokens=40, force=False)

    assert forced.n_forced > 0
    n = min(len(forced.tokens), len(drawn.tokens))
    assert forced.tokens[:n] == drawn.tokens[:n]


def test_rollback_restores_every_state(tokenizer):
    text = '{"street": "abc", "zip": "12345"}'
    matcher = Guide.json(ADDRESS).matcher(tokenizer)
    tokens = tokenizer.encode(text, add_special=False, continues=True)
    masks = []
    for token in tokens:
        masks.append(matcher.mask())
        matcher.accept(token)
    assert matcher.finished
    end = min(tokenizer.eog_ids)
    matcher.accept(end)
    matcher.accept(end)

    matcher.rollback(2)
    assert matcher.finished
    for n in range(1, len(tokens) + 1):
        matcher.rollback(1)
        np.testing.assert_array_equal(matcher.mask(), masks[-n])
        assert not matcher.finished

    for token in tokens:
        matcher.accept(token)
    matcher.rollback(len(tokens))
    np.testing.assert_array_equal(matcher.mask(), masks[0])
    with pytest.raises(ParameterError, match="1 tokens back; there are 0"):
        matcher.rollback(1)


def test_rollback_over_an_end_that_was_chosen(tiny):
    matcher = Guide.regex("a+").matcher(tiny)
    matcher.accept(97)
    mask = matcher.mask()
    matcher.accept(min(tiny.eog_ids))

    matcher.rollback(1)

    assert not matcher.finished
    np.testing.assert_array_equal(matcher.mask(), mask)


@pytest.mark.parametrize("token", [98, -1, 10**6])
def test_a_token_that_can_not_follow_is_refused_and_changes_nothing(tiny, token):
    matcher = Guide.regex("abc").matcher(tiny)
    mask = matcher.mask()

    with pytest.raises(ParameterError, match=rf"regex guide 'abc': token {token} can't follow here"):
        matcher.accept(token)

    np.testing.assert_array_equal(matcher.mask(), mask)
    assert write(Guide.regex("abc"), tiny, random_choice(tiny, 0)).text == "abc"


def test_a_token_after_the_end_is_refused(tiny):
    matcher = Guide.regex("a").matcher(tiny)
    matcher.accept(97)

    with pytest.raises(ParameterError, match="token 97 after the end"):
        matcher.accept(97)


def test_matchers_of_one_guide_do_not_disturb_each_other(tiny):
    guide = Guide.regex("[ab]c")
    one, other = guide.matcher(tiny), guide.matcher(tiny)

    one.accept(97)

    assert allowed_ids(one.mask()).tolist() == [99]
    assert {97, 98} <= set(allowed_ids(other.mask()))


def test_a_vocabulary_without_an_end_token():
    tokenizer = tokenizer_from_metadata(bpe_metadata())
    matcher = Guide.regex("ab?").matcher(tokenizer)
    matcher.accept(97)

    assert allowed_ids(matcher.mask()).tolist() == [98]
    assert matcher.complete and not matcher.finished
    matcher.accept(98)
    assert matcher.finished
    assert not matcher.mask().any()


def test_an_end_token_whose_type_is_text_only_ends():
    tokenizer = tokenizer_from_metadata(bpe_metadata(special={"zz": NORMAL}, eos_token_id=256))

    written = write(Guide.regex("z{2,4}"), tokenizer, lambda ids: int(ids[-1]))

    assert written.text == "zz"
    assert written.tokens == tokenizer.encode("z") * 2


def test_bytes_that_are_a_piece_as_well_are_left_to_the_piece():
    tokenizer = tokenizer_from_metadata(spm_metadata({"a": -1.0, "▁a": -2.0}))
    matcher = Guide.regex("[ab ]+").matcher(tokenizer)

    allowed = [tokenizer.token_bytes(i) for i in allowed_ids(matcher.mask())]

    assert sorted(allowed) == [b" ", b" a", b"a", b"b"]


def test_forced_texts_that_encode_would_change(tiny):
    """SentencePiece writes a space for U+2581: its bytes are taken instead."""
    tokenizer = tokenizer_from_metadata(spm_metadata({"▁": -1.0, "a": -1.0}))

    assert write(Guide.regex("a▁a"), tokenizer, random_choice(tokenizer, 0)).text == "a▁a"


def test_pydantic_models(tokenizer):
    pydantic = pytest.importorskip("pydantic")

    class Wheel(pydantic.BaseModel):
        size: int = pydantic.Field(ge=10, le=30)

    class Vehicle(pydantic.BaseModel):
        name: str = pydantic.Field(max_length=10)
        kind: Literal["car", "bike"]
        wheels: list[Wheel] = pydantic.Field(min_length=1, max_length=4)
        tags: set[str] = pydantic.Field(max_length=2)
        trailer: "Vehicle | None" = None

    for seed in range(3):
        written = write(Guide.json(Vehicle), tokenizer, random_choice(tokenizer, seed), max_tokens=1000)

        assert written.finished
        Vehicle.model_validate_json(written.text)


def test_guides_are_compared_and_hashed_by_what_they_say():
    assert Guide.json({"type": "null"}) == Guide.json('{"type": "null"}') != Guide.json({"type": "null"}, False)
    assert len({Guide.regex("a"), Guide.regex("a"), Guide.lark("a")}) == 2
    with pytest.raises(AttributeError):
        Guide.regex("a").source = "b"


def test_compiled_vocabularies_go_with_their_tokenizers():
    tokenizer = tiny_tokenizer()
    matcher = Guide.regex("a").matcher(tokenizer)
    assert isinstance(matcher, GuideMatcher)
    gone = weakref.ref(tokenizer)

    del tokenizer, matcher
    gc.collect()

    assert gone() is None


def test_the_largest_vocabulary(real_model):
    tokenizer = load_tokenizer(real_model("gemma-3-270m-q4_k_m"))

    written = write(Guide.json(SCHEMAS["nested"]), tokenizer, random_choice(tokenizer, 1))

    assert tokenizer.n_vocab == 262_144
    assert json.loads(written.text)["home"].keys() == {"street", "zip"}
