"""One text under a guide: it takes tokens and gives masks of the tokens that may follow.

llguidance does the work, an Earley parser over lexemes whose masks take microseconds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pyinfer.errors import ParameterError, TokenizerError
from pyinfer.guides.compiler import CompiledVocabulary, compile_vocabulary, grammar_of
from pyinfer.guides.ending import find_completion
from pyinfer.guides.errors import guide_error
from pyinfer.guides.masks import mask_words
from pyinfer.guides.spec import GuideSpec
from pyinfer.guides.texts import fixed_texts
from pyinfer.tokenizer import Tokenizer

MAX_SHORTEST = 512  # tokens of a guide's shortest text; the search for a longer one would take too long


class GuideMatcher:
    """Follow one text under a guide; `Guide.matcher` makes one. Only one thread at a time may use it.

    While `finished` is False, a step takes either the tokens of `forced()`, which need no forward pass each, or one
    token that `mask()` allows. The caller gives each token to `accept`.
    """

    def __init__(self, guide: GuideSpec, tokenizer: Tokenizer, vocabulary: CompiledVocabulary | None = None) -> None:
        vocabulary = compile_vocabulary(tokenizer) if vocabulary is None else vocabulary
        self.guide = guide
        self._tokenizer = tokenizer  # llguidance refers to it weakly
        self._vocabulary = vocabulary
        self._matcher = vocabulary.matcher(guide)
        self._n_words = mask_words(tokenizer.n_vocab)
        # llguidance gives a vocabulary that can't end a text a token of its own for that, after the last id
        self._own_end = not tokenizer.eog_ids
        self._n_mask_words = mask_words(tokenizer.n_vocab + self._own_end)
        self._n_accepted = 0
        self._n_after_end = 0

    def mask(self) -> NDArray[np.uint32]:
        """Compute which tokens may follow.

        Returns a new array uint32 [ceil(n_vocab / 32)]: token i is bit i % 32 of word i // 32. Where tokens are forced,
        only the first of them is allowed; where the text is complete, tokens that end it are allowed, too. Raises
        ParameterError where the grammar turns out to be too complex, and where nothing can follow.
        """
        mask = np.empty(self._n_mask_words, np.uint32)
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        self._check()
        if self._own_end:
            end = self._tokenizer.n_vocab
            mask[end // 32] &= np.uint32((1 << end % 32) - 1)
        return mask[: self._n_words]

    def accept(self, token: int) -> None:
        """Add a token to the text. Raises ParameterError for one that can't follow; the text then stays as it was."""
        if self.finished:
            if token not in self._tokenizer.eog_ids:
                raise ParameterError(f"{self.guide}: token {token} after the end")
            self._n_after_end += 1
            return
        if not 0 <= token < self._tokenizer.n_vocab or self._matcher.try_consume_tokens([token]) != 1:
            self._check()
            raise ParameterError(f"{self.guide}: token {token} can't follow here")
        self._n_accepted += 1

    def forced(self) -> list[int]:
        """Compute the tokens that must follow, as far as they are certain: those that `encode` would give."""
        if self.finished:
            return []
        tokens = self._matcher.compute_ff_tokens()
        self._check()
        return tokens

    @property
    def finished(self) -> bool:
        """Whether the text is complete and nothing can follow, or a token has ended it."""
        return self._matcher.is_stopped() and not self._matcher.is_error()

    @property
    def complete(self) -> bool:
        """Whether the text may end here."""
        return self._matcher.is_accepting()

    def ending(self, max_tokens: int, known: Sequence[int] = ()) -> list[int] | None:
        """Find a short completion, with which a text that has to stop can still be whole. The text stays as it is.

        - `max_tokens`: of the completion, without a token that ends the text.
        - `known` (none): the completion that this call gave a few tokens before; its rest may still be one.

        Returns tokens after which the text may end, or None if none were found.
        """
        if self.finished:
            return []
        return find_completion(
            self._matcher, self._vocabulary.closing, max_tokens, self._n_mask_words, known, self._fixed_texts
        )

    @property
    def shortest(self) -> int:
        """About how many tokens a short text of this guide has; 0 if none was found."""
        return self._vocabulary.shortest(self.guide, lambda: self._new_text().ending(MAX_SHORTEST))

    def _new_text(self) -> GuideMatcher:
        return GuideMatcher(self.guide, self._tokenizer, self._vocabulary)

    @cached_property
    def _fixed_texts(self) -> list[list[int]]:
        """The tokens of the grammar's fixed texts. Those of JSON are not needed: quotes and brackets end it."""
        if self.guide.kind == "json":
            return []
        found = []
        for text in fixed_texts(grammar_of(self.guide)):
            with contextlib.suppress(TokenizerError):  # characters that the vocabulary does not have
                found.append([text] if isinstance(text, int) else self._encode(text))
        return found

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special=False, continues=True)

    def rollback(self, n: int) -> None:
        """Remove the last n tokens from the text. Raises ParameterError if there are fewer."""
        if not 0 <= n <= self._n_accepted + self._n_after_end:
            raise ParameterError(f"{self.guide}: {n} tokens back; there are {self._n_accepted + self._n_after_end}")
        after_end = min(n, self._n_after_end)
        self._n_after_end -= after_end
        self._n_accepted -= n - after_end
        self._matcher.rollback(n - after_end)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise guide_error(self.guide, self._matcher.get_error())
