"""WebSockets of the native server: shutdown, endpoints of ours, many at once, nothing left behind."""

import asyncio
import gc
import logging
import struct
import threading

import pytest
from server_kit import TIMEOUT, read_until, running, wait_for
from starlette.websockets import WebSocketState
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from ws_kit import RawClient, client, echo, frame, upgrade, websocket_app

from turboapi import Depends, FastAPI, WebSocket, WebSocketDisconnect, WebSocketException

# -- shutdown


def test_shutdown_closes_with_1012_and_waits():
    seen = []

    @websocket_app
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        seen.append(await receive())
        with pytest.raises(OSError):
            await send({"type": "websocket.send", "text": "x"})
        await asyncio.sleep(0.2)
        seen.append("done")

    with running(app) as server:
        with client(server) as ws:
            server.loop_thread.stop()
            with pytest.raises(ConnectionClosedError):
                ws.recv(timeout=TIMEOUT)
            assert ws.close_code == 1012
        server.thread.join(TIMEOUT)
    assert seen == [{"type": "websocket.disconnect", "code": 1012}, "done"]


def test_shutdown_while_one_connects():
    begun = threading.Event()

    @websocket_app
    async def app(scope, receive, send):
        await receive()
        begun.set()
        await asyncio.sleep(0.3)
        await send({"type": "websocket.accept"})
        assert (await receive())["code"] == 1012

    with running(app) as server, server.raw(upgrade()) as sock:
        assert begun.wait(TIMEOUT)
        server.loop_thread.stop()
        assert read_until(sock, b"\x88\x02").endswith(b"\x88\x02" + struct.pack("!H", 1012))
        sock.sendall(frame(8, struct.pack("!H", 1012)))
        server.thread.join(TIMEOUT)


def test_shutdown_with_a_handler_that_hangs(caplog):
    @websocket_app
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.Event().wait()

    with running(app, timeout_graceful_shutdown=0.3) as server, client(server) as ws:
        server.loop_thread.stop()
        with pytest.raises(ConnectionClosedError):
            ws.recv(timeout=TIMEOUT)
        assert ws.close_code == 1012
        server.thread.join(TIMEOUT)
    assert "timeout graceful shutdown exceeded" in caplog.text


# -- applications of ours


def make_app():
    app = FastAPI()
    app.left = []

    async def token(websocket: WebSocket, token: str | None = None):
        if token != "good":  # noqa: S105
            raise WebSocketException(code=1008, reason="no token")
        try:
            yield token
        finally:
            app.left.append(websocket.client_state)

    @app.websocket("/items/{item_id}")
    async def items(websocket: WebSocket, item_id: int, token: str = Depends(token)):
        await websocket.accept(subprotocol=websocket.scope["subprotocols"][0])
        while True:
            data = await websocket.receive_json()
            await websocket.send_json({"item": item_id, "token": token, "data": data})

    @app.websocket("/closes")
    async def closes(websocket: WebSocket):
        await websocket.accept()
        raise WebSocketException(code=4003, reason="enough")

    @app.websocket("/disconnects")
    async def disconnects(websocket: WebSocket):
        await websocket.accept()
        try:
            while True:
                await websocket.send_bytes(b"x" * 10_000)
        except WebSocketDisconnect as error:
            app.left.append(error.code)
            assert websocket.client_state is not WebSocketState.CONNECTING

    @app.get("/")
    async def root():
        return {"plain": True}

    return app


def test_an_endpoint_with_dependencies(caplog):
    app = make_app()
    with running(app, interface="auto") as server:
        with client(server, "/items/7?token=good", subprotocols=["json"]) as ws:
            assert ws.subprotocol == "json"
            ws.send('{"a": 1}')
            assert ws.recv(timeout=TIMEOUT) == '{"item":7,"token":"good","data":{"a":1}}'
        wait_for(lambda: app.left)
        assert server.get("/")[2] == b'{"plain":true}'
    assert app.left == [WebSocketState.DISCONNECTED]


@pytest.mark.parametrize(
    "path", ["/items/7", "/items/seven?token=good", "/nothing"], ids=["token", "path", "404"]
)
def test_an_endpoint_that_refuses(path):
    with running(make_app(), interface="auto") as server:
        with pytest.raises(InvalidStatus) as caught:
            client(server, path)
    assert caught.value.response.status_code == 403


def test_an_exception_with_a_close_code():
    with running(make_app(), interface="auto") as server, client(server, "/closes") as ws:
        with pytest.raises(ConnectionClosedError):
            ws.recv(timeout=TIMEOUT)
        assert (ws.close_code, ws.close_reason) == (4003, "enough")


def test_a_send_to_one_that_has_gone_raises_websocket_disconnect():
    app = make_app()
    with running(app, interface="auto") as server:
        with server.raw(upgrade().replace(b"GET / ", b"GET /disconnects ")) as sock:
            read_until(sock, b"xxxx")
        wait_for(lambda: app.left)
    assert app.left == [1006]


def test_closing_what_the_client_has_closed_is_no_error(caplog):
    app = FastAPI()
    ended = []

    @app.websocket("/{how}")
    async def talk(websocket: WebSocket, how: str):
        await websocket.accept()
        try:
            await websocket.receive_text()
        finally:
            try:
                if how == "sends":
                    await websocket.send_text("too late")
                await websocket.close(1001)
                ended.append("closed")
            except BaseException as error:
                ended.append((type(error).__name__, error.code))

    with running(app, interface="auto") as server:
        for how in ("closes", "sends"):
            with client(server, f"/{how}"):
                pass
        with server.raw(upgrade().replace(b"GET / ", b"GET /lost ")) as sock:
            read_until(sock, b"\r\n\r\n")
        wait_for(lambda: len(ended) == 3)
        wait_for(lambda: server.server.tasks == 0)
    assert ended == ["closed", ("WebSocketDisconnect", 1006), "closed"]


# -- many


def test_many_at_once():
    async def talk(url):
        from websockets.asyncio.client import connect as connect_async

        async with connect_async(url, open_timeout=30) as ws:
            for i in range(5):
                await ws.send(f"message {i}" * 50)
                assert await ws.recv() == f"message {i}" * 50

    async def all_of_them(address):
        await asyncio.gather(*(talk("ws://{}:{}/".format(*address)) for _ in range(200)))

    with running(echo, limit_connections=300) as server:
        asyncio.run(asyncio.wait_for(all_of_them(server.address), 60))
        wait_for(lambda: server.server.connections == 0)
        assert server.server.tasks == 0


def count_of_ours():
    gc.collect()
    names = {"Exchange", "Receive", "Send", "Waiter"}
    return sum(type(each).__name__ in names for each in gc.get_objects())


def test_nothing_is_left_behind():
    def once(server):
        with client(server) as ws:
            ws.send("a" * 1000)
            ws.recv(timeout=TIMEOUT)
        with RawClient(server) as ws:
            ws.send(frame(1, b"unread"))
        with RawClient(server) as ws:
            ws.send(frame(1, b"\xff"))
            assert ws.closed_with() == 1007

    with running(echo) as server:
        for _ in range(3):
            once(server)
        wait_for(lambda: server.server.connections == 0)
        before = count_of_ours()
        for _ in range(10):
            once(server)
        wait_for(lambda: server.server.connections == 0)
        wait_for(lambda: server.server.tasks == 0)
        assert count_of_ours() <= before


def test_the_access_log(caplog):
    with caplog.at_level(logging.INFO, "turboapi.access"), running(echo, access_log=True) as server:
        with client(server, "/path?q=1"):
            pass
    assert '"GET /path?q=1 HTTP/1.1" 101' in caplog.text
