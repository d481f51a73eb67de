"""pyinfer beside llama.cpp, ik_llama.cpp and llama-cpp-python: the same workloads in turn, in rounds.

    python benchmarks/compare.py MODEL.gguf... --llama-bench PATH --llama-batched-bench PATH -p 512 -n 64 -d 4096

In each round every engine does every workload once, one engine right after the other, and another one begins; so each
round gives a ratio of two figures that were measured next to each other. Ctrl-C ends it with what was measured so far.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from peers import GGML_TYPES, PARALLEL_CONTEXT, Engine, IkLlama, LlamaCpp, LlamaCppPython, Pyinfer, Settings, Workload
from ratios import Sample, format_tables, plot, summarize

from pyinfer.version import pip_install

DEEP_PROMPT = 128  # tokens of a prefill behind a context: enough for a batch, while the context takes the time
BUSY_LOAD = 0.7  # runnable threads, of the last minute
INTERRUPTED = 130


class RunError(Exception):
    """A program that could not be run, failed, or printed something else; one line that names the command."""


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description="Compare pyinfer's speed with that of other programs.")
    p.add_argument("models", nargs="+", metavar="MODEL", help="GGUF files")
    p.add_argument("--pyinfer", default=sys.executable, metavar="PYTHON", help="one that has pyinfer (default: this)")
    p.add_argument("--baseline", metavar="PYTHON", help="one that has another pyinfer, such as that before a change")
    p.add_argument("--llama-bench", metavar="PATH")
    p.add_argument("--llama-batched-bench", metavar="PATH", help="for --parallel")
    p.add_argument("--ik-llama-bench", metavar="PATH", help="llama-bench of ik_llama.cpp")
    p.add_argument("--llama-cpp-python", metavar="PYTHON", help="one that has llama_cpp")
    p.add_argument("-r", "--rounds", type=int, default=5, help="(default: 5)")
    p.add_argument("-p", "--prompt", type=int, default=512, help="tokens of the prefill, 0: none (default: 512)")
    p.add_argument("-n", "--generate", type=int, default=64, help="tokens of the decode, 0: none (default: 64)")
    p.add_argument("-d", "--depths", type=counts, default=[], metavar="D[,D...]", help="both behind D tokens, too")
    p.add_argument("--parallel", type=counts, default=[], metavar="B[,B...]", help="decode of B sequences at once, too")
    p.add_argument("-t", "--threads", type=int, default=default_threads(), help="(default: all cores, %(default)s)")
    p.add_argument("--kv-type", default="f16", choices=GGML_TYPES, help="of cached keys and values (default: f16)")
    p.add_argument("--isa", help="instruction set of pyinfer's kernels (PYINFER_ISA)")
    p.add_argument("--pyinfer-args", type=shlex.split, default=[], help="more arguments of `pyinfer bench`")
    p.add_argument("--peer-args", type=shlex.split, default=["-fa", "1"], help="of the llama programs (default: -fa 1)")
    p.add_argument("--json", metavar="FILE", help="samples and summary")
    p.add_argument("--plot", metavar="FILE", help="ratios as a picture (needs matplotlib)")
    return p.parse_args(argv)


def counts(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def default_threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workloads(prompt: int, generate: int, depths: Sequence[int], parallel: Sequence[int]) -> list[Workload]:
    """What is measured; without those of no tokens."""
    table = [Workload("prefill", prompt), Workload("decode", generate)]
    for depth in depths:
        table += [Workload("prefill", min(prompt, DEEP_PROMPT), depth), Workload("decode", generate, depth)]
    table += [Workload("parallel", generate, PARALLEL_CONTEXT, n) for n in parallel]
    return [work for work in table if work.n_tokens]


def engines_of(args: argparse.Namespace) -> list[Engine]:
    peer = Settings(args.threads, args.kv_type, args.peer_args)
    env = {"PYINFER_ISA": args.isa} if args.isa else {}
    engines: list[Engine] = [Pyinfer(args.pyinfer, Settings(args.threads, args.kv_type, args.pyinfer_args), env)]
    if args.baseline:
        own = Settings(args.threads, args.kv_type, args.pyinfer_args)
        engines.append(Pyinfer(args.baseline, own, env, name="baseline"))
    if args.llama_bench or args.llama_batched_bench:
        engines.append(LlamaCpp(args.llama_bench, args.llama_batched_bench, peer))
    if args.ik_llama_bench:
        engines.append(IkLlama(args.ik_llama_bench, peer))
    if args.llama_cpp_python:
        engines.append(LlamaCppPython(args.llama_cpp_python, peer))
    return engines


def check(args: argparse.Namespace, engines: Sequence[Engine]) -> None:
    """RunError for what is missing, before hours are spent."""
    for model in args.models:
        if not Path(model).is_file():
            raise RunError(f"there is no file {model}")
    for engine in engines:
        for program in engine.programs():
            if shutil.which(program) is None:
                raise RunError(f"{engine.name}: there is no program {program}")
    if args.plot and importlib.util.find_spec("matplotlib") is None:
        raise RunError(f"--plot needs matplotlib: {pip_install('plot')}")


def warn_if_busy() -> None:
    """Threads that wait spinning for one that lost its core, as llama.cpp's do, can become a hundred times slower."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > BUSY_LOAD:
        report(f"compare: warning: the load average is {load:.1f}; with other programs running, ratios mean little\n")


def run(engine: Engine, command: Sequence[str], work: Workload) -> float:
    """Tokens a second of one run."""
    shown = f"{engine.name}: `{shlex.join(' '.join(word.split())[:80] for word in command)}`"
    env = {**os.environ, **engine.env}
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=env)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it printed no reason"]
        raise RunError(f"{shown} ended with status {done.returncode}: {last[0]}")
    try:
        return engine.tokens_per_second(done.stdout, work)
    except (ValueError, KeyError, IndexError) as error:
        raise RunError(f"{shown} printed no figure ({error!r})") from error


def measure(
    engines: Sequence[Engine], models: Sequence[str], works: Sequence[Workload], rounds: int
) -> Iterator[Sample | RunError]:
    """Samples as they come. What failed is not run again."""
    failed = set()
    for number in range(rounds):
        first = number % len(engines)
        for model in models:
            for work in works:
                for engine in [*engines[first:], *engines[:first]]:
                    command = engine.command(model, work)
                    if command is None or (engine.name, model, work) in failed:
                        continue
                    report(f"round {number + 1}/{rounds}, {Path(model).name}, {work}, {engine.name}: ")
                    try:
                        tps = run(engine, command, work)
                        report(f"{tps:.2f} tokens/s\n")
                        yield Sample(number, model, str(work), engine.name, tps)
                    except RunError as error:
                        report("failed\n")
                        failed.add((engine.name, model, work))
                        yield error


def report(text: str) -> None:
    print(text, end="", file=sys.stderr, flush=True)


def save(args: argparse.Namespace, samples: Sequence[Sample]) -> None:
    rows = summarize(samples)
    print(format_tables(rows), end="")
    if args.json:
        content = {"settings": vars(args), "samples": list(map(asdict, samples)), "summary": list(map(asdict, rows))}
        Path(args.json).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if args.plot and rows:
        plot(rows, args.plot)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_arguments(argv)
    engines = engines_of(args)
    samples: list[Sample] = []
    errors = 0
    try:
        check(args, engines)
        warn_if_busy()
        works = workloads(args.prompt, args.generate, args.depths, args.parallel)
        for result in measure(engines, args.models, works, args.rounds):
            if isinstance(result, Sample):
                samples.append(result)
            else:
                errors += 1
                report(f"compare: error: {result}\n")
    except RunError as error:
        report(f"compare: error: {error}\n")
        return 1
    except KeyboardInterrupt:
        report("\n")
        save(args, samples)
        return INTERRUPTED
    save(args, samples)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
