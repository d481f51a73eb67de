"""`pyinfer perplexity`: measures how well a model predicts a text, by the method of llama-perplexity."""

from __future__ import annotations

import argparse
import json
import sys

from pyinfer.api.llm import LLM
from pyinfer.cli.arguments import add_loading_arguments, model_file, overrides_of
from pyinfer.cli.parser import Parser
from pyinfer.cli.texts import read_text
from pyinfer.tasks.scoring import Perplexity


def add_arguments(p: Parser) -> None:
    p.add_argument("model", help="a GGUF file or a model's name")
    p.add_argument("-f", "--file", required=True, help="the text; -: standard input")
    p.add_argument("-c", "--ctx", type=int, default=512, help="tokens of a chunk (default: 512)")
    p.add_argument("--chunks", type=int, help="compute so many chunks at most")
    p.add_argument("--stride", type=int, help="tokens from chunk to chunk, as many are scored of each (default: half)")
    add_loading_arguments(p, "threads", "kv_type", "overrides")
    p.add_argument("--json", action="store_true", help="the result as JSON, without progress")


def run(args: argparse.Namespace) -> int:
    text = read_text(args.file)
    path = model_file(args.model)
    options = {"n_threads": args.threads, "kv_type": args.kv_type, "overrides": overrides_of(args)}
    with LLM(path, n_ctx=args.ctx, **options) as llm:
        found = llm.perplexity(text, args.ctx, args.stride, args.chunks, None if args.json else show)
    if args.json:
        fields = {"perplexity": found.value, "error": found.error, "scored": found.n_scored, "chunks": found.n_chunks}
        sys.stdout.write(json.dumps({"model": args.model, "n_ctx": args.ctx, **fields}) + "\n")
    else:
        sys.stdout.write(f"\nFinal estimate: PPL = {found.value:.4f} +/- {found.error:.5f}\n")
    return 0


def show(so_far: Perplexity, n_chunks: int) -> None:
    """Show the perplexity of all chunks so far, as llama-perplexity does."""
    sys.stdout.write(f"[{so_far.n_chunks}]{so_far.value:.4f},")
    sys.stdout.flush()
