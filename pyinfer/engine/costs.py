"""What a pass costs by its number of tokens, in passes of one token: learned from the passes that are made anyway.

Reading the weights takes as long for a few tokens as for one, and arithmetic comes in tiles of tokens, so that costs
rise in steps. How fast the machine is now and how costs compare are learned apart: the first changes from second to
second where others use the machine, too, the second hardly ever.
"""

from __future__ import annotations

from bisect import bisect_left

SIZES = (1, 2, 4, 8, 16, 32, 64)  # tokens; a pass costs what the next of these does
FIRST_COSTS = (1.0, 1.05, 1.1, 1.4, 2.6, 4.8, 9.0)  # as measured with AVX-512 for 4-bit weights
SPEED_RATE, COST_RATE = 0.3, 0.05  # how much of a surprise each of the two takes
MOST_SURPRISE = 2.0


class PassCosts:
    """Costs of an engine's passes, and what the last one held.

    seconds: of a pass of one token now; 0 before any was made. n_tokens, n_texts: of the last pass, texts being those
    that got logits.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.n_tokens = self.n_texts = 0
        self._costs = list(FIRST_COSTS)

    def of(self, n_tokens: int) -> float:
        """The cost of a pass of so many tokens."""
        if n_tokens > SIZES[-1]:
            return self._costs[-1] * n_tokens / SIZES[-1]
        return self._costs[bisect_left(SIZES, n_tokens)]

    def note(self, n_tokens: int, n_texts: int, seconds: float) -> None:
        """Learn from a pass."""
        self.n_tokens, self.n_texts = n_tokens, n_texts
        if n_tokens > SIZES[-1]:
            return
        if not self.seconds:
            self.seconds = seconds / self.of(n_tokens)
        surprise = seconds / (self.seconds * self.of(n_tokens))
        surprise = min(max(surprise, 1 / MOST_SURPRISE), MOST_SURPRISE)
        self.seconds *= surprise**SPEED_RATE
        i = bisect_left(SIZES, n_tokens)
        if i:
            self._costs[i] = max(1.0, self._costs[i] * surprise**COST_RATE)
