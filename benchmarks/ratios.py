"""From samples to figures: medians and spreads by engine, and by peer the ratios of the rounds, as table and plot.

A ratio is taken within a round, where both engines ran one after the other, so that slow changes of a shared machine
cancel; the median of these ratios is what counts.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

SUBJECT = "pyinfer"


@dataclass(frozen=True)
class Sample:
    round: int
    model: str
    workload: str
    engine: str
    tps: float  # tokens a second


@dataclass(frozen=True)
class Spread:
    median: float
    min: float
    max: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        return Spread(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Row:
    """One engine's tokens a second in a workload; ratio: pyinfer's to this engine's (None: of pyinfer itself)."""

    model: str
    workload: str
    engine: str
    n: int
    tps: Spread
    ratio: Spread | None


def summarize(samples: Iterable[Sample]) -> list[Row]:
    """A row for each model, workload and engine, in the order in which they first appear, pyinfer before its peers."""
    groups: dict[tuple[str, str], dict[str, dict[int, float]]] = {}
    for s in samples:
        groups.setdefault((s.model, s.workload), {}).setdefault(s.engine, {})[s.round] = s.tps
    rows = []
    for (model, workload), engines in groups.items():
        own = engines.get(SUBJECT, {})
        for engine in sorted(engines, key=lambda name: name != SUBJECT):
            tps = engines[engine]
            ratios = [own[r] / tps[r] for r in tps if r in own] if engine != SUBJECT else []
            ratio = Spread.of(ratios) if ratios else None
            rows.append(Row(model, workload, engine, len(tps), Spread.of(list(tps.values())), ratio))
    return rows


def format_tables(rows: Sequence[Row]) -> str:
    """A table for each model and workload."""
    lines = []
    before = None
    for row in rows:
        if (row.model, row.workload) != before:
            before = row.model, row.workload
            lines += ["", f"{Path(row.model).name}, {row.workload}"]
            lines += [f"  {'tokens/s':18}{'median':>9}{'min':>9}{'max':>9}   pyinfer/peer (min..max)"]
        t, r = row.tps, row.ratio
        against = "" if r is None else f"   {r.median:.3f} ({r.min:.3f}..{r.max:.3f})"
        rounds = f"{row.engine} ({row.n})"
        lines.append(f"  {rounds:18}{t.median:9.2f}{t.min:9.2f}{t.max:9.2f}{against}")
    return "\n".join(lines[1:]) + "\n" if lines else ""


def plot(rows: Sequence[Row], path: str) -> None:
    """Median ratios with bars from the least to the greatest, a series for each peer."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    places = list(dict.fromkeys((row.model, row.workload) for row in rows if row.ratio))
    peers = list(dict.fromkeys(row.engine for row in rows if row.ratio))
    figure, axes = pyplot.subplots(figsize=(2.5 + 0.9 * len(places), 5), layout="constrained")
    for i, peer in enumerate(peers):
        own = [row for row in rows if row.engine == peer and row.ratio]
        x = [places.index((row.model, row.workload)) + 0.12 * (i - (len(peers) - 1) / 2) for row in own]
        y = [row.ratio.median for row in own]
        below = [row.ratio.median - row.ratio.min for row in own]
        above = [row.ratio.max - row.ratio.median for row in own]
        axes.errorbar(x, y, yerr=[below, above], fmt="o", capsize=3, label=peer)
    axes.axhline(1, color="gray", linewidth=0.8)
    axes.set_ylim(bottom=0)
    many = len({model for model, _ in places}) > 1
    labels = [f"{Path(model).stem}\n{workload}" if many else workload for model, workload in places]
    axes.set_xticks(range(len(places)), labels, rotation=45, ha="right")
    axes.set_ylabel("pyinfer's tokens/s over the peer's")
    axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
