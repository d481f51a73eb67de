"""What the parts of a description can turn out to be, beside a grammar: not exact, or met by nothing.

The compiler of schemas decides what follows: a warning with the path of the keyword, or an error.
"""

from __future__ import annotations

from pyinfer.errors import ParameterError


class NotExact(Exception):
    """Something that a grammar can't hold exactly. reason: why, for a warning."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unsupported(NotExact):
    """Syntax that no terminal has, such as back-references."""


class TooComplex(NotExact):
    """Something that a grammar could hold, but a very large one."""


class Unsatisfiable(ParameterError):
    """Nothing meets it."""
