"""The one sequence of tokens that `Llama.eval` and `sample` continue, and its saved states."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyinfer.api.llm import LLM
from pyinfer.arguments import as_list_or_none, check_integer, checked_ids, is_number, quoted
from pyinfer.errors import ContextError, ParameterError, StateError
from pyinfer.tasks.logits import Logits


def token_list(tokens: Any) -> list[Any]:
    """Return a list, array or other iterable of token ids, possibly empty, as a list. Raises ParameterError."""
    items = as_list_or_none(tokens)
    if items is None:
        raise ParameterError(f"tokens is {quoted(tokens)}; expected a list of token ids")
    return items


@dataclass(frozen=True)
class LlamaState:
    """A saved sequence: its tokens, and in `llama_state` the session file that `LLM.save_state` writes."""

    input_ids: NDArray[np.intc]
    scores: NDArray[np.float32]
    n_tokens: int
    llama_state: bytes
    seed: int | None

    @property
    def llama_state_size(self) -> int:
        return len(self.llama_state)

    def check(self) -> None:
        """Check the state's fields. Raises ParameterError for a state that no Llama has saved."""
        room = as_list_or_none(self.input_ids)
        if room is None or not isinstance(self.llama_state, bytes):
            raise ParameterError(
                f"state has input_ids {quoted(self.input_ids)}, llama_state {quoted(self.llama_state)}; "
                "expected token ids and bytes, as save_state returns them"
            )
        allowed = f"a whole number from 0 to {len(room)}, as many as there is room for in input_ids"
        check_integer("n_tokens of the state", self.n_tokens, 0, len(room), allowed)


class Context:
    """The tokens that were evaluated, and the logits of all of them (`every_row`) or of the last one."""

    def __init__(self, llm: LLM, every_row: bool) -> None:
        self._llm = llm
        self._every_row = every_row
        self.input_ids = np.zeros(llm.n_ctx, np.intc)
        self.n_tokens = 0
        self._n_given = 0  # how many of input_ids a program has set
        self._scores: NDArray[np.float32] | None = None
        self._n_scored = 0  # how many of the first tokens _scores is valid for
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
        """Replace the sequence by these tokens. Their keys and values are cached, or are computed again when needed."""
        n = min(len(tokens), len(self.input_ids))
        self.input_ids[:n] = tokens[:n]
        self.n_tokens = n
        self._n_scored = 0

    def set_input_ids(self, tokens: Any) -> None:
        """Replace input_ids, or the first of them. Raises ParameterError for what is no list of ids."""
        ids = checked_ids(tokens, self._llm.engine.n_vocab, "input_ids")
        if len(ids) > len(self.input_ids):
            raise ContextError(f"input_ids has {len(ids)} tokens; the context has {len(self.input_ids)} (n_ctx)")
        self.input_ids[: len(ids)] = ids
        self._n_given = len(ids)
        self.n_tokens, self._n_scored = min(self.n_tokens, len(ids)), 0

    def set_scores(self, scores: Any) -> None:
        """Replace the scores: float32 [rows, n_vocab], with at most as many rows. Raises ParameterError for others."""
        rows = np.asarray(scores, np.float32)
        room = self.scores
        if rows.ndim != 2 or rows.shape[1] != room.shape[1] or len(rows) > len(room):
            raise ParameterError(f"scores has the shape {rows.shape}; expected {room.shape}")
        room[: len(rows)] = rows
        self._n_scored = min(self.n_tokens, len(rows)) if self._every_row else self.n_tokens

    def set_length(self, n_tokens: int) -> None:
        """Shorten the sequence, or extend it by tokens that set_input_ids has set. Raises what truncate raises."""
        if is_number(n_tokens, int) and self.n_tokens < n_tokens <= self._n_given:
            self.n_tokens = n_tokens
        else:
            self.truncate(n_tokens)

    def truncate(self, n_tokens: int) -> None:
        """Shorten the sequence to its first n_tokens. Raises ParameterError for more than there are."""
        check_integer(
            "n_tokens", n_tokens, 0, self.n_tokens, f"a whole number from 0 to {self.n_tokens}, as many as there are"
        )
        self.n_tokens = n_tokens
        self._n_scored = min(self._n_scored, n_tokens) if self._every_row else 0

    def eval(self, tokens: Sequence[int]) -> None:
        """Append tokens and compute their logits. Raises ContextError, with nothing changed, if there is no room.

        `decoded` then has those of all of them (`every_row`) or of the last one.
        """
        ids = token_list(tokens)
        self.decoded = self._append(ids, len(ids) if self._every_row else 1)

    def decode(self, tokens: Sequence[int]) -> None:
        """Append tokens as `eval` does; `decoded` then has the logits of all of them."""
        ids = token_list(tokens)
        self.decoded = self._append(ids, len(ids))

    def _append(self, tokens: list[Any], n_rows: int) -> NDArray[np.float32]:
        """Append tokens; return the logits of the last n_rows."""
        ids = self._llm.token_ids(tokens)
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

    def logits(self, position: int | None = None) -> NDArray[np.float32]:
        """Return the logits at a position, or at the last one: float32 [n_vocab]. Computes them if they are not kept.

        Raises ParameterError for a position without a token.
        """
        if self.n_tokens == 0:
            raise ParameterError("there are no tokens; expected a call of eval before sample")
        last = self.n_tokens - 1
        at = last if position is None else position
        check_integer("idx", at, 0, last, f"None or a position of the tokens so far, from 0 to {last}")
        row: NDArray[np.float32]
        if self._every_row and at < self._n_scored:
            row = self.scores[at]
        elif at == last == self._n_scored - 1:
            row = self.scores[0]
        else:
            row = self._logits(self.tokens[: at + 1], 1)[0]
        return row

    def _logits(self, tokens: list[int], n_rows: int) -> NDArray[np.float32]:
        task = Logits(tokens, self._llm.engine.n_vocab, n_rows)
        self._llm.run([task])
        return task.out

    def save(self, seed: int | None) -> LlamaState:
        session = b""
        if self.n_tokens:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "session"
                try:
                    self._llm.save_state(path, self.tokens)
                    session = path.read_bytes()
                except StateError:  # no longer cached: the tokens suffice to compute it again
                    pass
        scores = self.scores[: self.n_tokens] if self._every_row else self.scores
        return LlamaState(self.input_ids.copy(), scores.copy(), self.n_tokens, session, seed)

    def load(self, state: LlamaState) -> None:
        """Replace the sequence by a saved one. Raises StateError, ContextError or ParameterError as load_state does."""
        state.check()
        if state.n_tokens > len(self.input_ids):
            raise ContextError(f"the state has {state.n_tokens} tokens; the context has {len(self.input_ids)} (n_ctx)")
        if state.llama_state:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "session"
                path.write_bytes(state.llama_state)
                self._llm.load_state(path)
        tokens = token_list(state.input_ids)[: state.n_tokens]
        self.set_tokens(checked_ids(tokens, self._llm.engine.n_vocab, "input_ids of the state"))
        if self._every_row and np.shape(state.scores) == (state.n_tokens, self._llm.engine.n_vocab):
            self.scores[: state.n_tokens] = state.scores
            self._n_scored = state.n_tokens
