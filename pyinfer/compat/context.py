"""The one sequence of tokens that `Llama.eval` and `sample` go on with, and its saved states."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyinfer.errors import ContextError, ParameterError, StateError
from pyinfer.runtime.llm import LLM
from pyinfer.runtime.params import check_integer
from pyinfer.runtime.request import Request


@dataclass(frozen=True)
class LlamaState:
    """Tokens with their cached keys and values. llama_state: a saved session as `LLM.save_state` writes it."""

    input_ids: NDArray[np.intc]
    scores: NDArray[np.float32]
    n_tokens: int
    llama_state: bytes
    seed: int | None

    @property
    def llama_state_size(self) -> int:
        return len(self.llama_state)


class LastLogits(Request):
    """Logits of a sequence's last tokens: `out`, float32 [n_rows, n_vocab]; what is before comes from the cache."""

    def __init__(self, tokens: list[int], n_rows: int, n_vocab: int) -> None:
        super().__init__(tokens, len(tokens) - n_rows)
        self.out = np.empty((n_rows, n_vocab), np.float32)

    def take(self, rows: NDArray[np.float32]) -> None:
        start = len(self.out) - (len(self.tokens) - self.first_wanted)
        self.out[start : start + len(rows)] = rows
        self.first_wanted += len(rows)
        self.finished = self.first_wanted == len(self.tokens)


class Context:
    """Tokens that were evaluated, and their logits: of all (every_row) or of the last one."""

    def __init__(self, llm: LLM, every_row: bool) -> None:
        self._llm = llm
        self._every_row = every_row
        self.input_ids = np.zeros(llm.n_ctx, np.intc)
        self.n_tokens = 0
        self._scores: NDArray[np.float32] | None = None
        self._n_scored = 0  # tokens that _scores is about
        self.decoded: NDArray[np.float32] | None = None

    @property
    def tokens(self) -> list[int]:
        ids: list[int] = self.input_ids[: self.n_tokens].tolist()
        return ids

    @property
    def scores(self) -> NDArray[np.float32]:
        """float32 [n_ctx, n_vocab], or [1, n_vocab] of the last token; zeros where nothing was evaluated."""
        if self._scores is None:
            n_rows = self._llm.n_ctx if self._every_row else 1
            self._scores = np.zeros((n_rows, self._llm.engine.n_vocab), np.float32)
        return self._scores

    def set_tokens(self, tokens: Sequence[int]) -> None:
        """Go on behind these, whose keys and values are cached or will be computed again."""
        n = min(len(tokens), len(self.input_ids))
        self.input_ids[:n] = tokens[:n]
        self.n_tokens = n
        self._n_scored = 0

    def truncate(self, n_tokens: int) -> None:
        """Go back to the first n_tokens. ParameterError for more than there are."""
        check_integer(
            "n_tokens", n_tokens, 0, self.n_tokens, f"a whole number from 0 to {self.n_tokens}, as many as there are"
        )
        self.n_tokens = n_tokens
        self._n_scored = min(self._n_scored, n_tokens) if self._every_row else 0

    def eval(self, tokens: Sequence[int]) -> None:
        """Go on with tokens. ContextError if they are too many; nothing has changed then."""
        self._go_on(tokens, len(tokens) if self._every_row else 1)

    def decode(self, tokens: Sequence[int]) -> None:
        """As eval; logits of all these tokens are then in `decoded`."""
        self.decoded = self._go_on(tokens, len(tokens))

    def _go_on(self, tokens: Sequence[int], n_rows: int) -> NDArray[np.float32]:
        """The logits of the last n_rows tokens, which are noted."""
        ids = self._llm.token_ids(list(tokens))
        n = self.n_tokens + len(ids)
        if n > len(self.input_ids):
            raise ContextError(f"{n} tokens do not fit into the context of {len(self.input_ids)} (n_ctx)")
        rows = self._logits(self.tokens + ids, n_rows)
        self.input_ids[self.n_tokens : n] = ids
        if self._every_row:
            self.scores[self.n_tokens : n] = rows
        else:
            self.scores[:] = rows[-1:]
        self.n_tokens = self._n_scored = n
        return rows

    def last_logits(self) -> NDArray[np.float32]:
        """float32 [n_vocab]; computed again where they are not there. ParameterError without tokens."""
        if self.n_tokens == 0:
            raise ParameterError("there are no tokens; expected a call of eval before sample")
        if self._n_scored == self.n_tokens:
            row: NDArray[np.float32] = self.scores[self.n_tokens - 1 if self._every_row else 0]
            return row
        last: NDArray[np.float32] = self._logits(self.tokens, 1)[0]
        return last

    def _logits(self, tokens: list[int], n_rows: int) -> NDArray[np.float32]:
        request = LastLogits(tokens, n_rows, self._llm.engine.n_vocab)
        self._llm.run([request])
        return request.out

    def save(self, seed: int | None) -> LlamaState:
        session = b""
        if self.n_tokens:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "session"
                try:
                    self._llm.save_state(path, self.tokens)
                    session = path.read_bytes()
                except StateError:  # no longer cached: the tokens are enough to go on
                    pass
        scores = self.scores[: self.n_tokens] if self._every_row else self.scores
        return LlamaState(self.input_ids.copy(), scores.copy(), self.n_tokens, session, seed)

    def load(self, state: LlamaState) -> None:
        """Raises StateError for a state of another model, ContextError if it is too long."""
        if state.n_tokens > len(self.input_ids):
            raise ContextError(f"the state has {state.n_tokens} tokens; the context has {len(self.input_ids)} (n_ctx)")
        if state.llama_state:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "session"
                path.write_bytes(state.llama_state)
                self._llm.load_state(path)
        self.set_tokens(state.input_ids[: state.n_tokens].tolist())
        if self._every_row and len(state.scores) == state.n_tokens:
            self.scores[: state.n_tokens] = state.scores
            self._n_scored = state.n_tokens
