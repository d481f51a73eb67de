"""`pyinfer pull`, `pyinfer list`, `pyinfer rm`: download, list and remove models."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import datetime
from typing import Any

from pyinfer.hub import pull_model
from pyinfer.hub.models import ModelEntry, find_stored, list_models
from pyinfer.progress import progress_bar


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = subparsers.add_parser("pull", help="download a model by its name, or its newer version")
    p.add_argument("name", help="hf:ORG/REPO[:QUANT], ORG/REPO:QUANT or a name of the catalogue")
    p.set_defaults(run=run_pull)
    p = subparsers.add_parser("list", help="show downloaded models and the catalogue")
    p.add_argument("--json", action="store_true", help="as JSON")
    p.set_defaults(run=run_list)
    p = subparsers.add_parser("rm", help="remove a downloaded model")
    p.add_argument("name", help="as `pyinfer list` shows it")
    p.add_argument("-y", "--yes", action="store_true", help="do not ask")
    p.set_defaults(run=run_rm)


def run_pull(args: argparse.Namespace) -> int:
    print(pull_model(args.name, progress_bar(f"fetching {args.name}")))
    return 0


def run_list(args: argparse.Namespace) -> int:
    entries = list_models()
    if args.json:
        print(json.dumps([as_json(entry) for entry in entries], indent=2, ensure_ascii=False))
    else:
        print_table(entries)
    return 0


def run_rm(args: argparse.Namespace) -> int:
    entry = find_stored(args.name)
    assert entry.stored is not None
    asks = sys.stdin.isatty() and not args.yes
    if asks and not confirmed(f"remove {entry.name} ({megabytes(entry.n_bytes)})? [y/N] "):
        return 1
    freed = entry.stored.remove()
    print(f"{entry.name}: {freed:,} bytes freed")
    return 0


def confirmed(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        return False


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
