"""What the server has to say of failures, and of what it refuses."""

import asyncio
import errno
import logging
import socket
import time

import patience
import pytest
from server_kit import handler, read_all, read_until, running, send_text, wait_for
from starlette.testclient import TestClient

from turboapi import FastAPI, Form, UploadFile, WebSocket

WAIT = patience.seconds(10)
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.fixture(autouse=True)
def all_levels(caplog):
    caplog.set_level(logging.INFO, "turboapi")
    for name in ("turboapi.server", "turboapi.access", "turboapi.error"):
        caplog.set_level(logging.INFO, name)


def said(caplog, name, level=logging.INFO):
    return [r.getMessage() for r in caplog.records if r.name == name and r.levelno >= level]


# -- CancelledError -------------------------------------------------------------------------------


def cancelling():
    app = FastAPI()

    @app.get("/async")
    async def at_once():
        raise asyncio.CancelledError("mine")

    @app.get("/later")
    async def later():
        await asyncio.sleep(0.001)
        raise asyncio.CancelledError("mine")

    @app.get("/def", run="thread")
    def in_a_thread():
        raise asyncio.CancelledError("mine")

    @app.get("/task")
    async def task():
        asyncio.current_task().cancel("mine")
        await asyncio.sleep(60)

    @app.websocket("/ws")
    async def ws(websocket: WebSocket):
        raise asyncio.CancelledError("mine")

    return app


@pytest.mark.parametrize("interface", ["auto", "asgi"])
@pytest.mark.parametrize("path", ["/async", "/later", "/def", "/task", "/ws"])
def test_a_handler_that_raises_cancelled_error(caplog, path, interface):
    app = cancelling()
    if interface == "asgi":
        inner = app

        async def app(scope, receive, send):
            await inner(scope, receive, send)

    else:
        from turboapi._fastapi_bridge import native_app

        assert native_app(app).direct
    with running(app, interface=interface, lifespan="off") as server:
        if path == "/ws":
            answer = server.exchange(UPGRADE)
        else:
            answer = server.exchange(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
        assert answer.startswith(b"HTTP/1.1 500 ")
        wait_for(lambda: said(caplog, "turboapi.error"), WAIT)
    (record,) = [r for r in caplog.records if r.name == "turboapi.error"]
    assert record.getMessage() == "Exception in ASGI application\n"
    assert record.exc_info[0] is asyncio.CancelledError


def test_what_the_server_cancels_is_no_error_of_the_application(caplog):
    begun = []

    async def app(scope, receive, send):
        begun.append(1)
        await asyncio.sleep(3600)

    with running(handler(app), timeout_graceful_shutdown=0.1) as server:
        with server.raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
            wait_for(lambda: begun, WAIT)
            server.loop_thread.stop()
            wait_for(lambda: not server.thread.is_alive(), WAIT)
    assert said(caplog, "turboapi.error") == []


# -- WebSockets -----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("how", ["accept", "return", "close"])
def test_a_websocket_client_that_leaves_before_accept(caplog, end, how):
    seen = []

    async def app(scope, receive, send):
        assert (await receive())["type"] == "websocket.connect"
        seen.append("connect")
        assert (await receive())["type"] == "websocket.disconnect"
        seen.append("gone")
        if how == "return":
            return
        await send({"type": f"websocket.{how}"})

    async def any_scope(scope, receive, send):
        assert scope["type"] == "websocket"
        await app(scope, receive, send)

    with running(any_scope, access_log=True, lifespan="off") as server:
        with server.connect() as sock:
            if end == "reset":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.sendall(UPGRADE)
            wait_for(lambda: seen, WAIT)
        wait_for(lambda: len(seen) == 2 and server.server.tasks == 0, WAIT)
        wait_for(lambda: server.server.active == 0, WAIT)
    assert said(caplog, "turboapi.access") == []
    assert said(caplog, "turboapi.error") == []


# -- the client's address -------------------------------------------------------------------------


def test_refused_requests_name_the_client(caplog):
    async def app(scope, receive, send):
        await send_text(send, "x")

    with running(handler(app)) as server:
        for request in (b"NO\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"):
            with server.raw(request) as sock:
                client = "{}:{}".format(*sock.getsockname())
                assert read_all(sock).startswith(b"HTTP/1.1 400 ")
            lines = said(caplog, "turboapi.server")
            assert lines[-1].startswith(f"{client} - refused a request: 400 ")


def test_refused_requests_of_a_unix_socket(caplog, tmp_path):
    async def app(scope, receive, send):
        await send_text(send, "x")

    with running(handler(app), uds=str(tmp_path / "s")) as server:
        server.exchange(b"NO\r\n\r\n")
    assert any(
        line.startswith("refused a request: 400 ") for line in said(caplog, "turboapi.server")
    )


def test_a_client_that_does_not_read_is_named(caplog):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True})

    with running(handler(app), timeout_write=0.2) as server:
        with server.raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") as sock:
            client = "{}:{}".format(*sock.getsockname())
            line = f"{client} - connection ended: the peer does not read"
            wait_for(lambda: line in said(caplog, "turboapi.server"), WAIT)


# -- the limit of connections ---------------------------------------------------------------------


def test_the_limit_of_connections_is_logged_once(caplog):
    async def app(scope, receive, send):
        await send_text(send, "x")

    def full():
        return [x for x in said(caplog, "turboapi.server", logging.WARNING) if "limit" in x]

    with running(handler(app), limit_connections=2) as server:
        first, second = server.connect(), server.connect()
        third = server.connect()
        third.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        wait_for(full, WAIT)
        assert full() == [
            "2 connections are open, which is the limit (limit_connections): further ones wait "
            "until one of them ends"
        ]
        first.close()
        third.settimeout(WAIT)
        assert b" 200 OK" in read_until(third, b"x")
        fourth, fifth = server.connect(), server.connect()  # full again, within the minute
        time.sleep(0.2)
        assert len(full()) == 1
        for each in (second, third, fourth, fifth):
            each.close()


# -- a full disk ----------------------------------------------------------------------------------


class FullDisk:
    """A temporary file on a disk that is full."""

    def __init__(self, *arguments, **options):
        self.size = 0
        self._max_size = 1
        self._rolled = False

    def write(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    def tell(self):
        return 0

    def seek(self, *_):
        pass

    def close(self):
        pass


def uploading():
    app = FastAPI()

    @app.post("/file")
    async def file(file: UploadFile):
        return "stored"

    @app.post("/form")
    async def form(name: str = Form()):
        return name

    return app


@pytest.mark.parametrize("door", ["native", "asgi"])
def test_a_full_disk_is_the_servers_error(caplog, monkeypatch, door):
    monkeypatch.setattr("starlette.formparsers.SpooledTemporaryFile", FullDisk)
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        + b"x" * 10_000
        + b"\r\n--b--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    if door == "native":
        with running(uploading(), interface="auto", lifespan="off") as server:
            status = server.request("POST", "/file", body, headers)[0]
            wait_for(lambda: said(caplog, "turboapi.error"), WAIT)
        (record,) = [r for r in caplog.records if r.name == "turboapi.error"]
        assert record.exc_info[1].errno == errno.ENOSPC
    else:
        client = TestClient(uploading(), raise_server_exceptions=False)
        status = client.post("/file", content=body, headers=headers).status_code
        with pytest.raises(OSError, match="No space left"):
            TestClient(uploading()).post("/file", content=body, headers=headers)
    assert status == 500


def test_a_bad_form_is_the_clients_error():
    answer = TestClient(uploading()).post(
        "/file", content=b"x", headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert answer.status_code in (400, 422)
