"""Mirostat 2 (Basu et al. 2020): a sampler with state that keeps the surprise of a text near a target."""

from __future__ import annotations

import math

import numpy as np

from pyinfer import _sampling
from pyinfer.sampling.filters import Candidates, draw, keep_likeliest


class Mirostat:
    """Keeps the mean surprise of a text's tokens, -log2(probability), near tau bits; draws the token.

    Tokens of more surprise than mu are left out. After each token, mu moves by eta times the difference between tau and
    the token's surprise.
    """

    def __init__(self, tau: float, eta: float) -> None:
        self.tau = tau
        self.eta = eta
        self.mu = 2 * tau  # bits

    def choose(self, candidates: Candidates, uniform: float) -> int:
        """Draw a token. uniform: a random number in [0, 1)."""
        top = float(candidates.logits.max())
        floor = float(np.float32(_sampling.log_total(candidates.logits) - self.mu * math.log(2)))
        if floor > top:
            candidates = keep_likeliest(candidates)
        else:
            candidates = Candidates(*_sampling.keep_at_least(*candidates, floor))
        i = draw(candidates, uniform)
        surprise = (_sampling.log_total(candidates.logits) - float(candidates.logits[i])) / math.log(2)
        self.mu -= self.eta * (surprise - self.tau)
        return int(candidates.ids[i])
