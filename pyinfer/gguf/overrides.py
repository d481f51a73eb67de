"""Values that a program gives in place of a file's metadata, as llama.cpp's --override-kv does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from pyinfer.arguments import is_number, quoted
from pyinfer.errors import ParameterError

Override = bool | int | float | str
KINDS = (bool, int, float, str)  # bool first: it is an int, too
TYPES = {"bool": bool, "int": int, "float": float, "str": str}
TRUTHS = {"true": True, "1": True, "false": False, "0": False}


def overridden(metadata: Mapping[str, Any], overrides: Mapping[str, Override] | None) -> Mapping[str, Any]:
    """Return a file's metadata with other values.

    - `metadata`: the file's.
    - `overrides`: for each key its value, of the type that the file's value has; a key may be missing in the file.

    Raises ParameterError for values of other types and for keys that have lists.

        overridden(file.metadata, {"llama.rope.freq_base": 1e6})
    """
    if not overrides:
        return metadata
    if not isinstance(overrides, Mapping):
        raise ParameterError(f"overrides is {quoted(overrides)}; expected a mapping from metadata keys to values")
    return {**metadata, **{key: _checked(key, value, metadata.get(key)) for key, value in overrides.items()}}


def _checked(key: object, value: object, there: object) -> Override:
    if not isinstance(key, str) or not key:
        raise ParameterError(f"overrides has the key {quoted(key)}; expected the name of a metadata key")
    found = next((kind for kind in KINDS if isinstance(value, kind)), None)
    if found is None or (isinstance(value, float) and not math.isfinite(value)):
        raise ParameterError(f"overrides: {key} is {quoted(value)}; expected True or False, a number or a text")
    known = there.item() if isinstance(there, np.generic) else there
    kind = found if known is None else next((kind for kind in KINDS if isinstance(known, kind)), None)
    if kind is None:
        raise ParameterError(f"overrides: {key} is a list in the file; expected a key of a single value")
    if kind is float and is_number(value, int | float):
        return float(value)  # type: ignore[arg-type]
    if found is not kind:
        raise ParameterError(f"overrides: {key} is {quoted(value)}; expected a {kind.__name__}, as in the file")
    return value  # type: ignore[return-value]


def parse_override(text: str) -> tuple[str, Override]:
    """Read "KEY=TYPE:VALUE", as llama.cpp's commands take it. Raises ParameterError for other texts.

    parse_override("llama.rope.freq_base=float:1e6")
    """
    key, _, rest = text.partition("=")
    name, colon, value = rest.partition(":")
    try:
        if not key or not colon:
            raise ValueError
        return key, TRUTHS[value.lower()] if name == "bool" else TYPES[name](value)
    except (KeyError, ValueError):
        raise ParameterError(
            f"{quoted(text)} is no override; expected KEY=TYPE:VALUE of a type of {', '.join(TYPES)}, such as "
            "llama.rope.freq_base=float:1e6"
        ) from None
