"""Texts piece by piece, for who iterates over them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Protocol

from pyinfer.api.job import Prompt, samples_of, with_choices
from pyinfer.errors import ParameterError
from pyinfer.sampling.params import SamplingParams
from pyinfer.scheduling.request import Caller
from pyinfer.scheduling.scheduler import Scheduler
from pyinfer.tasks.generation import Completion, Generation, Piece


class MakeStreamed(Protocol):
    def __call__(self, prompt: Prompt, params: SamplingParams, *, pieces: deque[Piece], index: int) -> Generation: ...


class Streamed:
    """The texts of one prompt, and their pieces in the order in which they came, until someone takes them.

    make: gives the request for one text. Raises what it raises, and ParameterError for a best_of above n: which texts
    are the best is not known before they end.
    """

    def __init__(self, prompt: Prompt, params: SamplingParams | None, make: MakeStreamed) -> None:
        own = SamplingParams() if params is None else params
        samples = samples_of(own)
        if len(samples) > own.n:
            raise ParameterError(f"best_of is {own.best_of}; a stream gives all texts that are made, and n is {own.n}")
        self.pieces: deque[Piece] = deque()
        self.requests = [make(prompt, each, pieces=self.pieces, index=i) for i, each in enumerate(samples)]
        self._keeps_logprobs = own.logprobs is not None

    @property
    def unfinished(self) -> list[Generation]:
        return [request for request in self.requests if not request.finished]

    @property
    def ready(self) -> bool:
        """Whether there is something to take, or nothing to wait for."""
        return bool(self.pieces) or not self.unfinished or self.error is not None

    @property
    def error(self) -> BaseException | None:
        return next((request.error for request in self.requests if request.error is not None), None)

    @property
    def completion(self) -> Completion | None:
        """That of the first text, with all of them as its choices where they are several; None before all have come."""
        done = [request.completion for request in self.requests if request.completion is not None]
        return with_choices(done, len(done), self._keeps_logprobs) if len(done) == len(self.requests) else None


class Stream(Iterator[Piece]):
    """The pieces of a prompt's text, or texts, as they are generated; `completion` is there once they have all come.

    Whoever leaves it early may close it, by `close` or by a `with` block, so that its place is free at once. One that
    nobody reads pauses and holds up nobody.
    """

    def __init__(self, scheduler: Scheduler, streamed: Streamed) -> None:
        self._scheduler = scheduler
        self._streamed = streamed
        self._closed = False
        scheduler.submit(streamed.requests, Caller())

    @property
    def completion(self) -> Completion | None:
        return self._streamed.completion

    def __next__(self) -> Piece:
        streamed = self._streamed
        if not streamed.ready:
            try:
                self._scheduler.wait(lambda: streamed.ready)
            except BaseException:
                self.close()
                raise
        if streamed.pieces:
            return streamed.pieces.popleft()
        if streamed.error is not None and not self._closed:
            self.close()
            raise streamed.error
        raise StopIteration

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the texts where they are."""
        self._closed = True
        self._streamed.pieces.clear()
        if unfinished := self._streamed.unfinished:
            self._scheduler.cancel(unfinished)

    def __del__(self) -> None:
        streamed = self.__dict__.get("_streamed")
        for request in [] if streamed is None else streamed.unfinished:
            self._scheduler.cancel_later(request)
