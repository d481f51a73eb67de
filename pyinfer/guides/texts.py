"""The fixed texts in a grammar, such as `</think>` in `/(.|\\n)*<\\/think>/`.

Where any text may stand, masks do not show what would end it: the search of a short ending tries these texts whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

MOST_TEXTS = 32
LEAST_LENGTH = 2  # single characters are tried anyway
LARK = re.compile(r'"(?:[^"\\\n]|\\.)*"|/(?:[^/\\\n]|\\.)+/|<\[\d+\]>')
PIECES = re.compile(r"\\x\{[^}]*\}|\\x..|\\.|\[(?:\\.|[^\]\\])*\]|\{[^}]*\}|\(\?[^:)>]*[:)>]|.", re.DOTALL)
SPACES = {r"\n": "\n", r"\t": "\t", r"\r": "\r"}


def fixed_texts(lark: str) -> list[str | int]:
    """Texts, and ids of control tokens, that a grammar in Lark names; at most MOST_TEXTS.

    Those of regular expressions come first, in which any text may stand before them.
    """
    terminals = sorted(LARK.findall(lark), key=lambda terminal: terminal.startswith('"'))
    found = dict.fromkeys(text for terminal in terminals for text in _texts_of(terminal))
    return [text for text in found if isinstance(text, int) or len(text) >= LEAST_LENGTH][:MOST_TEXTS]


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
    """What stands in a regular expression character by character, without what may be absent or come again."""
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
    """The character that a piece of a regular expression stands for; None if it is anything else."""
    if piece.startswith(r"\x"):
        digits = piece[2:].strip("{}")
        return chr(int(digits, 16)) if re.fullmatch("[0-9A-Fa-f]{1,5}", digits) else None
    if len(piece) == 2 and piece[0] == "\\":
        return SPACES.get(piece) or (None if piece[1].isalnum() else piece[1])
    return piece if len(piece) == 1 and piece not in ".^$*+?()[]{}|\\" else None
