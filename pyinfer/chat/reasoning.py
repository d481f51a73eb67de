"""Separates a model's reasoning from its answer, by marks such as <think> … </think>."""

from __future__ import annotations

from dataclasses import dataclass

import regex


@dataclass(frozen=True)
class ReasoningFormat:
    """The texts around the reasoning, which comes first in an answer."""

    start: str
    end: str


# The first whose end mark is in a template is the template's format.
REASONING_FORMATS = (
    ReasoningFormat("[THINK]", "[/THINK]"),
    ReasoningFormat("<seed:think>", "</seed:think>"),
    ReasoningFormat("<think>", "</think>"),
)


def reasoning_format(template: str) -> ReasoningFormat | None:
    """Return how a model with this chat template (its source) marks its reasoning; None: it does not."""
    return next((form for form in REASONING_FORMATS if form.end in template), None)


def reasoning_opened(form: ReasoningFormat, prompt: str) -> bool:
    """Whether a prompt ends with the start mark, so that the answer begins with reasoning."""
    return prompt.rstrip().endswith(form.start)


class ReasoningParser:
    """Splits a generated text into reasoning and answer, while it comes.

    Only the beginning of a text can be reasoning; with `opened`, the prompt has already begun it. Marks in the answer
    are text. White space around the reasoning belongs to neither.

        parser = ReasoningParser(reasoning_format(template))
        reasoning, answer = parser.push("<think>Hm.</think>Yes")
    """

    def __init__(self, form: ReasoningFormat, opened: bool = False) -> None:
        self._start = regex.compile(r"\s*" + regex.escape(form.start))
        self._end = regex.compile(r"\s*" + regex.escape(form.end))
        self._text = ""  # of which it is not yet certain what it is
        self._part = "reasoning" if opened else "start"
        self._trims = opened  # whether white space is skipped until the part begins

    def push(self, text: str) -> tuple[str, str]:
        """Append a part of the text; return the (reasoning, answer) that become certain."""
        self._text += text
        return self._split(final=False)

    def finish(self) -> tuple[str, str]:
        """End the text; return the (reasoning, answer) left. Reasoning may lack its end mark."""
        return self._split(final=True)

    def _split(self, final: bool) -> tuple[str, str]:
        reasoning = ""
        if self._part == "start":
            match = self._start.match(self._text, partial=not final)
            if match is None:
                self._part = "answer"
            elif match.partial:
                return "", ""
            else:
                self._enter("reasoning", match.end())
        self._trim()
        if self._part == "reasoning":
            match = self._end.search(self._text, partial=not final)
            end = len(self._text) if match is None else match.start()
            reasoning, self._text = self._text[:end], self._text[end:]
            if match is None or match.partial:
                return reasoning, ""
            self._enter("answer", match.end() - end)
        self._trim()
        answer, self._text = self._text, ""
        return reasoning, answer

    def _enter(self, part: str, after: int) -> None:
        self._part, self._text, self._trims = part, self._text[after:], True

    def _trim(self) -> None:
        if self._trims:
            self._text = self._text.lstrip()
            self._trims = not self._text
