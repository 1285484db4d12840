"""What holds the event loop?  A thread looks now and then whether the loops answer, and says it.

The loops pay a plain store per batch for that (`_core.Selector.lag`).  Also here: what is said of a
`def` function that ran on the loop and held it (src/py/loop/inline_promotion.c), and of slow steps
in asyncio's debug mode (src/py/loop/task_pool.c).
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import functools
import inspect
import linecache
import logging
import os
import re
import sys
import sysconfig
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType
    from typing import Protocol

    class Answers(Protocol):
        """What tells how long a loop has not answered: a `_core.Selector`."""

        def lag(self) -> float:
            """Seconds; see `_core.Selector.lag`."""
            ...


logger = logging.getLogger("turboapi.server")

# A line that holds the loop again and again is told once in so many seconds.
_AGAIN = 60.0
_MOST_LINES = 256
# While a loop is held: how often it is looked whether it still is.
_CLOSE_LOOK = 0.05

_OURS = str(Path(__file__).parents[1]) + os.sep
# Functions, by file and name.
_Functions = frozenset[tuple[str, str]]
_LIBRARIES = tuple(
    path + os.sep for path in {*map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib"))}
)


class _Watched:
    """A loop, and what is known of it."""

    def __init__(
        self, selector: Answers, thread: int, runners: _Functions, *, hosted: bool
    ) -> None:
        self.selector = selector
        self.thread = thread
        # What runs the loop, and whatever called that.
        self.runners = runners
        # What the thread is at while the loop waits, where only that tells: uvloop.
        self.idle = None if hosted else runners
        self.lag = 0.0
        self.held = False
        self.told: str | None = None

    def look(self) -> float:
        """Return how long the loop has not answered."""
        if self.idle is not None and not self.held:
            frames = _frames_of(self.thread)
            if not frames or _function(frames[-1]) in self.idle:
                return 0.0  # it is not woken for this
        return self.selector.lag()


class Watchdog:
    """Looks after the event loops of a process, from a thread that runs while there are any.

    Says in the log, as a warning, which line holds a loop for more than `threshold` seconds, and
    how long it took in the end.  0: never, and there is no thread.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._lock = threading.Lock()
        self._loops: list[_Watched] = []
        self._stop: threading.Event | None = None
        # By place: when it may be told of again, and how often it was not.
        self._lines: dict[str, tuple[float, int]] = {}

    @contextlib.contextmanager
    def watching(self, selector: Answers) -> Any:
        """Look after the loop that runs in this thread; called from a coroutine on it."""
        if not self._threshold:
            yield
            return
        frame = sys._getframe()
        loop = asyncio.get_running_loop()
        hosted = getattr(loop, "_selector", None) is selector
        one = _Watched(selector, threading.get_ident(), _below(frame), hosted=hosted)
        with self._lock:
            self._loops.append(one)
            if self._stop is None:
                self._stop = threading.Event()
                threading.Thread(
                    target=self._run, args=(self._stop,), name="turboapi-watchdog", daemon=True
                ).start()
        try:
            yield
        finally:
            with self._lock:
                self._loops.remove(one)
                if not self._loops:
                    self._end_thread()

    def _end_thread(self) -> None:
        if self._stop is not None:
            self._stop.set()
            self._stop = None

    def _run(self, stop: threading.Event) -> None:
        pause, slept_from, used = self._threshold, time.monotonic(), time.process_time()
        while not stop.wait(pause):
            now, cpu = time.monotonic(), time.process_time()
            late = now - slept_from - pause
            if late > self._threshold / 2 and cpu - used < late / 10:
                pause = _CLOSE_LOOK  # the whole process was stopped: the loop may still come
            else:
                pause = self._look_at_all(stop)
            slept_from, used = time.monotonic(), time.process_time()

    def _look_at_all(self, stop: threading.Event) -> float:
        """Return how long to sleep."""
        with self._lock:
            loops = [] if stop.is_set() else list(self._loops)
        pause = self._threshold
        for one in loops:
            try:
                pause = min(pause, self._look_at(one))
            except Exception:
                logger.exception("The watchdog of the event loop failed")
        return pause

    def _look_at(self, one: _Watched) -> float:
        lag = one.look()
        before, one.lag = one.lag, lag
        close = min(_CLOSE_LOOK, self._threshold / 2)
        if one.held:
            if lag >= before:
                return close
            one.held = False
            if one.told is not None:
                logger.warning("The event loop is free again after %.1f s: %s", before, one.told)
        if lag >= self._threshold:
            one.held, one.told = True, self._tell(one, lag)
            return close
        if one.idle is not None:
            return self._threshold / 2
        # When it would be too long, if it is the same step still.
        return max(self._threshold - lag + 0.001, close)

    def _tell(self, one: _Watched, lag: float) -> str | None:
        """Return the place, if it was told."""
        stack = _stack(_frames_of(one.thread), one.runners)
        place = _place(stack)
        now = time.monotonic()
        again, skipped = self._lines.get(place, (0.0, 0))
        if now < again:
            self._lines[place] = again, skipped + 1
            return None
        if len(self._lines) >= _MOST_LINES:
            self._lines.clear()
        self._lines[place] = now + _AGAIN, 0
        logger.warning(
            "The event loop has been held for %.1f s: %s%s\n%s",
            lag,
            place,
            f" ({skipped} more times since it was last told)" if skipped else "",
            "".join(stack.format()).rstrip(),
        )
        return place


def _below(frame: FrameType | None) -> _Functions:
    """Return what runs the loop, of the frames of a coroutine on it."""
    asynchronous = inspect.CO_COROUTINE | inspect.CO_GENERATOR
    functions: set[tuple[str, str]] = set()
    running = False
    while frame is not None:
        code = frame.f_code
        if code.co_flags & inspect.CO_COROUTINE:
            running = True
        elif running and not code.co_flags & asynchronous:
            functions.add((code.co_filename, code.co_name))
        frame = frame.f_back
    return frozenset(functions)


def _frames_of(thread: int) -> traceback.StackSummary:
    """Return the frames of a thread, the innermost last; none where it runs no Python code.

    Without the GIL the frames of another thread must not be touched, as it may end them meanwhile,
    and the process crashes.
    """
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return _written_frames_of(thread)
    frame = sys._current_frames().get(thread)
    frames = traceback.StackSummary.extract(traceback.walk_stack(frame) if frame else iter(()))
    frames.reverse()
    return frames


def _written_frames_of(thread: int) -> traceback.StackSummary:
    """As faulthandler writes them down, which stops all threads meanwhile."""
    with os.fdopen(os.memfd_create("turboapi-stacks"), "w+", encoding="ascii") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        lines = file.read().splitlines()
    frames, here = traceback.StackSummary(), False
    for line in lines:
        if head := re.match(r"(?:Current thread|Thread) 0x([0-9a-f]+)", line):
            here = int(head[1], 16) == thread
        elif here and (each := re.match(r'  File "(.*)", line (\d+) in (.*)', line)):
            file_name = _unescaped(each[1])
            linecache.checkcache(file_name)
            frames.append(traceback.FrameSummary(file_name, int(each[2]), _unescaped(each[3])))
    frames.reverse()
    return frames


def _unescaped(text: str) -> str:
    """Return what faulthandler wrote in ASCII."""
    escape = r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))"
    return re.sub(escape, lambda found: chr(int(found[found.lastindex or 0], 16)), text)


def _function(frame: traceback.FrameSummary) -> tuple[str, str]:
    return frame.filename, frame.name


def _stack(frames: traceback.StackSummary, runners: _Functions) -> traceback.StackSummary:
    """From the first frame of the application that the loop has called to the innermost."""
    while frames and _function(frames[0]) in runners:
        del frames[0]
    for number, each in enumerate(frames):
        if _is_application(each.filename):
            del frames[:number]
            break
    return frames


def _is_application(file: str) -> bool:
    return not file.startswith((_OURS, "<frozen", *_LIBRARIES))


def _place(stack: traceback.StackSummary) -> str:
    """Return the innermost line of the application, in words."""
    for each in reversed(stack):
        if _is_application(each.filename):
            break
    else:
        if not stack:
            return "by code that is not Python"
        each = stack[-1]
    return f"{each.filename}, line {each.lineno}, in {each.name}: {each.line}"


# -- called by C ----------------------------------------------------------------------------------


def demoted(call: Any, seconds: float, how_long: str) -> None:
    """Tell that a `def` function which ran on the event loop has held it."""
    logger.warning(
        "%s held the event loop for %.3f s: it ran there as it had been quick, "
        "and runs in a thread %s",
        _described(call),
        seconds,
        how_long,
    )


def slow_step(loop: asyncio.AbstractEventLoop, task: str, seconds: float) -> None:
    """Tell what asyncio's debug mode says of a handle that took long."""
    if seconds >= loop.slow_callback_duration:
        logging.getLogger("asyncio").warning("Executing %s took %.3f seconds", task, seconds)


def _is_partial(call: Any) -> bool:
    return isinstance(call, functools.partial)


def _described(call: Any) -> str:
    owner = getattr(call, "__self__", None)
    if isinstance(owner, contextlib.ContextDecorator):  # a dependency that yields
        call = getattr(owner, "func", call)
    while _is_partial(call):
        call = call.func
    call = inspect.unwrap(call)
    name = f"{getattr(call, '__module__', '?')}.{getattr(call, '__qualname__', repr(call))}"
    code = getattr(call, "__code__", None)
    if code is None:  # of a class with __call__
        code = getattr(getattr(call, "__call__", None), "__code__", None)  # noqa: B004
    if code is None:
        return name
    return f"{name} ({code.co_filename}, line {code.co_firstlineno})"
