"""An extension of Griffe for the reference: defaults by their values, and examples as blocks of code."""

import importlib
import re
import textwrap
from typing import Any

import griffe

NAME = re.compile(r"[A-Za-z_][\w.]*")
LITERALS = ("None", "True", "False")
EXAMPLE = re.compile(r"(?<=\n\n)(?: {4}.*(?:\n+(?= {4}))?)+")  # indented lines, as docstrings have them


class Reference(griffe.Extension):
    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Called by Griffe for each function: a default that the source has a name for is shown by its value."""
        for parameter in func.parameters:
            name = str(parameter.default)
            if NAME.fullmatch(name) and name not in LITERALS:
                found: Any = importlib.import_module(func.module.path)
                for part in name.split("."):
                    found = getattr(found, part)
                parameter.default = repr(found)

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for each object: in Markdown, an indented example below a list would be a part of the list."""
        if obj.docstring is not None:
            obj.docstring.value = with_fences(obj.docstring.value)


def with_fences(docstring: str) -> str:
    return EXAMPLE.sub(lambda match: f"```python\n{textwrap.dedent(match[0]).rstrip()}\n```\n", docstring)
