"""The forward passes that `pyinfer bench` runs over random tokens, and what they read and multiply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyinfer._kernels import OpCost
from pyinfer.engine.engine import Engine


@dataclass(frozen=True)
class Pass:
    """A forward pass over n_tokens of each of n_sequences, from position `start` on.

    `logits`: whether it computes those of each sequence's last token.
    """

    start: int
    n_tokens: int
    n_sequences: int = 1
    logits: bool = True


def prompt_passes(start: int, n: int, n_batch: int, n_sequences: int = 1, logits: bool = True) -> list[Pass]:
    """Return passes of at most n_batch tokens over n tokens of each sequence; the last computes logits, if wanted."""
    step, end = n_batch // n_sequences, start + n
    return [Pass(at, min(step, end - at), n_sequences, logits and at + step >= end) for at in range(start, end, step)]


def decode_passes(start: int, n: int, n_sequences: int = 1) -> list[Pass]:
    """Return n passes of one token of each sequence."""
    return [Pass(at, 1, n_sequences) for at in range(start, start + n)]


def run_passes(engine: Engine, tokens: NDArray[np.int64], passes: Sequence[Pass]) -> None:
    """Run the passes over tokens [n_sequences, n_ctx]."""
    for p in passes:
        ids = tokens[: p.n_sequences, p.start : p.start + p.n_tokens].ravel()
        positions = np.tile(np.arange(p.start, p.start + p.n_tokens), p.n_sequences)
        sequences = np.repeat(np.arange(p.n_sequences), p.n_tokens)
        last = np.arange(1, p.n_sequences + 1) * p.n_tokens - 1
        engine.forward(ids, positions, sequences, last if p.logits else [])


def bytes_and_macs(cost: OpCost, p: Pass) -> tuple[int, int]:
    """Return the bytes of weights, keys and values that an operation reads in a pass, and how often it multiplies.

    Each byte is counted once.
    """
    per_sequence = int(p.logits) if cost.of_outputs else p.n_tokens
    rows = p.n_sequences * per_sequence
    seen = [p.start + i + 1 for i in range(p.n_tokens)]  # how many positions each token attends to
    read = seen[-1]
    if cost.window:
        read = min(read, cost.window + p.n_tokens - 1)
        seen = [min(n, cost.window) for n in seen]
    n_bytes = cost.weight_bytes * (rows > 0) + cost.kv_bytes_per_position * read * p.n_sequences
    macs = cost.macs_per_row * rows + cost.macs_per_position * sum(seen) * p.n_sequences
    return n_bytes, macs
