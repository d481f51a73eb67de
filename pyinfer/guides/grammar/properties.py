r"""Unicode's properties in patterns, `\p{Lu}`: general categories, scripts, and a few others."""

from __future__ import annotations

import sys
import unicodedata
from functools import lru_cache

from pyinfer.guides.grammar.nodes import normal_ranges
from pyinfer.guides.grammar.outcomes import Unsupported
from pyinfer.guides.grammar.scripts import SCRIPTS

Ranges = tuple[tuple[int, int], ...]

LONG_NAMES = {  # of general categories
    "Letter": "L",
    "Cased_Letter": "LC",
    "Uppercase_Letter": "Lu",
    "Lowercase_Letter": "Ll",
    "Titlecase_Letter": "Lt",
    "Modifier_Letter": "Lm",
    "Other_Letter": "Lo",
    "Mark": "M",
    "Combining_Mark": "M",
    "Nonspacing_Mark": "Mn",
    "Spacing_Mark": "Mc",
    "Enclosing_Mark": "Me",
    "Number": "N",
    "Decimal_Number": "Nd",
    "digit": "Nd",
    "Letter_Number": "Nl",
    "Other_Number": "No",
    "Punctuation": "P",
    "punct": "P",
    "Connector_Punctuation": "Pc",
    "Dash_Punctuation": "Pd",
    "Open_Punctuation": "Ps",
    "Close_Punctuation": "Pe",
    "Initial_Punctuation": "Pi",
    "Final_Punctuation": "Pf",
    "Other_Punctuation": "Po",
    "Symbol": "S",
    "Math_Symbol": "Sm",
    "Currency_Symbol": "Sc",
    "Modifier_Symbol": "Sk",
    "Other_Symbol": "So",
    "Separator": "Z",
    "Space_Separator": "Zs",
    "Line_Separator": "Zl",
    "Paragraph_Separator": "Zp",
    "Other": "C",
    "Control": "Cc",
    "cntrl": "Cc",
    "Format": "Cf",
    "Surrogate": "Cs",
    "Private_Use": "Co",
    "Unassigned": "Cn",
}
GROUPS = {"LC": ("Lu", "Ll", "Lt")}
CATEGORIES = frozenset(name for name in LONG_NAMES.values() if len(name) == 2) - GROUPS.keys()
ALL: Ranges = ((0, sys.maxunicode),)
OTHERS: dict[str, Ranges] = {"Any": ALL, "ASCII": ((0, 0x7F),)}


@lru_cache(maxsize=64)
def property_ranges(name: str, value: str | None = None) -> Ranges:
    """The characters that have a property: `name` alone, or `value` of the property `name`. Raises Unsupported."""
    if value is None:
        if name in OTHERS:
            return OTHERS[name]
        if name == "Assigned":
            return normal_ranges(_categories()["Cn"], negated=True)
        if name in ("Uppercase", "Upper", "Lowercase", "Lower"):
            return _cased(upper=name.startswith("Upper"))
        name, value = "gc", name
    if name in ("gc", "General_Category"):
        short = LONG_NAMES.get(value, value)
        found = GROUPS.get(short) or tuple(category for category in CATEGORIES if category.startswith(short))
        if found:
            table = _categories()
            return normal_ranges([pair for category in found for pair in table.get(category, ())])
    elif name in ("sc", "Script"):
        for names, ranges in SCRIPTS.items():
            if value in names:
                pairs = [text.partition("-") for text in ranges.split()]
                return tuple((int(low, 16), int(high or low, 16)) for low, _, high in pairs)
    raise Unsupported(f"the property {value or name!r} of characters in a pattern")


@lru_cache(maxsize=1)
def _categories() -> dict[str, list[tuple[int, int]]]:
    """Ranges of the characters of each general category."""
    table: dict[str, list[tuple[int, int]]] = {}
    first, before = 0, unicodedata.category(chr(0))
    for code in range(1, sys.maxunicode + 2):
        category = unicodedata.category(chr(code)) if code <= sys.maxunicode else ""
        if category != before:
            table.setdefault(before, []).append((first, code - 1))
            first, before = code, category
    return table


@lru_cache(maxsize=2)
def _cased(upper: bool) -> Ranges:
    test = str.isupper if upper else str.islower
    return normal_ranges([(code, code) for code in range(sys.maxunicode + 1) if test(chr(code))])
