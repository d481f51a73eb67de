"""Drafts by a small model with the same vocabulary as the large one.

A step runs a few forward passes for all sequences that want a draft: the first computes each sequence's new tokens
(prompts in chunks, together at most n_batch tokens), and each later one computes one draft token of each sequence.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pyinfer.engine.engine import Engine
from pyinfer.engine.inputs import Pass
from pyinfer.engine.options import EngineOptions
from pyinfer.errors import ModelError
from pyinfer.gguf import GGUFFile
from pyinfer.memory.prefix_key import PrefixKey
from pyinfer.sampling.sampler import Sampler
from pyinfer.scheduling.task import Drawing
from pyinfer.tokenizer import Tokenizer, load_tokenizer

MAX_PADDING = 1024  # tokens at the end that only one of two vocabularies may have: models are padded so
RATE = 0.2  # the weight of a new measurement in the seconds of a draft token


class DraftText:
    """A sequence in the draft model. Any thread may create it; the engine thread does everything else."""

    def __init__(self, model: DraftModel, prompt: Sequence[int], drawing: Drawing) -> None:
        self._model = model
        self.tokens = list(prompt)
        self.drawing = drawing
        self.n_computed = 0
        self.slot: int | None = None

    def add(self, token: int) -> None:
        """Append a token to the sequence."""
        self.tokens.append(token)

    @property
    def key(self) -> PrefixKey:
        return PrefixKey(list(self.tokens))

    def close(self) -> None:
        """Release the slot. What is computed is published first, for sequences that share a prefix."""
        if self.slot is not None:
            memory = self._model.engine.memory
            memory.publish(self.slot, self.key, min(self.n_computed, len(self.tokens)))
            self._model.release(self.slot)
        self.slot = None
        self.n_computed = 0


class Share(NamedTuple):
    """The tokens of one sequence that a forward pass of the draft model computes."""

    slot: int
    tokens: Sequence[int]
    start: int


class DraftModel:
    """A small model whose sequences follow those of a large one, and take turns with its n_seqs slots.

    - `engine`: of the small model.
    - `n_vocab`: the number of the large model's logits.
    - `eog_ids`: tokens that end a text; they are never drafted.
    - `seconds`: the time of one draft token; 0 before the first one.
    """

    def __init__(self, engine: Engine, n_vocab: int, eog_ids: frozenset[int]) -> None:
        self.engine = engine
        self.n_vocab = n_vocab
        self.eog_ids = eog_ids
        self.seconds = 0.0
        self._slots = list(range(engine.n_seqs))

    def start(self, prompt: Sequence[int], drawing: Drawing) -> DraftText:
        """Return a new sequence to draft for."""
        return DraftText(self, prompt, drawing)

    def release(self, slot: int) -> None:
        self.engine.memory.release(slot)
        self._slots.append(slot)

    def close(self) -> None:
        self.engine.close()

    def propose(self, texts: Sequence[DraftText], most: Sequence[int]) -> list[list[int]]:
        """Draft tokens for each sequence, at most so many.

        They are sampled with the random numbers that the sequence's own sampler will use. A sequence gets none if its
        tokens are not all computed yet, or if there is no room for it.
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
        """Compute the new tokens of the sequences in one forward pass, and sample a first draft token for each.

        Returns the drafts that want another one.
        """
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
        """Give a sequence a slot, if it has none. Returns False if no slot is free."""
        n_ctx = self.engine.memory.n_ctx
        if len(text.tokens) >= n_ctx:  # the context is full: go on with its second half
            text.close()
            text.tokens = text.tokens[-(n_ctx // 2) :]
        if text.slot is None:
            if not self._slots:
                return False
            text.slot = self._slots.pop()
            text.n_computed = self.engine.memory.begin(text.slot, text.key, len(text.tokens) - 1)
        return True

    def _step(self, live: Sequence[Draft]) -> list[Draft]:
        """Compute the last draft token of each sequence, and sample another one. Return the drafts that want more."""
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
        """Compute the logits after each share in one forward pass: float32 [n_shares, n_vocab of the large model]."""
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
    """The draft of one sequence while it is made: its tokens so far, of at most n."""

    def __init__(self, model: DraftModel, text: DraftText, n: int) -> None:
        self.text = text
        self.tokens: list[int] = []
        self._model = model
        self._n = n
        self._sampler: Sampler | None = None
        self._n_followed = 0  # how many of the tokens the guide has accepted

    def draw(self, row: NDArray[np.float32]) -> bool:
        """Sample a token from its logits. Returns whether the draft wants another one."""
        if self._sampler is None:
            self._sampler = self.text.drawing.sampler.fork()
            # users' logits processors are called for the text itself only
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
        """Reset guide and memory to where they were before the draft."""
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


def draft_engine(model: Path | OpenModel, tokenizer: Tokenizer, options: EngineOptions) -> Engine:
    """Return an engine for drafting; the caller owns and closes it.

    - `model`: a file, or an open model, with which the engine shares the weights.
    - `tokenizer`: the large model's.
    - `options`: Engine's.

    Raises ModelError unless the model is a decoder with the same tokens, and what Engine raises.
    """
    if isinstance(model, Path):
        with GGUFFile(model) as file:
            check_same_vocabulary(tokenizer, load_tokenizer(file), model)
            engine = Engine(file, options)
    else:
        check_same_vocabulary(tokenizer, model.tokenizer, model.path)
        engine = Engine(model.engine, options)
    engine.check_decoder()
    return engine


def check_same_vocabulary(tokenizer: Tokenizer, draft: Tokenizer, path: Path) -> None:
    """Raise ModelError, with the first difference, unless a draft model has the same tokens.

    `path`: the draft model's file. One of the vocabularies may have padding at its end.
    """
    shared = min(tokenizer.n_vocab, draft.n_vocab)
    for token in range(shared):
        expected, found = tokenizer.token_bytes(token), draft.token_bytes(token)
        if found != expected:
            raise ModelError(
                f"{path}: the draft model's token {token} is {found!r}; expected {expected!r}, as the model has it"
            )
    if not shared or max(tokenizer.n_vocab, draft.n_vocab) - shared > MAX_PADDING:
        raise ModelError(f"{path}: the draft model has {draft.n_vocab} known tokens; the model has {tokenizer.n_vocab}")
