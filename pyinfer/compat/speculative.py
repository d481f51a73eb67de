"""llama-cpp-python's `draft_model`, of which its prompt lookup has an equal here: `LLM(path, speculative="lookup")`."""

from __future__ import annotations

from pyinfer.arguments import check_positive
from pyinfer.errors import ParameterError


class LlamaDraftModel:
    """What llama-cpp-python's draft models derive from. `Llama` takes LlamaPromptLookupDecoding, no other."""


class LlamaPromptLookupDecoding(LlamaDraftModel):
    """Guesses that a text goes on as it, or its prompt, did before; texts are the same to the bit.

    num_pred_tokens: guesses at once, at most; fewer or none where they don't pay. max_ngram_size has no effect: the
    longest match counts, from 3 tokens on. Raises ParameterError for numbers below 1.

        llama = Llama("model.gguf", draft_model=LlamaPromptLookupDecoding(num_pred_tokens=10))
    """

    def __init__(self, max_ngram_size: int = 2, num_pred_tokens: int = 10) -> None:
        self.max_ngram_size = check_positive("max_ngram_size", max_ngram_size, 2)
        self.num_pred_tokens = check_positive("num_pred_tokens", num_pred_tokens, 10)


def n_draft_of(draft_model: object) -> int | None:
    """How many tokens LLM shall guess at once; None: no guesses. ParameterError for a draft model of another kind."""
    if draft_model is None:
        return None
    if isinstance(draft_model, LlamaPromptLookupDecoding):
        return draft_model.num_pred_tokens
    raise ParameterError(
        f"draft_model is a {type(draft_model).__name__}; expected None or a LlamaPromptLookupDecoding: guesses of a "
        "function are not taken (a small model's are, by pyinfer.LLM(path, draft_model=FILE))"
    )
