"""Speculative decoding: draft tokens, which one forward pass of the model checks together.

A pass of a few tokens costs little more than one of a single token, since it is the reading of weights that takes the
time. So draft tokens are computed after the last token; from the logits at each of them the text's own sampler draws
what it would have drawn there without any draft, and the first that differs ends the step. What is generated is
therefore the same to the bit, drawn or greedy, whatever is drafted (Leviathan et al. 2023 have the idea, with another
rule for drawn texts); drafts only decide how many tokens a step gives.

How often each kind of draft is right is counted, also while none is computed, and only as many tokens are computed as
are expected to pay. So where drafts are bad, the text is generated as without.
"""

from __future__ import annotations

from collections.abc import Sequence as List
from typing import Any, Protocol

from pyinfer.engine.costs import PassCosts
from pyinfer.scheduling.sequence import Sequence
from pyinfer.scheduling.task import Drawing
from pyinfer.speculation.ngrams import Lookup

DEFAULT_N_DRAFT = 31  # with the last token a pass of 32, after which a text costs as much as in a prompt
MIN_GAIN = 1.03  # in tokens a second, for draft tokens to be computed
MEMORY = 0.96  # weight of what was counted, at each draft token that is checked
FIRST_PROBE, LAST_PROBE = 16, 512  # tokens without a draft after which a draft model, which isn't free, is tried again
PROBE = 3  # draft tokens


class HitRate:
    """How often draft tokens are right, the recent ones above all."""

    def __init__(self) -> None:
        self._n_hits, self._n = 1.2, 2.0

    @property
    def value(self) -> float:
        return self._n_hits / self._n

    def note(self, hit: bool) -> None:
        self._n_hits = self._n_hits * MEMORY + hit
        self._n = self._n * MEMORY + 1


class DraftText(Protocol):
    """A text as a model that drafts sees it."""

    def add(self, token: int) -> None:
        """Note the next token."""

    def close(self) -> None:
        """Give back what the model holds of the text."""


class Model(Protocol):
    """A model that drafts. seconds: of one draft token, once there was one."""

    seconds: float

    def start(self, prompt: List[int], drawing: Drawing) -> DraftText: ...
    def propose(self, texts: List[Any], most: List[int]) -> list[list[int]]:
        """At most so many tokens that may follow each text; computed for all texts together."""


class Drafts:
    """The drafts of one text. lookup, text: where they come from, the first before the second."""

    def __init__(self, costs: PassCosts, lookup: Lookup | None = None, text: DraftText | None = None) -> None:
        self.text = text
        self._costs = costs
        self._lookup = lookup
        self._rates: dict[int, HitRate] = {}  # of matches by the bits of their length, and 0: of the draft model
        self._rate: HitRate | None = None  # of those that are expected now
        self._expected: list[int] = []  # draft tokens that are not checked, the next one last
        self._n_since_draft = 0
        self._probe_after = FIRST_PROBE

    def add(self, token: int) -> None:
        """Note the next token of the text."""
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
        """What followed last time, as far as it is worth computing. n_own: tokens of this text in the last pass."""
        if self._lookup is None:
            return []
        place, length = self._lookup.find()
        if not length:
            return []
        found = self._lookup.after(place, most)
        self._expect(found, length.bit_length())
        return found[: n_worth(self._costs, self._rates[length.bit_length()].value, most, n_own)]

    def n_wanted(self, most: int, n_own: int, seconds: float) -> int:
        """How many tokens of the draft model, of so many seconds each, are worth their price or a trial."""
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
        """Count how many tokens of the draft model come."""
        self._expect(found, 0)

    def _expect(self, found: list[int], kind: int) -> None:
        self._rate = self._rates.setdefault(kind, HitRate())
        self._expected = found[::-1]


class Speculation:
    """Decides how many draft tokens a text gets: at most n_draft, by lookup where that finds any, else by a model."""

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
        asked: list[tuple[int, int]] = []  # of the model: which sequence, how many tokens
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
    """How many draft tokens of this hit rate give the most tokens a second, in a pass like the last one.

    n_own: tokens that this text had in it. price: of one draft token, in passes of one token.
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
