"""A small model that drafts what a large one of the same vocabulary will say.

It computes one batch of passes a step for all texts that want a draft: first what is new of each text, prompts in
chunks of n_batch tokens and single tokens together, then a token of each text a pass.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pyinfer.engine.engine import Engine
from pyinfer.engine.inputs import Pass
from pyinfer.errors import ModelError
from pyinfer.gguf import GGUFFile
from pyinfer.memory.prefix_key import PrefixKey
from pyinfer.sampling.sampler import Sampler
from pyinfer.scheduling.task import Drawing
from pyinfer.tokenizer import Tokenizer, load_tokenizer

MAX_PADDING = 1024  # tokens that only one of two vocabularies has after the others, which is how models are padded
RATE = 0.2  # of a new measurement in the seconds of a draft token


class DraftText:
    """A text as the draft model has it. Used by the engine thread, but for its making."""

    def __init__(self, model: DraftModel, prompt: Sequence[int], drawing: Drawing) -> None:
        self._model = model
        self.tokens = list(prompt)
        self.drawing = drawing
        self.n_computed = 0
        self.slot: int | None = None

    def add(self, token: int) -> None:
        """Note the next token of the text."""
        self.tokens.append(token)

    @property
    def key(self) -> PrefixKey:
        return PrefixKey(list(self.tokens))

    def close(self) -> None:
        """Give the slot back; what is computed stays for texts that share a prefix."""
        if self.slot is not None:
            memory = self._model.engine.memory
            memory.publish(self.slot, self.key, min(self.n_computed, len(self.tokens)))
            self._model.give_back(self.slot)
        self.slot = None
        self.n_computed = 0


class Share(NamedTuple):
    """What a pass of the draft model computes of a text."""

    slot: int
    tokens: Sequence[int]
    start: int


class DraftModel:
    """An engine whose sequences follow those of another; texts of n_vocab logits take turns with its n_seqs slots.

    eog_ids: tokens that end a text, which are no draft tokens. seconds: of one, once there was one.
    """

    def __init__(self, engine: Engine, n_vocab: int, eog_ids: frozenset[int]) -> None:
        self.engine = engine
        self.n_vocab = n_vocab
        self.eog_ids = eog_ids
        self.seconds = 0.0
        self._slots = list(range(engine.n_seqs))

    def start(self, prompt: Sequence[int], drawing: Drawing) -> DraftText:
        """A text that it will draft for."""
        return DraftText(self, prompt, drawing)

    def give_back(self, slot: int) -> None:
        self.engine.memory.release(slot)
        self._slots.append(slot)

    def close(self) -> None:
        self.engine.close()

    def propose(self, texts: Sequence[DraftText], most: Sequence[int]) -> list[list[int]]:
        """Up to so many tokens that may follow each text, drawn with the numbers that its own sampler will draw with.

        None for a text that is not read to its end yet, or that there is no room for.
        """
        drafts = [Draft(self, text, n) for text, n in zip(texts, most, strict=True)]
        try:
            live = self._read(drafts)
            while live:
                live = self._step(live)
        finally:
            for draft in drafts:
                draft.end()
        return [draft.tokens for draft in drafts]

    def _read(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Compute what is new of the texts in one pass; those that have drawn their first draft token and want more."""
        budget = self.engine.n_batch
        read: list[Draft] = []
        shares: list[Share] = []
        ready = [draft for draft in drafts if self._prepare(draft.text)]
        for draft in sorted(ready, key=lambda draft: len(draft.text.tokens) - draft.text.n_computed):
            text = draft.text
            assert text.slot is not None
            start = min(text.n_computed, len(text.tokens) - 1)
            stop = min(len(text.tokens), start + budget)
            if stop > start and self.engine.memory.reserve(text.slot, start, stop):
                shares.append(Share(text.slot, text.tokens[start:stop], start))
                read.append(draft)
                budget -= stop - start
        if not read:
            return []
        rows = self._compute(shares)
        for draft, share in zip(read, shares, strict=True):
            draft.text.n_computed = share.start + len(share.tokens)
        live = [
            draft
            for draft, row in zip(read, rows, strict=True)
            if draft.text.n_computed == len(draft.text.tokens) and draft.draw(row)
        ]
        for draft in live:
            assert draft.text.slot is not None
            self.engine.memory.mark(draft.text.slot, draft.text.n_computed)
        return live

    def _prepare(self, text: DraftText) -> bool:
        """See that a text has a slot; False if there is none."""
        n_ctx = self.engine.memory.n_ctx
        if len(text.tokens) >= n_ctx:  # a text that goes on after a full context
            text.close()
            text.tokens = text.tokens[-(n_ctx // 2) :]
        if text.slot is None:
            if not self._slots:
                return False
            text.slot = self._slots.pop()
            text.n_computed = self.engine.memory.begin(text.slot, text.key, len(text.tokens) - 1)
        return True

    def _step(self, live: Sequence[Draft]) -> list[Draft]:
        """Compute the last draft token of each text; those that have drawn another one and want more."""
        memory = self.engine.memory
        going: list[Draft] = []
        shares: list[Share] = []
        for draft in live:
            at = len(draft.text.tokens) + len(draft.tokens) - 1
            assert draft.text.slot is not None
            if at < memory.n_ctx and memory.reserve(draft.text.slot, at, at + 1):
                shares.append(Share(draft.text.slot, draft.tokens[-1:], at))
                going.append(draft)
        if not going:
            return []
        started = time.perf_counter()
        rows = self._compute(shares)
        seconds = (time.perf_counter() - started) / len(going)
        self.seconds += (seconds - self.seconds) * (RATE if self.seconds else 1.0)
        return [draft for draft, row in zip(going, rows, strict=True) if draft.draw(row)]

    def _compute(self, shares: Sequence[Share]) -> NDArray[np.float32]:
        """The logits after each share, float32 [n_shares, n_vocab] of the large model, in one forward pass."""
        lengths = [len(share.tokens) for share in shares]
        p = Pass(
            np.concatenate([np.array(share.tokens, np.int32) for share in shares]),
            np.concatenate([np.arange(s.start, s.start + len(s.tokens), dtype=np.int32) for s in shares]),
            np.repeat(np.array([share.slot for share in shares], np.int32), lengths),
            np.cumsum(lengths, dtype=np.int32) - np.int32(1),
        )
        logits = self.engine.run(p).logits
        rows = np.full((len(shares), self.n_vocab), -np.inf, np.float32)
        n_vocab = min(logits.shape[1], self.n_vocab)
        rows[:, :n_vocab] = logits[:, :n_vocab]
        return rows


class Draft:
    """A draft in the making: its tokens so far, of at most n."""

    def __init__(self, model: DraftModel, text: DraftText, n: int) -> None:
        self.text = text
        self.tokens: list[int] = []
        self._model = model
        self._n = n
        self._sampler: Sampler | None = None
        self._n_followed = 0  # by the guide

    def draw(self, row: NDArray[np.float32]) -> bool:
        """Draw a token from its logits; whether another one shall follow it."""
        if self._sampler is None:
            self._sampler = self.text.drawing.sampler.fork()
            # users' functions are called for the text itself only
            self._sampler.params = replace(self._sampler.params, logits_processors=(), logprobs=None)
        matcher = self.text.drawing.matcher
        token = self._sampler.sample(row, None if matcher is None else matcher.mask()).token
        if token in self._model.eog_ids:
            return False
        self.tokens.append(token)
        if matcher is not None:
            matcher.accept(token)
            self._n_followed += 1
            if matcher.finished:
                return False
        return len(self.tokens) < self._n

    def end(self) -> None:
        """Leave guide and memory as they are without the draft."""
        if self._n_followed and self.text.drawing.matcher is not None:
            self.text.drawing.matcher.rollback(self._n_followed)
        if self.text.slot is not None and self.tokens:
            self.text.n_computed = self._model.engine.memory.rewind(self.text.slot, self.text.n_computed)


class OpenModel(Protocol):
    """A model that is open already, such as an LLM."""

    path: Path

    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def engine(self) -> Engine: ...


def draft_engine(model: Path | OpenModel, tokenizer: Tokenizer, **options: Any) -> Engine:
    """An engine to draft with, which its owner alone uses and closes, with these options of Engine; model: a file, or
    an open model, whose weights it shares.

    Raises ModelError unless it is a decoder with the tokens of this tokenizer, and what Engine raises.
    """
    if isinstance(model, Path):
        with GGUFFile(model) as file:
            check_same_vocabulary(tokenizer, load_tokenizer(file), model)
            engine = Engine(file, **options)
    else:
        check_same_vocabulary(tokenizer, model.tokenizer, model.path)
        engine = Engine(model.engine, **options)
    engine.check_decoder()
    return engine


def check_same_vocabulary(tokenizer: Tokenizer, draft: Tokenizer, path: Path) -> None:
    """ModelError, naming the first difference, unless a draft model, of this file, has the same tokens, but for
    padding."""
    shared = min(tokenizer.n_vocab, draft.n_vocab)
    for token in range(shared):
        expected, found = tokenizer.token_bytes(token), draft.token_bytes(token)
        if found != expected:
            raise ModelError(
                f"{path}: the draft model's token {token} is {found!r}; expected {expected!r}, as the model has it"
            )
    if not shared or max(tokenizer.n_vocab, draft.n_vocab) - shared > MAX_PADDING:
        raise ModelError(f"{path}: the draft model has {draft.n_vocab} known tokens; the model has {tokenizer.n_vocab}")
