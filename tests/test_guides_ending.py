"""Short completions of guided texts: there is one from everywhere, and a text takes it when its tokens run out."""

import json

import pytest
from guided_texts import ARITHMETIC, JSON, MERGES, SCHEMAS, derives, random_choice, tiny_tokenizer
from tiny_models import TinyModel, write_model_over
from tiny_vocabularies import CONTROL, bpe_metadata

from pyinfer import LLM, Guide, SamplingParams
from pyinfer.guides.grammar.gbnf import parse_gbnf
from pyinfer.guides.masks import allowed_ids
from pyinfer.tokenizer import load_tokenizer

GUIDES = {
    **{name: Guide.json(schema, whitespace=i % 2 == 0) for i, (name, schema) in enumerate(SCHEMAS.items())},
    "arithmetic": Guide.gbnf(ARITHMETIC),
    "gbnf json": Guide.gbnf(JSON),
    "regex": Guide.regex(r"[A-Z]{3}[a-z]{10}\d{5}, [0-9]+x"),
    "choice": Guide.choice(["a longer answer", "a long", "no"]),
    "lark": Guide.lark('start: "(" start ")" | "x"'),
    "anything before": Guide.regex(r"(.|\n)*</a>"),
    "one terminal": Guide.regex(r"<a>(.|\n)*</a>\n(yes|no)"),
    "thoughts": Guide.lark('start: a ("yes" | "no") b\na[lazy]: /(.|\\n)*<\\/a>/\nb[lazy]: /:(.|\\n)*<\\/b>/'),
}


@pytest.fixture(scope="module", params=["tiny", "qwen2"])
def tokenizer(request):
    if request.param == "tiny":
        return tiny_tokenizer()
    return load_tokenizer(request.getfixturevalue("reference") / "vocab" / "ggml-vocab-qwen2.gguf")


@pytest.mark.parametrize("name", GUIDES)
def test_from_everywhere_there_is_a_completion(tokenizer, name):
    matcher = GUIDES[name].matcher(tokenizer)
    choose = random_choice(tokenizer, 1, patience=12)
    tokens, completion = [], []
    while not matcher.finished and len(tokens) < 30:
        completion = matcher.ending(120, known=completion)

        assert completion is not None
        for token in completion:
            matcher.accept(token)
        assert matcher.complete
        text = tokenizer.decode_bytes([*tokens, *completion]).decode()
        if name in SCHEMAS:
            json.loads(text)
        matcher.rollback(len(completion))

        tokens.append(choose(allowed_ids(matcher.mask(), tokenizer.n_vocab)))
        matcher.accept(tokens[-1])


def test_control_tokens_of_a_grammar_are_tried():
    tokenizer = tiny_tokenizer()
    (control,) = tokenizer.encode("<|tool|>", add_special=False, parse_special=True)
    matcher = Guide.lark(f"start: TEXT <[{control}]> /x+/\nTEXT: /(.|\\n)*/").matcher(tokenizer)
    assert matcher.ending(5) == [control, *tokenizer.encode("x", add_special=False)]


def test_the_rest_of_a_known_completion_is_reused(tokenizer):
    matcher = Guide.json({"type": "array", "items": {"type": "string"}}).matcher(tokenizer)
    for token in tokenizer.encode('["a', add_special=False, continues=True):
        matcher.accept(token)
    known = matcher.ending(10)
    for token in tokenizer.encode("bc", add_special=False, continues=True):
        matcher.accept(token)

    assert matcher.ending(10, known) == known
    matcher.accept(known[0])
    assert matcher.ending(10, known) == known[1:]


def test_no_completion_is_longer_than_asked_for(tokenizer):
    matcher = Guide.regex("[ab]{30}").matcher(tokenizer)
    shortest = len(matcher.ending(40))

    assert matcher.ending(3) is None
    assert shortest <= 30
    assert matcher.forced() == [] and not matcher.complete


def test_a_text_that_may_end_needs_nothing(tokenizer):
    matcher = Guide.regex("a+").matcher(tokenizer)
    matcher.accept(tokenizer.encode("a", add_special=False, continues=True)[0])

    assert matcher.ending(0) == []


@pytest.fixture(scope="module")
def llm(tmp_path_factory):
    """A random model over the bytes and some tokens of several."""
    vocabulary = bpe_metadata(MERGES, {"<|im_end|>": CONTROL})
    n_vocab = len(vocabulary["tokenizer.ggml.tokens"])
    tiny = TinyModel("llama", n_vocab=n_vocab, n_layers=1, n_ctx=160)
    with LLM(write_model_over(tmp_path_factory.mktemp("ending") / "model.gguf", tiny, vocabulary)) as model:
        yield model


def params_of(guide, max_tokens, **others):
    return SamplingParams(
        guide=guide, max_tokens=max_tokens, seed=3, temperature=1, top_k=0, top_p=1, min_p=0, **others
    )


@pytest.mark.parametrize("logprobs", [None, 0], ids=["forced", "one by one"])
def test_texts_are_whole_however_few_tokens_there_are(llm, logprobs):
    names = list(SCHEMAS)
    for room in (0, 1, 9, 30):
        limits = [max(1, len(GUIDES[name].matcher(llm.tokenizer).ending(120))) + room for name in names]
        params = [params_of(GUIDES[name], limit, logprobs=logprobs) for name, limit in zip(names, limits, strict=True)]

        for name, limit, done in zip(names, limits, llm.generate(["JSON: "] * len(names), params), strict=True):
            assert len(done.tokens) <= limit
            json.loads(done.text), name
            assert logprobs is None or len(done.logprobs) == len(done.tokens)


def test_a_long_text_is_watched_from_its_beginning(tmp_path):
    """After a text of any length, 301 tokens must follow, one for each character."""
    vocabulary = bpe_metadata(["t r"], {"<|im_end|>": CONTROL})
    tiny = TinyModel("llama", n_vocab=len(vocabulary["tokenizer.ggml.tokens"]), n_layers=1, n_ctx=1024)
    with LLM(write_model_over(tmp_path / "model.gguf", tiny, vocabulary)) as llm:
        guide = Guide.regex("[a-z]*[0-9]{300}[.]")
        for room in (2, 50, 400):
            done = llm.generate("x", params_of(guide, 301 + room, logit_bias={ord("a"): 30.0}))
            assert len(done.tokens) == 301 + room and done.text.endswith(".")


def test_a_text_of_a_grammar_is_whole_as_well(llm):
    rules = parse_gbnf(ARITHMETIC)
    for limit in (4, 9, 30, 120):
        done = llm.generate("x", params_of(GUIDES["arithmetic"], limit))

        assert derives(rules, done.text), done.text
        assert done.finish_reason == "length"


def test_a_complete_text_does_not_begin_what_it_can_not_end(llm):
    for limit in range(1, 12):
        done = llm.generate("x", params_of(Guide.regex("a(, bcd)*"), limit))

        assert done.text == "a" + ", bcd" * ((len(done.text) - 1) // 5)
        assert limit - 5 <= len(done.tokens) <= limit


def test_a_full_context_is_an_end_as_well(llm):
    done = llm.generate("x" * 120, params_of(Guide.json({"type": "string"}), None))

    assert done.finish_reason == "length"
    assert len(json.loads(done.text)) > 20


def test_where_no_completion_is_short_enough_the_text_is_cut(llm):
    done = llm.generate("x", params_of(Guide.regex("[ab]{50}"), 20))

    assert (len(done.tokens), done.finish_reason) == (20, "length")


def test_tokens_that_are_ruled_out_otherwise_are_not_forced(llm):
    quote = llm.tokenizer.encode('"')
    done = llm.generate("x", params_of(Guide.json({"type": "string"}), 20, banned_tokens=[quote[0] + 1]))

    assert len(done.tokens) <= 20
