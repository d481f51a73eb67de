"""A chat's answer as it is generated: deltas out of the pieces of a stream."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator

from pyinfer.api.async_stream import AsyncStream
from pyinfer.api.stream import Stream
from pyinfer.chat.answer import Answer, AnswerDelta
from pyinfer.chat.calls import ChatCompletion, Turn
from pyinfer.tasks.results import Completion


class Deltas:
    """The deltas of an answer that are certain, in order, and what has come so far."""

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
        """No more text comes: what the parser held back is certain."""
        if not self.ended:
            self.ended = True
            self.ready.extend(self._parser.finish())

    def leave(self) -> None:
        """Nobody takes the rest."""
        self.end()
        self.ready.clear()

    def completion(self, text: Completion | None) -> ChatCompletion | None:
        return ChatCompletion(self.answer, text) if self.ended and text is not None else None


class ChatStream(Iterator[AnswerDelta]):
    """An answer as it is generated; `completion` is there once all of it has come.

    Whoever leaves it early may close it, by `close` or by a `with` block; `answer` has what came until then.
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
        self._deltas.leave()


class AsyncChatStream(AsyncIterator[AnswerDelta]):
    """As ChatStream, for `async for`; left early, it ends as AsyncStream does.

    start(set_turn) gives the stream of the turn that it sets, in a worker thread, before the first piece comes.
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
        await self._stream.begun()
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
            self._deltas.leave()
