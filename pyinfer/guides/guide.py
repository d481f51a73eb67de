"""`Guide`: structured output as users describe it.

A guide is a description, and any number of requests and models may share it; `guide.matcher(tokenizer)` follows one
text under it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyinfer.errors import ParameterError
from pyinfer.guides.grammar.lark import gbnf_to_lark
from pyinfer.guides.matcher import GuideMatcher
from pyinfer.guides.schema.compile import compile_schema
from pyinfer.guides.schema.inline import expand_schemas
from pyinfer.guides.schema.report import warn_of
from pyinfer.guides.schema_of import schema_of
from pyinfer.guides.spec import MAX_QUOTED, GuideSpec
from pyinfer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Guide(GuideSpec):
    """Describe what a text must look like, by `json`, `regex`, `choice`, `gbnf` or `lark`.

    Guides are compared by value and can be shared. Each constructor raises ParameterError for what is no description of
    its kind. Only `matcher`, which a request calls when it is submitted, finds and raises what llguidance refuses, such
    as a schema that nothing can meet.

        guide = Guide.json({"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]})
        llm.generate("Ada is 36. As JSON: ", SamplingParams(guide=guide, max_tokens=30)).text
    """

    @classmethod
    def json(
        cls, schema: Mapping[str, Any] | str | bool | Any, whitespace: bool = True, *, strict: bool = False
    ) -> Guide:
        """Describe JSON that meets a schema; its properties come in the order of the schema.

        - `schema`: a JSON schema as a dict or as text, or True (any JSON); or, where Pydantic is installed, a Pydantic
          model, a dataclass, a TypedDict, an annotation such as `list[Model]`, or a `pydantic.TypeAdapter`.
        - `whitespace` (True): the model may put a space, or a line break with indentation, between elements. False: the
          layout is that of `json.dumps`, so that more tokens are certain and need no forward pass.
        - `strict` (False): raise an error where a keyword can't be held exactly. False: a GuideWarning names the place.

        Returns the guide. Raises ParameterError for what is no JSON schema, and for one that nothing can meet.

            Guide.json({"type": "array", "items": {"type": "integer"}}, whitespace=False)
        """
        schema = schema_of(schema)
        if not isinstance(schema, str):
            try:
                schema = json.dumps(schema, ensure_ascii=False, allow_nan=False)
            except (TypeError, ValueError, RecursionError) as error:
                raise ParameterError(f"the JSON schema can't be written as JSON: {error}") from None
        guide = cls("json", schema, bool(whitespace))
        warn_of(compile_schema(guide.source, guide.whitespace).warnings, strict)
        return guide

    @classmethod
    def regex(cls, pattern: str) -> Guide:
        """Describe a text that a regular expression matches as a whole.

        - `pattern`: in the syntax of Rust's `regex`, without look-around; `\\d` is 0 to 9. At most 2**20 characters.

        Returns the guide. Raises ParameterError for what is no text; `matcher` refuses invalid expressions.

            Guide.regex("[A-Z][a-z]+ [0-9]{4}")
        """
        return cls("regex", pattern)

    @classmethod
    def choice(cls, choices: Sequence[str]) -> Guide:
        """Describe a text that is exactly one of several.

        - `choices`: a list of texts, at least one, none of them empty.

        Returns the guide. Raises ParameterError for anything else.

            Guide.choice(["yes", "no"])
        """
        if isinstance(choices, str) or not isinstance(choices, Sequence):
            raise ParameterError(f"choices is a {type(choices).__name__}; expected a list of texts")
        if not choices or not all(isinstance(text, str) and text for text in choices):
            raise ParameterError(f"choices is {choices!r:.{MAX_QUOTED}}; expected at least one text, and none empty")
        return cls("choice", json.dumps(list(dict.fromkeys(choices)), ensure_ascii=False))

    @classmethod
    def gbnf(cls, grammar: str) -> Guide:
        """Describe a text that the rule `root` of a grammar in GBNF derives, character for character.

        - `grammar`: in llama.cpp's notation, at most 2**20 characters.

        Returns the guide. Raises ParameterError, with the line, for what can't be read, and for rules that are missing
        or match no finite text.

            Guide.gbnf('root ::= "a" [0-9]+')
        """
        guide = cls("gbnf", grammar)
        gbnf_to_lark(guide.source)
        return guide

    @classmethod
    def lark(cls, grammar: str) -> Guide:
        """Describe a text that the rule `start` of a grammar in Lark derives.

        - `grammar`: in llguidance's dialect of Lark's EBNF, at most 2**20 characters. A terminal takes the longest text
          that it matches: `/[a-z]+/ "b"` never comes to its "b". Use `gbnf` where that matters.

        It may have JSON schemas, as `%json {…}`. Returns the guide. Raises ParameterError for what is no text, and for
        a schema that `json` refuses; `matcher` refuses invalid grammars.

            Guide.lark('start: "a" NUMBER\\nNUMBER: /[0-9]+/')
        """
        guide = cls("lark", grammar)
        warn_of(expand_schemas(guide.source).warnings)
        return guide

    def matcher(self, tokenizer: Tokenizer) -> GuideMatcher:
        """Begin a text under this guide.

        - `tokenizer`: of the model that writes the text.

        Returns a GuideMatcher. The first call for a tokenizer takes up to a second or two, the first call for a guide
        milliseconds, others microseconds. Raises ParameterError if llguidance can't compile the guide, if nothing can
        meet it.

            matcher = Guide.choice(["yes", "no"]).matcher(load_tokenizer("model.gguf"))
            matcher.forced()  # the tokens that can only come next; none as yet
        """
        return GuideMatcher(self, tokenizer)
