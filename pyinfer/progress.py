"""A bar on standard error, where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable

WIDTH = 30


def progress_bar(label: str, unit: str = "MB", per_unit: float = 1e6) -> Callable[[int, int], None] | None:
    """A function of (done, in all) that draws a bar and removes it at the end; None if nobody watches.

    What it is given counts bytes, or anything else of which per_unit make a unit.
    """
    if not sys.stderr.isatty():
        return None
    shown = -1

    def show(done: int, total: int) -> None:
        nonlocal shown
        filled = WIDTH * done // max(total, 1)
        if filled == shown and done < total:
            return
        shown = filled
        bar = "#" * filled + "." * (WIDTH - filled)
        sys.stderr.write(f"\r{label} [{bar}] {done / per_unit:.0f}/{total / per_unit:.0f} {unit}")
        if done >= total:
            sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()

    return show
