"""Guides compiled for a vocabulary: llguidance's view of a tokenizer, and the grammars that were compiled for it.

Both are kept: a view as long as its tokenizer lives, a grammar until MAX_GRAMMARS others were used more recently.
Copies of a compiled grammar share its lexer, whose states are then computed once for all requests.
"""

from __future__ import annotations

import json
import re
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, cast

from pyinfer.errors import ParameterError, TokenizerError
from pyinfer.guides.ending import ClosingTokens
from pyinfer.guides.errors import guide_error
from pyinfer.guides.grammar.lark import gbnf_to_lark
from pyinfer.guides.schema.compile import compile_schema
from pyinfer.guides.schema.inline import expand_schemas
from pyinfer.guides.slices import SLICES
from pyinfer.guides.spec import GuideSpec
from pyinfer.guides.trial import LIMITS, try_grammar
from pyinfer.tokenizer import Tokenizer
from pyinfer.tokenizer.vocabulary import BYTE, CONTROL, UNKNOWN, UNUSED

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

MAX_GRAMMARS = 64  # kept for a vocabulary; a large one takes some megabytes
ASCII_CLASSES = "d"  # of regular expressions: \\d is 0 to 9, as in JSON schemas; \\w and \\s are Unicode's

_lock = threading.Lock()
_vocabularies: weakref.WeakKeyDictionary[Tokenizer, CompiledVocabulary] = weakref.WeakKeyDictionary()


def compile_vocabulary(tokenizer: Tokenizer) -> CompiledVocabulary:
    """The compiled vocabulary of a tokenizer, made by the first call. Raises ParameterError as Guide.matcher does."""
    with _lock:
        vocabulary = _vocabularies.get(tokenizer)
        if vocabulary is None:
            vocabulary = _vocabularies[tokenizer] = CompiledVocabulary(tokenizer)
        return vocabulary


def grammar_of(guide: GuideSpec) -> str:
    """The grammar that llguidance compiles for a guide, in its Lark. Raises ParameterError."""
    return GRAMMARS[guide.kind](guide)


def _regex_grammar(pattern: str) -> str:
    from llguidance import regex_to_lark

    return f"start: /{regex_to_lark(pattern, ASCII_CLASSES)}/"


def _choice_pattern(source: str) -> str:
    texts: list[str] = json.loads(source)
    return "|".join(re.sub(r"[^0-9A-Za-z]", lambda match: f"\\x{{{ord(match[0]):x}}}", text) for text in texts)


GRAMMARS: dict[str, Callable[[GuideSpec], str]] = {
    "json": lambda guide: compile_schema(guide.source, guide.whitespace).lark,
    "regex": lambda guide: _regex_grammar(guide.source),
    "choice": lambda guide: _regex_grammar(_choice_pattern(guide.source)),
    "gbnf": lambda guide: gbnf_to_lark(guide.source),
    "lark": lambda guide: expand_schemas(guide.source).lark,
}


class CompiledVocabulary:
    """llguidance's tokenizer, and the grammars that were compiled for it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        from llguidance import LLParserLimits, LLTokenizer

        view = _TokenizerView(tokenizer)
        ends = sorted(tokenizer.eog_ids) or None
        self._tokenizer = LLTokenizer(cast("TokenizerWrapper", view), eos_token=ends, slices=SLICES)
        view.llguidance = self._tokenizer
        self._limits = LLParserLimits(verbose_errors=False, **LIMITS)  # type: ignore[arg-type]
        self._matchers: OrderedDict[GuideSpec, LLMatcher] = OrderedDict()
        self._shortest: dict[GuideSpec, int] = {}
        self._tokens, self._ends = view.tokens, tokenizer.eog_ids
        self._lock = threading.Lock()

    @cached_property
    def closing(self) -> ClosingTokens:
        """Tokens that the search for a short completion tries."""
        return ClosingTokens(self._tokens, self._ends)

    def shortest(self, guide: GuideSpec, find: Callable[[], list[int] | None]) -> int:
        """The number of tokens that `find` gives for a guide, 0 for None; `find` is called once for each guide."""
        if guide not in self._shortest:
            if len(self._shortest) >= MAX_GRAMMARS:
                self._shortest.clear()
            self._shortest[guide] = len(find() or ())
        return self._shortest[guide]

    def matcher(self, guide: GuideSpec) -> LLMatcher:
        """A new matcher, at the beginning of a text. Raises ParameterError as Guide.matcher does."""
        with self._lock:
            return self._matcher(guide)

    def _matcher(self, guide: GuideSpec) -> LLMatcher:
        if guide not in self._matchers:
            self._matchers[guide] = self._compile(guide)
            if len(self._matchers) > MAX_GRAMMARS:
                self._matchers.popitem(last=False)
        self._matchers.move_to_end(guide)
        return self._matchers[guide].deep_copy()

    def _compile(self, guide: GuideSpec) -> LLMatcher:
        from llguidance import LLMatcher

        grammar = grammar_of(guide)
        try_grammar(guide, grammar)
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=self._limits)
        if not matcher.is_error():
            # only the first step shows that nothing can begin a text, or that the grammar forces a text without end
            first = matcher.deep_copy()
            first.consume_tokens(first.compute_ff_tokens())
            first.compute_bitmask()
            matcher = first if first.is_error() else matcher
        if matcher.is_error():
            raise guide_error(guide, matcher.get_error())
        return matcher


class _TokenizerView:
    """What llguidance asks of a tokenizer (its TokenizerWrapper); it does not keep the tokenizer alive.

    Tokens that are no text are marked as special. Tokens that no text has get no bytes, and llguidance never allows
    those: unused ones, and SentencePiece's byte tokens whose byte is a piece as well.
    """

    is_tokenizer_wrapper = True

    def __init__(self, tokenizer: Tokenizer) -> None:
        try:
            tokens = [tokenizer.token_bytes(token) for token in range(tokenizer.n_vocab)]
        except TokenizerError as error:
            raise ParameterError(f"structured output needs a vocabulary: {error}") from None
        bytes_ = tokenizer.ids_of_types(BYTE)
        pieces = set(tokens) if not bytes_ else {tokens[i] for i in set(range(len(tokens))).difference(bytes_)}
        for token in [*tokenizer.ids_of_types(UNUSED), *(token for token in bytes_ if tokens[token] in pieces)]:
            if token not in tokenizer.eog_ids:
                tokens[token] = b""
        self.tokens = tokens
        self.special_token_ids = sorted({*tokenizer.ids_of_types(CONTROL, UNKNOWN), *tokenizer.eog_ids})
        self.eos_token_id = min(tokenizer.eog_ids, default=None)
        self.bos_token_id = tokenizer.bos_id
        self.llguidance: LLTokenizer | None = None
        self._tokenizer = weakref.ref(tokenizer)

    def __call__(self, text: str) -> list[int]:
        """Ids of a text that continues another one; joined, their bytes are the text's."""
        tokenizer = self._tokenizer()
        assert tokenizer is not None  # a GuideMatcher keeps it
        try:
            ids = tokenizer.encode(text, add_special=False, continues=True)
            if tokenizer.decode_bytes(ids) == text.encode():
                return ids
        except TokenizerError:
            pass
        # encode changed a character (SentencePiece writes U+2581 for a space), or has no token for one
        assert self.llguidance is not None
        return self.llguidance.greedy_tokenize(text)
