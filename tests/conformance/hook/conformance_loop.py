"""pytest plugin (`-p conformance_loop`) and helper of asyncio_suite.py: TurboAPI's event loop where
asyncio, and whoever asks it for a loop, finds the standard one."""

import asyncio
import os
import sys
from asyncio import unix_events


def use_our_loop() -> None:
    """Replace the standard loop in this process."""
    from turboapi.loop import EventLoop, missing_names

    if missing_names():
        sys.exit(f"this Python's asyncio has no {', '.join(missing_names())}")
    asyncio.SelectorEventLoop = EventLoop
    unix_events.SelectorEventLoop = EventLoop
    if hasattr(asyncio, "EventLoop"):
        asyncio.EventLoop = EventLoop
        unix_events.EventLoop = EventLoop
    for name in ("_UnixDefaultEventLoopPolicy", "_DefaultEventLoopPolicy"):
        policy = getattr(unix_events, name, None)
        if policy is not None:
            policy._loop_factory = EventLoop


if os.environ.get("CONFORMANCE_LOOP") == "turboapi":
    use_our_loop()
