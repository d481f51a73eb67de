"""The roofline (Williams et al. 2009) of a model's operations: how near each is to the limit of memory or arithmetic.

An operation that multiplies I times for each byte of weights, keys and values can compute at most I times the read
limit, and at most as many int8 dot products as the processor can from its registers.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from pyinfer.errors import missing_extra

MARKERS = {"prefill": "s", "decode": "o"}
MIN_SHARE = 0.005  # of the time: kinds with less get no point


def load_pyplot() -> Any:
    """Return matplotlib.pyplot, set to draw to files. Raises ParameterError where it is not installed."""
    try:
        importlib.import_module("matplotlib").use("Agg")
    except ImportError as error:
        raise missing_extra("--plot needs matplotlib", "plot") from error
    return importlib.import_module("matplotlib.pyplot")


def points(result: dict[str, Any], phase: str) -> dict[str, tuple[float, float]]:
    """Return (MAC a byte, GMAC/s) by kind of operation that multiplies. `phase`: "prefill" or "decode"."""
    return {
        kind: (f["macs_per_byte"], f["gmacs"])
        for kind, f in result.get(f"{phase}_profile", {}).items()
        if f["macs_per_byte"] and f["gmacs"] and f["share"] >= MIN_SHARE
    }


def roof(result: dict[str, Any], macs_per_byte: float) -> float:
    """Return the limit of GMAC/s at this intensity."""
    return float(min(result["read_limit_gbps"] * macs_per_byte, result["dot_limit_gmacs"]))


def plot_roofline(result: dict[str, Any], path: str) -> None:
    """Write the picture, in the format that the ending of its name says."""
    pyplot = load_pyplot()
    figure, axes = pyplot.subplots(figsize=(11, 6), layout="constrained")
    phases = {phase: points(result, phase) for phase in MARKERS}
    intensities = [x for found in phases.values() for x, _ in found.values()]
    ridge = result["dot_limit_gmacs"] / result["read_limit_gbps"]
    low, high = min([ridge, *intensities]) / 2, max([ridge, *intensities]) * 2
    axes.plot([low, ridge, high], [roof(result, x) for x in (low, ridge, high)], color="black", linewidth=1)
    at_ridge, at_end = (ridge, roof(result, ridge)), (high, roof(result, high))
    memory = f"{result['read_limit_gbps']:.1f} GB/s read"
    arithmetic = f"{result['dot_limit_gmacs']:.0f} GMAC/s int8 ({result['isa']})"
    axes.annotate(memory, at_ridge, (-8, -4), textcoords="offset points", ha="right", va="top")
    axes.annotate(arithmetic, at_end, (0, 4), textcoords="offset points", ha="right")
    colors = {kind: f"C{i}" for i, kind in enumerate(dict.fromkeys(kind for p in phases.values() for kind in p))}
    for phase, found in phases.items():
        for kind, (x, y) in found.items():
            label = f"{kind}, {phase}: {100 * y / roof(result, x):.0f} % of the roof"
            axes.plot(x, y, MARKERS[phase], color=colors[kind], label=label)
    axes.set(xscale="log", yscale="log", xlabel="MAC per byte of weights, keys and values", ylabel="GMAC/s")
    axes.set_title(f"{Path(result['model']).name}, {result['cpu']}, {result['threads']} threads")
    axes.grid(which="major", linewidth=0.3)
    figure.legend(fontsize="small", loc="outside right upper")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
