"""`_core.Server` belongs to its loop: which of them goes first, and who else forgets it."""

import asyncio
import gc
import socket
import threading
import time
import weakref

import pytest

from turboapi import Depends, FastAPI, _core
from turboapi._compile.native_app import native_app
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


def served(test):
    """Run `test(selector)` on a loop that our selector hosts."""
    selector, loop = make_loop()
    try:
        return loop.run_until_complete(test(selector))
    finally:
        loop.close()


def test_cancel_is_for_its_own_requests():
    events = []

    def waiting(name, go):
        async def app(scope, receive, send):
            events.append((name, "begins"))
            try:
                await go.wait()
            except asyncio.CancelledError:
                events.append((name, "cancelled"))
                raise
            await answer(scope, receive, send)

        return app

    async def ask(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        head = await asyncio.wait_for(reader.readline(), 60)
        writer.close()
        return head

    async def main(selector):
        go = asyncio.Event()
        spawned = asyncio.get_running_loop().create_future()
        selector.attach(asyncio.get_running_loop())
        selector.spawn(go.wait(), lambda *ended: spawned.set_result(ended))
        servers, answers = [], []
        for name in ("one", "other"):
            server, port = await listen(selector, waiting(name, go))
            servers.append(server)
            answers.append(asyncio.ensure_future(ask(port)))
        while len(events) < 2:
            await asyncio.sleep(0.005)
        servers[0].cancel("stop")
        first = await answers[0]
        go.set()
        heads = [first, await answers[1]]
        assert await spawned == (True, None)
        for server in servers:
            server.close()
        return heads

    assert served(main) == [
        b"HTTP/1.1 500 Internal Server Error\r\n",
        b"HTTP/1.1 200 OK\r\n",
    ]
    assert events[2:] == [("one", "cancelled")]


class Evil(str):
    """A name that cannot be compared."""

    __hash__ = str.__hash__

    def __eq__(self, other):
        raise ZeroDivisionError


def test_an_error_among_the_limits_is_not_swallowed():
    async def main(selector):
        selector.attach(asyncio.get_running_loop())
        with pytest.raises(ZeroDivisionError):
            _core.Server(selector, _core.App(answer), limits={Evil("connections"): 1})

    served(main)


class Writer:
    """Of the access log: see turboapi._serving.access."""

    prefix = opening = closing = ""
    changes = bytes(1)

    def __init__(self):
        self.written = []

    def mode(self):
        return 1

    def outcome(self, status):
        return str(status)

    def write(self, text):
        self.written.append(text)
        return True


def test_the_writer_of_the_access_log_may_refer_to_its_server():
    async def main(selector):
        selector.attach(asyncio.get_running_loop())
        writer = Writer()
        writer.server = _core.Server(selector, _core.App(answer), access_writer=writer)
        gone = weakref.ref(writer)
        del writer
        gc.collect()
        assert gone() is None

    served(main)


def test_a_server_that_ends_writes_its_access_log():
    """The lines of a response that was begun outside of a batch, with none to follow."""
    writer = Writer()

    async def main(selector):
        selector.attach(asyncio.get_running_loop())
        begun = asyncio.Event()

        async def app(scope, receive, send):
            await asyncio.sleep(0.01)  # from here on a Task like any other
            await send({"type": "http.response.start", "status": 201, "headers": []})
            begun.set()
            await asyncio.sleep(60)

        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        port = listening.getsockname()[1]
        server = _core.Server(selector, _core.App(app), access_writer=writer)
        server.listen(listening.detach())
        _, peer = await asyncio.open_connection("127.0.0.1", port)
        peer.write(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n")
        waiting = asyncio.ensure_future(begun.wait())
        waiting.add_done_callback(lambda _: server.close())
        await waiting
        peer.close()

    served(main)
    assert "".join(writer.written).endswith(' - "GET /a HTTP/1.1" 201\n')


def test_programs_that_drive_the_core_find_the_application():
    from turboapi import _native

    assert isinstance(_native.native_app(FastAPI()), _core.App)
