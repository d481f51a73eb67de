"""What a schema asks for and a grammar does not hold: a warning names the places, or an error where that is asked for.

A place is named by its JSON pointer (RFC 6901) in the schema, such as `#/properties/email/pattern`.
"""

from __future__ import annotations

import warnings

from pyinfer.errors import GuideWarning, ParameterError

MAX_REASONS = 3  # in an error
MAX_LISTED = 20  # places in a message; a large schema may have thousands


class Report:
    """Collects what is not held, each place and reason once."""

    def __init__(self) -> None:
        self._messages: dict[str, None] = {}
        self._impossible: dict[str, None] = {}
        self.n_degraded = 0  # calls of `degrade`

    def degrade(self, pointer: str, reason: str) -> None:
        """Note that the keyword at a place is not held as it says."""
        self.n_degraded += 1
        self._messages[f"{pointer}: {reason}"] = None

    def impossible(self, pointer: str, reason: str) -> None:
        """Note that nothing of one type, or nothing at all, meets the schema at a place."""
        self._impossible[f"{pointer}: {reason}"] = None

    @property
    def reasons(self) -> str:
        """Why nothing may meet the schema, as far as it is known."""
        return "; ".join(list(self._impossible)[:MAX_REASONS])

    @property
    def messages(self) -> tuple[str, ...]:
        """All notes, in the order in which they came up."""
        return tuple(self._messages)


def warn_of(messages: tuple[str, ...], strict: bool = False) -> None:
    """Warn the caller's caller of what is not held. strict: raise ParameterError instead."""
    if not messages:
        return
    more = f"; and {len(messages) - MAX_LISTED} more" if len(messages) > MAX_LISTED else ""
    text = f"the JSON schema is not held exactly: {'; '.join(messages[:MAX_LISTED])}{more}"
    if strict:
        raise ParameterError(text)
    warnings.warn(text, GuideWarning, stacklevel=3)


def escaped(name: str) -> str:
    """A name as a part of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")
