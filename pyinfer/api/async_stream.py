"""How a coroutine waits: for the requests of a call, and for the pieces of a stream."""

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
    """Waits in a coroutine of the running event loop, where a Waiter waits in a thread."""

    def __init__(self, each_step: bool = False) -> None:
        super().__init__(0, each_step)
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._notified = False

    def wake(self) -> None:
        if not self._notified:
            self._notified = True
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
                self._loop.call_soon_threadsafe(self._event.set)

    async def until(self, ready: Callable[[], bool]) -> None:
        """Return once `ready()` is true. It is asked again at each wake-up."""
        while not ready():
            self._event.clear()
            self._notified = False
            if not ready():
                await self._event.wait()


class Admission:
    """The `n` tasks of a call that an AsyncLLM has admitted: they count against its limit until they are finished.

    `tasks` is empty until a worker thread has made them. `cancelled`: nobody wants them any more.
    """

    def __init__(self) -> None:
        self.n = 0
        self.tasks: Sequence[Task] = ()
        self.cancelled = False

    @property
    def n_open(self) -> int:
        """How many tasks are not finished."""
        return 0 if self.cancelled else self.n - sum(task.finished for task in self.tasks)

    def submit(self, tasks: Sequence[Task], scheduler: Scheduler, waiter: Waiter) -> None:
        """Submit the tasks, unless they were cancelled before they were made."""
        waiter.expect(len(tasks))
        self.tasks = tasks
        if not self.cancelled:
            scheduler.submit(tasks, waiter)

    def cancel(self, scheduler: Scheduler) -> None:
        """End the tasks. Tasks that another thread submits at this moment end as soon as they are submitted."""
        self.cancelled = True
        scheduler.cancel(self.tasks)


class Start:
    """The start of a stream: a worker thread makes its tasks and submits them.

    It takes a thread because tokenizing a prompt or compiling a guide would block the event loop.
    """

    def __init__(
        self, scheduler: Scheduler, make: Callable[[], Streamed], admission: Admission, waiter: Waiter
    ) -> None:
        self.scheduler = scheduler
        self.admission = admission
        self.streamed: Streamed | None = None
        self._make = make
        self._waiter = waiter

    def run(self) -> None:
        try:
            streamed = self._make()
            self.admission.submit(streamed.tasks, self.scheduler, self._waiter)
            self.streamed = streamed
        except BaseException:
            self.admission.cancelled = True
            raise


class AsyncStream(AsyncIterator[Piece]):
    """Iterate with `async for` over the pieces of a prompt's text, or of its `n` texts, while they are generated.

    - `completion`: the Completion, once all pieces have come; None before.

    A stream pauses when its reader is too slow, and other requests go on. It ends early when it is closed (`aclose`, or
    the end of an `async with` block) or collected, or when the task that awaits a piece is cancelled.

    `make`, which a worker thread calls, returns the texts; the first piece raises what it raises.

        async with llm.stream("Once upon a time") as stream:
            first = await anext(stream)
    """

    def __init__(self, scheduler: Scheduler, make: Callable[[], Streamed], admission: Admission) -> None:
        self._cancelled = False
        self._waiter = AsyncWaiter(each_step=True)
        self._start = Start(scheduler, make, admission, self._waiter)
        self._started = asyncio.get_running_loop().run_in_executor(None, self._start.run)

    @property
    def completion(self) -> Completion | None:
        streamed = self._start.streamed
        return None if streamed is None or self._cancelled else streamed.completion

    async def started(self) -> None:
        """Return once the tasks are submitted, or raise the error that kept them from it."""
        if self._start.streamed is None and not self._cancelled:
            try:
                await asyncio.shield(self._started)
            except BaseException:
                self._cancel()
                raise

    async def __anext__(self) -> Piece:
        await self.started()
        streamed = self._start.streamed
        if streamed is None or self._cancelled:
            raise StopAsyncIteration
        try:
            await self._waiter.until(lambda: streamed.ready or self._cancelled)
        except BaseException:
            self._cancel()
            raise
        if self._cancelled:
            raise StopAsyncIteration
        if streamed.pieces:
            return streamed.pop(self._start.scheduler)
        if streamed.error is not None:
            self._cancel()
            raise streamed.error
        raise StopAsyncIteration

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._cancel()

    async def aclose(self) -> None:
        """End the texts where they are."""
        self._cancel()

    def _cancel(self) -> None:
        streamed = self._start.streamed
        if streamed is None or streamed.pieces or streamed.unfinished or streamed.error is not None:
            self._cancelled = True
        self._start.admission.cancel(self._start.scheduler)
        if streamed is None:
            self._started.add_done_callback(retrieve)
        else:
            streamed.cancel(self._start.scheduler)
        self._waiter.wake()

    def __del__(self) -> None:
        if (start := self.__dict__.get("_start")) is not None:
            start.admission.cancel(start.scheduler)


def retrieve(started: asyncio.Future[None]) -> None:
    """Read an error that nobody awaits; asyncio would report it as never retrieved."""
    if not started.cancelled():
        started.exception()
