"""Time by kind of operation, beside the bytes it reads and the products it computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypedDict

from pyinfer.cli.passes import Pass, bytes_and_macs
from pyinfer.runtime.engine import Engine


class Figures(TypedDict):
    """Of a kind of operation. gbps: weights, keys and values; None where a kind reads or multiplies nothing."""

    ms: float  # a step
    share: float  # of all kinds' time
    gbps: float | None
    gmacs: float | None  # 1e9 multiply-accumulates a second
    macs_per_byte: float | None


def kind_of(name: str) -> str:
    """An operation's name without its layer: blk.3.ffn_down -> ffn_down."""
    return name.split(".", 2)[2] if name.startswith("blk.") else name


def profile(engine: Engine, run: Callable[[], None], passes: Sequence[Pass], n_steps: int = 1) -> dict[str, Figures]:
    """Run passes once; figures by kind of operation, the longest first."""
    before = engine.profile()
    run()
    seconds: dict[str, float] = {}
    n_bytes: dict[str, int] = {}
    macs: dict[str, int] = {}
    costs = engine.costs()
    for name, nanoseconds in engine.profile().items():
        kind = kind_of(name)
        work = [bytes_and_macs(costs[name], p) for p in passes]
        seconds[kind] = seconds.get(kind, 0.0) + (nanoseconds - before[name]) / 1e9
        n_bytes[kind] = n_bytes.get(kind, 0) + sum(b for b, _ in work)
        macs[kind] = macs.get(kind, 0) + sum(m for _, m in work)
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
    """A table, one kind a line."""
    lines = [f"  {'':22}{'ms':>10}{'%':>8}{'GB/s':>8}{'GMAC/s':>9}"]
    for kind, f in figures.items():
        gbps = "" if f["gbps"] is None else f"{f['gbps']:.1f}"
        gmacs = "" if f["gmacs"] is None else f"{f['gmacs']:.1f}"
        lines.append(f"  {kind:22}{f['ms']:10.3f}{100 * f['share']:8.1f}{gbps:>8}{gmacs:>9}".rstrip())
    return "\n".join(lines) + "\n"
