"""Arguments that several commands share, and functions that make objects of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pyinfer.api.llm import LLM
from pyinfer.cli.parser import Parser
from pyinfer.engine.options import DEFAULTS, EngineOptions
from pyinfer.gguf.overrides import Override, parse_override
from pyinfer.hub import resolve_model
from pyinfer.progress import progress_bar
from pyinfer.sampling.params import SamplingParams
from pyinfer.speculation.policy import DEFAULT_N_DRAFT

NO_LIMIT = -1  # of -n, as in llama.cpp

LOADING: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "threads": (("-t", "--threads"), {"type": int, "help": EngineOptions.help("n_threads")}),
    "ctx": (("-c", "--ctx"), {"type": int, "help": EngineOptions.help("n_ctx")}),
    "kv_type": (
        ("--kv-type",),
        {"default": DEFAULTS.kv_type, "help": EngineOptions.help("kv_type")},
    ),
    "overrides": (
        ("--override-kv",),
        {
            "action": "append",
            "dest": "overrides",
            "default": [],
            "metavar": "KEY=TYPE:VALUE",
            "help": EngineOptions.help("overrides"),
        },
    ),
    "weights": (
        ("--weights",),
        {"choices": ("copy", "mmap"), "default": DEFAULTS.weights, "help": EngineOptions.help("weights")},
    ),
}


def add_loading_arguments(p: Parser, *names: str) -> None:
    """Add arguments for loading a model. `names`: their names in the parsed result."""
    for name in names:
        flags, options = LOADING[name]
        p.add_argument(*flags, **options)


def add_generation_arguments(p: Parser) -> None:
    """Add arguments for a model's chat template, for sampling and for loading a model."""
    p.add_argument("--system", metavar="TEXT", help="the system message")
    p.add_argument("--template", metavar="NAME", help="another chat template than the model's, such as chatml")
    p.add_argument(
        "-n",
        "--max-tokens",
        type=int,
        default=NO_LIMIT,
        metavar="N",
        help="end after so many tokens (default: -1, at the end of the answer or of the context)",
    )
    p.add_argument(
        "--temp", "--temperature", type=float, default=0.8, help="0 takes the likeliest token (default: 0.8)"
    )
    p.add_argument("--top-k", type=int, default=40, help="keep the k likeliest tokens, 0: all (default: 40)")
    p.add_argument("--top-p", type=float, default=0.95, help="keep the likeliest up to this sum (default: 0.95)")
    p.add_argument("--min-p", type=float, default=0.05, help="keep those this likely by the best (default: 0.05)")
    p.add_argument("--repeat-penalty", type=float, default=1.0, help="penalty on recent tokens, 1: none (default: 1)")
    p.add_argument("--seed", type=int, help="the seed of the random numbers (default: a new one)")
    p.add_argument("--stop", action="append", default=[], help="end before this text; may be given several times")
    add_loading_arguments(p, "threads", "ctx", "weights", "overrides")
    p.add_argument(
        "--speculative", choices=("lookup",), help="draft tokens from earlier places of the text and the prompt"
    )
    p.add_argument(
        "-md", "--draft-model", "--model-draft", metavar="MODEL", help="a small model of the same tokens, which drafts"
    )
    p.add_argument(
        "--n-draft",
        "--draft-max",
        type=int,
        default=DEFAULT_N_DRAFT,
        metavar="N",
        help=f"draft at most so many tokens a step (default: {DEFAULT_N_DRAFT})",
    )


def sampling_params(args: argparse.Namespace) -> SamplingParams:
    """Return the SamplingParams that the arguments ask for."""
    return SamplingParams(
        temperature=args.temp,
        top_k=args.top_k,
        top_p=args.top_p,
        min_p=args.min_p,
        repetition_penalty=args.repeat_penalty,
        seed=args.seed,
        stop=args.stop,
        max_tokens=None if args.max_tokens == NO_LIMIT else args.max_tokens,
    )


def model_file(name: str) -> Path:
    """Return a model's file. Shows a progress bar while it is downloaded."""
    return resolve_model(name, progress_bar(f"fetching {name}"))


def overrides_of(args: argparse.Namespace) -> dict[str, Override]:
    """Return the values that replace the file's metadata. Raises ParameterError for what is not KEY=TYPE:VALUE."""
    return dict(parse_override(text) for text in args.overrides)


def load_model(args: argparse.Namespace) -> LLM:
    """Load the model for one text at a time. Shows progress bars while it is downloaded and loaded."""
    return LLM(
        model_file(args.model),
        n_ctx=args.ctx,
        n_threads=args.threads,
        n_seqs=1,
        weights=args.weights,
        progress=progress_bar("loading"),
        speculative=args.speculative,
        draft_model=None if args.draft_model is None else model_file(args.draft_model),
        n_draft=args.n_draft,
        overrides=overrides_of(args),
    )
