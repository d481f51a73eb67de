"""`AsyncLLM`: a model for programs on asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, overload

from pyinfer.api.async_stream import AsyncStream, AsyncWaiter, Place
from pyinfer.api.chat import AsyncChatStream
from pyinfer.api.job import Job, Params
from pyinfer.api.llm import LLM
from pyinfer.api.stream import Streamed, streamed_samples
from pyinfer.arguments import check_integer
from pyinfer.chat.calls import ChatCompletion, Turn, prepare_turn
from pyinfer.errors import BusyError, ParameterError, PyinferError
from pyinfer.sampling.params import SamplingParams
from pyinfer.tasks.prompt import Prompt
from pyinfer.tasks.results import Completion


class AsyncLLM:
    """An LLM whose calls are awaited. A call that is cancelled gives its place back within a step.

        async with AsyncLLM("model.gguf") as llm:
            async for piece in llm.stream("Once upon a time"):
                print(piece.text, end="", flush=True)
            one, other = await llm.generate(["In the beginning", "At last"])

    The event loop does nothing but wait: the model's own thread computes, and worker threads read prompts, templates
    and guides.

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
        self._places: set[Place] = set()
        self._lock = threading.Lock()  # guards the places
        self._closed = False

    async def __aenter__(self) -> AsyncLLM:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """End requests under way with an error, and close the model if it was loaded here."""
        with self._lock:
            self._closed = True
            places = list(self._places)
        if self._owns:
            self.llm.close()
        else:
            for place in places:
                place.leave(self.llm.scheduler)

    @overload
    async def generate(self, prompt: Prompt, params: SamplingParams | None = None) -> Completion: ...  # type: ignore[overload-overlap]
    @overload
    async def generate(self, prompt: Sequence[Prompt], params: Params = None) -> list[Completion]: ...
    async def generate(self, prompt: Prompt | Sequence[Prompt], params: Params = None) -> Completion | list[Completion]:
        """As LLM.generate; also raises BusyError."""
        job = await self._run(lambda admit: self.llm.job(prompt, params, admit=admit))
        return job.result()

    async def chat(
        self, messages: Sequence[Mapping[str, Any]], params: SamplingParams | None = None, **options: Any
    ) -> ChatCompletion:
        """As LLM.chat; also raises BusyError."""
        turns: list[Turn] = []

        def make(admit: Callable[[int], None]) -> Job:
            turn = prepare_turn(self.llm.tokenizer, messages, params, **options)
            turns.append(turn)
            return self.llm.job(turn.prompt.tokens, turn.params, turn.visible_tokens, admit)

        job = await self._run(make)
        return await asyncio.to_thread(turns[0].result, job.completion())

    def stream(
        self, prompt: Prompt, params: SamplingParams | None = None, *, visible_tokens: Collection[int] = frozenset()
    ) -> AsyncStream:
        """As LLM.stream: pieces to iterate over with `async for`.

        Raises BusyError, and ParameterError for a best_of above n and for an empty text; what else LLM.stream raises
        is raised by the first piece, once the prompt was read.
        """
        n = len(streamed_samples(params))
        if isinstance(prompt, str) and not prompt:
            self.llm.token_ids(prompt)
        make = partial(self.llm.generation, visible_tokens=visible_tokens)
        return self._stream(n, lambda: Streamed(prompt, params, make))

    def stream_chat(
        self, messages: Sequence[Mapping[str, Any]], params: SamplingParams | None = None, **options: Any
    ) -> AsyncChatStream:
        """As LLM.stream_chat: deltas to iterate over with `async for`.

        Raises BusyError; what LLM.stream_chat raises is raised by the first delta, once the messages were read.
        """

        def begin(set_turn: Callable[[Turn], None]) -> AsyncStream:
            def make() -> Streamed:
                turn = prepare_turn(self.llm.tokenizer, messages, params, **options)
                make_task = partial(self.llm.generation, visible_tokens=turn.visible_tokens)
                streamed = Streamed(turn.prompt.tokens, turn.one_text(), make_task)
                set_turn(turn)
                return streamed

            return self._stream(1, make)

        return AsyncChatStream(begin)

    def _stream(self, n: int, make: Callable[[], Streamed]) -> AsyncStream:
        scheduler, place = self.llm.scheduler, Place()
        self._admit(place, n)
        return AsyncStream(scheduler, make, place)

    async def _run(self, make: Callable[[Callable[[int], None]], Job]) -> Job:
        """Make a job, which asks to be admitted, in a worker thread, and run it to its end, or until this is
        cancelled."""
        scheduler, place, waiter = self.llm.scheduler, Place(), AsyncWaiter()

        def begin() -> Job:
            job = make(partial(self._admit, place))
            place.submit(job.tasks, scheduler, waiter)
            return job

        try:
            job = await asyncio.to_thread(begin)
            await waiter.until(lambda: waiter.failed or waiter.n_ended == len(job.tasks))
        finally:
            place.leave(scheduler)
        for task in job.tasks:
            if task.error is not None:
                raise task.error
        return job

    def _admit(self, place: Place, n: int) -> None:
        """Give a call a place for n tasks. BusyError if they are too many, PyinferError once closed."""
        with self._lock:
            if self._closed:
                raise PyinferError("the AsyncLLM is closed")
            self._places = {other for other in self._places if other.n_open}
            n_open = sum(other.n_open for other in self._places)
            if n_open + n > self._max_open:
                raise BusyError(
                    f"{n_open} requests are under way and {n} more came; "
                    f"expected at most {self._max_open} (n_seqs and max_waiting)"
                )
            place.n = n
            self._places.add(place)
