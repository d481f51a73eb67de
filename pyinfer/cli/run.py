"""`pyinfer run`: the text that follows a prompt, as it is generated."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from pyinfer.hub.catalogue import DEFAULT_MODEL

if TYPE_CHECKING:
    from pyinfer.runtime.llm import LLM


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = subparsers.add_parser("run", help="generate text from a prompt")
    p.add_argument("prompt", help="the prompt: a chat turn where the model has a chat template")
    p.add_argument("--model", default=DEFAULT_MODEL, help=f"a GGUF file or a model's name (default: {DEFAULT_MODEL})")
    # small models may repeat themselves until the context is full
    p.add_argument("-n", "--max-tokens", type=int, default=512, metavar="N", help="at most so many (default: 512)")
    p.add_argument("--raw", action="store_true", help="continue the prompt as it stands, without the chat template")
    p.add_argument("--temp", type=float, default=0.8, help="temperature; 0 takes the likeliest token (default: 0.8)")
    p.add_argument("--top-k", type=int, default=40, help="keep the k likeliest tokens, 0: all (default: 40)")
    p.add_argument("--top-p", type=float, default=0.95, help="keep tokens up to this probability (default: 0.95)")
    p.add_argument("--min-p", type=float, default=0.05, help="and at least this likely by the best (default: 0.05)")
    p.add_argument("--repeat-penalty", type=float, default=1.0, help="penalty on recent tokens, 1: none (default: 1)")
    p.add_argument("--seed", type=int, help="of the random numbers")
    p.add_argument("--stop", action="append", default=[], help="end before this text; may be given several times")
    p.add_argument("-t", "--threads", type=int, help="threads (default: the cores that may be used)")
    p.add_argument("-c", "--ctx", type=int, help="context in tokens (default: the model's, at most 4096)")
    p.add_argument(
        "--weights", choices=("copy", "mmap"), default="copy", help="copied to memory, or in the mapped file"
    )
    p.add_argument("--stats", action="store_true", help="tokens and speed on standard error at the end")
    p.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from pyinfer.hub import resolve_model
    from pyinfer.progress import progress_bar
    from pyinfer.runtime.llm import LLM
    from pyinfer.runtime.params import SamplingParams

    params = SamplingParams(
        temperature=args.temp,
        top_k=args.top_k,
        top_p=args.top_p,
        min_p=args.min_p,
        repetition_penalty=args.repeat_penalty,
        seed=args.seed,
        stop=args.stop,
        max_tokens=args.max_tokens,
    )
    path = resolve_model(args.model, progress_bar(f"fetching {args.model}"))
    progress = progress_bar("loading")
    options = {"n_ctx": args.ctx, "n_threads": args.threads, "weights": args.weights}
    with LLM(path, n_seqs=1, progress=progress, **options) as llm:
        prompt = args.prompt if args.raw else chat_prompt(llm, args.prompt)
        stream = llm.stream(prompt, params)
        for piece in stream:
            sys.stdout.write(piece.text)
            sys.stdout.flush()
        sys.stdout.write("\n")
        if args.stats and (done := stream.completion) is not None:
            sys.stderr.write(
                f"prompt: {done.prompt_tokens} tokens, {done.prompt_tokens_per_second:.1f}/s; "
                f"text: {done.completion_tokens} tokens, {done.tokens_per_second:.1f}/s\n"
            )
    return 0


def chat_prompt(llm: LLM, text: str) -> str | list[int]:
    """The token ids of a chat's first turn by the model's template; the text itself if it has none."""
    from pyinfer.chat import encode_chat

    if llm.tokenizer.chat_template is None:
        return text
    return encode_chat(llm.tokenizer, [{"role": "user", "content": text}])
