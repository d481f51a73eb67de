"""Log-probabilities of tokens by the logits as the model gave them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyinfer import _sampling
from pyinfer.sampling.filters import all_candidates, keep_top_k


class Choice(NamedTuple):
    """A token; its log-probability, where asked for; the likeliest tokens with theirs, likeliest first."""

    token: int
    logprob: float | None
    top: tuple[tuple[int, float], ...]


def choice_of(logits: NDArray[np.float32], token: int, n_top: int | None) -> Choice:
    """A token with its log-probability and those of the n_top likeliest tokens; None: without any.

    logits: float32 [n_vocab]; the log-probabilities are log(softmax(logits)).
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
