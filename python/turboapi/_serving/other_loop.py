"""receive() and send() called from another thread than the one whose event loop has the connection.

One object often broadcasts to all WebSockets of an application (FastAPI's tutorial has a
`ConnectionManager`). With `--threads`, and with test clients of which each has its own portal,
some of those connections belong to other event loops.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def run_there(loop: asyncio.AbstractEventLoop, call: Coroutine[Any, Any, Any]) -> Any:
    """Run `call` on `loop`, which runs in another thread, and return its result.

    Raise ConnectionError if that loop has ended: its connections are closed.
    """
    try:
        there = asyncio.run_coroutine_threadsafe(call, loop)
        if not loop.is_running():
            there.cancel()
    except RuntimeError:  # it is closed
        call.close()
        raise ConnectionError("The connection's event loop is closed.") from None
    try:
        return await asyncio.wrap_future(there)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise ConnectionError("The connection's event loop has ended.") from None
