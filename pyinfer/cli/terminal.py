"""Text on a terminal: what is no character to be seen there is shown as one.

A model's text, a message of a file and a name out of a GGUF file are strangers' words; sent to a terminal, control
characters in them could move the cursor over what stands there, rename the window or fill the clipboard.
"""

from __future__ import annotations

import sys
from typing import IO, Any

# U+2400 and on are pictures of C0's characters; those of C1 mean ESC and a letter, and are shown so
PICTURES = {c: chr(0x2400 + c) for c in range(0x20) if chr(c) not in "\n\t"}
PICTURES |= {0x7F: "\u2421"} | {c: "\u241b" + chr(c - 0x40) for c in range(0x80, 0xA0)}


def sanitized(text: str, file: IO[Any]) -> str:
    """The text as it may be written to a file: as it is, but for control characters where that is a terminal, of which
    newlines and tabs stay."""
    return text.translate(PICTURES) if file.isatty() else text


def show(text: str) -> None:
    """Write strangers' words to standard output, at once."""
    sys.stdout.write(sanitized(text, sys.stdout))
    sys.stdout.flush()
