"""What a person may have meant by a name that there is not, for errors."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

MAX_SUGGESTIONS = 4
CUTOFF = 0.6  # difflib's usual share of equal characters


def close_names(word: str, names: Iterable[str]) -> list[str]:
    """The names that a word may mean; at most four.

    They are those that begin with it, else with its part before a colon, else those that are spelt nearly so, the best
    first.
    """
    by_spelling = {name.lower(): name for name in names}
    plain = word.lower().rstrip(":-_ ")
    for start in filter(None, [plain, plain[: plain.find(":") + 1]]):
        if begun := [name for spelling, name in by_spelling.items() if spelling.startswith(start)]:
            return begun[:MAX_SUGGESTIONS]
    return [by_spelling[spelling] for spelling in get_close_matches(plain, by_spelling, MAX_SUGGESTIONS, CUTOFF)]


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """The end of an error, "; did you mean a, b or c?", or nothing where no name is close.

    did_you_mean("tempreature", ["temperature", "top_k"])
    """
    found = close_names(word, names)
    if not found:
        return ""
    return f"; did you mean {' or '.join(filter(None, [', '.join(found[:-1]), found[-1]]))}?"
