"""Structured output: what a text must look like, and which tokens may come next for it to do so.

A `Guide` is the description, the same for any number of requests and models. `guide.matcher(tokenizer)` is one text on
its way: it gives the mask of tokens that may follow and takes the one that was chosen. The work is llguidance's
(`pip install pyinfer[guided]`), an Earley parser over lexemes whose masks take microseconds.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyinfer.errors import ParameterError, TokenizerError
from pyinfer.grammar.json_schema import parse_schema, without_unique_items
from pyinfer.grammar.lark import gbnf_to_lark
from pyinfer.runtime.guide_ending import find_ending
from pyinfer.runtime.guide_errors import guide_error
from pyinfer.runtime.guide_texts import fixed_texts
from pyinfer.runtime.token_masks import allowed_ids, apply_mask, mask_words
from pyinfer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pyinfer.runtime.guide_compiler import CompiledVocabulary

__all__ = ["Guide", "GuideMatcher", "allowed_ids", "apply_mask"]

MAX_SOURCE = 1 << 20  # characters
MOST_SHORTEST = 512  # tokens of the shortest text of a guide
SHOWN = 60  # characters of a guide in errors
KINDS = ("json", "regex", "choice", "gbnf", "lark")


@dataclass(frozen=True)
class Guide:
    """What a text must look like. Made by `json`, `regex`, `choice`, `gbnf` or `lark`; compared by value.

        Guide.json({"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]})

    Raises ParameterError for what is no description at all. What only llguidance finds out, such as a schema that
    nothing can meet, is raised by `matcher`, which a request calls when it is submitted.
    """

    kind: str
    source: str
    whitespace: bool = True

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ParameterError(f"kind is {self.kind!r}; expected one of {', '.join(KINDS)}")
        if not isinstance(self.source, str):
            raise ParameterError(f"the {self.kind} guide is a {type(self.source).__name__}; expected a str")
        if len(self.source) > MAX_SOURCE:
            raise ParameterError(f"the {self.kind} guide has {len(self.source)} characters; at most {MAX_SOURCE}")

    @classmethod
    def json(cls, schema: Mapping[str, Any] | str | bool | Any, whitespace: bool = True) -> Guide:
        """JSON that meets a schema: a dict, its text, or a Pydantic model.

        Properties come in the order of the schema. whitespace: the model may put a space or a line break with
        indentation between elements; False: it is laid out as json.dumps does, so that more of it is certain and
        needs no pass. Keywords that can't be enforced (`not`, `uniqueItems`, …) are refused by `matcher`.
        """
        if callable(describe := getattr(schema, "model_json_schema", None)):
            schema = without_unique_items(describe())  # sets drop what is there twice
        if not isinstance(schema, str):
            try:
                schema = json.dumps(schema, ensure_ascii=False, allow_nan=False)
            except (TypeError, ValueError, RecursionError) as error:
                raise ParameterError(f"the JSON schema can't be written as JSON: {error}") from None
        parse_schema(schema)
        return cls("json", schema, bool(whitespace))

    @classmethod
    def regex(cls, pattern: str) -> Guide:
        """A text that the whole regular expression matches.

        In the syntax of Rust's `regex`, without look-around; `\\d` is 0 to 9.
        """
        return cls("regex", pattern)

    @classmethod
    def choice(cls, choices: Sequence[str]) -> Guide:
        """Exactly one of these texts."""
        if isinstance(choices, str) or not isinstance(choices, Sequence):
            raise ParameterError(f"choices is a {type(choices).__name__}; expected a list of texts")
        if not choices or not all(isinstance(text, str) and text for text in choices):
            raise ParameterError(f"choices is {choices!r:.{SHOWN}}; expected at least one text, and none empty")
        return cls("choice", json.dumps(list(dict.fromkeys(choices)), ensure_ascii=False))

    @classmethod
    def gbnf(cls, grammar: str) -> Guide:
        """A text that `root` of a GBNF grammar derives, llama.cpp's notation. Character for character."""
        guide = cls("gbnf", grammar)
        gbnf_to_lark(guide.source)
        return guide

    @classmethod
    def lark(cls, grammar: str) -> Guide:
        """A text that `start` of a grammar derives, in llguidance's dialect of Lark's EBNF.

        Terminals are read greedily: `/[a-z]+/ "b"` never comes to its "b". Use `gbnf` where that matters.
        """
        return cls("lark", grammar)

    def matcher(self, tokenizer: Tokenizer) -> GuideMatcher:
        """A new text under this guide, for a model with this tokenizer.

        The first call for a tokenizer takes up to a second or two, the first for a guide milliseconds, others
        microseconds. Raises ParameterError if llguidance can't compile the guide, if nothing can meet it, or if
        llguidance is not installed.
        """
        from pyinfer.runtime.guide_compiler import compiled

        return GuideMatcher(self, tokenizer, compiled(tokenizer))

    def __str__(self) -> str:
        source = self.source if len(self.source) <= SHOWN else self.source[:SHOWN] + "…"
        return f"{self.kind} guide {source!r}"


class GuideMatcher:
    """One text under a guide: tokens go in, masks of what may follow come out. Not for several threads at once.

    While `finished` is False, a step takes either the tokens of `forced()`, which need no pass of the model each, or
    one token that `mask()` allows; both are noted by `accept`.
    """

    def __init__(self, guide: Guide, tokenizer: Tokenizer, vocabulary: CompiledVocabulary) -> None:
        self.guide = guide
        self._tokenizer = tokenizer  # llguidance refers to it weakly
        self._vocabulary = vocabulary
        self._matcher = vocabulary.matcher(guide)
        self._n_words = mask_words(tokenizer.n_vocab)
        # a vocabulary that can't end a text gets a token of llguidance's own for that, behind the last
        self._own_end = not tokenizer.eog_ids
        self._room = mask_words(tokenizer.n_vocab + self._own_end)
        self._n_accepted = 0
        self._n_after_end = 0

    def mask(self) -> NDArray[np.uint32]:
        """The tokens that may follow: uint32 [ceil(n_vocab / 32)], token i is bit i % 32 of word i // 32.

        Where tokens are forced, the first of them; tokens that end a text where it is complete. A new array each time.
        Raises ParameterError where the grammar turns out too complex, or has led to where nothing can follow.
        """
        mask = np.empty(self._room, np.uint32)
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        self._check()
        if self._own_end:
            end = self._tokenizer.n_vocab
            mask[end // 32] &= np.uint32((1 << end % 32) - 1)
        return mask[: self._n_words]

    def accept(self, token: int) -> None:
        """Go on with a token. Raises ParameterError for one that can't follow; the text stays as it was."""
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
        """The tokens that must follow, as far as their number is certain: in the way that `encode` would have them."""
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

    def ending(self, most: int, known: Sequence[int] = ()) -> list[int] | None:
        """At most so many tokens after which the text may end, not counting one that ends it; None: none were found.

        The text stays as it is. With them, one that has to stop can still be whole. known: what this gave a few tokens
        before, much of which may still do.
        """
        if self.finished:
            return []
        return find_ending(self._matcher, self._vocabulary.closing, most, self._room, known, self._fixed_texts)

    @property
    def shortest(self) -> int:
        """About how many tokens a short text has from its beginning; 0 if none was found."""
        return self._vocabulary.shortest(self.guide, lambda: self.guide.matcher(self._tokenizer).ending(MOST_SHORTEST))

    @cached_property
    def _fixed_texts(self) -> list[list[int]]:
        """The tokens of the fixed texts in the grammar. JSON's are not looked for, as quotes and brackets end it."""
        from pyinfer.runtime.guide_compiler import grammar_of

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
        """Take back the last n tokens. Raises ParameterError if there are fewer."""
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
