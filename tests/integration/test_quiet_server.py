"""A client leaves a server that is otherwise quiet: whoever works for it must learn of it at once.

Any event would wake the loop, so nothing asks the server until the verdict: the application takes
the times itself, and the connections have no timers.
"""

import asyncio
import contextlib
import logging
import queue
import socket
import sys
import time

import pytest
from server_kit import TIMEOUT, read_until, running, wait_for
from ws_kit import frame, upgrade

from turboapi import (
    BackgroundTasks,
    Depends,
    FastAPI,
    HTTPException,
    Request,
    WebSocket,
    WebSocketDisconnect,
)
from turboapi.responses import StreamingResponse
from turboapi.sse import EventSourceResponse

QUIET = {
    "timeout_header": 0,
    "timeout_body": 0,
    "timeout_idle": 0,
    "timeout_write": 0,
    "ws_ping_interval": 0,
}


class Notes:
    """What happened, and when."""

    def __init__(self):
        self.made = queue.SimpleQueue()

    def __call__(self, what):
        self.made.put((time.monotonic(), what))

    def expect(self, *words, since):
        """They come in this order; each tells when it happened."""
        for word in words:
            try:
                when, what = self.made.get(timeout=TIMEOUT)
            except queue.Empty:
                pytest.fail(f"no {word!r} within {TIMEOUT} s after the client left")
            assert what == word
            assert when >= since


async def for_ever():
    await asyncio.Event().wait()


def async_generator(app, note):
    async def pieces():
        try:
            yield b"piece"
            await for_ever()
        finally:
            note("generator")

    @app.get("/")
    async def index():
        return StreamingResponse(pieces())

    return ["generator"]


def async_iterator(app, note):
    class Pieces:
        first = True

        def __aiter__(self):
            return self

        async def __anext__(self):
            if self.first:
                self.first = False
                return b"piece"
            try:
                await for_ever()
            finally:
                note("iterator")

    @app.get("/")
    async def index():
        return StreamingResponse(Pieces())

    return ["iterator"]


def endpoint_that_yields(app, note):
    @app.get("/")
    async def index():
        try:
            yield "piece"
            await for_ever()
        finally:
            note("endpoint")

    return ["endpoint"]


def server_sent_events(app, note):
    @app.get("/", response_class=EventSourceResponse)
    async def index():
        try:
            yield "piece"
            await for_ever()
        finally:
            note("events")

    return ["events"]


def with_dependencies(app, note):
    async def outer():
        try:
            yield
        finally:
            note("outer")

    def inner(_: None = Depends(outer)):
        try:
            yield
        finally:
            note("inner")

    async def pieces():
        try:
            yield b"piece"
            await for_ever()
        finally:
            note("generator")

    @app.get("/", dependencies=[Depends(inner)])
    async def index():
        return StreamingResponse(pieces())

    return ["generator", "inner", "outer"]


def def_generator(app, note):
    def resource():
        try:
            yield
        finally:
            note("dependency")

    @app.get("/")
    def index(_: None = Depends(resource)):
        def pieces():
            try:
                while True:
                    yield b"piece"
                    time.sleep(0.02)
            finally:
                note("generator")

        return StreamingResponse(pieces())

    return ["generator", "dependency"]


def middleware_of_functions(app, note):
    @app.middleware("http")
    async def middleware(request, call_next):
        return await call_next(request)

    return async_generator(app, note)


def middleware_of_asgi(app, note):
    class Middleware:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            async def receive_too():
                return await receive()

            await self.app(scope, receive_too, send)

    app.add_middleware(Middleware)
    return async_generator(app, note)


class Begun(StreamingResponse):
    """A response of the application's own that has begun, and goes on in `rest`."""

    def __init__(self, rest):
        super().__init__(())
        self.rest = rest

    async def __call__(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"piece", "more_body": True})
        await self.rest(receive)


def disconnect_is_received(app, note):
    @app.get("/")
    async def index():
        async def rest(receive):
            while (await receive())["type"] != "http.disconnect":
                pass
            note("disconnect")

        return Begun(rest)

    return ["disconnect"]


def disconnect_is_asked_for(app, note):
    @app.get("/")
    async def index(request: Request):
        async def rest(_):
            while not await request.is_disconnected():
                await asyncio.sleep(0.01)
            note("disconnected")

        return Begun(rest)

    return ["disconnected"]


SCENARIOS = [
    async_generator,
    async_iterator,
    endpoint_that_yields,
    server_sent_events,
    with_dependencies,
    def_generator,
    middleware_of_functions,
    middleware_of_asgi,
    disconnect_is_received,
    disconnect_is_asked_for,
]

loops = pytest.mark.parametrize("loop", ["turboapi", "asyncio", "uvloop"])


@contextlib.contextmanager
def serving(app, loop, **settings):
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    with running(app, interface="turboapi", loop=loop, **settings) as server:
        yield server


def leave(server, note, words, hold):
    """Read the first chunk of a stream, wait, and disconnect."""
    with server.connect() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        read_until(sock, b"piece")
        time.sleep(hold)
        assert note.made.empty()
        left = time.monotonic()
    note.expect(*words, since=left)
    assert note.made.empty()


@loops
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_client_of_a_stream_leaves(loop, scenario):
    app, note = FastAPI(), Notes()
    words = scenario(app, note)
    with serving(app, loop, **QUIET) as server:
        leave(server, note, words, 0.5)


@pytest.mark.slow
@loops
@pytest.mark.parametrize("scenario", [async_generator, def_generator])
def test_after_seconds_of_silence(loop, scenario):
    """With the timers that a server has."""
    app, note = FastAPI(), Notes()
    words = scenario(app, note)
    with serving(app, loop) as server:
        leave(server, note, words, 4.5)


@loops
def test_the_client_of_a_websocket_leaves(loop):
    app, note = FastAPI(), Notes()

    @app.websocket("/")
    async def index(websocket: WebSocket):
        await websocket.accept()
        try:
            while True:
                await websocket.send_text(await websocket.receive_text())
        except WebSocketDisconnect:
            note("left")

    with serving(app, loop, **QUIET) as server:
        with server.connect() as sock:
            sock.sendall(upgrade())
            read_until(sock, b"\r\n\r\n")
            sock.sendall(frame(1, b"echo"))
            read_until(sock, b"echo")
            time.sleep(0.5)
            left = time.monotonic()
        note.expect("left", since=left)


@loops
def test_the_client_leaves_before_its_body_is_there(loop):
    app, note = FastAPI(), Notes()

    @app.post("/")
    async def index(request: Request):
        try:
            await request.body()
        finally:
            note("body")

    with serving(app, loop, **QUIET) as server:
        with server.connect() as sock:
            sock.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nsome")
            time.sleep(0.5)
            left = time.monotonic()
        note.expect("body", since=left)


@loops
def test_what_c_calls_may_schedule_work(loop):
    """A client that goes reaches Python in many ways; here it is a destructor that does."""
    app, note = FastAPI(), Notes()
    running_loop = []

    class Last:
        def __del__(self):
            running_loop[0].call_soon(note, "scheduled")

    @app.get("/")
    async def index(request: Request):
        running_loop[:] = [asyncio.get_running_loop()]
        request.scope["last"] = Last()
        return "piece"

    with serving(app, loop, **QUIET) as server:
        with server.connect() as sock:
            began = time.monotonic()
            sock.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            read_until(sock, b"piece")
            sock.shutdown(socket.SHUT_RDWR)
        note.expect("scheduled", since=began)


@loops
def test_a_line_of_the_log_may_schedule_work(loop, monkeypatch, caplog):
    """What the protocol says goes to a logger, whose handlers may be anything."""
    app, note = FastAPI(), Notes()
    running_loop = []

    class Handler(logging.Handler):
        def emit(self, record):
            if "refused a request" in record.getMessage():
                running_loop[0].call_soon(note, "scheduled")

    @app.get("/")
    async def index():
        running_loop[:] = [asyncio.get_running_loop()]
        return "piece"

    handler = Handler()
    logger = logging.getLogger("turboapi.server")
    monkeypatch.setattr(logger, "handlers", [handler])
    with caplog.at_level(logging.INFO, logger.name), serving(app, loop, **QUIET) as server:
        assert server.get("/")[0] == 200
        time.sleep(0.3)
        began = time.monotonic()
        assert server.exchange(b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400")
        note.expect("scheduled", since=began)


class Watch:
    """Profiles the loop's thread: which Python functions does C call, but not through its door?"""

    def __init__(self):
        self.wrong = set()
        self.calls = 0

    def __call__(self, frame, event, _):
        if event == "call" and (open_calls := self.selector._calls) is not None:
            self.calls += 1
            if open_calls == 0:
                self.wrong.add(f"{frame.f_code.co_filename}:{frame.f_code.co_qualname}")

    def begin(self):
        self.selector = asyncio.get_running_loop()._selector
        sys.setprofile(self)


def everything():
    """An application that does a little of everything."""
    app = FastAPI()

    @app.get("/")
    async def index():
        return 1

    @app.get("/def")
    def sync(_: None = Depends(lambda: None)):
        return 1

    @app.get("/waits")
    async def waits(tasks: BackgroundTasks):
        tasks.add_task(asyncio.sleep, 0)
        await asyncio.sleep(0)
        return 1

    @app.get("/fails")
    async def fails():
        raise RuntimeError

    @app.get("/refuses")
    def refuses():
        raise HTTPException(418)

    @app.get("/stream")
    async def stream():
        async def pieces():
            yield b"piece"
            await for_ever()

        return StreamingResponse(pieces())

    @app.get("/def-stream")
    def def_stream():
        return StreamingResponse(b"piece" for _ in range(100))

    @app.get("/events", response_class=EventSourceResponse)
    async def events():
        yield 1
        await for_ever()

    @app.post("/body")
    async def body(request: Request):
        return len(await request.body())

    @app.get("/scope")
    async def scope(request: Request):
        return request.scope["client"]

    @app.websocket("/")
    async def websocket(websocket: WebSocket):
        await websocket.accept()
        while True:
            await websocket.send_text(await websocket.receive_text())

    return app


@pytest.mark.parametrize("wrapped", [False, True])
def test_c_calls_python_through_its_door(wrapped, caplog):
    """See ta_loop_state_enter in src/py/loop/loop_state.h."""
    app, watch = everything(), Watch()
    if wrapped:
        app.middleware("http")(lambda request, call_next: call_next(request))
    for name in ("turboapi.access", "turboapi.server"):
        caplog.set_level(logging.DEBUG, name)
    settings = {"access_log": True, "proxy_headers": True, "forwarded_allow_ips": "*"}
    with running(app, interface="turboapi", **settings) as server:
        server.call(watch.begin)
        for path in ("/", "/def", "/waits", "/fails", "/refuses", "/scope", "/nowhere"):
            for _ in range(2):
                server.get(path, **{"X-Forwarded-For": "1.2.3.4"})
        with server.raw(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 4) as sock:
            for _ in range(4):
                read_until(sock, b"\r\n\r\n1")
        for path in ("/stream", "/def-stream", "/events", "/waits"):
            with server.raw(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()) as sock:
                read_until(sock, b"\r\n\r\n")
        with server.raw(b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\nsome") as sock:
            time.sleep(0.1)
            sock.sendall(b"more")
            read_until(sock, b"\r\n\r\n8")
        with server.raw(b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\nsome"):
            time.sleep(0.1)
        with server.raw(upgrade()) as sock:
            read_until(sock, b"\r\n\r\n")
            sock.sendall(frame(1, b"echo"))
            read_until(sock, b"echo")
        assert server.exchange(b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400")
        app.add_api_route("/late", lambda: 1)  # makes the plans anew
        assert server.get("/late")[0] == 200
        wait_for(lambda: server.server.tasks == 0)
        server.call(lambda: sys.setprofile(None))
    assert watch.calls > 50
    assert not watch.wrong
