"""Tokenizing beside other threads: they run meanwhile, and several may use one tokenizer."""

import random
import string
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from tiny_vocabularies import bpe_metadata, spm_metadata

from pyinfer.tokenizer import Tokenizer, tokenizer_from_metadata

LONG = 780_000  # bytes
MAX_STALL_S = 0.05  # what another thread may wait: 5 ms for the GIL and a few for lists, the rest is for busy machines
MAX_STALL_SHARE = 0.2  # of the time that tokenizing takes, where the machine is busier still


def words(n_bytes: int, seed: int = 0) -> str:
    """Different words, most of which no tokenizer remembers."""
    rng = random.Random(seed)
    text = []
    while n_bytes > 0:
        text.append("".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 12))))
        n_bytes -= len(text[-1]) + 1
    return " ".join(text)


def bpe() -> Tokenizer:
    pairs = [f"{a} {b}" for a in string.ascii_lowercase for b in string.ascii_lowercase]
    return tokenizer_from_metadata(
        bpe_metadata([*pairs, *(f"{p.replace(' ', '')} {p.replace(' ', '')}" for p in pairs)])
    )


def spm() -> Tokenizer:
    pairs = [a + b for a in string.ascii_lowercase for b in string.ascii_lowercase]
    scores = dict.fromkeys([*string.ascii_lowercase, "▁"], -1.0) | {p: -float(i) for i, p in enumerate(pairs)}
    return tokenizer_from_metadata(spm_metadata(scores | {f"▁{c}": -2.0 for c in string.ascii_lowercase}))


def stall_and_seconds(work: Callable[[], object]) -> tuple[float, float]:
    """How long another thread, which wants to run every half a millisecond, waits at most; how long `work` takes."""
    started, done, longest = threading.Event(), threading.Event(), 0.0

    def watch() -> None:
        nonlocal longest
        before = time.perf_counter()
        while not done.is_set():
            time.sleep(0.0005)
            now = time.perf_counter()
            longest, before = max(longest, now - before), now
            started.set()

    thread = threading.Thread(target=watch)
    thread.start()
    started.wait()
    start = time.perf_counter()
    try:
        work()
    finally:
        seconds = time.perf_counter() - start
        done.set()
        thread.join()
    return longest, seconds


@pytest.mark.parametrize("make", [bpe, spm])
def test_other_threads_run_while_a_long_text_is_tokenized(make):
    tokenizer, text = make(), words(LONG)

    # the best of a few, as other processes hold up threads, too
    measured = [stall_and_seconds(lambda: tokenizer.encode(text)) for _ in range(4)]

    assert any(stall < max(MAX_STALL_S, MAX_STALL_SHARE * seconds) for stall, seconds in measured), measured


@pytest.mark.parametrize("make", [bpe, spm])
def test_threads_that_share_a_tokenizer_get_what_one_alone_gets(make):
    texts = [words(50_000, seed) for seed in range(8)]
    expected = [make().encode(text) for text in texts]
    shared = make()

    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert list(pool.map(shared.encode, texts)) == expected
