"""A worker's heartbeat: bytes in a pipe, written by its event loops as long as they make steps.

The supervisor replaces a worker from which none came for `timeout_worker` seconds.  The first byte
of the pipe says that the worker is ready; see `worker_process.Process`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

READY = b"1"
BEAT = b"."
# It wants to be replaced (`retirement`).
RETIRES = b"r"


def interval_of(timeout: float) -> float:
    """Return the pause between two beats, well below the time after which they are missed."""
    return min(1.0, timeout / 10)


class Heartbeat:
    """The heartbeat of a process that may have several loops: it stops when one of them does.

    Made before the loops run; one of them calls `start`, when the others have called `join`.
    """

    def __init__(self, fd: int | None, timeout: float) -> None:
        """Take over the pipe `fd`, if there is a supervisor; `timeout` 0: no beats."""
        self._fd = fd
        self._interval = interval_of(timeout) if fd is not None else 0.0
        self._late: set[int] = set()  # loops that have made no step since the last beat
        self._loops: set[int] = set()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tell the supervisor that connections are accepted, and begin to beat."""
        if self._fd is None:
            return
        os.set_blocking(self._fd, False)
        self._write(READY)
        if self._interval:
            self._beat(loop)

    def retire(self) -> None:
        """Ask the supervisor for a successor."""
        self._write(RETIRES)

    def join(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the beat depend on a further loop, which is the running one."""
        if self._interval:
            self._loops.add(id(loop))
            self._step(loop)

    def stop(self) -> None:
        """Close the pipe."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _step(self, loop: asyncio.AbstractEventLoop) -> None:
        self._late.discard(id(loop))
        loop.call_later(self._interval, self._step, loop)

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._late:
            self._late.update(self._loops)
            self._write(BEAT)
        loop.call_later(self._interval, self._beat, loop)

    def _write(self, byte: bytes) -> None:
        # Full when the supervisor is stopped, broken when it was killed.
        if self._fd is not None:
            with suppress(OSError):
                os.write(self._fd, byte)
