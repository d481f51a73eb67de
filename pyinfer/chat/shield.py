"""Finds which characters of a rendered prompt come from its users, so that they never become control tokens.

In all that users gave, the characters that control tokens consist of ("<", "|", "[", …) are replaced by private
characters that occur nowhere else. The prompt is rendered with these, and they are then found in the result. The
replacement keeps lengths and white space, so that what a template does with a text (strip, split, slice, join, JSON)
has the same effect on the replaced text. If a template looks for such characters itself ("</think>" in an answer), the
two renderings differ; then only whole control tokens are replaced.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from pyinfer.errors import ParameterError
from pyinfer.tokenizer import Tokenizer

PRIVATE = (range(0xE000, 0xF900), range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))
UNMARKED = frozenset("_-/.,:$'\"")  # never replaced: names, numbers and JSON have them, and templates look for them

Data = Mapping[str, Any]


def encode_rendered(
    tokenizer: Tokenizer, template: str, data: Data, render: Callable[[Data], str]
) -> tuple[str, list[int]]:
    """Render a prompt and encode it. All its control tokens come from the template.

    - `template`: its source.
    - `data`: the template's variables; all texts and keys in them are users' texts.
    - `render`: a function that renders the template with such data.

    Returns the text and its token ids.
    """
    text = render(data)
    structural = _structural(tokenizer, template)
    control = {i: t for i, t in tokenizer.special_texts.items() if i in structural or not tokenizer.is_user_defined(i)}
    marks = Marks(control.values(), [template, *_texts(data)])
    if not any(marks.occur(part) for part in _texts(data)):
        return text, tokenizer.encode(text, add_special=False, parse_special=True)

    def tokens(part: str) -> str:
        return marks.of_tokens(part, tokenizer.find_special(part), control.keys())

    def own_tokens(part: str) -> str:  # in a model's own messages, user-defined tokens such as <think> are its own
        return marks.of_tokens(part, tokenizer.find_special(part), control.keys() - structural)

    def marked(change: Callable[[str], str]) -> tuple[str, list[int]]:
        messages = [_mapped(m, own_tokens if m["role"] == "assistant" else change) for m in data["messages"]]
        others = {name: _mapped(value, change) for name, value in data.items() if name != "messages"}
        return marks.found(render({**others, "messages": messages}))

    found, shielded = marked(marks.everywhere)
    if found != text:
        text, shielded = marked(tokens)
    return text, tokenizer.encode_shielded(text, shielded, literal=structural)


def _structural(tokenizer: Tokenizer, template: str) -> set[int]:
    """Return the user-defined tokens that the template writes, which makes them control tokens."""
    return {
        i
        for i, text in tokenizer.special_texts.items()
        if tokenizer.is_user_defined(i) and not text.isspace() and text in template
    }


class Marks:
    """The private characters that replace others ("mark" them).

    `special`: texts of the control tokens. `used`: texts in which none of the private characters may occur.
    """

    def __init__(self, special: Iterable[str], used: Iterable[str]) -> None:
        special = set(special) - {""}
        characters = {c for text in special for c in text if not c.isalnum() and not c.isspace()} - UNMARKED
        bare = {text for text in special if characters.isdisjoint(text)}  # marked by their first character
        free = _free_characters(used)
        marks = {c: next(free) for c in sorted(characters | {text[0] for text in bare})}
        self._marks = marks
        self._characters = characters
        self._table = str.maketrans({c: marks[c] for c in characters})
        self._bare = _any_of(bare)
        self._originals = {form: c for c, mark in marks.items() for form in _forms(mark)}
        self._pattern = _any_of(self._originals)

    def occur(self, text: str) -> bool:
        """Whether anything in a text would be marked."""
        return not self._characters.isdisjoint(text) or self._bare.search(text) is not None

    def everywhere(self, text: str) -> str:
        """Mark all characters that can be part of a control token."""
        text = self._bare.sub(lambda match: self._marks[match[0][0]] + match[0][1:], text)
        return text.translate(self._table)

    def of_tokens(self, text: str, tokens: Iterable[tuple[int, int, int]], wanted: Container[int]) -> str:
        """Mark the wanted tokens among those (start, end, id) that a tokenizer finds in the text."""
        parts: list[str] = []
        at = 0
        for start, end, token in tokens:
            if token in wanted:
                parts += [text[at:start], self.everywhere(text[start:end])]
                at = end
        return "".join([*parts, text[at:]])

    def found(self, text: str) -> tuple[str, list[int]]:
        """Undo the marks of a rendered text. Returns the text, and the indices that were marked."""
        parts: list[str] = []
        shielded = []
        at = length = 0
        for match in self._pattern.finditer(text):
            between = text[at : match.start()]
            parts += [between, self._originals[match[0]]]
            length += len(between)
            shielded.append(length)
            length += 1
            at = match.end()
        return "".join([*parts, text[at:]]), shielded


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern that finds any of the texts, long ones first. For no texts, it finds nothing."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or "(?!)")


def _free_characters(used: Iterable[str]) -> Iterator[str]:
    """Yield private characters that occur in none of the texts, neither as they are nor as an escape."""
    seen = "\n".join(used)
    escapes = seen.lower() if "\\u" in seen.lower() else ""
    taken = set(seen)
    for c in map(chr, chain(*PRIVATE)):
        if c not in taken and not (escapes and any(form in escapes for form in _forms(c))):
            yield c
    raise ParameterError("the messages hold all private characters of Unicode; expected a few to be free")


def _forms(mark: str) -> set[str]:
    """Return how a private character may be written: as it is, in JSON, and in Python's notation."""
    return {mark, json.dumps(mark)[1:-1], repr(mark)[1:-1]}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """Copy a value with every text and key changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(key): _mapped(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mapped(item, change) for item in value]
    return value
