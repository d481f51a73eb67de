"""Log-probabilities of tokens: those of the model's own logits, before anything changes them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyinfer import _sampling
from pyinfer.sampling.filters import all_candidates, keep_top_k


class Choice(NamedTuple):
    """A chosen token.

    logprob: its log-probability, None where that was not asked for. top: (token, log-probability) of the likeliest
    tokens, in descending order.
    """

    token: int
    logprob: float | None
    top: tuple[tuple[int, float], ...]


def choice_of(logits: NDArray[np.float32], token: int, n_top: int | None) -> Choice:
    """Compute the log-probabilities, log(softmax(logits)), of a token and of the n_top likeliest ones.

    logits: float32 [n_vocab]. n_top: None for no log-probabilities at all.
    """
    if n_top is None:
        return Choice(token, None, ())
    logits = np.ascontiguousarray(logits, np.float32)
    log_total = _sampling.log_total(logits)
    likeliest = keep_top_k(all_candidates(logits), min(n_top, len(logits))) if n_top else None
    top: tuple[tuple[int, float], ...] = ()
    if likeliest is not None:
        order = np.argsort(-likeliest.logits, kind="stable")[:n_top]
        top = tuple((int(likeliest.ids[i]), float(likeliest.logits[i]) - log_total) for i in order)
    return Choice(token, float(logits[token]) - log_total, top)
