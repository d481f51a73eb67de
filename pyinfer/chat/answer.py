"""Splits a model's answer into reasoning, text and tool calls, while it is generated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyinfer.chat.reasoning import ReasoningFormat, ReasoningParser
from pyinfer.chat.tool_formats import ToolFormat
from pyinfer.chat.tool_parser import ToolCallParser
from pyinfer.chat.tools import ToolCall


@dataclass(frozen=True)
class AnswerDelta:
    """A part of an answer that has become certain: reasoning, text and tool calls, in this order. Each may be empty.

    `index`: the index of the first call in this delta, which is the number of calls in earlier deltas.
    """

    reasoning: str = ""
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    index: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the "delta" of a chunk of OpenAI's API, with "reasoning_content" as in vLLM and DeepSeek."""
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
    """A whole answer.

    `content` is None if there are tool calls and nothing else. `reasoning` is None if it was not asked for.
    """

    content: str | None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the message in the form of OpenAI's API. It can be one of the messages of the next call."""
        message: dict[str, Any] = {"role": "assistant", "content": self.content}
        if self.reasoning is not None:
            message["reasoning_content"] = self.reasoning
        if self.tool_calls:
            message["tool_calls"] = [call.as_dict() for call in self.tool_calls]
        return message


class AnswerParser:
    """Split a generated text into reasoning, text and tool calls.

    - `reasoning` (None): how the model marks its reasoning; None: reasoning is text.
    - `form` (None): how the model writes tool calls; None: calls are text.
    - `tools` (none): the tools that may be called, as `check_tools` returns them.
    - `reasoning_opened` (False): the prompt ends within reasoning.
    - `tool_opened` (""): the part of a call's start that the prompt ends with.

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
        self._reasonings: list[str] = []
        self._contents: list[str] = []
        self._calls: list[ToolCall] = []

    def push(self, text: str) -> list[AnswerDelta]:
        """Append a part of the text; return the deltas that become certain."""
        reasoning, text = self._reasoning.push(text) if self._reasoning else ("", text)
        return self._deltas(reasoning, self._tools.push(text) if self._tools else [text])

    def finish(self) -> list[AnswerDelta]:
        """End the text; return the deltas that were not certain until now."""
        reasoning, text = self._reasoning.finish() if self._reasoning else ("", "")
        return self._deltas(reasoning, [*self._tools.push(text), *self._tools.finish()] if self._tools else [text])

    def answer(self) -> Answer:
        """Return the answer so far."""
        content = "".join(self._contents)
        return Answer(
            content=None if self._calls and not content.strip() else content,
            reasoning=None if self._reasoning is None else "".join(self._reasonings),
            tool_calls=tuple(self._calls),
        )

    def _deltas(self, reasoning: str, parts: list[str | ToolCall]) -> list[AnswerDelta]:
        deltas = [AnswerDelta(reasoning=reasoning)] if reasoning else []
        self._reasonings.append(reasoning)
        for part in parts:
            if isinstance(part, ToolCall):
                deltas.append(AnswerDelta(tool_calls=(part,), index=len(self._calls)))
                self._calls.append(part)
            elif part:
                deltas.append(AnswerDelta(content=part))
                self._contents.append(part)
        return deltas
