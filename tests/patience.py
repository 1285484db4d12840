"""How long a test waits for what must happen.

A deadline of a test only tells a hang from slowness, so it may be long: it costs nothing when the
test passes. `seconds(n)` is n seconds on a quiet machine, and more on a loaded one or under a
sanitizer. Never assert that something took *less* than a time that load can stretch; assert an
order of events, a count, or CPU time, or wait for a condition with `until`.

Settings: TURBOAPI_TEST_PATIENCE (a factor, in place of the one that is measured).
"""

import os
import time
from collections.abc import Callable
from typing import Any

_LEAST = 3.0
_MOST = 30.0


def factor() -> float:
    """By how much deadlines are stretched now."""
    given = os.environ.get("TURBOAPI_TEST_PATIENCE")
    if given:
        return float(given)
    load = max(os.getloadavg()[0], _runnable()) / (os.cpu_count() or 1)
    if os.environ.get("TURBOAPI_SANITIZED"):
        load *= 3
    return min(max(_LEAST, 2 * load), _MOST)


def _runnable() -> int:
    """Return how many threads want a processor at this moment: the load average is a minute late."""
    try:
        with open("/proc/loadavg") as file:
            return int(file.read().split()[3].split("/")[0])
    except (OSError, ValueError, IndexError):
        return 0


def seconds(quiet: float) -> float:
    """Return what to wait at most for something that takes less than `quiet` seconds without load."""
    return quiet * factor()


def until(condition: Callable[[], Any], quiet: float = 10, what: str = "the condition") -> Any:
    """Poll until the condition is true, and return its value; AssertionError after the deadline."""
    deadline = time.monotonic() + seconds(quiet)
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(0.005)
    return value
