"""The line that `--stats` shows after a text."""

from __future__ import annotations

from pyinfer.tasks.results import Completion


def speed(done: Completion) -> str:
    """Return the counts of tokens and the speeds."""
    n_new = done.prompt_tokens - done.cached_tokens
    line = (
        f"prompt: {n_new} new of {done.prompt_tokens} tokens, {done.prompt_tokens_per_second:.1f}/s; "
        f"text: {done.completion_tokens} tokens, {done.tokens_per_second:.1f}/s"
    )
    if done.drafted_tokens:
        line += f"; draft tokens: {done.accepted_tokens} of {done.drafted_tokens} accepted"
    return line
