"""Samplers that steer the next token by those that they chose before: mirostat 2 and adaptive-p.

Each draws the token itself, and stands at the end.
"""

from __future__ import annotations

import math

import numpy as np

from pyinfer import _sampling
from pyinfer.sampling.filters import Candidates, draw, keep_likeliest, probabilities

# adaptive-p: a token's new logit is PEAK at the target and falls, at first with the square, then evenly
WIDTH = 0.3
PEAK = 5.0
SHARPNESS = 10.0


class Mirostat:
    """Mirostat 2 (Basu 2020): keeps the mean surprise of the text near tau bits.

    Tokens of a surprise above mu are left out; mu follows the surprise of what is drawn with the rate eta.
    """

    def __init__(self, tau: float, eta: float) -> None:
        self.tau = tau
        self.eta = eta
        self.mu = 2 * tau

    def choose(self, candidates: Candidates, uniform: float) -> int:
        """The token drawn from candidates."""
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


class AdaptiveP:
    """Adaptive-p: prefers tokens of a probability near a target, so that the chosen ones have it on average.

    The target of a step is mirrored at the mean of the probabilities chosen before, in which one that was chosen n
    steps ago counts decay ** n.
    """

    def __init__(self, target: float, decay: float) -> None:
        self.target = target
        self.decay = decay
        self.sum = target / (1 - decay)
        self.weight = 1 / (1 - decay)

    def choose(self, candidates: Candidates, uniform: float) -> int:
        """The token drawn from candidates."""
        p = probabilities(candidates)
        target = min(max(2 * self.target - self.sum / self.weight, 0.0), 1.0)
        distance = np.abs(p - np.float32(target)) / np.float32(WIDTH)
        logits = np.float32(PEAK) - np.float32(SHARPNESS) * distance * distance / (1 + distance)
        logits[candidates.logits == -np.inf] = -np.inf
        i = draw(Candidates(candidates.ids, logits), uniform)
        self.sum = float(p[i]) + self.decay * self.sum
        self.weight = 1 + self.decay * self.weight
        return int(candidates.ids[i])
