"""Streams of a chat's answer: they turn the pieces of a text into deltas."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator

from pyinfer.api.async_stream import AsyncStream
from pyinfer.api.stream import Stream
from pyinfer.chat.answer import Answer, AnswerDelta
from pyinfer.chat.calls import ChatCompletion, Turn
from pyinfer.tasks.results import Completion


class Deltas:
    """Parses an answer as it comes: the deltas that are certain and not yet taken, and the answer so far."""

    def __init__(self, turn: Turn) -> None:
        self.ended = False
        self.ready: deque[AnswerDelta] = deque()
        self._parser = turn.parser()

    @property
    def answer(self) -> Answer:
        return self._parser.answer()

    def push(self, text: str) -> None:
        self.ready.extend(self._parser.push(text))

    def end(self) -> None:
        """Say that no more text comes, so that what the parser still holds becomes certain."""
        if not self.ended:
            self.ended = True
            self.ready.extend(self._parser.finish())

    def close(self) -> None:
        """Drop the deltas that nobody has taken."""
        self.end()
        self.ready.clear()

    def completion(self, text: Completion | None) -> ChatCompletion | None:
        return ChatCompletion(self.answer, text) if self.ended and text is not None else None


class ChatStream(Iterator[AnswerDelta]):
    """Iterate over a chat's answer while it is generated, by deltas of reasoning, text and tool calls.

    - `answer`: what has come so far.
    - `completion`: the ChatCompletion, once all of the answer has come; None before.

    To end an answer early, call `close`, or leave the `with` block that the stream is used in.

        with llm.stream_chat([{"role": "user", "content": "Hello"}]) as stream:
            print("".join(delta.content for delta in stream), stream.completion.finish_reason)
    """

    def __init__(self, turn: Turn, stream: Stream) -> None:
        self._deltas = Deltas(turn)
        self._stream = stream

    @property
    def answer(self) -> Answer:
        """What has come so far."""
        return self._deltas.answer

    @property
    def completion(self) -> ChatCompletion | None:
        return self._deltas.completion(self._stream.completion)

    def __next__(self) -> AnswerDelta:
        deltas = self._deltas
        while not deltas.ready and not deltas.ended:
            piece = next(self._stream, None)
            if piece is None:
                deltas.end()
            else:
                deltas.push(piece.text)
        if not deltas.ready:
            raise StopIteration
        return deltas.ready.popleft()

    def __enter__(self) -> ChatStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the answer where it is."""
        self._stream.close()
        self._deltas.close()


class AsyncChatStream(AsyncIterator[AnswerDelta]):
    """Iterate over a chat's answer with `async for`, by the same deltas as ChatStream.

    - `answer`: what has come so far.
    - `completion`: the ChatCompletion, once all of the answer has come; None before.

    To end an answer early, await `aclose` or leave the `async with` block, as with AsyncStream.

    `start(set_turn)`, which the constructor calls, returns the stream; a worker thread calls `set_turn` with the turn
    before the first piece comes.
    """

    def __init__(self, start: Callable[[Callable[[Turn], None]], AsyncStream]) -> None:
        self._deltas: Deltas | None = None
        self._stream = start(self._set_turn)

    def _set_turn(self, turn: Turn) -> None:
        self._deltas = Deltas(turn)

    @property
    def answer(self) -> Answer:
        """What has come so far."""
        return Answer("") if self._deltas is None else self._deltas.answer

    @property
    def completion(self) -> ChatCompletion | None:
        return None if self._deltas is None else self._deltas.completion(self._stream.completion)

    async def __anext__(self) -> AnswerDelta:
        await self._stream.started()
        deltas = self._deltas
        while deltas is not None and not deltas.ready and not deltas.ended:
            try:
                deltas.push((await anext(self._stream)).text)
            except StopAsyncIteration:
                deltas.end()
        if deltas is None or not deltas.ready:
            raise StopAsyncIteration
        return deltas.ready.popleft()

    async def __aenter__(self) -> AsyncChatStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the answer where it is."""
        await self._stream.aclose()
        if self._deltas is not None:
            self._deltas.close()
