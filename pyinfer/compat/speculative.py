"""llama-cpp-python's `draft_model`: its prompt lookup becomes `LLM(path, speculative="lookup")`."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyinfer.arguments import check_positive
from pyinfer.errors import ParameterError


class LlamaDraftModel(abc.ABC):
    """The base class of llama-cpp-python's draft models. `Llama` takes LlamaPromptLookupDecoding only."""

    @abc.abstractmethod
    def __call__(self, input_ids: NDArray[np.intc], /, **kwargs: Any) -> NDArray[np.intc]: ...


class LlamaPromptLookupDecoding(LlamaDraftModel):
    """Draft tokens that followed the same words earlier in the text or its prompt. Results are the same, bit for bit.

    - `max_ngram_size` (2; at least 1): has no effect; the longest match counts, from 3 tokens on.
    - `num_pred_tokens` (10; at least 1): the largest number of draft tokens a step; there are fewer, or none, where
      drafting would cost time.

    Raises ParameterError for numbers below 1.

        llama = Llama("model.gguf", draft_model=LlamaPromptLookupDecoding(num_pred_tokens=10))
    """

    def __init__(self, max_ngram_size: int = 2, num_pred_tokens: int = 10) -> None:
        self.max_ngram_size = check_positive("max_ngram_size", max_ngram_size, 2)
        self.num_pred_tokens = check_positive("num_pred_tokens", num_pred_tokens, 10)

    @staticmethod
    def find_candidate_pred_tokens(
        input_ids: NDArray[np.intc], max_ngram_size: int, num_pred_tokens: int
    ) -> NDArray[np.intc]:
        """Return the tokens that followed the first earlier place of the longest n-gram at the end, if there is one.

        `Llama` does not call this: it has prompt lookup of its own.
        """
        ids = np.asarray(input_ids)
        for size in range(min(max_ngram_size, len(ids) - 1), 0, -1):
            windows = np.lib.stride_tricks.sliding_window_view(ids, size)
            for at in np.flatnonzero((windows == ids[-size:]).all(axis=1)):
                if (found := ids[at + size : at + size + num_pred_tokens]).size:
                    return found
        return np.array([], np.intc)

    def __call__(self, input_ids: NDArray[np.intc], /, **kwargs: Any) -> NDArray[np.intc]:
        return self.find_candidate_pred_tokens(input_ids, self.max_ngram_size, self.num_pred_tokens)


def n_draft_of(draft_model: object) -> int | None:
    """Return LLM's `n_draft`; None: no drafting. Raises ParameterError for a draft model of another kind."""
    if draft_model is None:
        return None
    if isinstance(draft_model, LlamaPromptLookupDecoding):
        return draft_model.num_pred_tokens
    raise ParameterError(
        f"draft_model is a {type(draft_model).__name__}; expected None or a LlamaPromptLookupDecoding: guesses of a "
        "function are not taken (a small model's are, by pyinfer.LLM(path, draft_model=FILE))"
    )
