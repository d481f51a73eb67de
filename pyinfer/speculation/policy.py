"""Speculative decoding: one forward pass computes several draft tokens, which are then accepted or not.

A forward pass of a few tokens takes little longer than one of a single token, since most of the time goes into reading
weights. So draft tokens are computed after the last token. From the logits at each of them the sequence's own sampler
samples the token that it would have sampled without a draft; a draft token is accepted if it is the same, and the first
that is not ends the step. The text is therefore the same, bit for bit, whatever is drafted, also where it is sampled;
drafts only decide how many tokens a step adds. (The idea is from Leviathan et al. 2023, who accept by another rule.)

The hit rate of each kind of draft is measured, also while no draft tokens are computed, and only as many are computed
as are expected to save time. Where drafts are bad, the text is generated without them.
"""

from __future__ import annotations

from collections.abc import Sequence as List
from typing import Any, Protocol

from pyinfer.engine.costs import PassCosts
from pyinfer.scheduling.sequence import Sequence
from pyinfer.scheduling.task import Drawing
from pyinfer.speculation.ngrams import Lookup

DEFAULT_N_DRAFT = 31  # with the last token, 32 in a forward pass; beyond that, a token takes as long as in prefill
MIN_GAIN = 1.03  # draft tokens are computed if the tokens a second are expected to grow by this factor
DECAY = 0.96  # of earlier counts, at each draft token that is checked
FIRST_PROBE, LAST_PROBE = 16, 512  # tokens without a draft, after which a draft model is tried again
PROBE = 3  # draft tokens of such a trial


class HitRate:
    """The share of draft tokens that are accepted; recent ones weigh more."""

    def __init__(self) -> None:
        self._n_hits, self._n = 1.2, 2.0

    @property
    def value(self) -> float:
        return self._n_hits / self._n

    def note(self, hit: bool) -> None:
        self._n_hits = self._n_hits * DECAY + hit
        self._n = self._n * DECAY + 1


class DraftText(Protocol):
    """A sequence in a draft model."""

    def add(self, token: int) -> None:
        """Append a token to the sequence."""

    def close(self) -> None:
        """Release what the draft model keeps of the sequence."""


class Model(Protocol):
    """A draft model. `seconds`: the time of one draft token; 0 before the first one."""

    seconds: float

    def start(self, prompt: List[int], drawing: Drawing) -> DraftText: ...
    def propose(self, texts: List[Any], most: List[int]) -> list[list[int]]:
        """Draft tokens for all sequences together, for each at most so many."""


class Drafts:
    """The drafts of one sequence. They come from `lookup`; if that finds none, from `text`, a draft model."""

    def __init__(self, costs: PassCosts, lookup: Lookup | None = None, text: DraftText | None = None) -> None:
        self.text = text
        self._costs = costs
        self._lookup = lookup
        self._rates: dict[int, HitRate] = {}  # by the bit length of a match's length; 0: of the draft model
        self._rate: HitRate | None = None  # the one that `_expected` counts for
        self._expected: list[int] = []  # draft tokens that are not checked yet, the next one last
        self._n_since_draft = 0
        self._probe_after = FIRST_PROBE

    def add(self, token: int) -> None:
        """Append a token to the sequence, and count whether it was expected."""
        if self._lookup is not None:
            self._lookup.add(token)
        if self.text is not None:
            self.text.add(token)
            self._n_since_draft += 1
        if self._rate is not None and self._expected:
            hit = self._expected.pop() == token
            self._rate.note(hit)
            if not hit:
                self._expected.clear()

    def look_up(self, most: int, n_own: int) -> list[int]:
        """Look up draft tokens; return as many as are worth computing.

        `n_own`: tokens of this sequence in the last forward pass.
        """
        if self._lookup is None:
            return []
        place, length = self._lookup.find()
        if not length:
            return []
        found = self._lookup.after(place, most)
        self._expect(found, length.bit_length())
        return found[: n_worth(self._costs, self._rates[length.bit_length()].value, most, n_own)]

    def n_wanted(self, most: int, n_own: int, seconds: float) -> int:
        """Return how many tokens of the draft model, of so many seconds each, are worth computing or trying."""
        rate = self._rates.setdefault(0, HitRate())
        price = seconds / self._costs.seconds if self._costs.seconds else 0.0
        n = n_worth(self._costs, rate.value, most, n_own, price)
        if n:
            self._probe_after = FIRST_PROBE
        elif self._n_since_draft >= self._probe_after:
            self._probe_after = min(2 * self._probe_after, LAST_PROBE)
            n = min(PROBE, most)
        if n:
            self._n_since_draft = 0
        return n

    def expect(self, found: list[int]) -> None:
        """Count from now on how many of these tokens of the draft model are right."""
        self._expect(found, 0)

    def _expect(self, found: list[int], kind: int) -> None:
        self._rate = self._rates.setdefault(kind, HitRate())
        self._expected = found[::-1]


class Speculation:
    """The scheduler's drafter: at most n_draft tokens a sequence, by lookup, or by a model where that finds none."""

    def __init__(self, costs: PassCosts, n_draft: int, lookup: bool = False, model: Model | None = None) -> None:
        self._costs = costs
        self._n_draft = n_draft
        self._lookup = lookup
        self._model = model

    def start(self, sequence: Sequence) -> None:
        drawing = sequence.task.drawing
        if drawing is None:
            return
        prompt = [item for item in sequence.items if isinstance(item, int)]
        text = None if self._model is None else self._model.start(prompt, drawing)
        sequence.drafting = Drafts(self._costs, Lookup(prompt) if self._lookup else None, text)

    def note(self, sequence: Sequence, tokens: List[int]) -> None:
        drafts: Drafts | None = sequence.drafting
        if drafts is not None:
            for token in tokens:
                drafts.add(token)

    def propose(self, sequences: List[Sequence], most: List[int]) -> list[list[int]]:
        found: list[list[int]] = []
        asked: list[tuple[int, int]] = []  # what the model shall draft: for which sequence, how many tokens
        for i, (sequence, room) in enumerate(zip(sequences, most, strict=True)):
            drafts: Drafts = sequence.drafting
            n = min(room, self._n_draft)
            found.append(drafts.look_up(n, sequence.n_rows) if n > 0 else [])
            if n > 0 and not found[-1] and self._model is not None:
                n = drafts.n_wanted(n, sequence.n_rows, self._model.seconds)
                if n:
                    asked.append((i, n))
        if asked and self._model is not None:
            texts = [sequences[i].drafting.text for i, _ in asked]
            for (i, _), tokens in zip(asked, self._model.propose(texts, [n for _, n in asked]), strict=True):
                found[i] = tokens
                sequences[i].drafting.expect(tokens)
        return found

    def drop(self, sequence: Sequence) -> None:
        drafts: Drafts | None = sequence.drafting
        sequence.drafting = None
        if drafts is not None and drafts.text is not None:
            drafts.text.close()


def n_worth(costs: PassCosts, rate: float, most: int, n_own: int, price: float = 0.0) -> int:
    """Return the number of draft tokens for which most tokens a second are expected.

    - `costs`: of forward passes, and what the last one held; the next one is expected to be like it.
    - `rate`: the hit rate of the draft tokens.
    - `most`: the largest number to return.
    - `n_own`: tokens that this sequence had in the last forward pass.
    - `price`: the time of making one draft token, in forward passes of one token.
    """
    n_others = max(0, costs.n_tokens - n_own)
    n_texts = max(1, costs.n_texts)
    best, best_speed = 0, MIN_GAIN * n_texts / costs.of(n_others + 1)
    n_hits, all_hit = 0.0, 1.0
    for n in range(1, most + 1):
        all_hit *= rate
        n_hits += all_hit
        speed = (n_texts + n_hits) / (costs.of(n_others + 1 + n) + price * n)
        if speed > best_speed:
            best, best_speed = n, speed
    return best
