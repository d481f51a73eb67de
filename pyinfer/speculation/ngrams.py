"""Drafts by n-grams, also called prompt lookup (Saxena 2023, "Prompt Lookup Decoding").

The last tokens of a sequence are searched earlier in the same sequence; what followed there becomes the draft. The
search is that of LZ77 compressors: the last three tokens are looked up in a hash table, and a chain leads from there to
all earlier places after the same three tokens. The place with the longest match is used.
"""

from __future__ import annotations

from collections.abc import Iterable

MIN_MATCH = 3  # tokens
MAX_MATCH = 32  # tokens: a match of this length ends the search
MAX_PLACES = 16  # places of a chain that are compared


class Lookup:
    """The tokens of one sequence, with an index to find earlier places like its end."""

    def __init__(self, tokens: Iterable[int]) -> None:
        self._tokens: list[int] = []
        self._last: dict[tuple[int, int, int], int] = {}  # three tokens -> the latest place after them
        self._before: list[int] = [0]  # place -> the one before it after the same three tokens; 0: none
        for token in tokens:
            self.add(token)

    def add(self, token: int) -> None:
        """Append a token to the sequence."""
        tokens = self._tokens
        tokens.append(token)
        n = len(tokens)
        if n < MIN_MATCH:
            self._before.append(0)
            return
        key = (tokens[-3], tokens[-2], token)
        self._before.append(self._last.get(key, 0))
        self._last[key] = n

    def find(self) -> tuple[int, int]:
        """Find the longest match of the sequence's end, the latest if there are several.

        Returns (the place after the match, its length); length 0: there is none.
        """
        tokens, n = self._tokens, len(self._tokens)
        best = best_at = 0
        at = self._before[n]
        for _ in range(MAX_PLACES):
            if not at:
                break
            length = MIN_MATCH
            while length < min(at, MAX_MATCH) and tokens[at - 1 - length] == tokens[n - 1 - length]:
                length += 1
            if length > best:
                best, best_at = length, at
                if best == MAX_MATCH:
                    break
            at = self._before[at]
        return best_at, best

    def after(self, place: int, n: int) -> list[int]:
        """Return the n tokens from a place on. If there are fewer, they are repeated until there are n."""
        found = self._tokens[place : place + n]
        period = len(found)
        while len(found) < n:
            found.append(found[-period])
        return found
