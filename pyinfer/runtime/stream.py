"""A text piece by piece, for who iterates over it."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

from pyinfer.runtime.generation import Completion, Generation, Piece
from pyinfer.runtime.request import Caller
from pyinfer.runtime.scheduler import Scheduler


class Stream(Iterator[Piece]):
    """The pieces of a text as they are generated; `completion` is there once they have all come.

    Whoever leaves it early may close it, by `close` or by a `with` block, so that its place is free at once. One that
    nobody reads pauses and holds up nobody.
    """

    def __init__(self, scheduler: Scheduler, generation: Generation) -> None:
        self._scheduler = scheduler
        self._generation = generation
        self._caller = Caller()
        self._closed = False
        scheduler.submit([generation], self._caller)

    @property
    def completion(self) -> Completion | None:
        return self._generation.completion

    def __next__(self) -> Piece:
        generation = self._generation
        if not generation.pieces and not generation.finished:
            try:
                self._scheduler.wait(lambda: generation.ready)
            except BaseException:
                self.close()
                raise
        if generation.pieces:
            return generation.pieces.popleft()
        if generation.error is not None and not self._closed:
            self._closed = True
            raise generation.error
        raise StopIteration

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the text where it is."""
        self._closed = True
        self._generation.pieces.clear()
        if not self._generation.finished:
            self._scheduler.cancel([self._generation])

    def __del__(self) -> None:
        generation = self.__dict__.get("_generation")
        if generation is not None and not generation.finished:
            self._scheduler.cancel_later(generation)
