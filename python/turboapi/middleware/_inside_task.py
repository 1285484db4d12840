"""The tasks in which the inside of `@app.middleware("http")` runs, and their lifetime.

With Starlette's `BaseHTTPMiddleware` the inside runs in a task of a task group that is open as long
as the middleware: a caller that stops waiting for `call_next` (a timeout, a cancelled task) does
not stop the endpoint; when the middleware answers, the inside gets `http.disconnect` and its end is
awaited; when it fails, the inside is cancelled. `Level` is that group, but its tasks begin at once,
and one that never waits has ended before anybody had to know of it.
"""

from __future__ import annotations

import asyncio
import sys
import types
from asyncio import tasks as asyncio_tasks
from collections.abc import Awaitable, Callable, Generator
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from starlette.types import Message

from turboapi import _core

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future, Task

_T = TypeVar("_T")


def _start_eagerly(loop: AbstractEventLoop, coro: Any, context: Context) -> Task[Any]:
    make: Any = asyncio.Task
    task: Task[Any] = make(coro, loop=loop, context=context, eager_start=True)
    return task


def _start_by_hand(loop: AbstractEventLoop, coro: Any, context: Context) -> Task[Any]:
    """Python 3.11: makes the first step here, if it can, in place of the one in the queue."""
    task: Task[Any] = asyncio.Task(coro, loop=loop, context=context)
    internals: Any = asyncio_tasks
    ready: Any = getattr(loop, "_ready", None)
    handle: Any = ready[-1] if ready else None
    step: object = getattr(getattr(handle, "_callback", None), "__self__", None)
    if step is not task:
        return task  # not asyncio's own loop: it begins with the loop's next turn
    # It stays in the queue, cancelled: other threads may have put theirs behind it by now.
    first = asyncio.Handle(handle._callback, handle._args, loop, handle._context)
    handle.cancel()
    current = asyncio.current_task(loop)
    if current is not None:
        internals._leave_task(loop, current)
    try:
        first._run()
    finally:
        if current is not None:
            internals._enter_task(loop, current)
    return task


def _start_later(loop: AbstractEventLoop, coro: Any, context: Context) -> Task[Any]:
    return asyncio.Task(coro, loop=loop, context=context)


_BY_HAND = hasattr(asyncio_tasks, "_leave_task") and hasattr(asyncio_tasks, "_enter_task")
_start: Callable[[AbstractEventLoop, Any, Context], Task[Any]] = (
    _start_eagerly if sys.version_info >= (3, 12) else _start_by_hand if _BY_HAND else _start_later
)


def start(loop: AbstractEventLoop, coro: Any, context: Context) -> Task[Any]:
    """Return a task that has begun, if that is possible: with the loop's factory, if it has one."""
    if loop.get_task_factory() is None:
        return _start(loop, coro, context)
    return loop.create_task(coro, context=context)


# How C begins a task with asyncio's own class; None: `start` does it.
EAGER = ("loop", "context", "eager_start") if sys.version_info >= (3, 12) else None


class Level(_core.HTTPLevel):
    """What one middleware has inside of it, for one request.

    Attributes:
        _parent: that of the middleware outside of this one, or None.
        _running: the tasks of calls of `call_next` that somebody may still wait for.
        _responses: responses of the inside, inner ones first, to be finished when the response was
            sent.
        _left: nothing may begin any more: the middleware is over.
    """

    __slots__ = ()

    def add(self, response: ToFinish) -> None:
        """Something has to be done for the response after the one to the client was sent."""
        if self._left and self._parent is not None:
            self._parent.add(response)
        else:
            self._responses.append(response)

    def _adopt(self, tasks: list[Task[Any]]) -> None:
        if self._left and self._parent is not None:
            self._parent._adopt(tasks)
        else:
            self._running.extend(tasks)

    async def _wait(self, task: Task[Any]) -> Any:
        """Return what the task does; a caller that stops waiting does not stop it.

        Raises:
            RuntimeError: the task was cancelled from inside.
        """
        try:
            if not task.done():
                self._running.append(task)
                await _End(task)
                if task in self._running:  # not left to those outside
                    self._running.remove(task)
            if task.cancelled():
                raise RuntimeError("No response returned.")
            return task.result()
        finally:
            del task  # a cycle, with its exception's traceback

    def leave(self) -> None:
        """Let what still runs continue, to be awaited later: the middleware has its response."""
        self._left = True
        if self._parent is not None:
            for response in self._responses:
                self._parent.add(response)
            self._responses.clear()
            if self._running:
                self._parent._adopt(self._running)
                self._running.clear()

    async def end(self) -> None:
        """Cancel what still runs and await it: the middleware has failed."""
        self._left = True
        tasks = self._running
        for response in self._responses:
            if (task := response.abandon()) is not None:
                tasks.append(task)
        self._responses.clear()
        if tasks:
            await _end(tasks)


class Exit:
    """What would end the loop when it left a task: it is an error of the request."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class ToFinish(Protocol):
    """A response of the inside."""

    async def finish(self) -> None:
        """Do what remains to be done after it."""

    def abandon(self) -> Task[Any] | None:
        """Note that the request has failed; return the task to cancel and to await."""


class Flight(Level):
    """What the outermost middleware has inside of it: one request on its way.

    Attributes:
        answered: the response was sent.
    """

    __slots__ = ()

    async def receive_inside(self) -> Message:
        """Return what the inside receives: `http.disconnect` once the response was sent."""
        message = None
        if not self.answered:
            message = await self._until_answered(self.request.wrapped_receive())
        return {"type": "http.disconnect"} if message is None or self.answered else message

    @types.coroutine
    def _until_answered(self, awaitable: Awaitable[_T]) -> Generator[Any, Any, _T | None]:
        """Await it in the current task; give up and return None when the response was sent."""
        steps: Any = awaitable.__await__()
        thrown: BaseException | None = None
        given_up = False
        while True:
            try:
                waited = steps.send(None) if thrown is None else steps.throw(thrown)
            except StopIteration as stop:
                return None if given_up else cast("_T", stop.value)
            except asyncio.CancelledError:
                if given_up:
                    return None
                raise
            thrown = None
            try:
                if getattr(waited, "_asyncio_future_blocking", None):
                    waited._asyncio_future_blocking = False
                    yield from self._either(waited)
                else:
                    yield waited
            except BaseException as exc:  # for the awaitable, as if it had waited itself
                thrown, given_up = exc, False
            else:
                if self.answered and not given_up:
                    given_up = not _is_over(waited)
                    thrown = asyncio.CancelledError() if given_up else None
            if thrown is not None and not _is_over(waited):
                waited.cancel()

    def _either(self, future: Future[Any]) -> Generator[Any, Any, None]:
        """Wait until the future is done or the response was sent."""
        done = asyncio.get_running_loop().create_future()
        wake = partial(_wake, done)
        future.add_done_callback(wake)
        self._waiting.append(done)
        try:
            yield from done.__await__()
        finally:
            self._waiting.remove(done)
            future.remove_done_callback(wake)

    async def land(self) -> None:
        """Let what runs inside end, after the response was sent; raise what it raises."""
        self._left = self.answered = True
        for waiting in self._waiting:
            _wake(waiting)
        error: BaseException | None = None
        while self._responses or self._running:
            if self._responses:
                try:
                    await self._responses.pop().finish()
                except Exception as exc:
                    error = exc
                continue
            done, _ = await asyncio.wait(self._running)
            # Those who waited for some of them have taken these from the list.
            for task in [task for task in self._running if task in done]:
                self._running.remove(task)
                found = None if task.cancelled() else task.exception()
                if isinstance(found, Exception):
                    error = found
                elif found is None and not task.cancelled() and isinstance(task.result(), Exit):
                    error = task.result().error
        if error is not None:
            try:
                raise error
            finally:
                del error  # a cycle, with its traceback


class _End:
    """Await the end of a task without cancelling it when the waiting task is cancelled.

    To the waiting task this looks like a future; its wake-up is a callback of the other task.
    """

    __slots__ = ("_asyncio_future_blocking", "_cancelled", "_context", "_task", "_wake_up")

    def __init__(self, task: Task[Any]) -> None:
        self._task = task
        self._cancelled: asyncio.CancelledError | None = None
        self._asyncio_future_blocking = False

    def __await__(self) -> Generator[Any, Any, None]:
        self._asyncio_future_blocking = True
        yield self

    def get_loop(self) -> AbstractEventLoop:
        return self._task.get_loop()

    def done(self) -> bool:
        return self._cancelled is not None or self._task.done()

    def result(self) -> None:
        if self._cancelled is not None:
            raise self._cancelled

    def add_done_callback(
        self, wake_up: Callable[[Any], object], *, context: Context | None = None
    ) -> None:
        self._wake_up = wake_up
        self._context = context
        self._task.add_done_callback(self._over, context=context)

    def _over(self, _: object) -> None:
        self._wake_up(self)

    def cancel(self, msg: object = None) -> bool:
        if self.done():
            return False
        self._cancelled = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        self._task.remove_done_callback(self._over)
        self.get_loop().call_soon(self._wake_up, self, context=self._context)
        return True


def _wake(waiting: Future[None], _: object = None) -> None:
    if not waiting.done():
        waiting.set_result(None)


def _is_over(future: Any) -> bool:
    return not hasattr(future, "done") or future.done()


async def _end(tasks: list[Task[Any]]) -> None:
    """Cancel the tasks and wait for their end, whatever happens meanwhile."""
    cancelled: asyncio.CancelledError | None = None
    for task in tasks:
        task.cancel()
    while pending := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as exc:
            cancelled = exc
            for task in pending:
                task.cancel()
    for task in tasks:
        if not task.cancelled():
            task.exception()  # looked at: the middleware's own is what counts
    tasks.clear()
    if cancelled is not None:
        raise cancelled
