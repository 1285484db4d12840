"""Threads of TurboAPI's event loop: those of run_in_executor() and of anyio.to_thread.

Calls are queued and come back in C (`_core.CallQueue`). What surrounds them is the libraries' own
code: the default executor is a ThreadPoolExecutor, whose `submit` and `shutdown` and whose place in
the end of the interpreter are unchanged, and anyio takes our threads for idle ones of its own.
"""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.thread as futures_thread
import contextvars
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from turboapi import _core

if TYPE_CHECKING:
    import asyncio
    import selectors

# As anyio's WorkerThread.MAX_IDLE_TIME. Their number is limited by anyio's CapacityLimiter.
_ANYIO_IDLE_SECONDS = 10
_NO_LIMIT = 2**32 - 1

# Private names of concurrent.futures that Executor stands on: where one is missing, the standard
# executor is used.
_inner: Any = futures_thread
_KNOWN = all(
    hasattr(_inner, name)
    for name in ("_threads_queues", "_shutdown", "_global_shutdown_lock", "_WorkItem")
) and hasattr(ThreadPoolExecutor, "_adjust_thread_count")


class Executor(ThreadPoolExecutor):
    """The default executor of a loop: threads and queue are C's, all methods the base's."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        super().__init__(thread_name_prefix="asyncio")
        this: weakref.ref[Executor] = weakref.ref(self)
        context: Any = getattr(self, "_create_worker_context", None)  # Python 3.14
        self._turboapi_queue = queue = _core.CallQueue(
            selector,
            start=lambda held: _start_thread(this, held),
            max_threads=self._max_workers,
            idle_seconds=0,
            extra=() if context is None else (context(),),
        )
        self._work_queue: Any = queue
        # Threads do not keep an executor that nobody refers to any more.
        weakref.finalize(self, queue.put, None).atexit = False

    def _adjust_thread_count(self) -> None:
        """Do nothing: the queue starts threads, whoever puts something there."""

    @property
    def _max_workers(self) -> int:
        return self._limit

    @_max_workers.setter
    def _max_workers(self, limit: int) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._limit = limit
        if (queue := getattr(self, "_turboapi_queue", None)) is not None:
            queue.limit(limit)


def new_executor(selector: selectors.BaseSelector) -> ThreadPoolExecutor | None:
    """Make a default executor, or None where the standard one has to be used.

    That is where the selector is not ours, or somebody has replaced ThreadPoolExecutor.
    """
    replaced = concurrent.futures.ThreadPoolExecutor is not ThreadPoolExecutor
    if not _KNOWN or replaced or not isinstance(selector, _core.Selector):
        return None
    return Executor(selector)


def _start_thread(executor_reference: weakref.ref[Executor], held: bool) -> None:
    """Start a thread of an executor. `held`: submit() calls, with the executor's locks."""
    executor = executor_reference()
    if executor is None:
        raise RuntimeError("cannot schedule new futures after shutdown")
    if held:
        _start_counted(executor)
        return
    with _inner._global_shutdown_lock:
        if _inner._shutdown:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        _start_counted(executor)


def _start_counted(executor: Executor) -> None:
    own: Any = executor
    queue = executor._turboapi_queue
    thread = threading.Thread(
        name=f"{own._thread_name_prefix}_{len(own._threads)}", target=queue.work
    )
    thread.start()
    own._threads.add(thread)
    _inner._threads_queues[thread] = queue  # the interpreter's end waits for what is queued


# -- anyio -----------------------------------------------------------------------------------------


def give_anyio_threads(loop: asyncio.AbstractEventLoop) -> _core.CallQueue | None:
    """Let anyio find threads of ours on this loop, if it is known to take them.

    Returns what they take their calls from. anyio's own threads end with the task that runs the
    loop; these do when they are told to rest.
    """
    backend: Any = sys.modules.get("anyio._backends._asyncio")
    lowlevel: Any = sys.modules.get("anyio.lowlevel")
    base: Any = loop
    selector = base._selector
    if backend is None or not _KNOWN or not isinstance(selector, _core.Selector):
        return None
    try:
        idle_var, workers_var = backend._threadpool_idle_workers, backend._threadpool_workers
        run_vars = lowlevel._run_vars
        claim = backend.claim_worker_thread
        code = backend.AsyncIOBackend.run_sync_in_worker_thread.__func__.__code__
    except AttributeError:
        return None
    if not set(_ANYIO_STEPS) <= set(code.co_names):
        return None
    reference = weakref.ref(loop)
    queue: _core.CallQueue

    def start(_held: bool) -> None:
        _start_anyio_thread(reference, queue, claim, backend.AsyncIOBackend)

    queue = _core.CallQueue(
        selector, start=start, max_threads=_NO_LIMIT, idle_seconds=_ANYIO_IDLE_SECONDS, extra=()
    )
    values = run_vars.setdefault(loop, {})
    idle, workers = _core.IdleThreads(queue, backend.__dict__, reference), set[Any]()
    for variable, value in ((idle_var, idle), (workers_var, workers)):
        values[variable] = value
        values[variable._name] = value  # the key in anyio 4.1 to 4.8
    return queue


# What anyio's function does with the deque, and with a thread out of it.
_ANYIO_STEPS = ("_threadpool_idle_workers", "pop", "popleft", "idle_since", "queue", "put_nowait")


def _start_anyio_thread(
    reference: weakref.ref[asyncio.AbstractEventLoop],
    queue: _core.CallQueue,
    claim: Any,
    backend: Any,
) -> None:
    loop = reference()

    def work() -> None:
        with claim(backend, loop):
            queue.work()

    own_context: dict[str, Any] = (
        {"context": contextvars.Context()} if sys.version_info >= (3, 14) else {}
    )
    thread = threading.Thread(name="AnyIO worker thread", target=work, **own_context)
    thread.start()
    _inner._threads_queues[thread] = queue
