"""Waiting on asyncio: for a model's requests, and for the pieces of a stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from pyinfer.api.stream import Streamed
from pyinfer.scheduling.scheduler import Scheduler
from pyinfer.scheduling.task import Task
from pyinfer.scheduling.waiter import Waiter
from pyinfer.tasks.results import Completion, Piece


class AsyncWaiter(Waiter):
    """A coroutine of the running event loop that waits for its requests, where a Waiter is a thread."""

    def __init__(self, each_step: bool = False) -> None:
        super().__init__(0, each_step)
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._told = False

    def wake(self) -> None:
        if not self._told:
            self._told = True
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
                self._loop.call_soon_threadsafe(self._event.set)

    async def until(self, ready: Callable[[], bool]) -> None:
        """Return once ready(), which is asked again at each wake-up."""
        while not ready():
            self._event.clear()
            self._told = False
            if not ready():
                await self._event.wait()


class Place:
    """The room that a call's n tasks take among those of an AsyncLLM.

    left: nobody wants them any more. tasks: once they are made, in a worker thread.
    """

    def __init__(self) -> None:
        self.n = 0
        self.tasks: Sequence[Task] = ()
        self.left = False

    @property
    def n_open(self) -> int:
        """Tasks that are not finished."""
        return 0 if self.left else self.n - sum(task.finished for task in self.tasks)

    def submit(self, tasks: Sequence[Task], scheduler: Scheduler, waiter: Waiter) -> None:
        """Have the tasks run, unless they were left meanwhile."""
        waiter.expect(len(tasks))
        self.tasks = tasks
        if not self.left:
            scheduler.submit(tasks, waiter)

    def leave(self, scheduler: Scheduler) -> None:
        """End the tasks; if they are just being submitted, as soon as they are."""
        self.left = True
        scheduler.cancel(self.tasks)


class Beginning:
    """The texts of a stream, from the call that asks for them until they run.

    They are made in a worker thread, since reading a prompt or a guide takes time that the event loop does not have.
    """

    def __init__(self, scheduler: Scheduler, make: Callable[[], Streamed], place: Place, waiter: Waiter) -> None:
        self.scheduler = scheduler
        self.place = place
        self.streamed: Streamed | None = None
        self._make = make
        self._waiter = waiter

    def run(self) -> None:
        try:
            streamed = self._make()
            self.place.submit(streamed.tasks, self.scheduler, self._waiter)
            self.streamed = streamed
        except BaseException:
            self.place.left = True
            raise


class AsyncStream(AsyncIterator[Piece]):
    """The pieces of a prompt's text, or texts, as they are generated; `completion` is there once they have all come.

    A consumer that is behind makes it pause. Left early, it ends when it is closed (`aclose`, an `async with` block) or
    collected, or its task cancelled while it waits for a piece.

    make() gives the texts; what it raises, the first piece raises.
    """

    def __init__(self, scheduler: Scheduler, make: Callable[[], Streamed], place: Place) -> None:
        self._left = False
        self._waiter = AsyncWaiter(each_step=True)
        self._beginning = Beginning(scheduler, make, place, self._waiter)
        self._begun = asyncio.get_running_loop().run_in_executor(None, self._beginning.run)

    @property
    def completion(self) -> Completion | None:
        streamed = self._beginning.streamed
        return None if streamed is None or self._left else streamed.completion

    async def begun(self) -> None:
        """Return once the texts run, or raise what kept them from it."""
        if self._beginning.streamed is None and not self._left:
            try:
                await asyncio.shield(self._begun)
            except BaseException:
                self._leave()
                raise

    async def __anext__(self) -> Piece:
        await self.begun()
        streamed = self._beginning.streamed
        if streamed is None or self._left:
            raise StopAsyncIteration
        try:
            await self._waiter.until(lambda: streamed.ready or self._left)
        except BaseException:
            self._leave()
            raise
        if self._left:
            raise StopAsyncIteration
        if streamed.pieces:
            return streamed.take(self._beginning.scheduler)
        if streamed.error is not None:
            self._leave()
            raise streamed.error
        raise StopAsyncIteration

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    async def aclose(self) -> None:
        """End the texts where they are."""
        self._leave()

    def _leave(self) -> None:
        streamed = self._beginning.streamed
        if streamed is None or streamed.pieces or streamed.unfinished or streamed.error is not None:
            self._left = True
        self._beginning.place.leave(self._beginning.scheduler)
        if streamed is None:
            self._begun.add_done_callback(retrieve)
        else:
            streamed.leave(self._beginning.scheduler)
        self._waiter.wake()

    def __del__(self) -> None:
        if (beginning := self.__dict__.get("_beginning")) is not None:
            beginning.place.leave(beginning.scheduler)


def retrieve(begun: asyncio.Future[None]) -> None:
    """Look at an error that nobody waits for, of which asyncio would complain otherwise."""
    if not begun.cancelled():
        begun.exception()
