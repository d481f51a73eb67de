"""What a model answered in a chat, told apart as it comes: thoughts, text and tool calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyinfer.chat.reasoning import ReasoningFormat, ReasoningParser
from pyinfer.chat.tool_parser import ToolCallParser
from pyinfer.chat.tools import ToolCall, ToolFormat


@dataclass(frozen=True)
class AnswerDelta:
    """What has become certain of an answer: thoughts, text and calls, in this order; each may be empty.

    index: how many calls came before, which is that of the first call here.
    """

    reasoning: str = ""
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    index: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The "delta" of a chunk in OpenAI's API; "reasoning_content" as vLLM and DeepSeek have it."""
        delta: dict[str, Any] = {}
        if self.reasoning:
            delta["reasoning_content"] = self.reasoning
        if self.content:
            delta["content"] = self.content
        if self.tool_calls:
            delta["tool_calls"] = [{"index": i, **call.as_dict()} for i, call in enumerate(self.tool_calls, self.index)]
        return delta


@dataclass(frozen=True)
class Answer:
    """A whole answer. content: None if there are calls and nothing else; reasoning: None if it was not asked for."""

    content: str | None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The message in OpenAI's API, which can be given back as one of `messages`."""
        message: dict[str, Any] = {"role": "assistant", "content": self.content}
        if self.reasoning is not None:
            message["reasoning_content"] = self.reasoning
        if self.tool_calls:
            message["tool_calls"] = [call.as_dict() for call in self.tool_calls]
        return message


class AnswerParser:
    """Splits a generated text. Without a reasoning format thoughts are text; without a tool format calls are.

    `tools`: checked ones that may be called. `tool_opened`, `reasoning_opened`: what the prompt has begun.

        parser = prompt.parser(reasoning=True)
        for piece in pieces:
            for delta in parser.push(piece): ...
        for delta in parser.finish(): ...
        message = parser.answer().as_dict()
    """

    def __init__(
        self,
        reasoning: ReasoningFormat | None = None,
        form: ToolFormat | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        reasoning_opened: bool = False,
        tool_opened: str = "",
    ) -> None:
        self._reasoning = None if reasoning is None else ReasoningParser(reasoning, reasoning_opened)
        self._tools = None if form is None else ToolCallParser(form, tools, tool_opened)
        self._thoughts: list[str] = []
        self._contents: list[str] = []
        self._calls: list[ToolCall] = []

    def push(self, text: str) -> list[AnswerDelta]:
        """What is certain with this part of the text."""
        thoughts, text = self._reasoning.push(text) if self._reasoning else ("", text)
        return self._deltas(thoughts, self._tools.push(text) if self._tools else [text])

    def finish(self) -> list[AnswerDelta]:
        """What was held back, once no more text comes."""
        thoughts, text = self._reasoning.finish() if self._reasoning else ("", "")
        return self._deltas(thoughts, [*self._tools.push(text), *self._tools.finish()] if self._tools else [text])

    def answer(self) -> Answer:
        """All so far."""
        content = "".join(self._contents)
        return Answer(
            content=None if self._calls and not content.strip() else content,
            reasoning=None if self._reasoning is None else "".join(self._thoughts),
            tool_calls=tuple(self._calls),
        )

    def _deltas(self, thoughts: str, parts: list[str | ToolCall]) -> list[AnswerDelta]:
        deltas = [AnswerDelta(reasoning=thoughts)] if thoughts else []
        self._thoughts.append(thoughts)
        for part in parts:
            if isinstance(part, ToolCall):
                deltas.append(AnswerDelta(tool_calls=(part,), index=len(self._calls)))
                self._calls.append(part)
            elif part:
                deltas.append(AnswerDelta(content=part))
                self._contents.append(part)
        return deltas
