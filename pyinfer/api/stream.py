"""Streams of text: pieces to iterate over while a prompt's texts are generated."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Protocol

from pyinfer.api.job import samples_of, with_choices
from pyinfer.errors import ParameterError
from pyinfer.sampling.params import SamplingParams
from pyinfer.scheduling.scheduler import Scheduler
from pyinfer.scheduling.waiter import Waiter
from pyinfer.tasks.generation import MAX_AHEAD, Generation
from pyinfer.tasks.prompt import Prompt
from pyinfer.tasks.results import Completion, Piece


class MakeTask(Protocol):
    def __call__(self, prompt: Prompt, params: SamplingParams, *, pieces: deque[Piece], index: int) -> Generation: ...


class Streamed:
    """The tasks of one prompt's texts, and a queue of their pieces, in the order in which they were generated.

    `make` returns the task for one text. Raises what `make` and `streamed_samples` raise.
    """

    def __init__(self, prompt: Prompt, params: SamplingParams | None, make: MakeTask) -> None:
        samples = streamed_samples(params)
        self.pieces: deque[Piece] = deque()
        self.tasks = [make(prompt, each, pieces=self.pieces, index=i) for i, each in enumerate(samples)]
        self.cancelled = False  # before all pieces were popped
        self._keeps_logprobs = params is not None and params.logprobs is not None

    @property
    def unfinished(self) -> list[Generation]:
        return [task for task in self.tasks if not task.finished]

    @property
    def ready(self) -> bool:
        """Whether there is a piece to pop, or nothing left to wait for."""
        return bool(self.pieces) or all(task.finished for task in self.tasks) or self.error is not None

    @property
    def error(self) -> BaseException | None:
        return next((task.error for task in self.tasks if task.error is not None), None)

    @property
    def completion(self) -> Completion | None:
        """The first text's completion, with all texts as its choices where there are several.

        None until all pieces were popped.
        """
        if self.cancelled or self.pieces:
            return None
        done = [task.completion for task in self.tasks if task.completion is not None]
        return with_choices(done, len(done), self._keeps_logprobs) if len(done) == len(self.tasks) else None

    def cancel(self, scheduler: Scheduler) -> None:
        """End the texts where they are. Nothing changes if all their pieces were popped."""
        self.cancelled = self.cancelled or bool(self.pieces or self.unfinished)
        scheduler.cancel(self.tasks)
        self.pieces.clear()

    def pop(self, scheduler: Scheduler) -> Piece:
        """Return the next piece. If the texts had paused because the queue was full, they go on."""
        had_paused = len(self.pieces) >= MAX_AHEAD
        piece = self.pieces.popleft()
        if had_paused:
            scheduler.resume()
        return piece


def streamed_samples(params: SamplingParams | None) -> list[SamplingParams]:
    """Return the parameters of each text of a stream.

    Raises ParameterError for a `best_of` above `n`: which texts are the best is not known before they end.
    """
    own = SamplingParams() if params is None else params
    samples = samples_of(own)
    if len(samples) > own.n:
        raise ParameterError(f"best_of is {own.best_of}; a stream gives all texts that are made, and n is {own.n}")
    return samples


class Stream(Iterator[Piece]):
    """Iterate over the pieces of a prompt's text, or of its `n` texts, while they are generated.

    - `completion`: the Completion, once all pieces have come; None before.

    To end a stream early, call `close`, or leave the `with` block that the stream is used in: other requests then have
    its slot at once. A stream that nobody reads pauses after some pieces, and other requests go on.

        with llm.stream("Once upon a time") as stream:
            print("".join(piece.text for piece in stream), stream.completion.finish_reason)
    """

    def __init__(self, scheduler: Scheduler, streamed: Streamed) -> None:
        self._scheduler = scheduler
        self._streamed = streamed
        self._waiter = Waiter(len(streamed.tasks), each_step=True)
        scheduler.submit(streamed.tasks, self._waiter)

    @property
    def completion(self) -> Completion | None:
        return self._streamed.completion

    def __next__(self) -> Piece:
        streamed = self._streamed
        if streamed.cancelled:
            raise StopIteration
        if not streamed.ready:
            try:
                self._scheduler.check_waiting()
                self._waiter.wait(lambda: streamed.ready)
            except BaseException:
                self.close()
                raise
        if streamed.pieces:
            return streamed.pop(self._scheduler)
        if streamed.error is not None:
            self.close()
            streamed.cancelled = True
            raise streamed.error
        raise StopIteration

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the texts where they are."""
        self._streamed.cancel(self._scheduler)

    def __del__(self) -> None:
        streamed = self.__dict__.get("_streamed")
        if streamed is not None:
            self._scheduler.cancel(streamed.tasks)
