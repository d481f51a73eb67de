"""The entry point: parses arguments and runs a command.

An error ends the program with one line on standard error and status 1, Ctrl-C with status 130.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from pyinfer.cli import bench, chat, embed, inspect, models, perplexity, run
from pyinfer.cli.terminal import sanitized
from pyinfer.errors import PyinferError
from pyinfer.version import __version__

INTERRUPTED = 130  # the status that a shell reports for a program that SIGINT ended


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pyinfer", description="Quantized GGUF language models on ordinary CPUs.")
    parser.add_argument("--version", action="version", version=f"pyinfer {__version__}")
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (run, chat, embed, perplexity, bench, inspect, models):
        command.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # the caller closed it
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="replace")  # a character that the encoding lacks is written as "?"
    try:
        args = build_parser().parse_args(argv)
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # the reader has closed the pipe; without this, Python's flush at exit would report it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except PyinferError as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except MemoryError:
        message = "there is not enough memory"
    except Exception as error:
        if os.environ.get("PYINFER_TRACEBACK"):
            raise
        message = f"{type(error).__name__}: {error} (a bug of pyinfer; PYINFER_TRACEBACK=1 shows where)"
    print("pyinfer: error: " + sanitized(" ".join(message.split()), sys.stderr), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
