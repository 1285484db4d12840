"""WebSockets of the native server, over real sockets, with the `websockets` package as the client."""

import asyncio
import socket
import struct
import threading
import time

import pytest
from server_kit import TIMEOUT, read_all, read_until, running, wait_for
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from ws_kit import KEY, RawClient, client, echo, frame, upgrade, websocket_app

# -- messages


@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize(
    "message",
    ["", "text", "ü€😀" * 1000, b"", b"\x00\xff", bytes(range(256)) * 500, "a" * 3_000_000],
    ids=["empty", "text", "unicode", "no bytes", "bytes", "more bytes", "large"],
)
def test_echo(message, compression):
    with running(echo) as server, client(server, compression=compression) as ws:
        for _ in range(3):
            ws.send(message)
            assert ws.recv(timeout=TIMEOUT) == message
    assert ws.close_code == 1000


@pytest.mark.parametrize("size", [125, 126, 65535, 65536])
def test_lengths_at_the_edges_of_their_encodings(size):
    with running(echo) as server, client(server, compression=None) as ws:
        ws.send(b"x" * size)
        assert ws.recv(timeout=TIMEOUT) == b"x" * size


def test_fragments_with_control_frames_in_between():
    with running(echo) as server, RawClient(server) as ws:
        ws.send(frame(1, b"a", fin=False), frame(9, b"ping"), frame(0, b"b", fin=False))
        assert ws.frame() == (0x8A, b"ping")
        ws.send(frame(10, b"unasked"), frame(0, b"c"))
        assert ws.frame() == (0x81, b"abc")
        ws.send(frame(8, struct.pack("!H", 3005) + b"bye"))
        assert ws.closed_with() == 3005


def test_every_byte_by_itself():
    with running(echo) as server, RawClient(server) as ws:
        for byte in frame(1, "é".encode() * 80):
            ws.send(bytes([byte]))
        assert ws.frame() == (0x81, "é".encode() * 80)


def test_many_messages_in_one_piece():
    with running(echo, ws_max_queue=4) as server, RawClient(server) as ws:
        ws.send(*(frame(2, str(i).encode()) for i in range(5000)))
        for i in range(5000):
            assert ws.frame() == (0x82, str(i).encode())


# -- the scope and the handshake


def test_scope():
    seen = []

    @websocket_app
    async def app(scope, receive, send):
        seen.append(scope)
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    with running(app, root_path="/api") as server:
        opened = client(
            server,
            "/caf%C3%A9?q=1",
            subprotocols=["one", "two"],
            additional_headers={"X-Test": "yes"},
        )
        with opened as ws:
            local, remote = ws.local_address, server.address
    (scope,) = seen
    headers = scope.pop("headers")
    assert (b"x-test", b"yes") in headers
    assert scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "server": remote,
        "client": local,
        "root_path": "/api",
        "path": "/api/café",
        "raw_path": scope["raw_path"],
        "query_string": b"q=1",
        "subprotocols": ["one", "two"],
        "state": {},
        "extensions": {"websocket.http.response": {}},
    }


def test_scheme_and_client_that_a_proxy_tells():
    seen = []

    @websocket_app
    async def app(scope, receive, send):
        seen.append((scope["scheme"], scope["client"][0]))
        await receive()
        await send({"type": "websocket.close"})

    fields = ("x-forwarded-proto: https", "x-forwarded-for: 192.0.2.7")
    with running(app) as server:
        assert server.exchange(upgrade(*fields)).startswith(b"HTTP/1.1 403 ")
    assert seen == [("wss", "192.0.2.7")]


def test_accept_with_subprotocol_and_headers():
    @websocket_app
    async def app(scope, receive, send):
        await receive()
        headers = [(b"X-One", b"1"), (b"set-cookie", b"a=b")]
        await send({"type": "websocket.accept", "subprotocol": "two", "headers": headers})
        await receive()

    with running(app) as server, client(server, subprotocols=["one", "two"]) as ws:
        assert ws.subprotocol == "two"
        assert ws.response.headers["x-one"] == "1"
        assert ws.response.headers["set-cookie"] == "a=b"


@pytest.mark.parametrize("given", [True, False])
def test_the_date_can_be_left_out_or_replaced(given):
    @websocket_app
    async def app(scope, receive, send):
        await receive()
        headers = [(b"date", b"today"), (b"server", b"mine")] if given else []
        await send({"type": "websocket.accept", "headers": headers})

    with running(app, server_header=given, date_header=given) as server:
        with server.raw(upgrade()) as sock:  # not to its end: the server awaits our close frame
            answer = read_until(sock, b"\r\n\r\n")
    assert answer.count(b"date:") == answer.count(b"server:") == int(given)
    assert (b"date: today" in answer) is given


@pytest.mark.parametrize(
    ("request_bytes", "status", "field"),
    [
        (upgrade(key=None), 400, b""),
        (upgrade(key="short"), 400, b""),
        (upgrade("sec-websocket-key: " + KEY), 400, b""),
        (upgrade(version="8"), 426, b"sec-websocket-version: 13"),
        (upgrade(version=None), 426, b"sec-websocket-version: 13"),
        (upgrade(method="POST"), 405, b"allow: GET"),
        (upgrade("content-length: 5") + b"hello", 400, b""),
    ],
    ids=["no key", "short key", "two keys", "version", "no version", "POST", "body"],
)
def test_bad_handshakes(request_bytes, status, field):
    with running(echo) as server:
        answer = server.exchange(request_bytes)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert field in answer


def test_an_upgrade_to_something_else_is_plain_http():
    async def app(scope, receive, send):
        assert scope["type"] == "http", "no lifespan"
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    with running(app) as server:
        answer = server.exchange(
            b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: h2c\r\n\r\n"
        )
    assert answer.startswith(b"HTTP/1.1 204 ")


def test_frames_right_behind_the_handshake():
    with running(echo) as server, server.raw(upgrade() + frame(1, b"early")) as sock:
        assert read_until(sock, b"early").endswith(b"\x81\x05early")


# -- refusals


def refused(app, **options):
    with running(app, **options) as server:
        with pytest.raises(InvalidStatus) as caught:
            client(server)
    return caught.value.response


def test_closed_before_it_is_accepted():
    after = []

    @websocket_app
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.close", "code": 4000})
        after.append(await receive())
        with pytest.raises(
            RuntimeError, match=r"'websocket.send', after sending 'websocket.close'"
        ):
            await send({"type": "websocket.send", "text": "x"})

    response = refused(app)
    assert (response.status_code, response.body) == (403, b"")
    assert after == [{"type": "websocket.disconnect", "code": 1006}]


def test_denied_with_a_response():
    @websocket_app
    async def app(scope, receive, send):
        await receive()
        headers = [(b"content-type", b"text/x"), (b"x-why", b"because")]
        start = {"type": "websocket.http.response.start", "status": 418, "headers": headers}
        body = {"type": "websocket.http.response.body"}
        await send(start)
        with pytest.raises(
            RuntimeError, match="Expected ASGI message 'websocket.http.response.bod"
        ):
            await send(start)
        await send({**body, "body": b"tea", "more_body": True})
        await send({**body, "body": b"pot"})
        with pytest.raises(RuntimeError, match="after sending 'websocket.close'"):
            await send({**body, "body": b"!"})

    response = refused(app)
    assert (response.status_code, response.body) == (418, b"teapot")
    assert response.headers["x-why"] == "because"


@pytest.mark.parametrize("what", ["return", "raise"])
def test_500_when_it_ends_before_it_is_accepted(what, caplog):
    @websocket_app
    async def app(scope, receive, send):
        await receive()
        if what == "raise":
            raise ValueError("broken")

    response = refused(app)
    assert response.status_code == 500
    text = "Exception in ASGI" if what == "raise" else "without completing handshake"
    assert text in caplog.text


def test_wrong_order_of_messages():
    seen = []

    async def attempt(send, **message):
        try:
            await send(message)
        except RuntimeError as error:
            seen.append(str(error))

    @websocket_app
    async def app(scope, receive, send):
        await receive()
        await attempt(send, type="websocket.send", text="x")
        await attempt(send, type="websocket.accept", subprotocol="a\r\nb: c")
        await send({"type": "websocket.accept"})
        await attempt(send, type="websocket.accept")
        await attempt(send, type="websocket.close", code=1006)
        await send({"type": "websocket.close"})
        await attempt(send, type="websocket.send", text="x")

    with running(app) as server, client(server) as ws, pytest.raises(ConnectionClosed):
        ws.recv(timeout=TIMEOUT)
    assert seen == [
        "Expected ASGI message 'websocket.accept', 'websocket.close' "
        "or 'websocket.http.response.start' but got 'websocket.send'.",
        "Invalid subprotocol 'a\\r\\nb: c'.",
        "Expected ASGI message 'websocket.send' or 'websocket.close', but got 'websocket.accept'.",
        "Invalid close code 1006.",
        "Unexpected ASGI message 'websocket.send', after sending 'websocket.close'.",
    ]


# -- ends


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (struct.pack("!H", 1000), {"code": 1000, "reason": ""}),
        (struct.pack("!H", 4999) + "grün".encode(), {"code": 4999, "reason": "grün"}),
        (b"", {"code": 1005, "reason": ""}),
        (None, {"code": 1006}),
    ],
    ids=["normal", "with reason", "no code", "lost"],
)
def test_the_client_leaves(sent, expected):
    seen = []

    @websocket_app
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        seen.append(await receive())
        seen.append(await receive())
        with pytest.raises(OSError):
            await send({"type": "websocket.send", "text": "x"})
        seen.append("done")

    with running(app) as server, RawClient(server) as ws:
        if sent is None:
            ws.sock.close()
        else:
            ws.send(frame(8, sent))
            assert ws.frame() == (0x88, sent[:2])
            assert read_all(ws.sock) == b""
        wait_for(lambda: len(seen) == 3)
    assert seen[:2] == [{"type": "websocket.disconnect", **expected}] * 2


def test_the_client_leaves_before_it_is_accepted():
    seen = []
    go = threading.Event()

    @websocket_app
    async def app(scope, receive, send):
        await receive()
        go.set()
        seen.append(await receive())
        with pytest.raises(OSError):
            await send({"type": "websocket.accept"})
        seen.append("done")

    with running(app) as server, server.raw(upgrade()) as sock:
        assert go.wait(TIMEOUT)
        sock.close()
        wait_for(lambda: len(seen) == 2)
    assert seen[0] == {"type": "websocket.disconnect", "code": 1006}


def test_messages_before_the_end_are_not_lost():
    seen = []

    @websocket_app
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.sleep(0.1)
        while (message := await receive())["type"] != "websocket.disconnect":
            seen.append(message["text"])
        seen.append(message["code"])

    with running(app) as server, RawClient(server) as ws:
        ws.send(*(frame(1, b"%d" % i) for i in range(10)), frame(8, struct.pack("!H", 1001)))
        wait_for(lambda: len(seen) == 11)
    assert seen == [*map(str, range(10)), 1001]


def test_the_application_closes():
    seen = []

    @websocket_app
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4001, "reason": "ü" * 100})
        seen.append(await receive())

    with running(app) as server, client(server) as ws:
        with pytest.raises(ConnectionClosedError):
            ws.recv(timeout=TIMEOUT)
        # 123 bytes at most, and no half characters.
        assert (ws.close_code, ws.close_reason) == (4001, "ü" * 61)
        wait_for(lambda: server.server.connections == 0)
    assert seen == [{"type": "websocket.disconnect", "code": 4001, "reason": "ü" * 100}]


def test_a_client_that_does_not_answer_the_close():
    @websocket_app
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})

    with running(app, ws_close_timeout=0.2) as server, RawClient(server) as ws:
        assert ws.frame() == (0x88, struct.pack("!H", 1000))
        ws.send(frame(1, b"still here"))
        began = time.monotonic()
        assert read_all(ws.sock) == b""
        assert 0.1 < time.monotonic() - began < 9  # the default is 10


@pytest.mark.parametrize(("fails", "code"), [(True, 1011), (False, 1000)])
def test_the_application_ends_without_a_close(fails, code, caplog):
    @websocket_app
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        if fails:
            raise ValueError("broken")

    with running(app) as server, client(server) as ws:
        with pytest.raises(ConnectionClosed):
            ws.recv(timeout=TIMEOUT)
        assert ws.close_code == code
    assert ("ValueError: broken" in caplog.text) == fails


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([frame(1, b"x", masked=False)], 1002),
        ([frame(1, b"x", rsv=4)], 1002),
        ([frame(1, b"x", rsv=2)], 1002),
        ([frame(3)], 1002),
        ([frame(11)], 1002),
        ([frame(0, b"x")], 1002),
        ([frame(1, b"a", fin=False), frame(1, b"b")], 1002),
        ([frame(9, b"x" * 126)], 1002),
        ([frame(9, fin=False)], 1002),
        ([frame(8, b"\x03")], 1002),
        ([frame(8, struct.pack("!H", 1005))], 1002),
        ([frame(8, struct.pack("!H", 1000) + b"\xff")], 1007),
        ([frame(1, b"\xc0\x80")], 1007),
        ([frame(1, b"\xed\xa0\x80")], 1007),
        ([frame(1, b"\xe2\x82", fin=False), frame(0)], 1007),
    ],
)
def test_violations(frames, code):
    seen = []

    @websocket_app
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        seen.append(await receive())

    with running(app) as server, RawClient(server) as ws:
        ws.send(*frames)
        assert ws.closed_with() == code
    assert seen[0]["type"] == "websocket.disconnect"
    assert seen[0]["code"] == code


# -- limits


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_size_of_messages_at_its_edge(compression):
    with running(echo, ws_max_size=10_000) as server:
        with client(server, compression=compression) as ws:
            ws.send("a" * 10_000)
            assert ws.recv(timeout=TIMEOUT) == "a" * 10_000
            ws.send(["a" * 5_000, "a" * 5_000])
            assert ws.recv(timeout=TIMEOUT) == "a" * 10_000
            with pytest.raises(ConnectionClosedError):
                ws.send("a" * 10_001)
                ws.recv(timeout=TIMEOUT)
            assert ws.close_code == 1009
        with client(server, compression=compression) as ws:
            with pytest.raises(ConnectionClosedError):
                ws.send(["a" * 5_000, "a" * 5_001])  # the end of it may come too late
                ws.recv(timeout=TIMEOUT)
            assert ws.close_code == 1009


def test_compression_is_agreed_on_only_if_it_is_on():
    with running(echo, ws_per_message_deflate=False) as server, client(server) as ws:
        assert "sec-websocket-extensions" not in ws.response.headers
        ws.send("a" * 1000)
        assert ws.recv(timeout=TIMEOUT) == "a" * 1000


def test_messages_are_compressed():
    with (
        running(echo) as server,
        RawClient(server, "sec-websocket-extensions: permessage-deflate") as ws,
    ):
        assert b"permessage-deflate" in ws.head
        ws.send(frame(1, b"a" * 10_000))
        first, payload = ws.frame()
        assert first == 0xC1
        assert len(payload) < 100


def test_an_application_that_does_not_read_stops_the_client():
    go = threading.Event()
    count = []

    @websocket_app
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.to_thread(go.wait, TIMEOUT)
        while (message := await receive())["type"] == "websocket.receive":
            count.append(len(message["bytes"]))

    with running(app, ws_max_queue=3, timeout_write=5) as server, RawClient(server) as ws:
        ws.sock.settimeout(0.5)
        piece, sent = frame(2, b"x" * 50_000), 0
        data = memoryview(piece * 2000)
        with pytest.raises(TimeoutError):
            while sent < len(data):
                sent += ws.sock.send(data[sent : sent + 65536])
        ws.sock.settimeout(TIMEOUT)
        go.set()
        ws.sock.sendall(data[sent:])
        ws.send(frame(8))
        assert ws.frame() == (0x88, b"")
        wait_for(lambda: len(count) == 2000)


def test_a_client_that_does_not_read_stops_the_application():
    sent = []

    @websocket_app
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        for i in range(200):
            await send({"type": "websocket.send", "bytes": bytes([i]) * 100_000})
            sent.append(i)

    with running(app, limit_write_buffer=65536) as server, RawClient(server) as ws:
        wait_for(lambda: len(sent) > 1)
        time.sleep(0.3)
        held = len(sent)
        assert held < 150
        for i in range(200):
            assert ws.frame() == (0x82, bytes([i]) * 100_000)
        assert ws.frame()[0] == 0x88
    assert len(sent) == 200


def test_a_client_that_never_reads_is_left():
    seen = []

    @websocket_app
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        with pytest.raises(OSError):
            while True:
                await send({"type": "websocket.send", "bytes": b"x" * 1_000_000})
        seen.append(await receive())

    with running(app, timeout_write=0.5) as server, RawClient(server):
        wait_for(lambda: seen)
        wait_for(lambda: server.server.connections == 0)
    assert seen == [{"type": "websocket.disconnect", "code": 1006}]


def test_a_client_that_leaves_while_it_is_sent_to():
    seen = []

    @websocket_app
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        try:
            while True:
                await send({"type": "websocket.send", "bytes": b"x" * 100_000})
        except OSError:
            seen.append(await receive())
            raise

    with running(app, limit_write_buffer=65536) as server:
        with RawClient(server) as ws:
            ws.frame()
            ws.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wait_for(lambda: seen)
        wait_for(lambda: server.server.tasks == 0)
    assert seen[0]["code"] == 1006


def test_pings_that_are_answered():
    with running(echo, ws_ping_interval=0.05, ws_ping_timeout=0.2) as server:
        with client(server) as ws:
            time.sleep(0.6)
            ws.send("alive")
            assert ws.recv(timeout=TIMEOUT) == "alive"


def test_pings_that_are_not_answered():
    seen = []

    @websocket_app
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        seen.append(await receive())

    with running(app, ws_ping_interval=0.05, ws_ping_timeout=0.2) as server:
        with RawClient(server) as ws:
            first, payload = ws.frame()
            assert (first, len(payload)) == (0x89, 4)
            assert ws.closed_with() == 1011
    assert seen == [
        {"type": "websocket.disconnect", "code": 1011, "reason": "keepalive ping timeout"}
    ]


def test_no_pings():
    with running(echo, ws_ping_interval=0) as server, RawClient(server) as ws:
        ws.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            ws.frame()
