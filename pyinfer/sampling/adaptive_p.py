"""Adaptive-p, as llama.cpp has it: a sampler with state that keeps the probability of chosen tokens near a target."""

from __future__ import annotations

import numpy as np

from pyinfer.sampling.filters import Candidates, draw, probabilities

# A token's new logit is PEAK where its probability is the target. It falls with the square of the distance from there,
# measured in WIDTHs, and farther away linearly, by SHARPNESS for each.
WIDTH = 0.3
PEAK = 5.0
SHARPNESS = 10.0


class AdaptiveP:
    """Prefers tokens whose probability is near a target, so that chosen ones have it on average; draws the token.

    Each step aims at the target mirrored at the mean probability of the tokens chosen before. In this mean, a token
    that was chosen n steps ago has the weight decay ** n.
    """

    def __init__(self, target: float, decay: float) -> None:
        self.target = target
        self.decay = decay
        self.sum = target / (1 - decay)  # of weighted probabilities, as if the target had been met for ever
        self.weight = 1 / (1 - decay)

    def choose(self, candidates: Candidates, uniform: float) -> int:
        """Draw a token. uniform: a random number in [0, 1)."""
        p = probabilities(candidates)
        target = min(max(2 * self.target - self.sum / self.weight, 0.0), 1.0)
        distance = np.abs(p - np.float32(target)) / np.float32(WIDTH)
        logits = np.float32(PEAK) - np.float32(SHARPNESS) * distance * distance / (1 + distance)
        logits[candidates.logits == -np.inf] = -np.inf
        i = draw(Candidates(candidates.ids, logits), uniform)
        self.sum = float(p[i]) + self.decay * self.sum
        self.weight = 1 + self.decay * self.weight
        return int(candidates.ids[i])
