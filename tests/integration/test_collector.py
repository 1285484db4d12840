"""What the garbage collector has to see of requests that wait: little, as each collection looks at all
of it; and it finds what is kept in a cycle after them.
"""

import asyncio
import contextlib
import gc
import sys
import sysconfig
import weakref

import pytest
from server_kit import both_protocols, running, send_text, wait_for
from starlette.requests import ClientDisconnect

from turboapi import FastAPI, Request

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


class Kept:
    """Has weak references."""


def known():
    gc.collect()
    return len(gc.get_objects())


@pytest.mark.skipif(
    sysconfig.get_config_var("Py_GIL_DISABLED"), reason="its collections look at everything"
)
def test_requests_that_wait():
    app = FastAPI()
    waiting = []

    @app.get("/")
    async def index(request: Request):
        waiting.append(request.url.path)
        await asyncio.get_running_loop().create_future()

    count = 100
    with running(app, interface="turboapi") as server:
        server.get("/openapi.json")
        clients = [server.connect() for _ in range(2 * count)]
        try:
            seen = []
            for end in count, 2 * count:  # the first ones bring what is made once
                for client in clients[end - count : end]:
                    client.sendall(GET)
                wait_for(lambda end=end: len(waiting) == end)
                seen.append(server.call(known))
        finally:
            for client in clients:
                client.close()
    # The coroutine, Request with its URL, scope and headers; Task, context, Future and callback: 12,
    # from Python 3.14 on, where all dicts are seen, 15; and what other tests leave behind.  With the
    # server's own it would be six more.
    assert (seen[1] - seen[0]) / count < (15 if sys.version_info < (3, 14) else 18)


@both_protocols
@pytest.mark.parametrize("by", ["request", "receive", "send", "extensions", "offer"])
def test_cycles_that_outlive_their_request(by):
    app = FastAPI()
    references = []

    @app.get("/")
    async def index(request: Request):
        kept = Kept()
        references.append(weakref.ref(kept))
        kept.scope = request.scope
        ways = {"request": request, "receive": request.receive, "send": request._send}
        kept.way = ways.get(by)
        extensions = request.scope["extensions"]
        places = {"extensions": extensions, "offer": extensions.get("turboapi.pathsend", {})}
        places.get(by, request.scope)["test.kept"] = kept
        await asyncio.sleep(0)
        gc.collect()
        assert references[-1]() is kept

    with running(app, interface="turboapi") as server:
        for _ in range(10):
            assert server.get("/")[0] == 200

        def freed():
            server.call(gc.collect)
            return [each() for each in references] == [None] * 10

        wait_for(freed)


@both_protocols
def test_a_weak_reference_to_receive_tells_of_its_end():
    """Its callback runs when the request is closed, and may ask for what is there no more."""
    told = []
    kept = []

    async def app(scope, receive, send):
        exchange = receive.__self__

        def callback(_):
            try:
                exchange.gather()
            except ClientDisconnect:
                told.append(exchange)

        kept.append(weakref.ref(receive, callback))
        await send_text(send, "hello")

    with running(app, interface="asgi", lifespan="off") as server:
        for size in (0, 5, 100_000):
            assert server.request("POST", "/", b"x" * size)[2] == b"hello"
        wait_for(lambda: len(told) == 3)


def test_a_task_of_the_pool_that_is_ended_from_outside():
    app = FastAPI()
    references = []

    @app.get("/")
    async def index():
        await asyncio.sleep(0)

    def end():
        loop = asyncio.get_running_loop()  # other tests may have servers that still run
        for task in [each for each in gc.get_objects() if type(each) is asyncio.Task]:
            coro = task.get_coro()
            if task.get_loop() is not loop or type(coro).__name__ != "Trampoline":
                continue
            if coro.cr_frame is None:  # idle
                references.append(weakref.ref(task))
                with contextlib.suppress(KeyError):
                    coro.throw(KeyError)

    with running(app, interface="turboapi") as server:
        assert server.get("/")[0] == 200
        server.call(end)
        assert references
        assert server.get("/")[0] == 200

        def freed():
            server.call(gc.collect)
            return [each() for each in references] == [None] * len(references)

        wait_for(freed)


@both_protocols
def test_a_request_whose_client_has_gone():
    """The handler waits for ever, and so belongs to the server until it ends."""
    app = FastAPI()
    references = []

    @app.get("/")
    async def index(request: Request):
        kept = Kept()
        kept.request = request
        references.append(weakref.ref(kept))
        await asyncio.get_running_loop().create_future()

    with running(app, interface="turboapi") as server:
        for turn in range(5):
            with server.client() as client:
                client.request("GET", "/")
                wait_for(lambda turn=turn: len(references) == turn + 1)
        assert all(each() is not None for each in references)
        server.call(gc.collect)
        assert all(each() is not None for each in references)
    gc.collect()
    assert [each() for each in references] == [None] * 5
