"""`pyinfer bench`: prompt and generation speed as llama-bench measures them, and how near that is to the limit.

Prompt: -p random tokens from an empty cache, logits of the last. Generation: -n passes of one token behind a context of
-d tokens. Medians of -r repetitions after one that is not counted. The memory's read bandwidth is measured in the same
run, with the same threads.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyinfer.runtime.engine import Engine

BANDWIDTH_BYTES = 1 << 30  # far beyond any cache
SEED = 1


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = subparsers.add_parser("bench", help="measure a model's speed")
    p.add_argument("model", help="a GGUF file")
    p.add_argument("-p", "--prompt", type=int, default=512, help="tokens of the prompt, 0: none (default: 512)")
    p.add_argument("-n", "--generate", type=int, default=128, help="tokens generated, 0: none (default: 128)")
    p.add_argument("-d", "--depth", type=int, default=0, help="tokens of context before (default: 0)")
    p.add_argument("-t", "--threads", type=int, help="threads (default: the cores that may be used)")
    p.add_argument("-r", "--repetitions", type=int, default=3, help="counted runs of each (default: 3)")
    p.add_argument("--kv-type", default="f16", help="of cached keys and values: f32, f16, bf16, q8_0 (default: f16)")
    p.add_argument(
        "--weights", choices=("copy", "mmap"), default="copy", help="copied to memory, or in the mapped file"
    )
    p.add_argument("--json", action="store_true", help="all figures as JSON")
    p.add_argument("--profile", action="store_true", help="time by kind of operation, too")
    p.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from pyinfer.errors import ParameterError

    for name, least in (("prompt", 0), ("generate", 0), ("depth", 0), ("repetitions", 1)):
        if getattr(args, name) < least:
            raise ParameterError(f"--{name} is {getattr(args, name)}; expected at least {least}")
    result = measure(args)
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        print_table(result)
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All figures of a run; `_tps` in tokens a second, `_s` in seconds."""
    import numpy as np

    from pyinfer import _kernels, system
    from pyinfer.cli.progress import progress_bar
    from pyinfer.gguf import GGUFFile
    from pyinfer.runtime.engine import Engine
    from pyinfer.runtime.generation import prefill

    path = Path(args.model)
    n_ctx = args.depth + max(args.prompt, args.generate) + 1
    started = time.perf_counter()
    with GGUFFile(path) as file:
        engine = Engine(
            file,
            n_ctx=n_ctx,
            n_threads=args.threads,
            kv_type=args.kv_type,
            weights=args.weights,
            progress=progress_bar("loading"),
        )
    load_s = time.perf_counter() - started
    tokens = np.random.default_rng(SEED).integers(0, engine.n_vocab, n_ctx).tolist()
    prefill(engine, tokens[:4])
    first_token_s = time.perf_counter() - started

    result: dict[str, Any] = {
        "model": str(path),
        "model_bytes": path.stat().st_size,
        "cpu": system.cpu_name(),
        "isa": engine.isa,
        "threads": engine.n_threads,
        "kv_type": args.kv_type,
        "weights": args.weights,
        "load_s": load_s,
        "load_to_first_token_s": first_token_s,
        "prompt_tokens": args.prompt,
        "generated_tokens": args.generate,
        "depth": args.depth,
    }

    def fill(n: int) -> None:
        engine.truncate(0, 0)
        if n:
            prefill(engine, tokens[:n])

    def pass_prompt() -> None:
        step = engine.n_batch
        for start in range(0, args.prompt, step):
            n = min(step, args.prompt - start)
            at = args.depth + start
            last = [n - 1] if start + n == args.prompt else []
            engine.forward(tokens[at : at + n], np.arange(at, at + n), [0] * n, last)

    def generate() -> None:
        for at in range(args.depth, args.depth + args.generate):
            engine.forward([tokens[at]], [at], [0], [0])

    def median_of(work: Callable[[], None]) -> float:
        times = []
        for _ in range(args.repetitions + 1):
            fill(args.depth)
            began = time.perf_counter()
            work()
            times.append(time.perf_counter() - began)
        return statistics.median(times[1:])

    if args.prompt:
        result["prefill_tps"] = args.prompt / median_of(pass_prompt)
        if args.profile:
            result["prefill_profile_ms"] = profile(engine, lambda: fill(args.depth), pass_prompt)
    if args.generate:
        result["decode_tps"] = args.generate / median_of(generate)
        if args.profile:
            result["decode_profile_ms"] = profile(engine, lambda: fill(args.depth), generate, args.generate)
    result["peak_rss_bytes"] = system.peak_rss_bytes()
    result["read_gbps"] = _kernels.read_bandwidth(BANDWIDTH_BYTES, engine.n_threads)
    if args.generate:
        mean_depth = args.depth + args.generate / 2
        bytes_per_token = engine.weight_bytes_per_token + mean_depth * engine.kv_bytes_per_position
        result["bytes_per_token"] = round(bytes_per_token)
        result["decode_bandwidth_fraction"] = bytes_per_token * result["decode_tps"] / (result["read_gbps"] * 1e9)
    engine.close()
    return result


def profile(
    engine: Engine, prepare: Callable[[], None], work: Callable[[], None], n_steps: int = 1
) -> dict[str, float]:
    """Milliseconds a step by kind of operation, most first."""
    prepare()
    before = engine.profile()
    work()
    after = engine.profile()
    kinds: dict[str, float] = {}
    for name, nanoseconds in after.items():
        kind = name.split(".", 2)[2] if name.startswith("blk.") else name
        kinds[kind] = kinds.get(kind, 0.0) + (nanoseconds - before[name]) / 1e6 / n_steps
    return dict(sorted(kinds.items(), key=lambda item: -item[1]))


def print_table(result: dict[str, Any]) -> None:
    write = sys.stdout.write
    write(f"{result['model']} ({result['model_bytes'] / 1e6:.0f} MB), {result['cpu']}, {result['isa']}, ")
    write(f"{result['threads']} threads\n")
    rows = [
        ("prefill", "prefill_tps", "tokens/s", 1.0),
        ("decode", "decode_tps", "tokens/s", 1.0),
        ("load", "load_s", "s", 1.0),
        ("load to first token", "load_to_first_token_s", "s", 1.0),
        ("peak resident memory", "peak_rss_bytes", "MB", 1e-6),
        ("read bandwidth", "read_gbps", "GB/s", 1.0),
        ("of it used by decode", "decode_bandwidth_fraction", "%", 100.0),
    ]
    for label, key, unit, factor in rows:
        if result.get(key) is not None:
            write(f"{label:24}{result[key] * factor:10.2f} {unit}\n")
    for key in ("prefill_profile_ms", "decode_profile_ms"):
        kinds = result.get(key, {})
        total = sum(kinds.values()) or 1.0
        if kinds:
            write(f"{key.removesuffix('_ms').replace('_', ' ')}:\n")
        for kind, ms in kinds.items():
            write(f"  {kind:22}{ms:10.3f} ms {100 * ms / total:6.1f} %\n")
