"""What becomes of streams, long polls, WebSockets and uploads when the server is told to end.

Each test looks at what the application saw and in which order; the graceful timeout is far away, so
that whatever is left to it fails the test by not ending in time.
"""

import signal
import socket
import sys
import time
import types

import pytest
from cli_kit import LOCAL, PATIENCE, Server, until

import turboapi._serving.should_exit
from turboapi._serving.signals import ONE_STOP

APP = """
import asyncio, contextlib, os, time
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from turboapi import FastAPI, Request, WebSocket
from turboapi.responses import StreamingResponse
from turboapi.sse import EventSourceResponse

def note(what):
    with open("notes", "a") as file:
        file.write(what + "\\n")

@contextlib.asynccontextmanager
async def life(app):
    yield
    note("lifespan")

app = FastAPI(lifespan=life)

class Through:
    def __init__(self, app): self.app = app
    async def __call__(self, *given): await self.app(*given)

async def through(request, call_next): return await call_next(request)

if os.environ.get("MIDDLEWARE") == "asgi": app.add_middleware(Through)
if os.environ.get("MIDDLEWARE") == "http": app.middleware("http")(through)
if os.environ.get("MIDDLEWARE") == "base": app.add_middleware(BaseHTTPMiddleware, dispatch=through)

async def pieces(pause=0.1, cleanup=0.0):
    try:
        while True:
            yield "data: x\\n\\n"
            await asyncio.sleep(pause)
    finally:
        if cleanup: await asyncio.sleep(cleanup)
        note("ended")

@app.get("/stream")
async def stream(): return StreamingResponse(pieces())
@app.get("/quiet")
async def quiet(): return StreamingResponse(pieces(3600))
@app.get("/cleanup")
async def cleanup(): return StreamingResponse(pieces(cleanup=2.0))
@app.get("/background")
async def background():
    async def job():
        await asyncio.sleep(2)
        note("background")
    return StreamingResponse(pieces(), background=BackgroundTask(job))

@app.get("/large")
async def large():
    async def many():
        try:
            while True:
                yield b"x" * 65536
        finally: note("ended")
    return StreamingResponse(many())

@app.get("/def-stream")
def def_stream():
    def many():
        try:
            while True:
                yield "data: x\\n\\n"
                time.sleep(0.1)
        finally: note("ended")
    return StreamingResponse(many())

@app.get("/events", response_class=EventSourceResponse)
async def events():
    try:
        while True:
            yield {"a": 1}
            await asyncio.sleep(0.1)
    finally: note("ended")

@app.get("/known")
async def known():
    async def some():
        for _ in range(20):
            yield "x"
            await asyncio.sleep(0.1)
        note("ended")
    return StreamingResponse(some(), headers={"content-length": "20"})

@app.get("/late")
async def late():
    async def some():
        for _ in range(3):
            yield "x"
            await asyncio.sleep(0.01)
        note("ended")
    await asyncio.sleep(4)
    return StreamingResponse(some())

@app.get("/poll")
async def poll(request: Request):
    while not await request.is_disconnected(): await asyncio.sleep(0.05)
    note("ended")
    return "polled"

@app.get("/plain")
async def plain():
    await asyncio.sleep(2)
    note("ended")
    return "done"

@app.get("/forever")
async def forever(): await asyncio.sleep(3600)

@app.post("/upload")
async def upload(request: Request):
    body = b"".join([piece async for piece in request.stream()])
    note("ended")
    return len(body)

async def deaf(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    try:
        while True:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            await asyncio.sleep(0.1)
    finally: note("ended")

async def listener(scope, receive, send):
    await receive()
    while (await receive())["type"] != "http.disconnect": pass
    note("ended")

mounted = FastAPI()
mounted.get("/stream")(stream)
app.mount("/sub", mounted)
app.mount("/deaf", deaf)
app.mount("/listener", listener)

@app.websocket("/ws")
async def ws(w: WebSocket):
    await w.accept()
    try:
        while True: await w.receive_text()
    finally: note("ended")
@app.websocket("/ws-deaf")
async def ws_deaf(w: WebSocket):
    await w.accept()
    try: await asyncio.sleep(3600)
    finally: note("ended")
@app.websocket("/ws-large")
async def ws_large(w: WebSocket):
    await w.accept()
    try:
        while True: await w.send_text("x" * 100_000)
    finally: note("ended")
@app.websocket("/ws-connecting")
async def ws_connecting(w: WebSocket):
    try: await asyncio.sleep(3600)
    finally: note("ended")
"""

UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
CLOSE_1012 = b"\x88\x02\x03\xf4"
# The first is far longer than the tests wait.
TIMES = ("--timeout-graceful-shutdown", "1h", "--timeout-stream-shutdown", "300ms")


class Open(Server):
    """A server with the application above."""

    def __init__(self, folder, *arguments, **environ):
        (folder / "main.py").write_text(APP)
        self.notes_path = folder / "notes"
        super().__init__(folder, "run", *LOCAL, *TIMES, *arguments, **environ)

    @property
    def notes(self):
        return self.notes_path.read_text().split() if self.notes_path.exists() else []

    def ask(self, path, *, method="GET", fields="", small=False):
        sock = socket.socket()
        if small:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(PATIENCE)
        sock.connect(("127.0.0.1", self.port))
        fields += UPGRADE if path.startswith("/ws") else ""
        sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode())
        return sock

    def pending(self):
        return self.saw(r"Waiting for (.*) to end")[1]


def rest(sock):
    data = b""
    try:
        while piece := sock.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    return data


def start(sock):
    """Until the response, or its first piece, is there."""
    data = b""
    while b"\r\n\r\n" not in data or data.endswith(b"\r\n\r\n"):
        piece = sock.recv(65536)
        assert piece
        data += piece
    return data


both = pytest.mark.parametrize("loop", ["turboapi", "asyncio", "uvloop"])


def needs(loop):
    if loop == "uvloop":
        pytest.importorskip("uvloop")


@both
@pytest.mark.parametrize(
    "path", ["/stream", "/events", "/def-stream", "/quiet", "/sub/stream", "/deaf/"]
)
def test_streams_end(tmp_path, loop, path):
    needs(loop)
    with Open(tmp_path, "--loop", loop).started() as server, server.ask(path) as client:
        start(client)
        server.send(signal.SIGTERM)
        assert not rest(client).endswith(b"0\r\n\r\n")  # it is not whole
        assert server.ended() == 0, server.log
        assert server.notes == ["ended", "lifespan"]
        assert server.pending() == "1 stream"
        assert "ERROR" not in server.log


@pytest.mark.parametrize("middleware", ["asgi", "http", "base"])
@pytest.mark.parametrize("path", ["/stream", "/events", "/sub/stream", "/deaf/", "/poll"])
def test_behind_middleware(tmp_path, middleware, path):
    with (
        Open(tmp_path, MIDDLEWARE=middleware).started() as server,
        server.ask(path) as client,
    ):
        if path != "/poll":
            start(client)
        else:
            until(lambda: server.get("/docs"), "an answer")
        server.send(signal.SIGTERM)
        rest(client)
        assert server.ended() == 0, server.log
        assert server.notes == ["ended", "lifespan"]


@both
def test_long_polls_are_told_and_answered(tmp_path, loop):
    needs(loop)
    with (
        Open(tmp_path, "--loop", loop).started() as server,
        server.ask("/poll") as client,
        server.ask("/listener/") as listener,
    ):
        server.get("/docs")
        server.send(signal.SIGTERM)
        assert rest(client).endswith(b'"polled"')
        assert rest(listener).startswith(b"HTTP/1.1 503 ")
        assert server.ended() == 0
        assert server.notes == ["ended", "ended", "lifespan"]
        assert server.pending() == "2 requests"


@pytest.mark.parametrize(
    ("path", "end", "grace"),
    [
        ("/plain", b'"done"', "1"),
        ("/known", b"x" * 20, "1"),
        ("/late", b"1\r\nx\r\n1\r\nx\r\n1\r\nx\r\n0\r\n\r\n", "3"),
    ],
)
def test_what_has_an_end_is_finished(tmp_path, path, end, grace):
    """Longer than the grace of a stream; one that begins late has its own."""
    options = ("--timeout-stream-shutdown", grace)
    with Open(tmp_path, *options).started() as server, server.ask(path) as client:
        server.get("/docs")
        server.send(signal.SIGTERM)
        assert rest(client).endswith(end)
        assert server.ended() == 0
        assert server.notes == ["ended", "lifespan"]
        assert server.pending() == "1 request"


def test_uploads_are_finished(tmp_path):
    fields = "Content-Length: 6\r\n"
    with (
        Open(tmp_path, "--timeout-stream-shutdown", "10ms").started() as server,
        server.ask("/upload", method="POST", fields=fields) as client,
        server.ask("/stream") as stream,
    ):
        client.sendall(b"123")
        start(stream)
        server.send(signal.SIGTERM)
        rest(stream)  # streams have been told
        for _ in range(3):
            client.sendall(b"4")
        assert rest(client).endswith(b"6")
        assert server.ended() == 0
        assert sorted(server.notes[:2]) == ["ended", "ended"]
        assert server.pending() == "1 request and 1 stream"


def test_cleanup_and_background_have_their_time(tmp_path):
    with (
        Open(tmp_path, "--timeout-stream-shutdown", "10ms").started() as server,
        server.ask("/cleanup") as first,
        server.ask("/background") as second,
    ):
        start(first)
        start(second)
        server.send(signal.SIGTERM)
        assert server.ended() == 0, server.log
        assert sorted(server.notes[:3]) == ["background", "ended", "ended"]
        assert server.notes[3:] == ["lifespan"]


@pytest.mark.parametrize("path", ["/large", "/ws-large"])
def test_clients_that_do_not_read(tmp_path, path):
    with Open(tmp_path).started() as server, server.ask(path, small=True) as client:
        client.recv(100)
        server.send(signal.SIGTERM)
        assert server.ended() == 0, server.log
        assert server.notes == ["ended", "lifespan"]


@both
@pytest.mark.parametrize("path", ["/ws", "/ws-deaf"])
def test_websockets_are_closed(tmp_path, loop, path):
    """The client never answers."""
    needs(loop)
    with Open(tmp_path, "--loop", loop).started() as server, server.ask(path) as client:
        assert client.recv(4096).startswith(b"HTTP/1.1 101 ")
        server.send(signal.SIGTERM)
        assert rest(client) == CLOSE_1012
        assert server.ended() == 0, server.log
        assert server.notes == ["ended", "lifespan"]
        assert server.pending() == "1 WebSocket"


def test_a_websocket_client_that_answers_is_not_waited_for(tmp_path):
    """The connection ends with the closing handshake, though the client leaves its side open."""
    with Open(tmp_path).started() as server, server.ask("/ws") as client:
        client.recv(4096)
        server.send(signal.SIGTERM)
        assert client.recv(4) == CLOSE_1012
        client.sendall(b"\x88\x82\0\0\0\0\x03\xf4")
        assert server.ended() == 0
        assert server.notes == ["ended", "lifespan"]


def test_a_websocket_that_is_not_accepted(tmp_path):
    with Open(tmp_path).started() as server, server.ask("/ws-connecting") as client:
        server.get("/docs")
        server.send(signal.SIGTERM)
        assert rest(client).startswith(b"HTTP/1.1 503 ")
        assert server.ended() == 0
        assert server.notes == ["ended", "lifespan"]


def test_a_websocket_whose_client_left_unheard(tmp_path):
    with Open(tmp_path).started() as server:
        with server.ask("/ws-deaf") as client:
            client.recv(4096)
        server.get("/docs")
        server.send(signal.SIGTERM)
        assert server.ended() == 0, server.log
        assert server.notes == ["ended", "lifespan"]


def test_streams_may_be_left_alone(tmp_path):
    """0: no time-out; then the graceful one ends them."""
    settings = ("--timeout-stream-shutdown", "0", "--timeout-graceful-shutdown", "2s")
    with Open(tmp_path, *settings).started() as server, server.ask("/stream") as client:
        start(client)
        server.send(signal.SIGTERM)
        assert server.ended() == 0
        assert "timeout graceful shutdown exceeded: 1 stream" in server.log
        assert server.notes == ["ended", "lifespan"]


def test_a_second_signal_says_what_it_cuts_off(tmp_path):
    with (
        Open(tmp_path, "--timeout-stream-shutdown", "1h").started() as server,
        server.ask("/stream") as stream,
        server.ask("/forever"),
        server.ask("/forever"),
    ):
        start(stream)
        server.get("/docs")
        server.send(signal.SIGTERM)
        assert server.pending() == "2 requests and 1 stream"
        time.sleep(2 * ONE_STOP)
        server.send(signal.SIGTERM)
        assert server.ended() == 1
        assert "Forced to end: cut off 2 requests and 1 stream" in server.log


def test_a_second_signal_ends_a_lifespan_that_hangs(tmp_path):
    with Open(tmp_path) as server:
        path = tmp_path / "main.py"
        path.write_text(path.read_text().replace('note("lifespan")', "await asyncio.sleep(3600)"))
        server.started()
        server.send(signal.SIGTERM)
        server.saw("Waiting for application shutdown")
        time.sleep(2 * ONE_STOP)
        server.send(signal.SIGTERM)
        assert server.ended() == 1
        assert "cut off the application's shutdown" in server.log


@pytest.mark.parametrize("options", [("--workers", "2"), ("--reload",)])
def test_in_workers(tmp_path, options):
    with Open(tmp_path, *options).started() as server, server.ask("/stream") as client:
        start(client)
        server.send(signal.SIGTERM)
        rest(client)
        assert server.ended() == 0, server.log
        assert "ended" in server.notes


def test_of_a_worker_that_is_replaced(tmp_path):
    with Open(tmp_path, "--workers", "2").started() as server:
        with server.ask("/stream") as one, server.ask("/ws") as two:
            start(one)
            two.recv(4096)
            server.send(signal.SIGHUP)
            rest(one)
            assert rest(two) == CLOSE_1012
            until(lambda: server.notes.count("ended") == 2, "both ends")
        server.send(signal.SIGTERM)
        assert server.ended() == 0


# -- uvicorn's ways


def test_sse_starlette_notices(tmp_path):
    pytest.importorskip("sse_starlette")
    with Open(tmp_path) as server:
        with (tmp_path / "main.py").open("a") as file:
            file.write(
                "from sse_starlette import EventSourceResponse as Theirs\n"
                "@app.get('/theirs')\n"
                "async def theirs(): return Theirs(pieces())\n"
            )
        server.started()
        with server.ask("/theirs") as client:
            start(client)
            server.send(signal.SIGTERM)
            rest(client)
            assert server.ended() == 0, server.log
            assert server.notes == ["ended", "lifespan"]


@both
def test_who_looks_for_uvicorns_server_finds_one(tmp_path, loop):
    """`should_exit` of the object that handles SIGTERM, long before streams are told."""
    needs(loop)
    with Open(tmp_path, "--timeout-stream-shutdown", "1h", "--loop", loop) as server:
        with (tmp_path / "main.py").open("a") as file:
            file.write(
                "import signal\n"
                "async def until_exit():\n"
                "    server = signal.getsignal(signal.SIGTERM).__self__\n"
                "    assert server.should_exit is False\n"
                "    while not server.should_exit:\n"
                "        yield 'x'\n"
                "        await asyncio.sleep(0.05)\n"
                "    yield 'bye'\n"
                "@app.get('/watching')\n"
                "async def watching(): return StreamingResponse(until_exit())\n"
            )
        server.started()
        with server.ask("/watching") as client:
            start(client)
            server.send(signal.SIGTERM)
            assert rest(client).endswith(b"3\r\nbye\r\n0\r\n\r\n")
            assert server.ended() == 0, server.log


def test_a_replaced_handle_exit_is_called(monkeypatch):
    calls = []

    class UvicornServer:
        def handle_exit(self, number, frame):
            self._captured_signals.append(number)
            self.should_exit = True

    UvicornServer.handle_exit.__module__ = "uvicorn.server"
    original = UvicornServer.handle_exit
    module = types.ModuleType("uvicorn.server")
    module.Server = UvicornServer
    monkeypatch.setitem(sys.modules, "uvicorn.server", module)

    ours = turboapi._serving.should_exit.ShouldExit()
    ours.handle_exit(signal.SIGTERM, None)
    assert (ours.should_exit, ours.force_exit, calls) == (True, False, [])
    ours.handle_exit(signal.SIGINT, None)
    assert ours.force_exit

    def theirs(*arguments):
        calls.append(arguments[1:])
        original(*arguments)

    UvicornServer.handle_exit = theirs
    ours = turboapi._serving.should_exit.ShouldExit()
    ours.handle_exit(signal.SIGTERM, None)
    assert ours.should_exit
    assert calls == [(signal.SIGTERM, None)]

    def broken(*_):
        raise ValueError

    UvicornServer.handle_exit = broken
    turboapi._serving.should_exit.ShouldExit().handle_exit(signal.SIGTERM, None)
