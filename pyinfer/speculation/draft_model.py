"""A small model that guesses what a large one of the same vocabulary will say."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyinfer.engine.engine import Engine
from pyinfer.engine.inputs import Pass
from pyinfer.errors import ModelError
from pyinfer.gguf import GGUFFile
from pyinfer.guides.matcher import GuideMatcher
from pyinfer.memory.prefix_key import PrefixKey
from pyinfer.sampling.params import SamplingParams
from pyinfer.sampling.sampler import Sampler
from pyinfer.tokenizer import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from pyinfer.api.llm import LLM

MOST_PADDING = 1024  # tokens that only one of two vocabularies has behind the others, which is how models are padded
RATE = 0.2  # of a new measurement in the seconds of a guess


class DraftModel:
    """An engine whose sequences follow those of another; texts of n_vocab logits take turns with its n_seqs slots.

    eog_ids: tokens that end a text, which are no guesses.
    """

    def __init__(self, engine: Engine, n_vocab: int, eog_ids: frozenset[int]) -> None:
        self.engine = engine
        self.n_vocab = n_vocab
        self.eog_ids = eog_ids
        self.seconds = 0.0  # of a guess, once one was made
        self._slots = list(range(engine.n_seqs))

    def drafter(self, prompt: Sequence[int], params: SamplingParams) -> Drafter:
        """Guesses for a text."""
        return Drafter(self, prompt, params)

    def take_slot(self) -> int | None:
        return self._slots.pop() if self._slots else None

    def give_back(self, slot: int) -> None:
        self.engine.cache.release(slot)
        self._slots.append(slot)

    def close(self) -> None:
        self.engine.close()


class Drafter:
    """A text as the draft model sees it. Used by whoever runs the steps, and by no two threads at once."""

    def __init__(self, model: DraftModel, prompt: Sequence[int], params: SamplingParams) -> None:
        self._model = model
        self._tokens = list(prompt)
        self._n_passed = 0
        self._slot: int | None = None
        # users' functions are called for the text itself only
        self._params = replace(params, logits_processors=(), logprobs=None)
        self._row = np.full(model.n_vocab, -np.inf, np.float32)

    @property
    def seconds(self) -> float:
        """Of one guess."""
        return self._model.seconds

    def add(self, token: int) -> None:
        """Note the next token of the text."""
        self._tokens.append(token)

    def draft(self, n: int, sampler: Sampler, matcher: GuideMatcher | None) -> list[int]:
        """Up to n tokens that may follow, drawn with the numbers that the text's own sampler will draw with.

        None while the model has not read all of the text yet, of which it passes n_batch tokens at a time.
        """
        row = self._read()
        if row is None:
            return []
        own = sampler.fork()
        own.params = self._params
        guesses: list[int] = []
        n_followed = 0
        try:
            while True:
                token = own.sample(row, None if matcher is None else matcher.mask()).token
                if token in self._model.eog_ids:
                    break
                guesses.append(token)
                if matcher is not None:
                    matcher.accept(token)
                    n_followed += 1
                    if matcher.finished:
                        break
                if len(guesses) == n:
                    break
                following = self._guess_after(token, len(self._tokens) + len(guesses) - 1)
                if following is None:
                    break
                row = following
        finally:
            if matcher is not None:
                matcher.rollback(n_followed)
            if self._slot is not None:
                self._model.engine.truncate(self._slot, self._n_passed)
        return guesses

    def _read(self) -> NDArray[np.float32] | None:
        """Pass what is new of the text: the logits of its last token, or None if there is more to pass, or no room."""
        engine = self._model.engine
        if len(self._tokens) >= engine.cache.n_ctx:  # a text that goes on behind a full context
            self.close()
            self._tokens = self._tokens[-(engine.cache.n_ctx // 2) :]
        if self._slot is None:
            self._slot = self._model.take_slot()
            if self._slot is None:
                return None
            self._n_passed = engine.cache.begin(self._slot, PrefixKey(self._tokens), len(self._tokens) - 1)
        start = min(self._n_passed, len(self._tokens) - 1)
        stop = min(len(self._tokens), start + engine.n_batch)
        rows = self._pass(self._tokens[start:stop], start)
        if rows is None:
            return None
        self._n_passed = stop
        return rows if stop == len(self._tokens) else None

    def _guess_after(self, token: int, position: int) -> NDArray[np.float32] | None:
        started = time.perf_counter()
        row = self._pass([token], position)
        seconds = time.perf_counter() - started
        model = self._model
        model.seconds += (seconds - model.seconds) * (RATE if model.seconds else 1.0)
        return row

    def _pass(self, tokens: Sequence[int], start: int) -> NDArray[np.float32] | None:
        """Logits of the last of these tokens, float32 [n_vocab] of the large model; None if there is no room."""
        engine, n = self._model.engine, len(tokens)
        stop = start + n
        assert self._slot is not None
        if stop > engine.cache.n_ctx or not engine.cache.reserve(self._slot, start, stop):
            return None
        at = np.arange(start, stop, dtype=np.int32)
        slots = np.full(n, self._slot, np.int32)
        forward = Pass(np.array(tokens, np.int32), at, slots, np.array([n - 1], np.int32))
        logits = engine.run(forward).logits[0]
        n_vocab = min(len(logits), len(self._row))
        self._row[:n_vocab] = logits[:n_vocab]
        return self._row

    def close(self) -> None:
        """Give the slot back; what is passed stays known to texts that begin alike."""
        if self._slot is not None:
            self._model.engine.cache.publish(
                self._slot, PrefixKey(self._tokens), min(self._n_passed, len(self._tokens))
            )
            self._model.give_back(self._slot)
        self._slot = None
        self._n_passed = 0


def draft_engine(model: Path | LLM, tokenizer: Tokenizer, **options: Any) -> Engine:
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
    if not shared or max(tokenizer.n_vocab, draft.n_vocab) - shared > MOST_PADDING:
        raise ModelError(f"{path}: the draft model has {draft.n_vocab} known tokens; the model has {tokenizer.n_vocab}")
