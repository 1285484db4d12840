"""Clients that end their sending side and read on get all of the response; those that leave are noticed.

Both send the same FIN: see src/http/h1/peer.c.
"""

import asyncio
import os
import pathlib
import socket
import struct
import threading
import time

import pytest
from server_kit import read_all, running, wait_for
from starlette.background import BackgroundTask

from turboapi import FastAPI, Request, Response
from turboapi.middleware.gzip import GZipMiddleware
from turboapi.responses import FileResponse, StreamingResponse

PIECE = bytes(range(250)) * 4000
PIECES = 12
WHOLE = PIECE * PIECES
PATIENCE = 30


def request(version="1.1", more=b""):
    return b"GET / HTTP/%s\r\nhost: x\r\nconnection: close\r\n%s\r\n" % (version.encode(), more)


def whole(answer):
    """The body of a response, which must be complete."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head.lower():
        return body
    pieces, at = [], 0
    while True:
        end = body.index(b"\r\n", at)
        size = int(body[at:end], 16)
        pieces.append(body[end + 2 : end + 2 + size])
        assert body[end + 2 + size : end + 4 + size] == b"\r\n"
        at = end + 2 + size + 2
        if size == 0:
            assert at == len(body)
            return b"".join(pieces)


async def make(pause=0.0):
    for _ in range(PIECES):
        yield PIECE
        await asyncio.sleep(pause)


def plain():
    app = FastAPI()

    @app.get("/")
    async def index():
        return Response(WHOLE)

    return app


def late():
    app = FastAPI()

    @app.get("/")
    async def index():
        await asyncio.sleep(0.3)
        return Response(WHOLE)

    return app


def streamed(pause=0.0, middleware=False, length=False, first=0.0):
    app = FastAPI()

    @app.get("/")
    async def index():
        await asyncio.sleep(first)
        headers = {"content-length": str(len(WHOLE))} if length else None
        return StreamingResponse(make(pause), headers=headers)

    if middleware:

        @app.middleware("http")
        async def through(request, call_next):
            return await call_next(request)

    return app


def from_def():
    app = FastAPI()

    @app.get("/")
    def index():
        return StreamingResponse(PIECE for _ in range(PIECES))

    return app


def packed():
    """Compressed in a thread, by the filter."""
    app = FastAPI()

    @app.get("/")
    async def index():
        await asyncio.sleep(0.3)
        return Response(WHOLE)

    app.add_middleware(GZipMiddleware, minimum_size=500)
    return app


APPS = {
    "plain": plain,
    "late": late,
    "streamed": streamed,
    "streamed, slowly": lambda: streamed(0.05),
    "streamed, later": lambda: streamed(first=0.3),
    "streamed with a length": lambda: streamed(length=True),
    "streamed with a length, slowly": lambda: streamed(0.05, length=True),
    "streamed behind middleware": lambda: streamed(0.02, middleware=True),
    "streamed behind middleware, later": lambda: streamed(middleware=True, first=0.02),
    "streamed from a def": from_def,
}


@pytest.fixture(params=["turboapi", "asyncio", "uvloop"])
def loop(request):
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    return request.param


@pytest.mark.parametrize("name", APPS)
def test_half_closed_at_once(name, loop):
    with running(APPS[name](), interface="turboapi", loop=loop) as server:
        for version in ("1.1", "1.0"):
            with server.connect(PATIENCE) as sock:
                sock.sendall(request(version))
                sock.shutdown(socket.SHUT_WR)
                time.sleep(0.3)
                assert whole(read_all(sock)) == WHOLE


@pytest.mark.parametrize("length", [False, True])
def test_half_closed_between_two_pieces(length, loop):
    """Also when nothing is on its way at that moment."""
    app = streamed(0.3, length=length)
    with running(app, interface="turboapi", loop=loop) as server, server.connect(PATIENCE) as sock:
        sock.sendall(request())
        answer = b""
        while len(answer) < len(PIECE):
            answer += sock.recv(65536)
        sock.shutdown(socket.SHUT_WR)
        assert whole(answer + read_all(sock)) == WHOLE


def test_half_closed_and_compressed():
    with running(packed(), interface="turboapi") as server, server.connect(PATIENCE) as sock:
        sock.sendall(request(more=b"accept-encoding: gzip\r\n"))
        sock.shutdown(socket.SHUT_WR)
        head, _, body = read_all(sock).partition(b"\r\n\r\n")
        assert b"content-encoding: gzip" in head
        assert b"content-length: %d\r\n" % len(body) in head + b"\r\n"


# -- those that leave -----------------------------------------------------------------------------


def quiet(ended, length=False, middleware=False):
    """One piece, then nothing for ever."""
    app = FastAPI()

    @app.get("/")
    async def index():
        async def pieces():
            try:
                yield b"x"
                await asyncio.Event().wait()
            finally:
                ended.set()

        headers = {"content-length": "1000"} if length else None
        return StreamingResponse(pieces(), headers=headers)

    if middleware:

        @app.middleware("http")
        async def through(request, call_next):
            return await call_next(request)

    return app


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("length", [False, True])
@pytest.mark.parametrize("middleware", [False, True])
def test_one_that_leaves_a_quiet_stream_is_noticed(version, length, middleware, loop):
    ended = threading.Event()
    app = quiet(ended, length, middleware)
    with running(app, interface="turboapi", loop=loop) as server:
        sock = server.connect(PATIENCE)
        sock.sendall(request(version))
        data = b""
        while b"x" not in data.partition(b"\r\n\r\n")[2]:
            data += sock.recv(1000)
        sock.close()
        assert ended.wait(PATIENCE)
        wait_for(lambda: server.server.connections == 0, PATIENCE)


def test_one_that_leaves_after_it_half_closed_is_noticed_with_the_next_piece(loop):
    ended = threading.Event()
    app = FastAPI()

    @app.get("/")
    async def index():
        async def pieces():
            try:
                while True:
                    yield b"x"
                    await asyncio.sleep(0.05)
            finally:
                ended.set()

        return StreamingResponse(pieces())

    with running(app, interface="turboapi", loop=loop) as server:
        sock = server.connect(PATIENCE)
        sock.sendall(request())
        sock.shutdown(socket.SHUT_WR)
        data = b""
        while data.count(b"x\r\n") < 8:
            data += sock.recv(100)
        assert not ended.is_set()
        sock.close()
        assert ended.wait(PATIENCE)


def test_before_the_response_the_end_of_the_sending_side_is_a_disconnect(loop):
    """As under uvicorn: a handler that polls must be able to stop."""
    seen = []
    app = FastAPI()

    @app.get("/")
    async def index(request: Request):
        for _ in range(600):
            if await request.is_disconnected():
                seen.append("disconnected")
                break
            await asyncio.sleep(0.05)
        return Response(WHOLE)

    with running(app, interface="turboapi", loop=loop) as server, server.connect(PATIENCE) as sock:
        sock.sendall(request())
        sock.shutdown(socket.SHUT_WR)
        assert whole(read_all(sock)) == WHOLE
        assert seen == ["disconnected"]


@pytest.mark.parametrize("middleware", [False, True])
def test_one_that_left_does_not_keep_its_descriptor_while_the_handler_never_ends(middleware, loop):
    heard = []
    app = FastAPI()

    @app.get("/")
    async def index(request: Request):
        while not heard or heard[-1] != "http.disconnect":
            heard.append((await request.receive())["type"])
        await asyncio.Event().wait()

    if middleware:

        @app.middleware("http")
        async def through(request, call_next):
            return await call_next(request)

    with running(app, interface="turboapi", loop=loop, timeout_graceful_shutdown=1) as server:
        sock = server.connect(PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, 1)  # its kernel forgets it soon
        mine = sock.getsockname()
        sock.sendall(request())
        sock.close()
        wait_for(lambda: "http.disconnect" in heard, PATIENCE)
        with accepted_from(mine) as theirs:
            assert theirs.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert theirs.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
            theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)  # not a minute
        wait_for(lambda: not is_accepted_from(mine), PATIENCE)


def test_a_download_that_its_client_leaves_is_not_reported(loop, tmp_path, caplog):
    """BaseHTTPMiddleware ends it early, and its length was told."""
    (tmp_path / "file").write_bytes(WHOLE)
    ended = []
    app = FastAPI()

    @app.get("/")
    async def index():
        background = BackgroundTask(ended.append, True)
        return FileResponse(tmp_path / "file", background=background)

    @app.middleware("http")
    async def through(request, call_next):
        return await call_next(request)

    with running(app, interface="turboapi", loop=loop) as server:
        for reset in (False, True):
            ended.clear()
            with server.raw(request()) as sock:
                sock.recv(1000)
                if reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            wait_for(lambda: ended and not server.server.tasks, PATIENCE)
    assert not caplog.records


def test_a_response_whose_head_was_held_back_from_one_that_left_is_not_reported(loop, caplog):
    """GZipMiddleware waits for a body, and none comes: the stream is cancelled before."""
    ended = []
    app = FastAPI()

    class Through:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            async def passing(message):
                await send(message)

            await self.app(scope, receive, passing)
            ended.append(scope["type"])

    app.add_middleware(Through)
    app.add_middleware(GZipMiddleware)

    @app.get("/")
    async def index(request: Request):
        while not await request.is_disconnected():
            await asyncio.sleep(0.01)

        async def pieces():
            await asyncio.Event().wait()
            yield b""

        return StreamingResponse(pieces())

    with running(app, interface="turboapi", loop=loop) as server:
        with server.raw(request()):
            pass
        wait_for(lambda: "http" in ended and not server.server.tasks, PATIENCE)
    assert not caplog.records


def is_accepted_from(address):
    sock = accepted_from(address)
    if sock is not None:
        sock.close()
    return sock is not None


def accepted_from(address):
    """A duplicate of the socket in this process whose other end has that address, or None."""
    for entry in pathlib.Path("/proc/self/fd").iterdir():
        try:
            if not os.readlink(entry).startswith("socket:"):
                continue
            sock = socket.socket(fileno=os.dup(int(entry.name)))
        except OSError:  # closed meanwhile
            continue
        try:
            if sock.getpeername() == address:
                return sock
        except OSError:
            pass
        sock.close()
    return None
