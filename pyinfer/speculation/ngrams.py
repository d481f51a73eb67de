"""Prompt lookup, or drafts by n-grams: what followed the last time that a text went like this (Saxena 2023, "Prompt
Lookup Decoding").

Places are found as LZ77 compressors find them: by the hash of the last few tokens, then along a chain of earlier
places with the same ones, of which the longest match counts.
"""

from __future__ import annotations

from collections.abc import Iterable

MIN_MATCH = 3  # tokens of a match
MAX_MATCH = 32  # beyond which no better one is looked for
MAX_PLACES = 16  # looked at


class Lookup:
    """The tokens of one text, and drafts of what may follow."""

    def __init__(self, tokens: Iterable[int]) -> None:
        self._tokens: list[int] = []
        self._last: dict[tuple[int, int, int], int] = {}  # of these tokens: the place after them, the latest
        self._before: list[int] = [0]  # of a place: an earlier one after the same tokens; 0: none
        for token in tokens:
            self.add(token)

    def add(self, token: int) -> None:
        """Note the next token of the text."""
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
        """(place, length): the longest match of the text's end, the latest of several, and what it is followed by;
        length 0: none."""
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
        """The n tokens from a place on; where the text ends there, it goes on repeating what is since that place."""
        found = self._tokens[place : place + n]
        period = len(found)
        while len(found) < n:
            found.append(found[-period])
        return found
