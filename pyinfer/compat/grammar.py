"""llama-cpp-python's `LlamaGrammar`: a GBNF grammar or a JSON schema that texts must follow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyinfer.errors import ParameterError
from pyinfer.guides.guide import Guide


class LlamaGrammar:
    """Describe what a text must look like. `guide` is the same for `SamplingParams`. `verbose` has no effect.

    LlamaGrammar.from_string('root ::= "yes" | "no"')
    """

    def __init__(self, guide: Guide) -> None:
        self.guide = guide

    @classmethod
    def from_string(cls, grammar: str, verbose: bool = True) -> LlamaGrammar:
        """Read a grammar in GBNF. Raises ParameterError if it is invalid."""
        return cls(Guide.gbnf(grammar))

    @classmethod
    def from_file(cls, file: str | Path, verbose: bool = True) -> LlamaGrammar:
        """Read a file with a grammar in GBNF. Raises ParameterError if it is invalid or can't be read."""
        try:
            text = Path(file).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ParameterError(f"grammar file {file}: {error}") from error
        return cls.from_string(text)

    @classmethod
    def from_json_schema(cls, json_schema: str | dict[str, Any], verbose: bool = True) -> LlamaGrammar:
        """Describe JSON by a JSON schema, as text or dict. Raises ParameterError as Guide.json does."""
        return cls(Guide.json(json_schema))

    def reset(self) -> None:
        """Do nothing: a grammar keeps no state between texts."""
