"""The cost of a forward pass by its number of tokens, in passes of one token. It is learned from the passes that run.

Reading the weights takes as long for a few tokens as for one, and arithmetic is done in tiles of tokens, so that costs
rise in steps. The present speed of the machine and the ratios of costs are learned separately: the speed may change
every second where other programs use the machine, too; the ratios hardly ever change.
"""

from __future__ import annotations

from bisect import bisect_left

SIZES = (1, 2, 4, 8, 16, 32, 64)  # tokens; a pass of another size costs what the next larger size costs
FIRST_COSTS = (1.0, 1.05, 1.1, 1.4, 2.6, 4.8, 9.0)  # as measured with AVX-512 for 4-bit weights
SPEED_RATE, COST_RATE = 0.3, 0.05  # how far speed and ratios follow a pass that took longer or shorter than expected
MOST_SURPRISE = 2.0


class PassCosts:
    """The costs of an engine's forward passes.

    - `seconds`: the present time of a pass of one token; 0 before the first pass.
    - `n_tokens`, `n_texts`: of the last pass: its tokens, and the sequences that got logits.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.n_tokens = self.n_texts = 0
        self._costs = list(FIRST_COSTS)

    def of(self, n_tokens: int) -> float:
        """Return the cost of a pass of so many tokens."""
        if n_tokens > SIZES[-1]:
            return self._costs[-1] * n_tokens / SIZES[-1]
        return self._costs[bisect_left(SIZES, n_tokens)]

    def note(self, n_tokens: int, n_texts: int, seconds: float) -> None:
        """Learn from a pass that took so many seconds."""
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
