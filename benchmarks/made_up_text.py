"""Text to tokenize: prose and code made of common and of rare words, the same for the same seed."""

from __future__ import annotations

import random
import re

COMMON = re.findall(
    r"\w+",
    "the of and to a in is that it was for on are as with his they at be this have from or one had by word but not "
    "what all were we when your can said there use an each which she do how their if will up other about out many "
    "then them these so some her would make like him into time has look two more write go see number no way could "
    "people my than first water been call who its now find long down day did get come made may part",
)
SYLLABLES = re.findall(
    r"\w+", "re in con de tion ment pro ing er al ver ter com per ex sub dis ance ity or ist ble form port struct ic"
)
STATEMENTS = (
    "{0} = {1}({2}, {3})\n",
    "if {0} < {4}:\n    {1} += {2}[{3}]\n",
    "for {0} in range({4}):\n    {1}.{2}({0})\n",
    'def {0}({1}, {2}={4}):\n    """{3}"""\n    return {1} * {2}\n\n',
    "assert {0}.{1} == {4}  # {2} {3}\n",
)


def prose(n_bytes: int, seed: int = 0) -> str:
    """Sentences and paragraphs of so many bytes."""
    rng = random.Random(seed)
    parts: list[str] = []
    size = 0
    while size < n_bytes:
        words = [word(rng) for _ in range(rng.randint(4, 20))]
        words[0] = words[0].capitalize()
        parts.append(" ".join(words) + rng.choice((". ", ", ", "? ", ".\n\n")))
        size += len(parts[-1])
    return "".join(parts)[:n_bytes]


def code(n_bytes: int, seed: int = 0) -> str:
    """Statements of so many bytes."""
    rng = random.Random(seed)
    parts: list[str] = []
    size = 0
    while size < n_bytes:
        names = ["_".join(word(rng) for _ in range(rng.randint(1, 3))) for _ in range(4)]
        lines = rng.choice(STATEMENTS).format(*names, rng.randrange(10_000)).splitlines(keepends=True)
        indent = "    " * rng.randrange(3)
        parts.append("".join(indent + line for line in lines))
        size += len(parts[-1])
    return "".join(parts)[:n_bytes]


def word(rng: random.Random) -> str:
    """Two of three words are common ones, those first in the list most; the others are made of syllables."""
    if rng.random() < 2 / 3:
        return COMMON[int(len(COMMON) * rng.random() ** 2)]
    return "".join(rng.choices(SYLLABLES, k=rng.randint(2, 4)))
