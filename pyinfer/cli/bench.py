"""`pyinfer bench`: measures prefill and decode speed as llama-bench does, and how near they are to the limits.

Prefill computes -p random tokens after a context of -d tokens, and the logits of the last one. Decode runs -n forward
passes of one token after such a context; with --parallel, of one token of each of several sequences. A figure is the
median of -r repetitions; one repetition before them is not counted. The memory's read bandwidth is measured before and
after each repetition of decode.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pyinfer.cli.arguments import add_loading_arguments, model_file
from pyinfer.cli.measure import measure
from pyinfer.cli.parser import Parser
from pyinfer.cli.profile import format_profile
from pyinfer.cli.roofline import load_pyplot, plot_roofline
from pyinfer.errors import ParameterError
from pyinfer.files import user_path


def add_arguments(p: Parser) -> None:
    p.add_argument("model", help="a GGUF file or a model's name")
    p.add_argument("-p", "--prompt", type=int, default=512, help="tokens of the prompt, 0: none (default: 512)")
    p.add_argument("-n", "--generate", type=int, default=128, help="tokens generated, 0: none (default: 128)")
    p.add_argument("-d", "--depth", type=int, default=0, help="tokens of context before them (default: 0)")
    p.add_argument("-r", "--repetitions", type=int, default=3, help="counted runs of each (default: 3)")
    p.add_argument(
        "--parallel", type=counts, default=[], metavar="B[,B...]", help="generate with B sequences at once, too"
    )
    add_loading_arguments(p, "threads", "kv_type", "weights")
    p.add_argument("--json", action="store_true", help="all figures as JSON")
    p.add_argument("--profile", action="store_true", help="time, GB/s and GMAC/s by kind of operation, too")
    p.add_argument("--plot", metavar="FILE.png", help="the roofline of the operations as a picture; implies --profile")


def counts(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def run(args: argparse.Namespace) -> int:
    for name, least in (("prompt", 0), ("generate", 0), ("depth", 0), ("repetitions", 1)):
        if getattr(args, name) < least:
            raise ParameterError(f"--{name} is {getattr(args, name)}; expected at least {least}")
    if args.parallel and (min(args.parallel) < 1 or not args.generate):
        raise ParameterError(f"--parallel is {args.parallel} and -n {args.generate}; expected at least 1 of each")
    if args.plot:
        check_plot(args)
        args.profile = True
    args.model = model_file(args.model)
    result = measure(args)
    if args.plot:
        plot_roofline(result, args.plot)
    if args.json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        print_table(result)
    return 0


def check_plot(args: argparse.Namespace) -> None:
    """Raise ParameterError, before anything is measured, for a plot that can't be drawn."""
    if not (args.prompt or args.generate):
        raise ParameterError("--plot has no operations to show with -p 0 -n 0")
    endings = load_pyplot().figure().canvas.get_supported_filetypes()
    args.plot = str(user_path(args.plot))
    if Path(args.plot).suffix[1:] not in endings or not Path(args.plot).parent.is_dir():
        raise ParameterError(f"--plot is {args.plot}; expected a file in an existing folder, named *.png")


def print_table(result: dict[str, Any]) -> None:
    write = sys.stdout.write
    write(f"{result['model']} ({result['model_bytes'] / 1e6:.0f} MB), {result['cpu']}, {result['isa']}, ")
    write(f"{result['threads']} threads\n")
    rows = [
        ("prefill", result.get("prefill_tps"), "tokens/s", 1.0),
        ("decode", result.get("decode_tps"), "tokens/s", 1.0),
        *((f"decode, {n} at once", tps, "tokens/s", 1.0) for n, tps in result.get("parallel", {}).items()),
        ("load", result["load_s"], "s", 1.0),
        ("load to first token", result["load_to_first_token_s"], "s", 1.0),
        ("peak resident memory", result["peak_rss_bytes"], "MB", 1e-6),
        ("read bandwidth", result.get("read_gbps"), "GB/s", 1.0),
        ("of it used by decode", result.get("decode_bandwidth_fraction"), "%", 100.0),
        ("read limit", result.get("read_limit_gbps"), "GB/s", 1.0),
        ("int8 dot limit", result.get("dot_limit_gmacs"), "GMAC/s", 1.0),
    ]
    for label, figure, unit, factor in rows:
        if figure is not None:
            write(f"{label:24}{figure * factor:10.2f} {unit}\n")
    for key in ("prefill_profile", "decode_profile"):
        if key in result:
            write(f"{key.replace('_', ' ')}:\n{format_profile(result[key])}")
