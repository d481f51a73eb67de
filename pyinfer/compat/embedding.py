"""Embeddings, plain and as dictionaries of OpenAI's API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyinfer.arguments import as_list_or_none, quoted
from pyinfer.compat.types import CreateEmbeddingResponse
from pyinfer.compat.vocabulary import Vocabulary
from pyinfer.errors import ParameterError


class Embeddings(Vocabulary):
    """`Llama`'s methods that give vectors."""

    def embed(
        self, input: str | Sequence[str], normalize: bool = False, truncate: bool = True, return_count: bool = False
    ) -> Any:
        """Compute the embedding of a text, or of each text of a list.

        - `input`: a text, or a list of texts.
        - `normalize` (False): give vectors of length 1.
        - `truncate` (True): cut texts that are too long at their end; otherwise they raise ContextError.
        - `return_count` (False): return a pair of the result and the number of tokens.

        Returns a list of n_embd numbers, or a list of such lists. Raises ParameterError for any other `input`.
        """
        texts = [input] if isinstance(input, str) else as_list_or_none(input)
        if texts is None:
            raise ParameterError(f"input is {quoted(input)}; expected a text or a list of texts")
        vectors = self.llm.embed(texts, self._pooling, normalize, truncate).tolist()
        found = vectors[0] if isinstance(input, str) else vectors
        if not return_count:
            return found
        ids = (self._tokenizer.encode(text) if isinstance(text, str) else text for text in texts)
        return found, sum(min(len(tokens), self.n_ctx()) for tokens in ids)

    def create_embedding(self, input: str | Sequence[str], model: str | None = None) -> CreateEmbeddingResponse:
        """Compute embeddings, not normalized, and return them as a dictionary of OpenAI's API."""
        vectors, n_tokens = self.embed([input] if isinstance(input, str) else input, return_count=True)
        return {
            "object": "list",
            "data": [{"object": "embedding", "embedding": vector, "index": i} for i, vector in enumerate(vectors)],
            "model": model or self.model_path,
            "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
        }

    def pooling_type(self) -> int:
        return int(self.context_params.pooling_type)
