"""Large bodies: sent from the memory that they are in, which is let go of with the last byte.

Clients that read nothing must cost the server no copy each (src/net/conn_write.c, src/base/lend.h).
"""

import contextlib
import gzip
import hashlib
import os
import pathlib
import socket
import sys

import pytest
from server_kit import read_all, read_until, running, wait_for

from turboapi import FastAPI, Request, Response, WebSocket
from turboapi.middleware.gzip import GZipMiddleware
from turboapi.responses import StreamingResponse

MB = 1_000_000
CLIENTS = 8
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


def fresh_body(size=24 * MB):
    """A body of its own for each test, so that its references can be counted."""
    return bytes(range(250)) * (size // 250)


def resident():
    """Bytes of this process's memory that are resident."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def slow_client(server, request):
    """A client with a small window, that has asked and reads nothing."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(60)
    sock.connect(server.address)
    sock.sendall(request)
    return sock


def read_some(sock, size):
    """So many bytes."""
    chunks = []
    while size > 0 and (chunk := sock.recv(min(size, 65536))):
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def body_of(answer):
    """The body of a whole response, with or without chunks."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head:
        return body
    pieces = []
    view, at = memoryview(body), 0
    while True:
        end = body.index(b"\r\n", at)
        size = int(body[at:end], 16)
        pieces.append(view[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
        if size == 0:
            return b"".join(pieces)


# -- doors and kinds of bodies: each makes an application that sends `body` -----------------------


def plain(body):
    app = FastAPI()

    @app.get("/")
    async def index():
        return Response(body)

    return app, "turboapi"


def behind_middleware(body):
    app, interface = plain(body)

    @app.middleware("http")
    async def through(request, call_next):
        return await call_next(request)

    return app, interface


def streamed(body):
    app = FastAPI()

    @app.get("/")
    async def index():
        async def pieces():
            view = memoryview(body)
            for at in range(0, len(body), 4 * MB):
                yield view[at : at + 4 * MB]

        return StreamingResponse(pieces())

    return app, "turboapi"


def asgi(*messages):
    async def app(scope, receive, send):
        assert scope["type"] == "http", "no lifespan"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for message in messages:
            await send({"type": "http.response.body", **message})

    return app, "asgi"


def asgi_bytes(body):
    return asgi({"body": body})


def asgi_view(body):
    return asgi({"body": memoryview(body)})


def asgi_stream(body):
    return asgi({"body": body, "more_body": True}, {"body": b""})


KINDS = [plain, behind_middleware, streamed, asgi_bytes, asgi_view, asgi_stream]


@pytest.fixture(params=["turboapi", "asyncio", "uvloop"])
def loop(request):
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    return request.param


@pytest.mark.parametrize("kind", KINDS)
def test_clients_that_do_not_read_cost_no_copy(kind, loop):
    body = fresh_body()
    app, interface = kind(body)
    with running(app, interface=interface, loop=loop) as server, contextlib.ExitStack() as stack:
        assert body_of(server.exchange(LAST)) == body
        wait_for(lambda: server.server.connections == 0)
        held, before = sys.getrefcount(body), resident()
        clients = [stack.enter_context(slow_client(server, LAST)) for _ in range(CLIENTS)]
        for client in clients:
            assert client.recv(1) == b"H"
        wait_for(lambda: sys.getrefcount(body) >= held + CLIENTS, 60)
        assert resident() - before < CLIENTS * len(body) / 4
        # one that reads after all gets all of it
        answer = b"H" + read_all(clients[0])
        assert hashlib.sha256(body_of(answer)).digest() == hashlib.sha256(body).digest()
        for client in clients:
            client.close()
        wait_for(lambda: server.server.connections == 0, 60)
        wait_for(lambda: sys.getrefcount(body) == held, 60)


@pytest.mark.parametrize("text", [False, True])
def test_websocket_messages_are_not_copied_for_slow_clients(text):
    body = "y" * (16 * MB) if text else fresh_body(16 * MB)
    app = FastAPI()

    @app.websocket("/")
    async def ws(websocket: WebSocket):
        await websocket.accept()
        await (websocket.send_text if text else websocket.send_bytes)(body)
        await websocket.close()

    with (
        running(app, interface="turboapi", ws_per_message_deflate=False) as server,
        contextlib.ExitStack() as stack,
    ):
        held, before = sys.getrefcount(body), resident()
        request = (
            b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        clients = [stack.enter_context(slow_client(server, request)) for _ in range(CLIENTS)]
        for client in clients:
            assert client.recv(1) == b"H"
        wait_for(lambda: sys.getrefcount(body) >= held + CLIENTS, 60)
        assert resident() - before < CLIENTS * len(body) / 4
        data = read_until(clients[0], b"\r\n\r\n").partition(b"\r\n\r\n")[2]
        data += read_some(clients[0], len(body) + 10 - len(data))
        assert data[:2] == (b"\x81\x7f" if text else b"\x82\x7f")
        assert data[10 : 10 + len(body)] == (body.encode() if text else body)
        for client in clients:
            client.close()
        wait_for(lambda: server.server.connections == 0, 60)
        wait_for(lambda: sys.getrefcount(body) == held, 60)


# -- the end of a reference -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [plain, asgi_stream])
def test_let_go_of_when_the_client_does_not_read_in_time(kind):
    body = fresh_body(12 * MB)
    app, interface = kind(body)
    with running(app, interface=interface, timeout_write=0.5) as server:
        held = sys.getrefcount(body)
        with slow_client(server, GET):
            wait_for(lambda: server.server.requests == 1)
            wait_for(lambda: server.server.connections == 0 and sys.getrefcount(body) == held, 60)


def test_let_go_of_when_the_server_is_closed():
    body = fresh_body(12 * MB)
    app, interface = plain(body)
    held = sys.getrefcount(body)
    with running(app, interface=interface, timeout_graceful_shutdown=0.2) as server:
        client = slow_client(server, GET)
        wait_for(lambda: sys.getrefcount(body) > held)
    wait_for(lambda: sys.getrefcount(body) == held)
    client.close()


# -- what must not be lent ------------------------------------------------------------------------


def test_mutable_buffers_are_copied():
    """What is written into a buffer after `send` took it does not reach the client."""
    before = fresh_body(12 * MB)
    buffer = bytearray(before)

    async def app(scope, receive, send):
        assert scope["type"] == "http", "no lifespan"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for view in (bytes, memoryview, lambda data: memoryview(data).toreadonly()):
            data = buffer if view is bytes else view(buffer)
            await send({"type": "http.response.body", "body": data, "more_body": True})
            del data
            buffer[:] = bytes(len(buffer))
            buffer.append(1)  # no view is held
            buffer[:] = before
        await send({"type": "http.response.body"})

    with running(app) as server, slow_client(server, LAST) as client:
        wait_for(lambda: server.server.requests == 1)
        assert body_of(read_all(client)) == before * 3


# -- other bodies ---------------------------------------------------------------------------------


def test_json_and_gzip_reach_a_slow_client_whole():
    value = [{"n": n, "text": "x" * 50} for n in range(100_000)]
    noise = os.urandom(6 * MB)
    app = FastAPI()
    app.add_middleware(GZipMiddleware, minimum_size=500)

    @app.get("/json")
    async def as_json():
        return value

    @app.get("/noise")
    async def as_bytes():
        return Response(noise)

    with running(app, interface="turboapi") as server:
        _, _, expected = server.get("/json")
        with slow_client(server, LAST.replace(b"/ ", b"/json ")) as client:
            wait_for(lambda: server.server.requests == 2)
            assert body_of(read_all(client)) == expected
        ask = LAST.replace(b"/ ", b"/noise ").replace(b"host", b"accept-encoding: gzip\r\nhost")
        with slow_client(server, ask) as client:
            wait_for(lambda: server.server.requests == 3)
            assert gzip.decompress(body_of(read_all(client))) == noise


def test_pipelined_requests_of_a_client_that_does_not_read_wait():
    body = fresh_body(12 * MB)
    app, interface = plain(body)
    with running(app, interface=interface) as server:
        held = sys.getrefcount(body)
        with slow_client(server, GET * 9 + LAST) as client:
            wait_for(lambda: server.server.requests >= 1)
            assert client.recv(1) == b"H"
            assert server.server.requests == 1
            answers = b"H" + read_all(client)
            assert server.server.requests == 10
            assert len(answers) > 10 * len(body)
        wait_for(lambda: sys.getrefcount(body) == held)


def test_head_has_the_length_and_no_body():
    body = fresh_body(2 * MB)
    app, interface = asgi_bytes(body)
    with running(app, interface=interface) as server:
        answer = server.exchange(b"HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        head, _, rest = answer.partition(b"\r\n\r\n")
        assert b"content-length: %d" % len(body) in head.lower()
        assert rest == b""


def test_an_upload_is_held_once():
    """The buffer in which a body was gathered goes when the handler has the bytes."""
    size = 64 * MB
    app = FastAPI()
    seen = []

    @app.post("/")
    async def upload(request: Request):
        body = await request.body()
        seen.append(resident())
        return len(body)

    with running(app, interface="turboapi") as server:
        before = resident()
        sent = bytes(size)
        held = resident() - before
        status, _, body = server.request("POST", "/", body=sent)
        assert (status, body) == (200, str(size).encode())
        assert seen[0] - before - held < size * 1.5
