"""`_core.Server` belongs to its loop: which of them goes first, and who else forgets it."""

import asyncio
import gc
import socket
import threading
import time
import weakref

import pytest

from turboapi import Depends, FastAPI, _core
from turboapi._native import native_app
from turboapi.responses import StreamingResponse


def make_loop():
    selector = _core.Selector()
    return selector, asyncio.SelectorEventLoop(selector)


async def listen(selector, app):
    selector.attach(asyncio.get_running_loop())
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    port = listening.getsockname()[1]
    made = native_app(app) if isinstance(app, FastAPI) else _core.App(app)
    server = _core.Server(selector, made)
    server.listen(listening.detach())
    return server, port


async def answer(scope, receive, send):
    await receive()
    await asyncio.sleep(0.01)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


class Application:
    """Has weak references, unlike a function that everybody keeps."""

    async def __call__(self, scope, receive, send):
        await answer(scope, receive, send)


def test_the_loop_goes_first():
    selector, loop = make_loop()
    server, port = loop.run_until_complete(listen(selector, answer))
    loop.close()
    # Nobody listens any more; the server says so, and its end does not touch the loop's memory.
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port))
    with pytest.raises(RuntimeError, match="the server is closed"):
        server.listen(0)
    server.close()
    del server
    gc.collect()


def test_the_loop_goes_first_and_nobody_listened():
    selector, loop = make_loop()

    async def main():
        selector.attach(asyncio.get_running_loop())
        return _core.Server(selector, _core.App(answer))

    server = loop.run_until_complete(main())
    loop.close()
    del server
    gc.collect()


@pytest.mark.parametrize("waits_for", ["input", "time"])
def test_the_loop_goes_while_a_request_is_served(waits_for, caplog):
    selector, loop = make_loop()
    began = []

    async def app(scope, receive, send):
        began.append(scope["path"])
        if waits_for == "input":
            while True:
                await receive()
        await asyncio.sleep(60)

    async def main():
        server, port = await listen(selector, app)
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc")
        while not began:
            await asyncio.sleep(0.001)
        return server, client

    server, client = loop.run_until_complete(main())
    with client:
        loop.close()
        assert client.recv(1) == b""
    assert server.connections == 0
    del server
    gc.collect()
    assert began == ["/x"]


def test_a_server_that_was_forgotten_goes_on():
    selector, loop = make_loop()
    app = Application()
    alive = weakref.ref(app)

    async def main():
        _, port = await listen(selector, app)
        gc.collect()
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                got = b""
                while data := await loop.run_in_executor(None, client.recv, 4096):
                    got += data
                assert got.endswith(b"done")
            gc.collect()
        await loop.shutdown_default_executor()

    loop.run_until_complete(main())
    app = None
    loop.close()
    gc.collect()
    assert alive() is None, "the loop's end did not let go of the server"


@pytest.mark.parametrize("how", ["cancelled", "forgotten"])
def test_the_loop_goes_while_a_call_is_in_a_thread(how):
    """Its result comes back to nobody; whoever waits for it may still be cancelled."""
    app = FastAPI()
    tasks, started, go, over = [], threading.Event(), threading.Event(), threading.Event()

    async def remember():
        tasks.append(asyncio.current_task())

    @app.get("/", run="thread")
    def blocks(_=Depends(remember)):
        started.set()
        go.wait(60)
        over.set()

    selector, loop = make_loop()

    async def main():
        server, port = await listen(selector, app)
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await asyncio.to_thread(started.wait, 60)
        return server

    server = loop.run_until_complete(main())
    server.close()
    loop.close()
    go.set()
    assert over.wait(60)
    time.sleep(0.1)  # the thread lets go of the call
    # Whatever lay there before is memory of these now.
    zeros = [bytes(bytearray(n)) for n in range(40, 300) for _ in range(50)]
    if how == "cancelled":
        tasks.pop().cancel()
    tasks.clear()
    assert not any(any(each) for each in zeros)
    del server
    gc.collect()


def test_the_loop_goes_while_a_stream_waits_for_its_thread():
    app = FastAPI()
    inside, go, closed = threading.Event(), threading.Event(), threading.Event()

    @app.get("/")
    async def index():
        def pieces():
            try:
                yield b"piece"
                inside.set()
                go.wait(60)
                yield b"nobody takes it"
            finally:
                closed.set()

        return StreamingResponse(pieces())

    selector, loop = make_loop()

    async def main():
        server, port = await listen(selector, app)
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await asyncio.to_thread(inside.wait, 60)
        return server

    server = loop.run_until_complete(main())
    server.close()
    loop.close()
    go.set()
    assert closed.wait(60)
    del server
    gc.collect()
