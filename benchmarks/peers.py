"""The programs that compare.py compares: the command for a workload, and tokens a second from what it prints.

Every run is a process of its own that warms up by itself and then measures once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

GGML_TYPES = {"f32": 0, "f16": 1, "bf16": 30}
CONTEXT_STEP = 256  # llama.cpp rounds the context of a sequence up to this
PARALLEL_CONTEXT = 32  # tokens of each sequence before sequences decode together


@dataclass(frozen=True)
class Workload:
    """n_tokens passed at once (prefill) or one by one (decode) in each of n_sequences, behind `depth` tokens."""

    kind: Literal["prefill", "decode", "parallel"]
    n_tokens: int
    depth: int = 0
    n_sequences: int = 1

    def __str__(self) -> str:
        if self.kind == "parallel":
            return f"decode {self.n_tokens}, {self.n_sequences} at once"
        return f"{self.kind} {self.n_tokens}" + (f" at {self.depth}" if self.depth else "")


@dataclass(frozen=True)
class Settings:
    """What all engines share; `more` arguments are an engine's own."""

    threads: int
    kv_type: str = "f16"
    more: Sequence[str] = ()

    def ggml_options(self) -> list[str]:
        return ["-t", str(self.threads), "-ctk", self.kv_type, "-ctv", self.kv_type, *self.more]


class Engine(Protocol):
    """A program under test; a command of None: it can't do the workload."""

    name: str
    env: Mapping[str, str]  # added to the process's own

    def programs(self) -> Sequence[str]: ...
    def command(self, model: str, work: Workload) -> list[str] | None: ...
    def tokens_per_second(self, output: str, work: Workload) -> float: ...


@dataclass(frozen=True)
class Pyinfer:
    python: str
    settings: Settings
    env: Mapping[str, str] = field(default_factory=dict)
    name: str = "pyinfer"

    def programs(self) -> Sequence[str]:
        return [self.python]

    def command(self, model: str, work: Workload) -> list[str] | None:
        s = self.settings
        prompt, generate = (work.n_tokens, 0) if work.kind == "prefill" else (0, work.n_tokens)
        counts = ["-p", str(prompt), "-n", str(generate), "-d", str(work.depth), "-r", "1", "-t", str(s.threads)]
        parallel = ["--parallel", str(work.n_sequences)] if work.kind == "parallel" else []
        bench = [self.python, "-m", "pyinfer", "bench", model]
        return [*bench, *counts, *parallel, "--kv-type", s.kv_type, "--json", *s.more]

    def tokens_per_second(self, output: str, work: Workload) -> float:
        result = json.loads(output)
        if work.kind == "parallel":
            return float(result["parallel"][str(work.n_sequences)])
        return float(result[f"{work.kind}_tps"])


@dataclass(frozen=True)
class LlamaCpp:
    """llama-bench for one sequence, llama-batched-bench for several; either may be absent."""

    bench: str | None
    batched: str | None
    settings: Settings
    env: Mapping[str, str] = field(default_factory=dict)
    name: str = "llama.cpp"

    def programs(self) -> Sequence[str]:
        return [program for program in (self.bench, self.batched) if program]

    def command(self, model: str, work: Workload) -> list[str] | None:
        options = ["-m", model, *self.settings.ggml_options()]
        if work.kind == "parallel":
            room = -(-(work.depth + work.n_tokens) // CONTEXT_STEP) * CONTEXT_STEP * work.n_sequences
            counts = ["-npp", str(work.depth), "-ntg", str(work.n_tokens), "-npl", str(work.n_sequences)]
            return [self.batched, *options, "-c", str(room), *counts] if self.batched else None
        prompt, generate = (work.n_tokens, 0) if work.kind == "prefill" else (0, work.n_tokens)
        counts = ["-p", str(prompt), "-n", str(generate), "-r", "1", "-o", "json"]
        depth = ["-d", str(work.depth)] if work.depth else []
        return [self.bench, *options, *counts, *depth] if self.bench else None

    def tokens_per_second(self, output: str, work: Workload) -> float:
        return batched_speed(output) if work.kind == "parallel" else llama_bench_speed(output)


@dataclass(frozen=True)
class IkLlama:
    """Its llama-bench has no depth; it generates behind a prompt with -gp."""

    bench: str
    settings: Settings
    env: Mapping[str, str] = field(default_factory=dict)
    name: str = "ik_llama.cpp"

    def programs(self) -> Sequence[str]:
        return [self.bench]

    def command(self, model: str, work: Workload) -> list[str] | None:
        if work.kind == "parallel" or (work.kind == "prefill" and work.depth):
            return None
        if work.depth:
            counts = ["-p", "0", "-n", "0", "-gp", f"{work.depth},{work.n_tokens}"]
        elif work.kind == "prefill":
            counts = ["-p", str(work.n_tokens), "-n", "0"]
        else:
            counts = ["-p", "0", "-n", str(work.n_tokens)]
        return [self.bench, "-m", model, *self.settings.ggml_options(), *counts, "-r", "1", "-o", "json"]

    def tokens_per_second(self, output: str, work: Workload) -> float:
        return llama_bench_speed(output)


# arguments: model, tokens passed at once, tokens passed one by one, depth, threads, KV type
LLAMA_CPP_PYTHON = """
import json, random, sys, time
from llama_cpp import Llama

prompt, generate, depth, threads, kv_type = map(int, sys.argv[2:])
llm = Llama(
    sys.argv[1], n_ctx=depth + prompt + generate + 1, n_batch=512, n_threads=threads, n_threads_batch=threads,
    type_k=kv_type, type_v=kv_type, flash_attn=True, verbose=False,
)
tokens = [random.randrange(llm.n_vocab()) for _ in range(depth + prompt + generate)]
for _ in range(2):  # the first warms up
    llm.reset()
    if depth:
        llm.eval(tokens[:depth])
    began = time.perf_counter()
    if prompt:
        llm.eval(tokens[depth : depth + prompt])
    for token in tokens[depth + prompt :]:
        llm.eval([token])
    seconds = time.perf_counter() - began
print(json.dumps({"tps": (prompt + generate) / seconds}))
"""


@dataclass(frozen=True)
class LlamaCppPython:
    python: str
    settings: Settings
    env: Mapping[str, str] = field(default_factory=dict)
    name: str = "llama-cpp-python"

    def programs(self) -> Sequence[str]:
        return [self.python]

    def command(self, model: str, work: Workload) -> list[str] | None:
        if work.kind == "parallel":
            return None
        prompt, generate = (work.n_tokens, 0) if work.kind == "prefill" else (0, work.n_tokens)
        numbers = (prompt, generate, work.depth, self.settings.threads, GGML_TYPES[self.settings.kv_type])
        return [self.python, "-c", LLAMA_CPP_PYTHON, model, *map(str, numbers)]

    def tokens_per_second(self, output: str, work: Workload) -> float:
        return float(json.loads(output.strip().splitlines()[-1])["tps"])


def llama_bench_speed(output: str) -> float:
    """The one test of a `llama-bench -o json`, whose standard output may begin with other lines."""
    (test,) = json.loads(output[output.index("[\n") :])
    return float(test["avg_ts"])


def batched_speed(output: str) -> float:
    """Column "S_TG t/s" of the one row of llama-batched-bench's table."""
    table = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in output.splitlines()
        if line.lstrip().startswith("|")
    ]
    header, _, row = table
    return float(row[header.index("S_TG t/s")])
