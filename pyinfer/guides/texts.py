"""The fixed texts in a grammar, such as `</think>` in `/(.|\\n)*<\\/think>/`.

Where any text may stand, a mask does not show which text would end it: the search for a short completion tries these
texts as a whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

MAX_TEXTS = 32  # of a grammar; each costs the search a try at many nodes
MIN_LENGTH = 2  # characters; the search tries single characters anyway
LARK = re.compile(r'"(?:[^"\\\n]|\\.)*"|/(?:[^/\\\n]|\\.)+/|<\[\d+\]>')
PIECES = re.compile(r"\\x\{[^}]*\}|\\x..|\\.|\[(?:\\.|[^\]\\])*\]|\{[^}]*\}|\(\?[^:)>]*[:)>]|.", re.DOTALL)
SPACES = {r"\n": "\n", r"\t": "\t", r"\r": "\r"}


def fixed_texts(lark: str) -> list[str | int]:
    """The texts, and the ids of control tokens, that a grammar in Lark has; at most MAX_TEXTS.

    Those of regular expressions come first: any text may stand before them.
    """
    terminals = sorted(LARK.findall(lark), key=lambda terminal: terminal.startswith('"'))
    found = dict.fromkeys(text for terminal in terminals for text in _texts_of(terminal))
    return [text for text in found if isinstance(text, int) or len(text) >= MIN_LENGTH][:MAX_TEXTS]


def _texts_of(terminal: str) -> Iterator[str | int]:
    if terminal.startswith("<["):
        yield int(terminal[2:-2])
    elif terminal.startswith("/"):
        yield from _literal_runs(terminal[1:-1])
    else:
        try:
            yield json.loads(terminal)
        except ValueError:  # an escape that JSON does not have
            return


def _literal_runs(pattern: str) -> Iterator[str]:
    """Runs of characters that stand in a regular expression as they are; none that is optional or repeated."""
    run = ""
    for piece in PIECES.findall(pattern):
        character = _character(piece)
        if character is not None:
            run += character
            continue
        yield run[:-1] if piece in ("*", "?") or piece.startswith("{") else run
        run = ""
    yield run


def _character(piece: str) -> str | None:
    """The character that a piece of a regular expression matches; None if it is no single fixed character."""
    if piece.startswith(r"\x"):
        digits = piece[2:].strip("{}")
        return chr(int(digits, 16)) if re.fullmatch("[0-9A-Fa-f]{1,5}", digits) else None
    if len(piece) == 2 and piece[0] == "\\":
        return SPACES.get(piece) or (None if piece[1].isalnum() else piece[1])
    return piece if len(piece) == 1 and piece not in ".^$*+?()[]{}|\\" else None
