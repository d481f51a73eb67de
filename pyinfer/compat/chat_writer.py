"""Answers of chats as the dictionaries of OpenAI's API: whole, or chunk by chunk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Protocol

from pyinfer.api.stream import Stream
from pyinfer.chat import Answer, AnswerDelta, ToolCall
from pyinfer.compat.logprobs import chat_logprobs
from pyinfer.compat.response import ResponseWriter, usage_of
from pyinfer.compat.types import (
    ChatCompletionLogprobs,
    ChatCompletionResponseChoice,
    ChatCompletionResponseMessage,
    ChatCompletionStreamResponseDelta,
    CreateChatCompletionResponse,
    CreateChatCompletionStreamResponse,
    FinishReason,
)
from pyinfer.sampling.logprobs import Choice
from pyinfer.tasks.results import Completion
from pyinfer.tokenizer import Tokenizer


class Parser(Protocol):
    """What reads an answer while it is generated: pyinfer.chat's AnswerParser, or the one below."""

    def push(self, text: str) -> list[AnswerDelta]: ...
    def finish(self) -> list[AnswerDelta]: ...
    def answer(self) -> Answer: ...


class CallParser:
    """Reads a text that is the arguments of a call as JSON; of several tools, an object of "name" and "arguments".

    Where the JSON is cut off, it is the arguments' text as it stands.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._text = ""
        self._calls: tuple[ToolCall, ...] = ()

    def push(self, text: str) -> list[AnswerDelta]:
        self._text += text
        return []

    def finish(self) -> list[AnswerDelta]:
        name, arguments = self._names[0], self._text
        if len(self._names) > 1:
            try:
                call = json.loads(self._text)
                name, arguments = call["name"], json.dumps(call["arguments"], ensure_ascii=False)
            except ValueError:
                return [AnswerDelta(content=self._text)]
        self._calls = (ToolCall(name, arguments),)
        return [AnswerDelta(tool_calls=self._calls)]

    def answer(self) -> Answer:
        return Answer(None if self._calls else self._text, tool_calls=self._calls)


class ChatWriter(ResponseWriter[CreateChatCompletionResponse, CreateChatCompletionStreamResponse]):
    """Writes answers, which `parser` reads.

    `as_function`: the first tool call is the message's function_call, too, which is the older form.
    """

    def __init__(self, tokenizer: Tokenizer, model: str, parser: Parser, as_function: bool) -> None:
        super().__init__(tokenizer, model, "chatcmpl")
        self._parser = parser
        self._as_function = as_function

    def whole(self, done: Completion) -> CreateChatCompletionResponse:
        self._parser.push(done.text)
        self._parser.finish()
        answer = self._parser.answer()
        message: ChatCompletionResponseMessage = {"role": "assistant", "content": answer.content}
        if answer.tool_calls:
            message["tool_calls"] = answer.as_dict()["tool_calls"]
        if answer.tool_calls and self._as_function:
            call = answer.tool_calls[0]
            message["function_call"] = {"name": call.name, "arguments": call.arguments}
        choice: ChatCompletionResponseChoice = {
            "index": 0,
            "message": message,
            "logprobs": None if done.logprobs is None else chat_logprobs(self._tokenizer, done.logprobs),
            "finish_reason": self._reason(done),
        }
        return {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created,
            "model": self._model,
            "choices": [choice],
            "usage": usage_of(done),
        }

    def chunks(self, stream: Stream) -> Iterator[CreateChatCompletionStreamResponse]:
        """Yield a chunk with the role, one for each delta of the answer, and one with the reason why it ends."""
        waiting: list[Choice] = []
        with stream:
            yield self._chunk({"role": "assistant"})
            for piece in stream:
                waiting += piece.logprobs
                for delta in self._parser.push(piece.text):
                    yield self._chunk(self._delta(delta), self._logprobs(waiting))
            for delta in self._parser.finish():
                yield self._chunk(self._delta(delta), self._logprobs(waiting))
        if stream.completion is not None:
            yield self._chunk({}, None, self._reason(stream.completion))

    def _logprobs(self, waiting: list[Choice]) -> ChatCompletionLogprobs | None:
        """Return the log-probabilities of the tokens since the last chunk, and empty the list."""
        if not waiting:
            return None
        written = chat_logprobs(self._tokenizer, waiting)
        waiting.clear()
        return written

    def _delta(self, delta: AnswerDelta) -> ChatCompletionStreamResponseDelta:
        written = delta.as_dict()
        if delta.tool_calls and self._as_function and delta.index == 0:
            call = delta.tool_calls[0]
            written["function_call"] = {"name": call.name, "arguments": call.arguments}
        return written  # type: ignore[return-value]

    def _reason(self, done: Completion) -> FinishReason:
        if done.finish_reason == "stop" and self._parser.answer().tool_calls:
            return "function_call" if self._as_function else "tool_calls"
        return done.finish_reason

    def _chunk(
        self,
        delta: ChatCompletionStreamResponseDelta,
        logprobs: ChatCompletionLogprobs | None = None,
        finish_reason: FinishReason | None = None,
    ) -> CreateChatCompletionStreamResponse:
        return {
            "id": self._id,
            "model": self._model,
            "created": self._created,
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}],
        }
