"""`pyinfer rm`: removes a downloaded model."""

from __future__ import annotations

import argparse
import sys

from pyinfer.cli.list import megabytes
from pyinfer.cli.parser import Parser
from pyinfer.hub.models import find_stored


def add_arguments(p: Parser) -> None:
    p.add_argument("name", help="as `pyinfer list` shows it")
    p.add_argument("-y", "--yes", action="store_true", help="do not ask")


def run(args: argparse.Namespace) -> int:
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
