"""The measurements of `pyinfer bench`: repeated forward passes, and the memory's read bandwidth between them."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyinfer import _kernels, system
from pyinfer.cli.passes import Pass, bytes_and_macs, decode_passes, prompt_passes, run_passes
from pyinfer.cli.profile import Figures, figures_by_kind, seconds_by_kind
from pyinfer.engine.engine import Engine
from pyinfer.engine.options import EngineOptions
from pyinfer.gguf import GGUFFile
from pyinfer.progress import progress_bar

BANDWIDTH_BYTES = 1 << 30  # far beyond any cache
READS = 3  # reads of all of it, before a repetition and again after it
BATCH = 512  # tokens of a forward pass, as in llama-bench
SEED = 1


class Bench:
    """An engine, and random tokens for each of its sequences: int [n_seqs, n_ctx]."""

    def __init__(self, engine: Engine, repetitions: int) -> None:
        self.engine = engine
        self.repetitions = repetitions
        rng = np.random.default_rng(SEED)
        self.tokens = rng.integers(0, engine.n_vocab, (engine.n_seqs, engine.n_ctx))

    def run(self, passes: Sequence[Pass]) -> None:
        run_passes(self.engine, self.tokens, passes)

    def fill(self, n: int, n_sequences: int = 1) -> None:
        """Leave exactly n positions in each of the first n_sequences."""
        for sequence in range(self.engine.n_seqs):
            self.engine.truncate(sequence, 0)
        self.run(prompt_passes(0, n, self.engine.n_batch, n_sequences, logits=False))

    def seconds(self, passes: Sequence[Pass]) -> float:
        """Return the time that the passes take, after a context that is filled before the clock starts."""
        self.fill(passes[0].start, passes[0].n_sequences)
        began = time.perf_counter()
        self.run(passes)
        return time.perf_counter() - began

    def median_seconds(self, passes: Sequence[Pass]) -> float:
        """Return the median time of the repetitions, before which one is not counted."""
        return statistics.median([self.seconds(passes) for _ in range(self.repetitions + 1)][1:])

    def seconds_and_bandwidth(self, passes: Sequence[Pass]) -> list[tuple[float, float]]:
        """Return, for each repetition, its seconds and the memory's read bandwidth (GB/s) just before and after it."""
        memory = bandwidth_memory()
        pairs = []
        for _ in range(self.repetitions):
            self.fill(passes[0].start, passes[0].n_sequences)
            before = read_gbps(memory, self.engine.n_threads)
            began = time.perf_counter()
            self.run(passes)
            seconds = time.perf_counter() - began
            pairs.append((seconds, (before + read_gbps(memory, self.engine.n_threads)) / 2))
        return pairs

    def profile(self, passes: Sequence[Pass], n_steps: int) -> dict[str, Figures]:
        """Return figures by kind of operation, from the medians of the repetitions."""
        runs = []
        for _ in range(self.repetitions):
            self.fill(passes[0].start)
            runs.append(seconds_by_kind(self.engine, lambda: self.run(passes)))
        return figures_by_kind(runs, self.engine.costs(), passes, n_steps)

    def n_bytes(self, passes: Sequence[Pass]) -> int:
        """Return how many bytes of weights, keys and values the passes read."""
        costs = self.engine.costs().values()
        return sum(bytes_and_macs(cost, p)[0] for cost in costs for p in passes)


def bandwidth_memory() -> NDArray[np.uint8]:
    memory = system.allocate(BANDWIDTH_BYTES)
    memory[:] = 1  # before they are written to, all pages are the same page of zeros
    return memory


def read_gbps(memory: NDArray[np.uint8], n_threads: int) -> float:
    """Return the median bandwidth of a few reads of all the memory."""
    return statistics.median(_kernels.read_bandwidth(memory, n_threads) for _ in range(READS))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure and return all figures; names that end in `_tps` are tokens a second, in `_s` seconds."""
    path = Path(args.model)
    n_ctx = args.depth + max(args.prompt, args.generate) + 1
    n_seqs = max(args.parallel, default=1)
    started = time.perf_counter()
    with GGUFFile(path) as file:
        options = EngineOptions(
            n_ctx=n_ctx,
            n_threads=args.threads,
            kv_type=args.kv_type,
            n_batch=max(BATCH, n_seqs),
            n_seqs=n_seqs,
            weights=args.weights,
            progress=progress_bar("loading"),
        )
        engine = Engine(file, options)
    load_s = time.perf_counter() - started
    bench = Bench(engine, args.repetitions)
    bench.run([Pass(0, min(4, n_ctx))])
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
    prompt = prompt_passes(args.depth, args.prompt, BATCH)
    generation = decode_passes(args.depth, args.generate)
    if prompt:
        result["prefill_tps"] = args.prompt / bench.median_seconds(prompt)
    if args.parallel:
        result["parallel"] = {
            str(n): n * args.generate / bench.median_seconds(decode_passes(args.depth, args.generate, n))
            for n in args.parallel
        }
    if generation:
        bench.seconds(generation)  # the repetition that is not counted
    result["peak_rss_bytes"] = system.peak_rss_bytes()  # before memory is allocated to measure the bandwidth
    if generation:
        pairs = bench.seconds_and_bandwidth(generation)
        n_bytes = bench.n_bytes(generation)
        result["decode_tps"] = args.generate / statistics.median(seconds for seconds, _ in pairs)
        result["read_gbps"] = statistics.median(gbps for _, gbps in pairs)
        result["bytes_per_token"] = round(n_bytes / args.generate)
        result["decode_bandwidth_fraction"] = statistics.median(n_bytes / 1e9 / s / gbps for s, gbps in pairs)
    if args.profile:
        result["dot_limit_gmacs"] = _kernels.dot_limit(engine.n_threads)
        result["read_limit_gbps"] = _kernels.read_limit(bandwidth_memory(), engine.n_threads)
        if prompt:
            result["prefill_profile"] = bench.profile(prompt, 1)
        if generation:
            result["decode_profile"] = bench.profile(generation, args.generate)
    engine.close()
    return result
