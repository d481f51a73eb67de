"""`pyinfer pull`: downloads a model."""

from __future__ import annotations

import argparse

from pyinfer.cli.parser import Parser
from pyinfer.hub import pull_model
from pyinfer.progress import progress_bar


def add_arguments(p: Parser) -> None:
    p.add_argument("name", help="hf:ORG/REPO[:QUANT], ORG/REPO:QUANT or a name of the catalogue")


def run(args: argparse.Namespace) -> int:
    print(pull_model(args.name, progress_bar(f"fetching {args.name}")))
    return 0
