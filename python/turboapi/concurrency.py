"""Threads and limits: Starlette's helpers, and what generator dependencies need."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from contextlib import asynccontextmanager as asynccontextmanager
from typing import TypeVar
from weakref import WeakKeyDictionary

import anyio.to_thread
from anyio import CancelScope, CapacityLimiter, Semaphore
from anyio.lowlevel import RunVar, checkpoint_if_cancelled
from starlette.concurrency import iterate_in_threadpool as iterate_in_threadpool
from starlette.concurrency import run_in_threadpool as run_in_threadpool
from starlette.concurrency import (
    run_until_first_complete as run_until_first_complete,  # pyright: ignore[reportUnknownVariableType]
)

_T = TypeVar("_T")


@asynccontextmanager
async def contextmanager_in_threadpool(
    cm: AbstractContextManager[_T],
) -> AsyncGenerator[_T, None]:
    """Run a blocking context manager's two halves in worker threads.

    The exit has a limiter of its own and is shielded: it must not wait for a thread that is
    held by somebody who waits for this very exit, nor be lost to a cancellation.
    """
    limiter = CapacityLimiter(1)

    async def leave(error: BaseException | None) -> bool:
        details = (type(error), error, error.__traceback__) if error else (None, None, None)
        suppressed: bool | None = False
        with CancelScope(shield=True):
            suppressed = await anyio.to_thread.run_sync(cm.__exit__, *details, limiter=limiter)
        return bool(suppressed)

    value = await run_in_threadpool(cm.__enter__)
    try:
        yield value
    except BaseException as error:
        if not await leave(error):
            raise
    else:
        await leave(None)


@asynccontextmanager
async def _asynccontextmanager_with_shielded_exit(
    cm: AbstractAsyncContextManager[_T], cleanup_scope: CancelScope
) -> AsyncGenerator[_T, None]:
    # `cleanup_scope` was entered before `cm`, so scopes that the dependency itself opened are
    # left in order; only the exit of `cm` is shielded from cancellation.
    before = cleanup_scope.shield
    try:
        async with cm as value:
            try:
                yield value
            finally:
                cleanup_scope.shield = True
    finally:
        cleanup_scope.shield = before
    # A task group below a shield may have swallowed a cancellation: raise it here.
    await checkpoint_if_cancelled()


class _DependencyConcurrency:
    """The identity of one ``Depends(max_concurrency=...)``; a semaphore for each event loop."""

    def __init__(self, max_concurrency: int) -> None:
        self.max_concurrency = max_concurrency

    def get_semaphore(self) -> Semaphore:
        try:
            semaphores = _dependency_semaphores.get()
        except LookupError:
            semaphores = WeakKeyDictionary[_DependencyConcurrency, Semaphore]()
            _dependency_semaphores.set(semaphores)
        semaphore = semaphores.get(self)
        if semaphore is None:
            semaphore = semaphores[self] = Semaphore(self.max_concurrency)
        return semaphore


# Weak keys: the semaphore goes with its declaration.
_dependency_semaphores: RunVar[WeakKeyDictionary[_DependencyConcurrency, Semaphore]] = RunVar(
    "turboapi_dependency_semaphores"
)


@asynccontextmanager
async def _contextmanager_with_concurrency_limit(
    cm: AbstractAsyncContextManager[_T], semaphore: Semaphore
) -> AsyncGenerator[_T, None]:
    # No cancel scope here: scopes that the dependency opened must be left first.
    async with semaphore, cm as value:
        yield value
