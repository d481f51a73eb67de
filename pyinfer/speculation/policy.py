"""Speculative decoding: guesses of the next tokens, which one pass of the model checks together.

A pass of a few tokens costs little more than one of a single token, since it is the reading of weights that takes the
time. So guesses are passed behind the last token; from the logits at each of them the text's own sampler draws what it
would have drawn there without any guess, and the first that differs ends the step. What is generated is therefore the
same to the bit, drawn or greedy, whatever is guessed (Leviathan et al. 2023 have the idea, with another rule for drawn
texts); guesses only decide how many tokens a step gives.

How often each kind of guess comes true is counted, also while none is passed, and only as many are passed as are
expected to pay. So where guesses are bad, the text is generated as without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyinfer.engine.costs import PassCosts
from pyinfer.speculation.ngrams import Lookup

if TYPE_CHECKING:
    from pyinfer.guides.matcher import GuideMatcher
    from pyinfer.sampling.sampler import Sampler
    from pyinfer.speculation.draft_model import Drafter

DEFAULT_N_DRAFT = 31  # with the last token a pass of 32, behind which a text costs as much as in a prompt
LEAST_GAIN = 1.03  # in tokens a second, for guesses to be passed
MEMORY = 0.96  # weight of what was counted, at each guess that is checked
FIRST_PROBE, LAST_PROBE = 16, 512  # tokens without a guess after which a draft model, which isn't free, is tried again
PROBE = 3  # guesses


class HitRate:
    """How often guesses come true, the recent ones above all."""

    def __init__(self) -> None:
        self._n_hits, self._n = 1.2, 2.0

    @property
    def value(self) -> float:
        return self._n_hits / self._n

    def note(self, hit: bool) -> None:
        self._n_hits = self._n_hits * MEMORY + hit
        self._n = self._n * MEMORY + 1


class Speculation:
    """The guesses of one text. n_draft: most at once; lookup, drafter: where they come from, the first before."""

    def __init__(
        self, costs: PassCosts, n_draft: int, lookup: Lookup | None = None, drafter: Drafter | None = None
    ) -> None:
        self._costs = costs
        self._n_draft = n_draft
        self._lookup = lookup
        self._drafter = drafter
        self._rates: dict[int, HitRate] = {}  # of matches by the bits of their length, and 0: of the draft model
        self._rate: HitRate | None = None  # of those that are expected now
        self._expected: list[int] = []  # guesses that are not checked, the next one last
        self._n_since_draft = 0
        self._probe_after = FIRST_PROBE

    def add(self, token: int) -> None:
        """Note the next token of the text."""
        if self._lookup is not None:
            self._lookup.add(token)
        if self._drafter is not None:
            self._drafter.add(token)
            self._n_since_draft += 1
        if self._rate is not None and self._expected:
            hit = self._expected.pop() == token
            self._rate.note(hit)
            if not hit:
                self._expected.clear()

    def guesses(self, most: int, n_own: int, sampler: Sampler, matcher: GuideMatcher | None) -> list[int]:
        """Tokens that may follow and that are worth to be passed: at most so many.

        n_own: tokens that this text had in the last pass. Sampler and matcher stay as they are.
        """
        most = min(most, self._n_draft)
        if most <= 0:
            return []
        if self._lookup is not None:
            place, length = self._lookup.find()
            if length:
                found = self._lookup.after(place, most)
                self._rate = self._rates.setdefault(length.bit_length(), HitRate())
                self._expected = found[::-1]
                n = self._worth(self._rate.value, most, n_own)
                if n or self._drafter is None:
                    return found[:n]
        if self._drafter is None:
            return []
        return self._drafted(self._drafter, most, n_own, sampler, matcher)

    def _drafted(
        self, drafter: Drafter, most: int, n_own: int, sampler: Sampler, matcher: GuideMatcher | None
    ) -> list[int]:
        rate = self._rates.setdefault(0, HitRate())
        price = drafter.seconds / self._costs.seconds if self._costs.seconds else 0.0
        n = self._worth(rate.value, most, n_own, price)
        if n:
            self._probe_after = FIRST_PROBE
        elif self._n_since_draft >= self._probe_after:
            self._probe_after = min(2 * self._probe_after, LAST_PROBE)
            n = min(PROBE, most)
        else:
            return []
        self._n_since_draft = 0
        found = drafter.draft(n, sampler, matcher)
        self._rate, self._expected = rate, found[::-1]
        return found

    def _worth(self, rate: float, most: int, n_own: int, price: float = 0.0) -> int:
        """How many guesses of this rate give the most tokens a second, in a pass like the last one.

        price: of one guess, in passes of one token.
        """
        n_others = max(0, self._costs.n_tokens - n_own)
        n_texts = max(1, self._costs.n_texts)
        best, best_speed = 0, LEAST_GAIN * n_texts / self._costs.of(n_others + 1)
        n_hits, all_hit = 0.0, 1.0
        for n in range(1, most + 1):
            all_hit *= rate
            n_hits += all_hit
            speed = (n_texts + n_hits) / (self._costs.of(n_others + 1 + n) + price * n)
            if speed > best_speed:
                best, best_speed = n, speed
        return best

    def close(self) -> None:
        """Give back what the draft model holds of this text."""
        if self._drafter is not None:
            self._drafter.close()
