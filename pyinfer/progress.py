"""Progress bars: tqdm's in a notebook, where it is installed; otherwise a line on a terminal's standard error."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable

BAR_WIDTH = 30  # characters, so that the bar fits a line of 80 beside a label and figures

Progress = Callable[[int, int], None]  # called with (done, total)


def progress_bar(label: str, unit: str = "MB", per_unit: float = 1e6) -> Progress | None:
    """Make a function of (done, total) that draws a bar, and removes it when all is done.

    done and total are counts, of bytes for example; the bar shows them divided by per_unit, with `unit` after them.
    Returns None where nobody would see it: outside of notebooks, where standard error is not a terminal.
    """
    if in_notebook() and importlib.util.find_spec("tqdm") is not None:
        return tqdm_bar(label, unit, per_unit)
    return line_bar(label, unit, per_unit) if in_notebook() or sys.stderr.isatty() else None


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook (Jupyter, VS Code, Colab, …)."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


def line_bar(label: str, unit: str, per_unit: float) -> Progress:
    """A bar of characters in one line, which is written again and again."""
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


def tqdm_bar(label: str, unit: str, per_unit: float) -> Progress:
    """A bar of tqdm: a widget of the notebook, or a line where widgets are not installed."""
    tqdm, bar = importlib.import_module("tqdm.auto").tqdm, None

    def show(done: int, total: int) -> None:
        nonlocal bar
        if done < total:
            if bar is None:
                scale = {"unit": unit} if per_unit == 1 else {"unit": "B", "unit_scale": True}
                bar = tqdm(total=total, desc=label, leave=False, **scale)
            bar.update(done - bar.n)
        elif bar is not None:
            bar.update(bar.total - bar.n)
            bar.close()
            bar = None

    return show
