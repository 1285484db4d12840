"""Clients that drip: a least rate for bodies and responses (src/base/pace.h)."""

import contextlib
import os
import socket
import time

import pytest
from server_kit import read_all, running, wait_for

from turboapi import FastAPI, Request, Response
from turboapi.responses import StreamingResponse

PATIENCE = 60
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


def make_app():
    app = FastAPI()
    body = bytes(8_000_000)

    @app.get("/")
    async def index():
        return Response(body)

    @app.get("/streamed")
    async def streamed():
        return StreamingResponse(body[:100_000] for _ in range(80))

    @app.post("/")
    async def upload(request: Request):
        return len(await request.body())

    return app


def drip(server, request, step, seconds):
    """Do a step every 50 ms; whether the server has closed the connection within the time."""
    sock = socket.socket()
    with sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(PATIENCE)
        sock.connect(server.address)
        sock.sendall(request)
        wait_for(lambda: server.server.connections == 1)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if server.server.connections == 0:
                return True
            with contextlib.suppress(OSError):
                step(sock)
            time.sleep(0.05)
    return False


def send_one(sock):
    sock.send(b"x")


def take_some(sock):
    sock.recv(1000)


@pytest.mark.slow
@pytest.mark.parametrize("path", [b"/", b"/streamed"])
def test_a_response_that_is_taken_slowly(path):
    request = GET.replace(b" / ", b" %s " % path)
    fast = {"timeout_write": 0.5, "limit_send_rate": 10_000_000}
    with running(make_app(), interface="turboapi", **fast) as server:
        assert drip(server, request, take_some, PATIENCE)
    for rate in (0, 240):
        calm = {"timeout_write": 2, "limit_send_rate": rate}
        with running(make_app(), interface="turboapi", **calm) as server:
            assert not drip(server, request, take_some, 5)


@pytest.mark.slow
def test_a_body_that_is_sent_slowly():
    request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n"
    fast = {"timeout_body": 1, "limit_receive_rate": 1_000_000}
    with running(make_app(), interface="turboapi", **fast) as server:
        assert drip(server, request, send_one, PATIENCE)
    with running(make_app(), interface="turboapi", timeout_body=2, limit_receive_rate=0) as server:
        assert not drip(server, request, send_one, 5)


def test_a_quiet_stream_is_not_slow():
    app = FastAPI()

    @app.get("/")
    async def index():
        def pieces():
            for _ in range(2):
                yield b"x"
                time.sleep(1.2)

        return StreamingResponse(pieces())

    strict = {"timeout_write": 0.3, "timeout_body": 0.3, "timeout_header": 0.3}
    rates = {"limit_send_rate": 1 << 30, "limit_receive_rate": 1 << 30}
    with (
        running(app, interface="turboapi", **strict, **rates) as server,
        server.raw(GET.replace(b"host", b"connection: close\r\nhost")) as sock,
    ):
        assert read_all(sock).endswith(b"1\r\nx\r\n1\r\nx\r\n0\r\n\r\n")


def accepted(client):
    """Return another descriptor of the server's end of a connection, as it is in this process."""
    for number in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):  # closed meanwhile, or no connected socket
            with socket.fromfd(number, client.family, client.type) as sock:
                if sock.getpeername() == client.getsockname():
                    return sock.dup()
    raise AssertionError("no such connection")


@pytest.mark.parametrize("settings", [{}, {"limit_unsent": 100_000}, {"limit_unsent": 0}])
def test_what_the_kernel_holds_unsent(settings):
    with running(make_app(), interface="turboapi", **settings) as server, server.raw() as client:
        client.sendall(GET)
        client.recv(1000)
        with accepted(client) as sock:
            option = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)
            assert option == settings.get("limit_unsent", 1 << 20)
