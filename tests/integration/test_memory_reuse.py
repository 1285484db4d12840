"""Handles, exchanges and runs in the memory of earlier ones: the garbage collector sees new objects.

A loop, a server and the module keep the memory of some that were freed, except on free-threaded
builds. What an object was before it was freed (frozen, part of a cycle) must not matter.
"""

import asyncio
import gc
import json
import sys
import sysconfig
import weakref

import pytest
from server_kit import running

from turboapi import FastAPI, _core
from turboapi.loop import new_event_loop

REUSED = not sysconfig.get_config_var("Py_GIL_DISABLED")


@pytest.fixture
def loop():
    made = new_event_loop()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def thawed():
    yield
    gc.unfreeze()
    freeze()


def freeze():
    gc.collect()
    gc.freeze()


def listed(loop):
    """Those of the loop that the collector knows, each once; not what reads the loop's own socket."""
    found = [each for each in gc.get_objects() if issubclass(type(each), asyncio.Handle)]
    found = [
        id(each) for each in found if each._loop is loop and each._callback != loop._read_from_self
    ]
    assert len(found) == len(set(found))
    return set(found)


def is_new(handle):
    return (
        gc.is_tracked(handle)
        and not gc.is_finalized(handle)
        and weakref.getweakrefcount(handle) == 0
    )


def run_until_ready_ones_ran(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


@pytest.mark.parametrize("after_making", [gc.collect, freeze, list])
@pytest.mark.parametrize("after_freeing", [gc.collect, gc.unfreeze, list])
def test_handles(loop, after_making, after_freeing):
    count = 300  # more than a loop keeps
    run_until_ready_ones_ran(loop)
    types = sys.getrefcount(_core.Handle), sys.getrefcount(_core.TimerHandle)
    seen = []
    for _ in range(4):
        handles = [loop.call_soon(print, loop) for _ in range(count)]
        handles += [loop.call_later(60, print, loop) for _ in range(count)]
        assert all(map(is_new, handles))
        assert listed(loop) == set(map(id, handles))
        seen.append(listed(loop))
        references = [weakref.ref(each) for each in handles]
        after_making()
        for each in handles:
            each.cancel()
        del handles, each
        run_until_ready_ones_ran(loop)
        assert [each() for each in references] == [None] * len(references)
        after_freeing()
        assert listed(loop) == set()
    if REUSED:
        assert seen[0] & seen[-1]
        # Other loops, of earlier tests, may be freed meanwhile.
        now = sys.getrefcount(_core.Handle), sys.getrefcount(_core.TimerHandle)
        assert all(abs(a - b) < count for a, b in zip(types, now, strict=True))


@pytest.mark.parametrize("before_collecting", [list, freeze])
def test_handles_that_the_collector_frees(loop, before_collecting):
    """Others are made, in their memory, before that collection is over."""
    made, references, addresses = [], [], set()

    def make(_):
        made.append(_core.TimerHandle(1, print, (), loop))

    def untracked():
        """What is freed while the collector frees the garbage that refers to it; it calls make()."""
        code = compile("0", "garbage", "eval")
        references.append(weakref.ref(code, make))
        return code

    count = 50
    for _ in range(4):
        for _ in range(count):
            cycle = [untracked()]
            cycle.append(_core.Handle(print, (cycle, untracked()), loop))
            references.append(weakref.ref(cycle[1]))
            addresses.add(id(cycle[1]))
            del cycle
        before_collecting()
        gc.unfreeze()
        gc.collect()
        gc.collect()  # free-threaded builds free what was left to it only now
        assert [each() for each in references] == [None] * len(references)
        assert len(made) == 2 * count
        assert all(map(is_new, made))
        assert listed(loop) == set(map(id, made))
        if REUSED:
            assert addresses & set(map(id, made))
        references.clear()
        made.clear()
        gc.collect()
        assert listed(loop) == set()


def counter(*names):
    """Return what counts the objects of these types that the collector knows, without those there
    are now: servers of other tests may still be ending.
    """

    def among(objects):
        return [each for each in objects if type(each).__name__ in names]

    gc.unfreeze()
    others = {id(each): each for each in among(gc.get_objects())}  # kept: their ids stay theirs
    gc.freeze()

    def count():
        found = [type(each).__name__ for each in among(gc.get_objects()) if id(each) not in others]
        return {name: found.count(name) for name in names}

    return count


def test_exchanges_and_runs():
    """The collector knows neither while the server owns them, nor when they were freed."""
    app = FastAPI()
    known = counter("Exchange", "Run")

    @app.get("/")
    async def index(collect: bool):
        before = known()
        if collect:
            gc.collect()
        await asyncio.sleep(0)
        return [before, known()]

    with running(app, interface="turboapi") as server:
        expected = None
        for turn in range(2 * 3 * 4):
            server.call((gc.collect, freeze, gc.unfreeze, list)[turn % 4])
            status, _, body = server.get(f"/?collect={turn % 3 == 0}")
            assert status == 200
            found = json.loads(body)
            expected = expected or found
            for now, first in zip(found, expected, strict=True):
                assert now["Exchange"] <= first["Exchange"]
            assert found[0]["Run"] == 0


class Tagging:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def tagged(message):
            if message["type"] == "http.response.start":
                message["headers"].append((b"x-tag", b"1"))
            await send(message)

        await self.app(scope, receive, tagged)


def test_what_serves_a_request_within_middleware():
    """As the objects above: also those of an ASGI exchange, of receive() and of send()."""
    app = FastAPI()
    app.add_middleware(Tagging)
    kinds = ("AsgiExchange", "AsgiRespond", "InnermostRun", "Receive", "Run", "Send")

    known = counter(*kinds)

    @app.post("/")
    async def index(collect: bool, item: dict):
        before = known()
        if collect:
            gc.collect()
        await asyncio.sleep(0)
        return [before, known(), item]

    with running(app, interface="turboapi") as server:
        first = None
        for turn in range(2 * 3 * 4):
            server.call((gc.collect, freeze, gc.unfreeze, list)[turn % 4])
            body = json.dumps({"turn": turn}).encode()
            path, fields = f"/?collect={turn % 3 == 0}", {"content-type": "application/json"}
            status, headers, body = server.request("POST", path, body, fields)
            assert (status, headers["x-tag"]) == (200, "1")
            *found, item = json.loads(body)
            assert item == {"turn": turn}
            first = first or found
            for now, then in zip(found, first, strict=True):
                assert all(now[name] <= then[name] for name in kinds)
            assert found[0]["Run"] == found[0]["InnermostRun"] == found[0]["AsgiExchange"] == 1
