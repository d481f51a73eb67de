"""A bar on standard error, where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable

WIDTH = 30


def progress_bar(label: str) -> Callable[[int, int], None] | None:
    """A function of (bytes done, bytes in all) that draws a bar and removes it at the end; None if nobody watches."""
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
        sys.stderr.write(f"\r{label} [{bar}] {done / 1e6:.0f}/{total / 1e6:.0f} MB")
        if done >= total:
            sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()

    return show
