"""`pyinfer list`: shows downloaded models and the catalogue."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import datetime
from typing import Any

from pyinfer.cli.parser import Parser
from pyinfer.hub.models import ModelEntry, list_models


def add_arguments(p: Parser) -> None:
    p.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> int:
    entries = list_models()
    if args.json:
        print(json.dumps([as_json(entry) for entry in entries], indent=2, ensure_ascii=False))
    else:
        print_table(entries)
    return 0


def as_json(entry: ModelEntry) -> dict[str, Any]:
    used = entry.last_used
    return {
        "name": entry.name,
        "quant": entry.quant,
        "bytes": entry.n_bytes,
        "path": None if entry.path is None else str(entry.path),
        "last_used": None if used is None else datetime.fromtimestamp(used).astimezone().isoformat(timespec="seconds"),
        "catalogue": entry.in_catalogue,
    }


def print_table(entries: list[ModelEntry]) -> None:
    rows = [("  name", "quant", "size", "last used", "path"), *map(cells, entries)]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for name, quant, size, used, path in rows:
        line = f"{name:{widths[0]}}  {quant:{widths[1]}}  {size:>{widths[2]}}  {used:{widths[3]}}  {path}"
        sys.stdout.write(line.rstrip() + "\n")
    sys.stdout.write("* a name of the catalogue\n")


def cells(entry: ModelEntry) -> tuple[str, str, str, str, str]:
    if entry.stored is None:
        state = "not fetched"
    else:
        state = "interrupted: pull goes on" if entry.path is None else str(entry.path)
    used = "" if entry.last_used is None else f"{datetime.fromtimestamp(entry.last_used):%Y-%m-%d %H:%M}"
    size = megabytes(entry.n_bytes) if entry.stored is not None else ""
    return ("* " if entry.in_catalogue else "  ") + entry.name, entry.quant or "", size, used, state


def megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.0f} MB"
