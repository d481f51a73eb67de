"""`pyinfer run`: shows the text that follows a prompt, while it is generated."""

from __future__ import annotations

import argparse
import sys

from pyinfer.cli.arguments import add_generation_arguments, load_model, sampling_params
from pyinfer.cli.speed import speed
from pyinfer.cli.terminal import show
from pyinfer.hub.catalogue import DEFAULT_MODEL


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = subparsers.add_parser("run", help="generate text from a prompt")
    p.add_argument("prompt", help="the prompt: a chat turn where the model has a chat template")
    p.add_argument(
        "-m", "--model", default=DEFAULT_MODEL, help=f"a GGUF file or a model's name (default: {DEFAULT_MODEL})"
    )
    p.add_argument("--raw", action="store_true", help="continue the prompt as it stands, without the chat template")
    add_generation_arguments(p, max_tokens=512)
    p.add_argument("--stats", action="store_true", help="tokens and speed on standard error at the end")
    p.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    params = sampling_params(args)
    with load_model(args) as llm:
        if args.raw or llm.tokenizer.chat_template is None:
            pieces = llm.stream(args.prompt, params)
            for piece in pieces:
                show(piece.text)
            done = pieces.completion
        else:
            answer = llm.stream_chat([{"role": "user", "content": args.prompt}], params)
            for delta in answer:
                show(delta.content)
            done = None if answer.completion is None else answer.completion.completion
        show("\n")
        if args.stats and done is not None:
            sys.stderr.write(speed(done) + "\n")
    return 0
