"""The description of a guide: its kind and its source, checked, and compared by value."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfer.errors import ParameterError

KINDS = ("json", "regex", "choice", "gbnf", "lark")
MAX_SOURCE = 1 << 20  # characters, far above useful grammars, so that compiling has an end
MAX_QUOTED = 60  # characters of a guide's source in errors


@dataclass(frozen=True)
class GuideSpec:
    """kind: one of KINDS. source: a text of that kind. whitespace: for "json" only, see `Guide.json`.

    Raises ParameterError for another kind, and for a source that is no text or too long.
    """

    kind: str
    source: str
    whitespace: bool = True

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ParameterError(f"kind is {self.kind!r}; expected one of {', '.join(KINDS)}")
        if not isinstance(self.source, str):
            raise ParameterError(f"the {self.kind} guide is a {type(self.source).__name__}; expected a str")
        if len(self.source) > MAX_SOURCE:
            raise ParameterError(f"the {self.kind} guide has {len(self.source)} characters; at most {MAX_SOURCE}")

    def __str__(self) -> str:
        source = self.source if len(self.source) <= MAX_QUOTED else self.source[:MAX_QUOTED] + "…"
        return f"{self.kind} guide {source!r}"
