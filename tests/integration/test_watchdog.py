"""What holds the event loop is said in the log: the watchdog, promoted functions, asyncio's debug mode."""

import asyncio
import functools
import gc
import logging
import re
import sys
import threading
import time
import traceback
from contextlib import asynccontextmanager

import patience
import pytest
from server_kit import running, wait_for

from turboapi import Depends, FastAPI
from turboapi._serving.watchdog import (
    Watchdog,
    _described,
    _frames_of,
    _Watched,
    _written_frames_of,
)

LOOPS = ["turboapi", "asyncio", "uvloop"]


def serving(app, loop="asyncio", **settings):
    pytest.importorskip(loop)
    return running(app, interface="turboapi", loop=loop, **settings)


def said(caplog, text):
    return [r.getMessage() for r in caplog.records if text in r.getMessage()]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("where", ["handler", "callback", "middleware"])
def test_what_holds_the_loop(loop, where, caplog):
    app = FastAPI()
    release = threading.Event()

    def holds():
        release.wait(60)  # this line

    @app.get("/")
    async def index():
        if where == "handler":
            holds()
        elif where == "callback":
            asyncio.get_running_loop().call_soon(holds)
            await asyncio.sleep(0.01)
        return 1

    if where == "middleware":

        @app.middleware("http")
        async def middleware(request, call_next):
            holds()
            return await call_next(request)

    with serving(app, loop, timeout_loop_stall=0.2) as server:
        asker = threading.Thread(target=server.get, args=("/",))
        asker.start()
        wait_for(lambda: any("# this line" in each for each in said(caplog, "has been held")), 60)
        release.set()
        asker.join(60)
        wait_for(lambda: said(caplog, "free again after"), 60)
    held = next(each for each in said(caplog, "has been held") if "# this line" in each)
    first, *stack = held.splitlines()
    assert f"{__file__}, line " in first
    assert "in holds: release.wait(60)" in first
    assert any("in holds" in each for each in stack)
    assert not any("server_kit" in each or "in run_" in each for each in stack)  # below the loop
    if where != "middleware":
        assert stack[0].endswith("in index" if where == "handler" else "in holds")
    assert all(r.levelno == logging.WARNING for r in caplog.records if "loop has been" in r.msg)


class Loop:
    """Answers what it is told to."""

    def __init__(self, *lags):
        self.lags = list(lags)

    def lag(self):
        return self.lags.pop(0)


def looked_at(watchdog, *lags):
    one = _Watched(Loop(*lags), threading.get_ident(), frozenset(), hosted=True)
    return [watchdog._look_at(one) for _ in lags]


def test_each_stall_is_told_once_and_its_end(caplog):
    pauses = looked_at(Watchdog(1.0), 0.0, 0.4, 1.1, 1.2, 3.0, 0.0)
    assert len(said(caplog, "has been held for 1.1 s")) == 1
    assert len(said(caplog, "is free again after 3.0 s")) == 1
    assert len(caplog.records) == 2
    assert pauses == pytest.approx([1.001, 0.601, 0.05, 0.05, 0.05, 1.001])


def test_a_line_that_holds_the_loop_again_and_again(caplog):
    watchdog = Watchdog(1.0)
    looked_at(watchdog, *[1.5, 0.0] * 10)
    assert len(caplog.records) == 2
    (place,) = watchdog._lines
    watchdog._lines[place] = 0.0, watchdog._lines[place][1]
    looked_at(watchdog, 1.5, 0.0)
    assert len(said(caplog, "(9 more times since it was last told)")) == 1


def _waits(thread):
    """Whether it has come to the lock that Event.wait() waits for."""
    return "acquire(" in _frames_of(thread.ident)[-1].line


def test_a_loop_that_only_waits_is_not_asked():
    """uvloop would be woken."""
    over, waiting = threading.Event(), threading.Event()

    def runs_the_loop():
        waiting.set()
        over.wait(60)

    thread = threading.Thread(target=runs_the_loop)
    thread.start()
    assert waiting.wait(60)
    codes = (threading.Event.wait.__code__, threading.Condition.wait.__code__)
    idle = frozenset((code.co_filename, code.co_name) for code in codes)
    one = _Watched(Loop(), thread.ident, idle, hosted=False)
    wait_for(lambda: _waits(thread), 60)
    assert one.look() == 0.0  # Loop() has no answers
    over.set()
    thread.join(60)


def test_frames_without_the_gil():
    """Such as faulthandler writes them: the same as those that can be looked at with the GIL."""
    over, waiting = threading.Event(), threading.Event()

    def wartet_länger():
        waiting.set()
        over.wait(60)

    thread = threading.Thread(target=wartet_länger)
    thread.start()
    try:
        assert waiting.wait(60)
        wait_for(lambda: _waits(thread), 60)
        frames = traceback.walk_stack(sys._current_frames()[thread.ident])
        expected = [(f.f_code.co_filename, line, f.f_code.co_name) for f, line in frames][::-1]
        found = _written_frames_of(thread.ident)
        assert [(each.filename, each.lineno, each.name) for each in found] == expected
        assert ("wartet_länger", "over.wait(60)") in [(each.name, each.line) for each in found]
        assert [each.line for each in _frames_of(thread.ident)] == [each.line for each in found]
        assert _written_frames_of(1) == []
    finally:
        over.set()
        thread.join(60)


def test_no_thread_when_nobody_wants_to_know():
    app = FastAPI()

    def watchdogs():
        return [t for t in threading.enumerate() if t.name == "turboapi-watchdog"]

    wait_for(lambda: not watchdogs(), 60)
    with serving(app, timeout_loop_stall=0):
        assert not watchdogs()
    with serving(app):
        wait_for(lambda: len(watchdogs()) == 1, 60)
    wait_for(lambda: not watchdogs(), 60)


def promote(server, path):
    """Call it until it runs on the loop's thread."""
    wait_for(lambda: b"server" in server.get(path)[2], 120)


@pytest.mark.parametrize("busy", [False, True])
def test_a_quick_function_that_blocks_is_named(caplog, busy):
    app = FastAPI()
    blocks = False
    over = threading.Event()

    @app.get("/")
    def sometimes():
        if blocks:
            time.sleep(0.4)
        return threading.current_thread().name

    @app.get("/busy", run="thread")
    def other():
        over.wait(60)

    with serving(app) as server:
        promote(server, "/")
        asker = threading.Thread(target=server.get, args=("/busy",))
        if busy:  # other threads are no excuse: this was no wait for the GIL
            asker.start()
            wait_for(lambda: server.server.tasks == 1)
        blocks = True
        server.get("/")
        blocks = False
        # On a busy machine it may also be long enough for a warning that names the line.
        (message,) = said(caplog, "sometimes (")
        assert f"({__file__}, line {sometimes.__code__.co_firstlineno})" in message
        held = float(re.search(r"held the event loop for ([0-9.]+) s", message)[1])
        assert 0.39 <= held < patience.seconds(1)
        for _ in range(300):
            assert b"turboapi worker thread" in server.get("/")[2]
        over.set()
        if busy:
            asker.join(60)


def held_up(server, times):
    """Whether the function is in threads after it held up the loop that often."""
    for _ in range(times):
        promote(server, "/")
        server.get("/?now=1")
    return all(b"turboapi worker thread" in server.get("/")[2] for _ in range(300))


def test_a_function_that_computes_for_long_stays_in_threads():
    app = FastAPI()

    @app.get("/")
    def computes(now: bool = False):
        end = time.thread_time() + 0.02 * now
        while time.thread_time() < end:
            pass
        return threading.current_thread().name

    with serving(app) as server:
        assert not held_up(server, 1)
        assert held_up(server, 1)


def test_nobody_is_blamed_for_the_garbage_collector():
    app = FastAPI()
    there = [[number] for number in range(200_000)]

    @app.get("/")
    def allocates(now: bool = False):
        if now:
            gc.collect()
        return threading.current_thread().name

    with serving(app) as server:
        begun = time.perf_counter()
        gc.collect()
        assert time.perf_counter() - begun > 0.002  # enough to be noticed

        def stays():
            promote(server, "/")
            server.get("/?now=1")
            return b"server" in server.get("/")[2]

        # A thread of the test's may take the interpreter's lock just then, for which the function
        # is blamed.
        assert stays() or stays()
    assert there


def test_names_of_functions():
    def plain():
        pass

    @functools.wraps(plain)
    def wrapped():
        pass

    class Callable:
        def __call__(self):
            pass

    line = plain.__code__.co_firstlineno
    for call in (plain, wrapped, functools.partial(plain)):
        assert _described(call).endswith(f"plain ({__file__}, line {line})")
    assert f"({__file__}, line " in _described(Callable())
    assert _described(len) == "builtins.len"


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("path", ["/first", "/dependency", "/after"])
def test_debug_mode_tells_of_slow_steps(loop, path, caplog):
    @asynccontextmanager
    async def lifespan(app):
        asyncio.get_running_loop().set_debug(True)
        yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/first")
    async def first():
        time.sleep(0.15)
        return 1

    async def slow():
        time.sleep(0.15)

    @app.get("/dependency")
    async def dependency(_: None = Depends(slow)):
        return 1

    @app.get("/after")
    async def after():
        await asyncio.to_thread(time.sleep, 0.001)
        time.sleep(0.15)
        return 1

    if (loop, path) == ("uvloop", "/after"):
        pytest.skip("uvloop itself runs that step, and tells of none")
    with serving(app, loop) as server:
        assert server.get(path)[0] == 200
        wait_for(lambda: said(caplog, "Executing <Task"), 60)
    assert any("seconds" in each and "took 0." in each for each in said(caplog, "Executing <Task"))
    assert any(r.name == "asyncio" for r in caplog.records)
