"""`AsyncLLM`: a model for programs on asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, overload

from pyinfer.api.async_stream import Admission, AsyncStream, AsyncWaiter
from pyinfer.api.chat import AsyncChatStream
from pyinfer.api.chat_job import Chat, ChatJob
from pyinfer.api.job import Job, Params
from pyinfer.api.llm import LLM
from pyinfer.api.stream import Streamed, streamed_samples
from pyinfer.arguments import check_integer
from pyinfer.chat.calls import ChatCompletion, Turn, prepare_turn
from pyinfer.errors import BusyError, ParameterError, PyinferError
from pyinfer.sampling.params import SamplingParams
from pyinfer.tasks.prompt import Prompt
from pyinfer.tasks.results import Completion

AnyJob = TypeVar("AnyJob", Job, ChatJob)


class AsyncLLM:
    """Load a model, or use an LLM, for programs on asyncio.

    The event loop only waits: the engine thread computes, and worker threads tokenize prompts, render templates and
    compile guides. A call that is cancelled ends its requests within a step.

    - `model`: a file or a name, as LLM takes it; or an LLM, which other code may use, too, and which stays open.
    - `max_waiting` (1024; at least 0): how many requests may wait, beyond the `n_seqs` that run; a call that would
      exceed this raises BusyError.
    - `options`: LLM's other arguments, where `model` is no LLM.

    Raises what LLM raises, and ParameterError for options beside an LLM.

        async with AsyncLLM("model.gguf") as llm:
            async for piece in llm.stream("Once upon a time"):
                print(piece.text, end="", flush=True)
            one, other = await llm.generate(["In the beginning", "At last"])
    """

    def __init__(self, model: str | Path | LLM, max_waiting: int = 1024, **options: Any) -> None:
        if isinstance(model, LLM) and options:
            raise ParameterError(f"{', '.join(options)}: options are for models that are loaded from a path")
        check_integer("max_waiting", max_waiting, 0, None, "a whole number of at least 0")
        self._owns = not isinstance(model, LLM)
        self.llm = model if isinstance(model, LLM) else LLM(model, **options)
        self._max_open = self.llm.engine.n_seqs + max_waiting
        self._admissions: set[Admission] = set()
        self._lock = threading.Lock()  # guards the admissions
        self._closed = False

    def __repr__(self) -> str:
        return f"AsyncLLM({self.llm!r})"

    async def __aenter__(self) -> AsyncLLM:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """End requests under way with an error, and close the model if it was loaded here."""
        with self._lock:
            self._closed = True
            admissions = list(self._admissions)
        if self._owns:
            self.llm.close()
        else:
            for admission in admissions:
                admission.cancel(self.llm.scheduler)

    @overload
    async def generate(self, prompt: Prompt, params: SamplingParams | None = None) -> Completion: ...  # type: ignore[overload-overlap]
    @overload
    async def generate(self, prompt: Iterable[Prompt], params: Params = None) -> list[Completion]: ...
    async def generate(self, prompt: Prompt | Iterable[Prompt], params: Params = None) -> Completion | list[Completion]:
        """Generate as `LLM.generate` does, without its `progress`. Also raises BusyError."""
        job = await self._run(lambda admit: self.llm.job(prompt, params, admit=admit))
        return job.result()

    @overload
    async def chat(self, messages: Chat, params: SamplingParams | None = None, **options: Any) -> ChatCompletion: ...
    @overload
    async def chat(self, messages: Iterable[Chat], params: Params = None, **options: Any) -> list[ChatCompletion]: ...
    async def chat(
        self, messages: Chat | Iterable[Chat], params: Params = None, **options: Any
    ) -> ChatCompletion | list[ChatCompletion]:
        """Answer messages as `LLM.chat` does, without its `progress`. Also raises BusyError."""
        prepare = partial(prepare_turn, self.llm.tokenizer, **options)
        job = await self._run(lambda admit: ChatJob(messages, params, prepare, self.llm.job, admit))
        return await asyncio.to_thread(job.result)

    def stream(
        self, prompt: Prompt, params: SamplingParams | None = None, *, visible_tokens: Collection[int] = frozenset()
    ) -> AsyncStream:
        """Generate the text that follows one prompt, as `LLM.stream` does, and give its pieces to `async for`.

        - `prompt`, `params`, `visible_tokens`: as for `LLM.stream`.

        Returns an AsyncStream. Raises BusyError, and ParameterError for a `best_of` above `n` and for an empty text.
        The other errors of `LLM.stream` are raised when the first piece is awaited, after the prompt was tokenized.
        """
        n = len(streamed_samples(params))
        if isinstance(prompt, str) and not prompt:
            self.llm.token_ids(prompt)
        make = partial(self.llm.generation, visible_tokens=visible_tokens)
        return self._stream(n, lambda: Streamed(prompt, params, make))

    def stream_chat(
        self, messages: Sequence[Mapping[str, Any]], params: SamplingParams | None = None, **options: Any
    ) -> AsyncChatStream:
        """Answer messages as `LLM.stream_chat` does, and give the answer's deltas to `async for`.

        - `messages`, `params`, `options`: as for `LLM.stream_chat`.

        Returns an AsyncChatStream. Raises BusyError. The errors of `LLM.stream_chat` are raised when the first delta is
        awaited, after the messages were tokenized.
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
        scheduler, admission = self.llm.scheduler, Admission()
        self._admit(admission, n)
        return AsyncStream(scheduler, make, admission)

    async def _run(self, make: Callable[[Callable[[int], None]], AnyJob]) -> AnyJob:
        """Make a job and submit it in a worker thread, then wait until it has ended. Cancel it if this is cancelled.

        `make` calls its argument with the number of tasks, before it makes them, so that too many are refused early.
        """
        scheduler, admission, waiter = self.llm.scheduler, Admission(), AsyncWaiter()

        def begin() -> AnyJob:
            job = make(partial(self._admit, admission))
            admission.submit(job.tasks, scheduler, waiter)
            return job

        try:
            job = await asyncio.to_thread(begin)
            await waiter.until(lambda: waiter.failed or waiter.n_ended == len(job.tasks))
        finally:
            admission.cancel(scheduler)
        for task in job.tasks:
            if task.error is not None:
                raise task.error
        return job

    def _admit(self, admission: Admission, n: int) -> None:
        """Admit a call's n tasks. Raises BusyError if they are too many, PyinferError once this is closed."""
        with self._lock:
            if self._closed:
                raise PyinferError("the AsyncLLM is closed")
            self._admissions = {other for other in self._admissions if other.n_open}
            n_open = sum(other.n_open for other in self._admissions)
            if n_open + n > self._max_open:
                raise BusyError(
                    f"{n_open} requests are under way and {n} more came; "
                    f"expected at most {self._max_open} (n_seqs and max_waiting)"
                )
            admission.n = n
            self._admissions.add(admission)
