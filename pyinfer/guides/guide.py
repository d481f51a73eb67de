"""`Guide`: structured output as users describe it.

A guide is a description, the same for any number of requests and models; `guide.matcher(tokenizer)` is one text under
it (`pip install pyinfer[guided]`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyinfer.errors import ParameterError
from pyinfer.guides.grammar.json_schema import parse_schema, without_unique_items
from pyinfer.guides.grammar.lark import gbnf_to_lark
from pyinfer.guides.matcher import GuideMatcher
from pyinfer.guides.spec import MAX_QUOTED, GuideSpec
from pyinfer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Guide(GuideSpec):
    """What a text must look like. Made by `json`, `regex`, `choice`, `gbnf` or `lark`; compared by value.

        Guide.json({"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]})

    Raises ParameterError for what is no description at all. What only llguidance finds out, such as a schema that
    nothing can meet, is raised by `matcher`, which a request calls when it is submitted.
    """

    @classmethod
    def json(cls, schema: Mapping[str, Any] | str | bool | Any, whitespace: bool = True) -> Guide:
        """JSON that meets a schema: a dict, its text, or a Pydantic model.

        Properties come in the order of the schema. whitespace: the model may put a space or a line break with
        indentation between elements; False: it is laid out as json.dumps does, so that more of it is certain and
        needs no pass. Keywords that can't be enforced (`not`, `uniqueItems`, …) are refused by `matcher`.
        """
        if callable(describe := getattr(schema, "model_json_schema", None)):
            schema = without_unique_items(describe())  # sets drop what is there twice
        if not isinstance(schema, str):
            try:
                schema = json.dumps(schema, ensure_ascii=False, allow_nan=False)
            except (TypeError, ValueError, RecursionError) as error:
                raise ParameterError(f"the JSON schema can't be written as JSON: {error}") from None
        parse_schema(schema)
        return cls("json", schema, bool(whitespace))

    @classmethod
    def regex(cls, pattern: str) -> Guide:
        """A text that the whole regular expression matches.

        In the syntax of Rust's `regex`, without look-around; `\\d` is 0 to 9.
        """
        return cls("regex", pattern)

    @classmethod
    def choice(cls, choices: Sequence[str]) -> Guide:
        """Exactly one of these texts."""
        if isinstance(choices, str) or not isinstance(choices, Sequence):
            raise ParameterError(f"choices is a {type(choices).__name__}; expected a list of texts")
        if not choices or not all(isinstance(text, str) and text for text in choices):
            raise ParameterError(f"choices is {choices!r:.{MAX_QUOTED}}; expected at least one text, and none empty")
        return cls("choice", json.dumps(list(dict.fromkeys(choices)), ensure_ascii=False))

    @classmethod
    def gbnf(cls, grammar: str) -> Guide:
        """A text that `root` of a GBNF grammar derives, llama.cpp's notation. Character for character."""
        guide = cls("gbnf", grammar)
        gbnf_to_lark(guide.source)
        return guide

    @classmethod
    def lark(cls, grammar: str) -> Guide:
        """A text that `start` of a grammar derives, in llguidance's dialect of Lark's EBNF.

        Terminals are read greedily: `/[a-z]+/ "b"` never comes to its "b". Use `gbnf` where that matters.
        """
        return cls("lark", grammar)

    def matcher(self, tokenizer: Tokenizer) -> GuideMatcher:
        """A new text under this guide, for a model with this tokenizer.

        The first call for a tokenizer takes up to a second or two, the first for a guide milliseconds, others
        microseconds. Raises ParameterError if llguidance can't compile the guide, if nothing can meet it, or if
        llguidance is not installed.
        """
        return GuideMatcher(self, tokenizer)
