"""A process of its own that compiles one grammar, read from standard input, and then ends; `trial.py` starts it.

It imports nothing of pyinfer, so that it starts fast. Ending with status 0 says that the grammar compiles, or that
llguidance refuses it in an orderly way; any other end, that it takes too much time, memory or stack.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import threading

STACK = 1 << 20  # bytes; threads of Python programs usually have eight times as much
MAX_IDS = 400_000  # of tokens that a grammar may name
MAX_FORCED = 100_000  # bytes that are certain at the beginning; a tokenizer has to read them
SPECIAL = re.compile(r"<([^<>\s]+)>")


class Vocabulary:
    """The 256 bytes, and the tokens that the grammar names."""

    is_tokenizer_wrapper = True

    def __init__(self, grammar: str) -> None:
        names = [f"<{name}>".encode() for name in dict.fromkeys(SPECIAL.findall(grammar)) if name[0] != "["]
        ids = [
            int(number) for name in SPECIAL.findall(grammar) if name[0] == "[" for number in re.findall("[0-9]+", name)
        ]
        self.tokens = [*(bytes([i]) for i in range(256)), b"<end>", *names]
        self.special_token_ids = list(range(256, len(self.tokens)))
        self.tokens += [b""] * (min(max(ids, default=0), MAX_IDS) + 1 - len(self.tokens))
        self.eos_token_id = 256
        self.bos_token_id = None

    def __call__(self, text: str) -> list[int]:
        """The ids of a text."""
        return list(text.encode())


def limit(seconds: float, n_bytes: int) -> None:
    """Let the system end this process after so many seconds of computing, and refuse it more memory."""
    with contextlib.suppress(ImportError, OSError, ValueError, AttributeError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (n_bytes, n_bytes))
        signal.setitimer(signal.ITIMER_PROF, seconds)  # its signal ends a process that has no handler for it


def compile_once(grammar: str, limits: dict[str, int]) -> None:
    """What pyinfer does with a new grammar: compile it, then the first step."""
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

    tokenizer = LLTokenizer(Vocabulary(grammar), slices=[])  # type: ignore[arg-type]
    parser_limits = LLParserLimits(verbose_errors=False, **limits)  # type: ignore[arg-type]
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=parser_limits)
    if not matcher.is_error():
        forced = matcher.compute_ff_tokens()
        if len(forced) > MAX_FORCED:
            os._exit(1)
        matcher.consume_tokens(forced)
        matcher.compute_bitmask()


def main() -> None:
    """Read the order and do it in a thread with a small stack."""
    order = json.loads(sys.stdin.buffer.read())
    sys.path.insert(0, order["path"])
    import llguidance  # noqa: F401

    limit(order["seconds"], order["bytes"])
    threading.stack_size(STACK)
    thread = threading.Thread(target=compile_once, args=(order["grammar"], order["limits"]))
    thread.start()
    thread.join()


if __name__ == "__main__":
    main()
