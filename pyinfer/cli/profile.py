"""Time by kind of operation, with the bytes that the kind reads and the multiplications that it computes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

from pyinfer._kernels import OpCost
from pyinfer.cli.passes import Pass, bytes_and_macs
from pyinfer.engine.engine import Engine


class Figures(TypedDict):
    """The figures of a kind of operation. A figure is None where the kind reads or multiplies nothing."""

    ms: float  # a step
    share: float  # of all kinds' time
    gbps: float | None  # 1e9 bytes of weights, keys and values a second
    gmacs: float | None  # 1e9 multiply-accumulates a second
    macs_per_byte: float | None


def kind_of(name: str) -> str:
    """Return an operation's name without its layer: blk.3.ffn_down -> ffn_down."""
    return name.split(".", 2)[2] if name.startswith("blk.") else name


def seconds_by_kind(engine: Engine, run: Callable[[], None]) -> dict[str, float]:
    """Call `run` and return the time that each kind of operation took."""
    before = engine.profile()
    run()
    seconds: dict[str, float] = {}
    for name, nanoseconds in engine.profile().items():
        seconds[kind_of(name)] = seconds.get(kind_of(name), 0.0) + (nanoseconds - before[name]) / 1e9
    return seconds


def figures_by_kind(
    runs: Sequence[Mapping[str, float]], costs: Mapping[str, OpCost], passes: Sequence[Pass], n_steps: int
) -> dict[str, Figures]:
    """Return figures by kind, from the median seconds of runs of the passes; the slowest kind comes first."""
    seconds = {kind: statistics.median(run[kind] for run in runs) for kind in runs[0]}
    n_bytes, macs = dict.fromkeys(seconds, 0), dict.fromkeys(seconds, 0)
    for name, cost in costs.items():
        for p in passes:
            more_bytes, more_macs = bytes_and_macs(cost, p)
            n_bytes[kind_of(name)] += more_bytes
            macs[kind_of(name)] += more_macs
    total = sum(seconds.values())
    return {
        kind: {
            "ms": seconds[kind] * 1e3 / n_steps,
            "share": ratio(seconds[kind], total) or 0.0,
            "gbps": ratio(n_bytes[kind] / 1e9, seconds[kind]),
            "gmacs": ratio(macs[kind] / 1e9, seconds[kind]),
            "macs_per_byte": ratio(macs[kind], n_bytes[kind]),
        }
        for kind in sorted(seconds, key=lambda kind: -seconds[kind])
    }


def ratio(a: float, b: float) -> float | None:
    return a / b if a and b else None


def format_profile(figures: dict[str, Figures]) -> str:
    """Return a table with a line for each kind."""
    lines = [f"  {'':22}{'ms':>10}{'%':>8}{'GB/s':>8}{'GMAC/s':>9}"]
    for kind, f in figures.items():
        gbps = "" if f["gbps"] is None else f"{f['gbps']:.1f}"
        gmacs = "" if f["gmacs"] is None else f"{f['gmacs']:.1f}"
        lines.append(f"  {kind:22}{f['ms']:10.3f}{100 * f['share']:8.1f}{gbps:>8}{gmacs:>9}".rstrip())
    return "\n".join(lines) + "\n"
