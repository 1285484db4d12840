"""When a worker asks to be replaced: after so many requests, too much memory, or a long life."""

from __future__ import annotations

import logging
import os
import random
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from turboapi.config import Config

logger = logging.getLogger("turboapi.server")

# Between two looks, in seconds.
_LOOK = 0.25

SETTINGS = ("max_requests", "max_rss", "max_lifetime")


def is_wanted(config: Config) -> bool:
    """Return whether a worker may ask to be replaced, so that there must be a supervisor."""
    return any(getattr(config, name) for name in SETTINGS)


class Retirement:
    """Watches a worker from its event loop and asks once, when it has done its share.

    Args:
        config: its settings `max_requests` (and its jitter), `max_rss` and `max_lifetime`.
        requests: returns how many there have been.
        ask: called once; the worker goes on until its successor serves.
    """

    def __init__(
        self, config: Config, requests: Callable[[], int], ask: Callable[[], None]
    ) -> None:
        self._config = config
        self._requests = requests
        self._ask = ask
        # Or all workers would ask at the same time, as each gets the same share.
        self._most = config.max_requests + random.randint(0, config.max_requests_jitter)  # noqa: S311
        self._since = time.monotonic()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to look, if there is anything to look for."""
        if is_wanted(self._config):
            self._look(loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        reason = self.reason()
        if reason is None:
            loop.call_later(_LOOK, self._look, loop)
            return
        logger.info("Process %d asks to be replaced: %s", os.getpid(), reason)
        self._ask()

    def reason(self) -> str | None:
        """Return why the worker is to be replaced; None: it is not."""
        config = self._config
        if config.max_requests and (count := self._requests()) >= self._most:
            return f"{count} requests (max_requests)"
        if config.max_rss and (size := resident_bytes()) >= config.max_rss:
            return f"{size >> 20} MiB of memory (max_rss)"
        if config.max_lifetime and time.monotonic() >= self._since + config.max_lifetime:
            return f"{config.max_lifetime:g} s (max_lifetime)"
        return None


def resident_bytes() -> int:
    """Return the memory of this process that is in use; without /proc the most there ever was."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    return int(pages) * resource.getpagesize()
