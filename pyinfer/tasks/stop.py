"""Stop texts: a text is held back while it may be the beginning of one."""

from __future__ import annotations

from collections.abc import Sequence


class StopText:
    """Returns text up to a stop text, and holds back what may become one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Append text; return what can't be a part of a stop text any more. Sets `stopped` when one is complete."""
        if not self._stops:
            return text
        self._held += text
        found = [at for at in (self._held.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self.stopped = True
            kept, self._held = self._held[: min(found)], ""
            return kept
        keep = max((overlap(self._held, stop) for stop in self._stops), default=0)
        kept, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return kept

    def finish(self) -> str:
        """End the text; return what was held back."""
        held, self._held = self._held, ""
        return held


def overlap(text: str, stop: str) -> int:
    """Return the length of the longest suffix of `text` that is a prefix of `stop`, but not all of it."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
