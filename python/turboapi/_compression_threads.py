"""Threads in which large pieces of responses are packed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_THREADS = 8
_limiter: RunVar[anyio.CapacityLimiter] = RunVar("turboapi_compression")


async def in_thread(function: Callable[[], None]) -> None:
    """Call it in a thread; few at once, so that other blocking work gets its turn."""
    try:
        limiter = _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(_MOST_THREADS)
        _limiter.set(limiter)
    await anyio.to_thread.run_sync(function, limiter=limiter)
