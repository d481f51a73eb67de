"""Classes of tokens that a mask takes at once: they change the time of a mask, never its tokens."""

import numpy as np
import pytest
from tiny_vocabularies import CONTROL, spm_metadata

from pyinfer.errors import ParameterError
from pyinfer.guides.guide import Guide
from pyinfer.guides.masks import allowed_ids
from pyinfer.tokenizer import tokenizer_from_metadata

STEMS = [
    "a",
    "is",
    "word",
    "Name",
    "USA",
    "of looms",
    "x_1",
    "_id",
    "42",
    "3.5",
    "größer",
    "日本",
    "it's",
    'a"b',
    "a\\n",
    "<p>",
    ",",
]
LENGTHS = (1, 9, 10, 11, 29, 30, 31)  # the borders of the classes
PIECES = {
    f"{space}{(stem * 31)[:n]}".replace(" ", "▁")
    for stem in STEMS
    for n in (len(stem), *LENGTHS)
    for space in ("", " ")
} | {"▁", "▁▁", "\n", "\n▁▁", "\t"}
GUIDES = {
    "words": Guide.regex(r"[A-Z][a-z]+( [a-z]+){3,12}\."),
    "letters with a limit": Guide.regex("[a-z]{5,14}!"),
    "words with a limit": Guide.regex(r"( [a-z]{1,12}){2,9}"),
    "any letters": Guide.regex("([A-Za-z]+,?)+"),
    "prose": Guide.regex(r"Answer: [A-Za-z ,']{10,40}\."),
    "fields": Guide.regex(r"([^,\n]+(,[^,\n]+){3}\n){1,4}"),
    "unicode": Guide.regex(r"\w+( \w+)*"),
    "capitals and commas, but not both": Guide.regex("[A-Z]+|[a-z,]+"),
    "string": Guide.json({"type": "string", "maxLength": 12}),
    "free string": Guide.json({"type": "string"}),
    "names": Guide.gbnf('root ::= name (" = " name)*\nname ::= [a-z] [a-z0-9_]*'),
    "any names": Guide.gbnf('root ::= name ("(" name ")")*\nname ::= [A-Za-z_] [A-Za-z0-9_]*'),
}


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_from_metadata(spm_metadata(dict.fromkeys(sorted(PIECES), -1.0), {"<|end|>": CONTROL}))


@pytest.mark.parametrize("name", GUIDES)
def test_a_mask_has_the_tokens_that_can_be_accepted(name, tokenizer):
    rng = np.random.default_rng(0)
    matcher = GUIDES[name].matcher(tokenizer)

    def accepted(token):
        try:
            matcher.accept(token)
        except ParameterError:
            return False
        matcher.rollback(1)
        return True

    for _ in range(12):
        allowed = allowed_ids(matcher.mask(), tokenizer.n_vocab).tolist()
        texts = [token for token in allowed if token not in tokenizer.eog_ids]

        assert texts == [
            token for token in range(tokenizer.n_vocab) if token not in tokenizer.eog_ids and accepted(token)
        ]

        if not texts:
            break
        matcher.accept(int(rng.choice(texts)))
