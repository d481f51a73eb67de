"""A progress bar on standard error, where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable

BAR_WIDTH = 30  # characters, so that the bar fits a line of 80 beside a label and figures


def progress_bar(label: str, unit: str = "MB", per_unit: float = 1e6) -> Callable[[int, int], None] | None:
    """Make a function of (done, total) that draws a bar, and removes it when all is done.

    done and total are counts, of bytes for example; the bar shows them divided by per_unit, with `unit` after them.
    Returns None where standard error is not a terminal.
    """
    if not sys.stderr.isatty():
        return None
    n_drawn = -1  # filled characters of the bar as it was drawn last

    def show(done: int, total: int) -> None:
        nonlocal n_drawn
        n_filled = BAR_WIDTH * done // max(total, 1)
        if n_filled == n_drawn and done < total:
            return
        n_drawn = n_filled
        bar = "#" * n_filled + "." * (BAR_WIDTH - n_filled)
        sys.stderr.write(f"\r{label} [{bar}] {done / per_unit:.0f}/{total / per_unit:.0f} {unit}")
        if done >= total:
            sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()

    return show
