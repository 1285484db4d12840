"""Signals as events: handlers only note them, and a loop that waits for descriptors wakes up."""

from __future__ import annotations

import functools
import math
import os
import select
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from turboapi._serving import process

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType, TracebackType
    from typing import Self

# Signals to stop that come within this time, in seconds, are one: `timeout` and process managers
# tell a process and then its whole group. Who passes a stop on waits for twice as long before
# another signal counts as a second one.
ONE_STOP = 0.3


def is_ctrl_c(error: BaseException) -> bool:
    """Return whether a KeyboardInterrupt may be the user's Ctrl+C, not an exception that code
    raised.

    Signals reach Python code in the main thread only, and only where the handler of SIGINT raises
    what they mean: Python's own does at any place; one written in Python is seen in the traceback.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        return True
    if isinstance(handler, functools.partial):  # asyncio.Runner's
        handler = handler.func
    code = getattr(handler, "__code__", None)
    trace = error.__traceback__
    while trace is not None:
        if code is not None and trace.tb_frame.f_code is code:
            return True
        trace = trace.tb_next
    return False


def readable(descriptors: Iterable[int], timeout: float | None) -> bool:
    """Wait for one of the descriptors to be readable (or hung up)."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if timeout is None else math.ceil(timeout * 1000)))


class Signals:
    """While entered, the given signals are collected instead of acted upon; main thread only."""

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        self._numbers = tuple(numbers)
        self._came: list[signal.Signals] = []

    def __enter__(self) -> Self:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._old_wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._old = {number: signal.signal(number, self._note) for number in self._numbers}
        # Whoever started us may have kept them back until now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)
        # What one that came before these handlers raised may have got lost.
        if (came := process.stopped_by()) in self._numbers:
            self._came.append(signal.Signals(came))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_wakeup)
        os.close(self._read)
        os.close(self._write)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came.append(signal.Signals(number))

    def wait(self, timeout: float | None, sources: Iterable[int] = ()) -> list[signal.Signals]:
        """Wait for a signal or for one of `sources` to be readable and return what came so far."""
        if not self._came:
            readable([self._read, *sources], timeout)
        with suppress(BlockingIOError):
            while os.read(self._read, 512):
                pass
        came, self._came = self._came, []
        return came

    def pause(self, seconds: float) -> None:
        """Sleeps, at most until a signal comes; what came stays for `wait`."""
        if not self._came:
            readable([self._read], seconds)
