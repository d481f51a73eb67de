"""Text for a terminal: control characters are replaced by visible ones.

A model's text, a message of a file and a name in a GGUF file may come from anyone. Control characters in them could
make a terminal overwrite what it shows, rename its window or fill the clipboard.
"""

from __future__ import annotations

import sys
from typing import IO, Any

# C0 characters become their pictures, U+2400 and on; C1 characters the picture of ESC and the letter they stand for
PICTURES = {c: chr(0x2400 + c) for c in range(0x20) if chr(c) not in "\n\t"}
PICTURES |= {0x7F: "\u2421"} | {c: "\u241b" + chr(c - 0x40) for c in range(0x80, 0xA0)}


def sanitized(text: str, file: IO[Any]) -> str:
    """Return the text to write to a file: for a terminal without control characters (but newlines and tabs)."""
    return text.translate(PICTURES) if file.isatty() else text


def show(text: str) -> None:
    """Write text of any origin to standard output, and flush it."""
    sys.stdout.write(sanitized(text, sys.stdout))
    sys.stdout.flush()
