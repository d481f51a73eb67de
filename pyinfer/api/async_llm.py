"""`AsyncLLM`: a model for programs on asyncio, with a thread of its own that runs the steps."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from pyinfer.api.job import Params, Prompt
from pyinfer.api.llm import LLM
from pyinfer.api.stream import Streamed
from pyinfer.arguments import check_integer
from pyinfer.engine import forks
from pyinfer.errors import BusyError, ParameterError, PyinferError
from pyinfer.sampling.params import SamplingParams
from pyinfer.scheduling.request import Caller
from pyinfer.tasks.generation import MAX_AHEAD, Completion, Generation, Piece

if TYPE_CHECKING:
    from pyinfer.chat.calls import AsyncChatStream, ChatCompletion


class AsyncLLM:
    """An LLM whose calls are awaited. A call that is cancelled gives its place back within a step.

        async with AsyncLLM("model.gguf") as llm:
            async for piece in llm.stream("Once upon a time"):
                print(piece.text, end="", flush=True)
            one, other = await llm.generate(["In the beginning", "At last"])

    model: a path, loaded with `options`, those of LLM; or an LLM, which others may use, too, and which stays open.
    max_waiting: requests that may wait for a place, beyond the n_seqs that run; what comes then is a BusyError.
    """

    def __init__(self, model: str | Path | LLM, max_waiting: int = 1024, **options: Any) -> None:
        if isinstance(model, LLM) and options:
            raise ParameterError(f"{', '.join(options)}: options are for models that are loaded from a path")
        check_integer("max_waiting", max_waiting, 0, None, "a whole number of at least 0")
        self._owns = not isinstance(model, LLM)
        self.llm = model if isinstance(model, LLM) else LLM(model, **options)
        self._max_open = self.llm.engine.n_seqs + max_waiting
        self._caller = Caller()
        self._open: set[Generation] = set()  # requests that are not finished, or whose pieces were not all taken
        self._work = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False
        forks.watch(self)
        # a thread in the middle of a pass must not see the interpreter go
        atexit.register(_close, weakref.ref(self))

    async def __aenter__(self) -> AsyncLLM:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """End requests under way with an error, then the thread, and close the model if it was loaded here."""
        if self._owns:
            self.llm.close()
        with self._work:
            self._stopping = True
            self._work.notify()
        if self._thread is not None:
            self._thread.join()
        self.end(list(self._open))

    @overload
    async def generate(self, prompt: Prompt, params: SamplingParams | None = None) -> Completion: ...  # type: ignore[overload-overlap]
    @overload
    async def generate(self, prompt: Sequence[Prompt], params: Params = None) -> list[Completion]: ...
    async def generate(self, prompt: Prompt | Sequence[Prompt], params: Params = None) -> Completion | list[Completion]:
        """As LLM.generate; also raises BusyError."""
        job = self.llm.job(prompt, params, admit=self._admit)
        await self._run(job.requests)
        return job.result()

    async def _run(self, requests: Sequence[Generation]) -> None:
        news = self.submit(requests)
        try:
            await news.wait_for(lambda: any(r.error for r in requests) or all(r.finished for r in requests))
        finally:
            self.end(requests)
        for request in requests:
            if request.error is not None:
                raise request.error

    def stream(
        self, prompt: Prompt, params: SamplingParams | None = None, *, visible_tokens: Collection[int] = frozenset()
    ) -> AsyncStream:
        """As LLM.stream: pieces to iterate over with `async for`. Raises BusyError."""
        return AsyncStream(self, Streamed(prompt, params, partial(self.llm.generation, visible_tokens=visible_tokens)))

    async def chat(
        self, messages: Sequence[Mapping[str, Any]], params: SamplingParams | None = None, **options: Any
    ) -> ChatCompletion:
        """As LLM.chat; also raises BusyError."""
        from pyinfer.chat import prepare_turn

        turn = prepare_turn(self.llm.tokenizer, messages, params, **options)
        job = self.llm.job(turn.prompt.tokens, turn.params, turn.visible_tokens)
        await self._run(job.requests)
        return turn.result(job.completion())

    def stream_chat(
        self, messages: Sequence[Mapping[str, Any]], params: SamplingParams | None = None, **options: Any
    ) -> AsyncChatStream:
        """As LLM.stream_chat: deltas to iterate over with `async for`. Raises BusyError."""
        from pyinfer.chat import AsyncChatStream, prepare_turn

        turn = prepare_turn(self.llm.tokenizer, messages, params, **options)
        return AsyncChatStream(
            turn, self.stream(turn.prompt.tokens, turn.one_text(), visible_tokens=turn.visible_tokens)
        )

    def submit(self, requests: Sequence[Generation]) -> News:
        """Have requests run, and what tells of their progress.

        Raises BusyError if too many wait, PyinferError once closed.
        """
        self._admit(len(requests))
        news = News()
        for request in requests:
            request.on_news = news.tell
        with self._work:
            if self._stopping:
                raise PyinferError("the AsyncLLM is closed")
            self.llm.scheduler.submit(requests, self._caller)
            self._open.update(requests)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="pyinfer", daemon=True)
                self._thread.start()
            self._work.notify()
        return news

    def _admit(self, n_requests: int) -> None:
        """Raises BusyError if so many more are too many."""
        self._open.difference_update([request for request in list(self._open) if request.finished])
        n_open = len(self._open)
        if n_open + n_requests > self._max_open:
            raise BusyError(
                f"{n_open} requests are under way and {n_requests} more came; "
                f"expected at most {self._max_open} (n_seqs and max_waiting)"
            )

    def end(self, requests: Sequence[Generation]) -> None:
        """Cancel what is not finished, and forget the rest."""
        self._open.difference_update(requests)
        if unfinished := [request for request in requests if not request.finished]:
            self.llm._scheduler.cancel(unfinished)

    def resume(self) -> None:
        """Go on with requests that were paused."""
        with self._work:
            self._work.notify()

    def before_fork(self) -> None:
        """The scheduler sees to it that no step is under way."""

    def after_fork(self, in_child: bool) -> None:
        """In a child the thread is gone, and with it what it did."""
        if in_child:
            self._thread, self._work = None, threading.Condition()
            self._open.clear()

    def _has_work(self) -> bool:
        return any(not request.finished and not request.paused for request in list(self._open))

    def _serve(self) -> None:
        while True:
            with self._work:
                while not self._stopping and not self._has_work():
                    self._work.wait()
                if self._stopping:
                    return
            open_now = list(self._open)
            try:
                self.llm.scheduler.wait(lambda: self._stopping or not self._has_work())
            except BaseException as error:  # nobody else would hear of it
                for request in open_now:
                    request.fail(error)
                self.end(open_now)


class News:
    """Wakes a task of the running event loop, from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def tell(self) -> None:
        if not self._event.is_set():
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
                self._loop.call_soon_threadsafe(self._event.set)

    async def wait_for(self, ready: Callable[[], bool]) -> None:
        """Return once ready(), which is asked again after each piece of news."""
        while not ready():
            self._event.clear()
            if not ready():
                await self._event.wait()


class AsyncStream(AsyncIterator[Piece]):
    """The pieces of a prompt's text, or texts, as they are generated; `completion` is there once they have all come.

    A consumer that is behind makes it pause. Left early, it ends when it is closed (`aclose`, an `async with` block) or
    collected, or its task cancelled while it waits for a piece.
    """

    def __init__(self, owner: AsyncLLM, streamed: Streamed) -> None:
        self._owner = owner
        self._streamed = streamed
        self._closed = False
        self._news = owner.submit(streamed.requests)

    @property
    def completion(self) -> Completion | None:
        return self._streamed.completion

    async def __anext__(self) -> Piece:
        streamed = self._streamed
        try:
            await self._news.wait_for(lambda: streamed.ready)
        except BaseException:
            self._close()
            raise
        if streamed.pieces:
            was_paused = len(streamed.pieces) >= MAX_AHEAD
            piece = streamed.pieces.popleft()
            if was_paused:
                self._owner.resume()
            return piece
        error = None if self._closed else streamed.error
        self._close()
        if error is not None:
            raise error
        raise StopAsyncIteration

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close()

    async def aclose(self) -> None:
        """End the texts where they are."""
        self._close()

    def _close(self) -> None:
        self._closed = True
        self._owner.end(self._streamed.requests)
        self._streamed.pieces.clear()

    def __del__(self) -> None:
        streamed = self.__dict__.get("_streamed")
        if streamed is not None and streamed.unfinished:
            streamed.pieces.clear()
            for request in streamed.unfinished:
                self._owner.llm._scheduler.cancel_later(request)


def _close(reference: weakref.ref[AsyncLLM]) -> None:
    llm = reference()
    if llm is not None:
        llm.close()
