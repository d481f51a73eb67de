"""llama-cpp-python's `LlamaGrammar`: a GBNF grammar or a JSON schema that texts must follow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyinfer.arguments import quoted
from pyinfer.compat.absent import absent_class
from pyinfer.errors import ParameterError
from pyinfer.files import user_path
from pyinfer.guides.guide import Guide

LLAMA_GRAMMAR_DEFAULT_ROOT = "root"
SCHEMA_MARK = "# JSON schema: "  # the comment by which from_string knows what json_schema_to_gbnf has written
JSON_GBNF = r"""
root ::= object
value ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws (string ":" ws value ("," ws string ":" ws value)*)? "}" ws
array ::= "[" ws (value ("," ws value)*)? "]" ws
string ::= "\"" ([^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}))* "\"" ws
number ::= "-"? ([0-9] | [1-9] [0-9]{0,15}) ("." [0-9]+)? ([eE] [-+]? [0-9]{1,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"""
JSON_ARR_GBNF = JSON_GBNF.replace("root ::= object", "root ::= array")
LIST_GBNF = r"""
root ::= item+
item ::= "- " [^\r\n\x0b\x0c\x85\u2028\u2029]+ "\n"
"""
ARITHMETIC_GBNF = r"""
root ::= (expression "=" ws term "\n")+
expression ::= term ([-+*/] term)*
term ::= identifier | number | "(" ws expression ")" ws
identifier ::= [a-z] [a-z0-9_]* ws
number ::= [0-9]+ ws
ws ::= [ \t\n]*
"""


def json_schema_to_gbnf(schema: str, prop_order: Sequence[str] | None = None) -> str:
    """Return a text that `LlamaGrammar.from_string` reads as this JSON schema.

    It is a comment with the schema, and a grammar of any JSON object below. `prop_order` has no effect: properties have
    the schema's order. Raises ParameterError for what is no JSON.
    """
    try:
        return f"{SCHEMA_MARK}{json.dumps(json.loads(schema))}\n{JSON_GBNF}"
    except (TypeError, ValueError) as error:
        raise ParameterError(f"schema is {quoted(schema)}; expected a JSON schema as text: {error}") from None


SchemaConverter = absent_class("SchemaConverter", "Guide.json reads JSON schemas, and makes no GBNF of them")


class LlamaGrammar:
    """Describe what a text must look like. `guide` is the same for `SamplingParams`. `verbose` has no effect.

    LlamaGrammar.from_string('root ::= "yes" | "no"')
    """

    def __init__(self, guide: Guide | None = None, *, _grammar: str = "") -> None:
        self.guide = Guide.gbnf(_grammar) if guide is None else guide
        self._grammar, self._root = _grammar, LLAMA_GRAMMAR_DEFAULT_ROOT

    @classmethod
    def from_string(cls, grammar: str, verbose: bool = True) -> LlamaGrammar:
        """Read a grammar in GBNF. Raises ParameterError if it is invalid."""
        if isinstance(grammar, str) and grammar.startswith(SCHEMA_MARK):
            return cls(Guide.json(grammar.split("\n", 1)[0].removeprefix(SCHEMA_MARK)), _grammar=grammar)
        return cls(_grammar=grammar)

    @classmethod
    def from_file(cls, file: str | Path, verbose: bool = True) -> LlamaGrammar:
        """Read a file with a grammar in GBNF. Raises ParameterError if it is invalid or can't be read."""
        try:
            text = user_path(file).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ParameterError(f"grammar file {file}: {error}") from error
        return cls.from_string(text)

    @classmethod
    def from_json_schema(cls, json_schema: str | dict[str, Any], verbose: bool = True) -> LlamaGrammar:
        """Describe JSON by a JSON schema, as text or dict. Raises ParameterError as Guide.json does."""
        return cls(Guide.json(json_schema))

    def reset(self) -> None:
        """Do nothing: a grammar keeps no state between texts."""
