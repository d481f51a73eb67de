"""`pyinfer run`: shows the text that follows a prompt, while it is generated, or all of it as JSON."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from typing import Any

from pyinfer.api.llm import LLM
from pyinfer.cli.arguments import add_generation_arguments, load_model, sampling_params
from pyinfer.cli.parser import Parser
from pyinfer.cli.speed import speed
from pyinfer.cli.terminal import show
from pyinfer.cli.texts import STDIN, has_piped_text, read_stdin
from pyinfer.errors import ParameterError
from pyinfer.hub.catalogue import CATALOGUE, DEFAULT_MODEL
from pyinfer.hub.names import names_a_model
from pyinfer.sampling.params import SamplingParams
from pyinfer.suggestions import did_you_mean
from pyinfer.tasks.results import Completion


def add_arguments(p: Parser) -> None:
    p.usage = "pyinfer run [MODEL] PROMPT [options]"
    p.add_argument(
        "words",
        nargs="*",
        metavar="[MODEL] PROMPT",
        help="the prompt: a chat turn where the model has a chat template. -: standard input; a text that is piped in "
        "comes before the prompt. Before it may stand a GGUF file or a model's name",
    )
    p.words = "words"
    p.set_defaults(usage_error=p.error)
    p.add_argument(
        "-m", "--model", default=DEFAULT_MODEL, help=f"a GGUF file or a model's name (default: {DEFAULT_MODEL})"
    )
    p.add_argument("--raw", action="store_true", help="continue the prompt as it stands, without the chat template")
    add_generation_arguments(p)
    p.add_argument("--json", action="store_true", help="the text, why it ended, counts and speeds as JSON, at the end")
    p.add_argument("--stats", action="store_true", help="tokens and speed on standard error at the end")


def run(args: argparse.Namespace) -> int:
    args.model, words = model_and_prompt(args.model, args.words)
    if not words and (sys.stdin.isatty() or not (words := [read_stdin()])[0]):
        args.usage_error('there is no prompt; expected pyinfer run "PROMPT" (for a conversation: pyinfer chat)')
    if args.raw and (args.system is not None or args.template is not None):
        raise ParameterError("--raw leaves out the chat template; expected it without --system and --template")
    params = sampling_params(args)
    with load_model(args) as llm:
        text, done = generate(llm, with_stdin(words), params, args)
        show(json.dumps(as_json(args.model, text, done), ensure_ascii=False) + "\n" if args.json else "\n")
        if done.finish_reason == "length":
            sys.stderr.write(f"pyinfer: {why_cut(llm, done, args.max_tokens)}\n")
        if args.stats:
            sys.stderr.write(speed(done) + "\n")
    return 0


def model_and_prompt(model: str, words: list[str]) -> tuple[str, list[str]]:
    """Tell a model before the prompt from the prompt's words, unless -m named one.

    Raises ParameterError where that is not clear.
    """
    if model != DEFAULT_MODEL or not words:
        return model, words
    if names_a_model(words[0]):
        if len(words) == 1 and sys.stdin.isatty():
            raise ParameterError(
                f"{words[0]} is a model, and there is no prompt; expected pyinfer run {words[0]} PROMPT, "
                f"or pyinfer chat {words[0]}"
            )
        return words[0], words[1:]
    if len(words) > 1 and STDIN not in words:
        quoted, hint = shlex.quote(" ".join(words)), did_you_mean(words[0], CATALOGUE)
        raise ParameterError(
            f"{len(words)} words, of which the first, {words[0]!r:.60}, is no model; expected MODEL PROMPT, or "
            f"a prompt in quotes: pyinfer run {quoted:.200}{hint}"
        )
    return DEFAULT_MODEL, words


def with_stdin(words: list[str]) -> str:
    """The prompt of words, in which - stands for standard input; without it, a text that is piped in comes first."""
    if STDIN in words:
        at = words.index(STDIN)
        parts = [" ".join(words[:at]), read_stdin(), " ".join(words[at + 1 :])]
    else:
        parts = [read_stdin() if has_piped_text() else "", " ".join(words)]
    return "\n\n".join(filter(None, parts))


def generate(llm: LLM, prompt: str, params: SamplingParams, args: argparse.Namespace) -> tuple[str, Completion]:
    """Generate the text, and show it as it comes unless it is wanted as JSON."""
    is_chat = llm.tokenizer.chat_template is not None or args.system is not None or args.template is not None
    texts = []
    if args.raw or not is_chat:
        stream = llm.stream(prompt, params)
        for piece in stream:
            texts.append(piece.text)
            show("" if args.json else piece.text)
        done = stream.completion
    else:
        system = [] if args.system is None else [{"role": "system", "content": args.system}]
        answer = llm.stream_chat([*system, {"role": "user", "content": prompt}], params, template=args.template)
        for delta in answer:
            texts.append(delta.content)
            show("" if args.json else delta.content)
        done = None if answer.completion is None else answer.completion.completion
    assert done is not None
    return "".join(texts), done


def as_json(model: str, text: str, done: Completion) -> dict[str, Any]:
    return {
        "model": model,
        "text": text,
        "finish_reason": done.finish_reason,
        "prompt_tokens": done.prompt_tokens,
        "completion_tokens": done.completion_tokens,
        "prompt_tokens_per_second": round(done.prompt_tokens_per_second, 2),
        "tokens_per_second": round(done.tokens_per_second, 2),
    }


def why_cut(llm: LLM, done: Completion, max_tokens: int) -> str:
    """Why a text ended before its end, and what makes it longer."""
    if done.completion_tokens == max_tokens:
        return f"the text was cut after {max_tokens} tokens, as -n says; -n -1 has no limit"
    n_ctx, n_train = llm.n_ctx, llm.engine.n_ctx_train
    more = f"; -c {min(4 * n_ctx, n_train)} has more room" if n_train > n_ctx else ""
    return f"the text was cut: the context of {n_ctx} tokens is full{more}"
