"""The white space between the elements of JSON: that of json.dumps, or what a model chooses within bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyinfer.errors import ParameterError
from pyinfer.guides.schema.values import escaped_regex

# White space as llama.cpp's grammar for JSON has it: a model can't add spaces and new lines without end.
FREE = r"(?: |\n[ \t]{0,20})?"
# options of llguidance's for white space as json.dumps and chat templates write it: most tokens between values are then
# certain
FIXED_SPACE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
BRACKETS = "[]{}"


@dataclass(frozen=True)
class Layout:
    """Regular expressions: space may stand beside each sign; comma and colon are the signs between elements."""

    space: str = FREE
    comma: str = ","
    colon: str = ":"

    def sign(self, text: str) -> str:
        """A regular expression of one of `{ } [ ] , :`, or of two brackets, with the white space around it."""
        if text in (",", ":"):
            return f"{self.space}{self.comma if text == ',' else self.colon}{self.space}"
        if len(text) == 2:
            return f"\\{text[0]}{self.space}\\{text[1]}"
        return f"\\{text}{self.space}" if text in "[{" else f"{self.space}\\{text}"


def layout_of(options: Any) -> Layout:
    """The layout that a schema's `x-guidance` asks for; the free one if there is none. Raises ParameterError."""
    if not isinstance(options, dict):
        return FREE_LAYOUT
    for name in ("item_separator", "key_separator", "whitespace_pattern"):
        if not isinstance(options.get(name, ""), str):
            raise ParameterError(f"x-guidance/{name} of the JSON schema is {options[name]!r:.60}; expected a text")
    flexible = options.get("whitespace_flexible", True)
    space = FREE if flexible else ""
    if (pattern := options.get("whitespace_pattern")) is not None:
        space = f"(?:{pattern})?".replace("/", r"\/")
    return Layout(space, *(escaped_regex(options.get(f"{name}_separator", sign)) for name, sign in SEPARATORS))


SEPARATORS = (("item", ","), ("key", ":"))
FREE_LAYOUT = Layout()
FIXED_LAYOUT = Layout("", escaped_regex(", "), escaped_regex(": "))
