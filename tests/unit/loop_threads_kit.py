"""What the tests of the loop's threads share: each runs on the standard loop and on ours."""

import asyncio
import subprocess
import sys
import textwrap
import threading

import patience
import pytest

from turboapi._loop_threads import Executor
from turboapi.loop import new_event_loop

LOOPS = {"asyncio": asyncio.SelectorEventLoop, "turboapi": new_event_loop}


@pytest.fixture(params=LOOPS)
def loop(request):
    made = LOOPS[request.param]()
    yield made
    if not made.is_closed():
        made.run_until_complete(made.shutdown_default_executor())
        made.close()


def run(loop, main):
    """Run a coroutine, and have nothing of it logged as an error of the loop."""
    told = []
    loop.set_exception_handler(lambda _loop, context: told.append(context))
    result = loop.run_until_complete(main)
    assert not told
    return result


def is_ours(loop):
    return type(loop) is not asyncio.SelectorEventLoop


def in_our_threads(loop):
    """Return whether the default executor is the one that is expected on this loop."""
    return isinstance(loop._default_executor, Executor) is is_ours(loop)


class Gate:
    """Holds threads: `hold` counts who has come, and returns when the gate is open."""

    def __init__(self):
        self._open = threading.Event()
        self._lock = threading.Lock()
        self.inside = self.most = self.made = 0

    def hold(self, value=None):
        with self._lock:
            self.made += 1
            self.inside += 1
            self.most = max(self.most, self.inside)
        assert self._open.wait(patience.seconds(10))
        with self._lock:
            self.inside -= 1
        return value

    def open(self):
        self._open.set()

    async def reached(self, count):
        await until(lambda: self.inside >= count)


async def until(condition):
    """Wait, while the loop runs, until the condition is true."""
    async with asyncio.timeout(patience.seconds(10)):
        while not condition():
            await asyncio.sleep(0.002)


def output_of(loop_name, body):
    """Run a program whose `new_loop` makes that loop; return what it printed, and its code."""
    imports = {
        "asyncio": "from asyncio import SelectorEventLoop as new_loop",
        "turboapi": "from turboapi.loop import new_event_loop as new_loop",
    }
    program = f"import asyncio, atexit, threading, time\n{imports[loop_name]}\n" + textwrap.dedent(
        body
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=patience.seconds(20),
    )
    return done.stdout, done.returncode, done.stderr
