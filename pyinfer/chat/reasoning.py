"""A model's thoughts and its answer, told apart: <think> … </think> and the like."""

from __future__ import annotations

from dataclasses import dataclass

import regex


@dataclass(frozen=True)
class ReasoningFormat:
    """The texts around thoughts, which come first in an answer."""

    start: str
    end: str


# In order: the first of which a template has the end.
REASONING_FORMATS = (
    ReasoningFormat("[THINK]", "[/THINK]"),
    ReasoningFormat("<seed:think>", "</seed:think>"),
    ReasoningFormat("<think>", "</think>"),
)


def reasoning_format(template: str) -> ReasoningFormat | None:
    """How a model of this chat template's source marks its thoughts; None: not at all."""
    return next((form for form in REASONING_FORMATS if form.end in template), None)


def reasoning_opened(form: ReasoningFormat, prompt: str) -> bool:
    """Whether a prompt's text ends within thoughts, which the answer then begins with."""
    return prompt.rstrip().endswith(form.start)


class ReasoningParser:
    """Splits a generated text into thoughts and answer, as it comes.

    Thoughts begin where the answer begins, or before it if `opened`; what comes later is answer whatever it is. White
    space around thoughts is not part of either.

        parser = ReasoningParser(reasoning_format(template))
        reasoning, answer = parser.push("<think>Hm.</think>Yes")
    """

    def __init__(self, form: ReasoningFormat, opened: bool = False) -> None:
        self._start = regex.compile(r"\s*" + regex.escape(form.start))
        self._end = regex.compile(r"\s*" + regex.escape(form.end))
        self._text = ""  # not yet decided
        self._part = "thoughts" if opened else "start"
        self._trims = opened  # whether white space comes before the part begins

    def push(self, text: str) -> tuple[str, str]:
        """(thoughts, answer) that are certain with this part of the text."""
        self._text += text
        return self._split(final=False)

    def finish(self) -> tuple[str, str]:
        """What was held back, once no more text comes; thoughts without an end are thoughts."""
        return self._split(final=True)

    def _split(self, final: bool) -> tuple[str, str]:
        thoughts = ""
        if self._part == "start":
            match = self._start.match(self._text, partial=not final)
            if match is None:
                self._part = "answer"
            elif match.partial:
                return "", ""
            else:
                self._enter("thoughts", match.end())
        self._trim()
        if self._part == "thoughts":
            match = self._end.search(self._text, partial=not final)
            end = len(self._text) if match is None else match.start()
            thoughts, self._text = self._text[:end], self._text[end:]
            if match is None or match.partial:
                return thoughts, ""
            self._enter("answer", match.end() - end)
        self._trim()
        answer, self._text = self._text, ""
        return thoughts, answer

    def _enter(self, part: str, after: int) -> None:
        self._part, self._text, self._trims = part, self._text[after:], True

    def _trim(self) -> None:
        if self._trims:
            self._text = self._text.lstrip()
            self._trims = not self._text
