"""The entry point: parses arguments and runs a command.

An error ends the program with one line on standard error and status 1, Ctrl-C with status 130.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Collection, Sequence

from pyinfer.cli.parser import Parser
from pyinfer.cli.terminal import sanitized
from pyinfer.errors import PyinferError
from pyinfer.files import advice
from pyinfer.version import __version__

INTERRUPTED = 130  # the status that a shell reports for a program that SIGINT ended


# a file of cli for each command, which is imported when its command is given; and what the command does
COMMANDS = {
    "run": "generate text from a prompt",
    "chat": "talk with a model",
    "embed": "embed texts as vectors",
    "perplexity": "measure how well a model predicts a text",
    "bench": "measure a model's speed",
    "inspect": "show a file's metadata and tensors",
    "pull": "download a model by its name, or its newer version",
    "list": "show downloaded models and the catalogue",
    "rm": "remove a downloaded model",
    "completion": "print a script that completes commands, options and models in a shell",
}


def build_parser(commands: Collection[str] = tuple(COMMANDS)) -> Parser:
    """Return the parser of all commands; only of those in `commands` it knows the arguments."""
    parser = Parser(prog="pyinfer", description="Quantized GGUF language models on ordinary CPUs.")
    parser.add_argument("--version", action="version", version=f"pyinfer {__version__}")
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, does in COMMANDS.items():
        p = subparsers.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
        if name in commands:
            module = importlib.import_module(f"pyinfer.cli.{name}")
            module.add_arguments(p)
            p.set_defaults(run=module.run, whole_parser=build_parser)
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
        words = sys.argv[1:] if argv is None else list(argv)
        args = build_parser([word for word in words if word in COMMANDS][:1]).parse_args(words)
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        discard_output()  # the reader has closed the pipe
        return 1
    except PyinferError as error:
        message = str(error)
    except OSError as error:
        message = explained(error)
        if error.filename is None:
            discard_output()
    except MemoryError:
        message = "there is not enough memory"
    except Exception as error:
        if os.environ.get("PYINFER_TRACEBACK"):
            raise
        message = f"{type(error).__name__}: {error} (a bug of pyinfer; PYINFER_TRACEBACK=1 shows where)"
    print("pyinfer: error: " + sanitized(" ".join(message.split()), sys.stderr), file=sys.stderr)
    return 1


def discard_output() -> None:
    """Send the rest of the output nowhere: Python's flush at exit would report the error again."""
    with contextlib.suppress(OSError, ValueError):  # it is no file, or closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def explained(error: OSError) -> str:
    """An error of the system as a sentence that says what to do."""
    where, hint = error.filename or "the output", advice(error)
    return f"{where}: {error.strerror}{hint and '; '}{hint}" if error.filename or hint else str(error)


if __name__ == "__main__":
    sys.exit(main())
