"""The native server under raw ASGI applications, over real sockets."""

import asyncio
import contextlib
import io
import json
import logging
import socket
import struct
import threading

import patience
import pytest
from server_kit import (
    both_protocols,
    forever,
    handler,
    read_all,
    read_body,
    read_until,
    running,
    send_text,
    text_app,
    wait_for,
)
from starlette.applications import Starlette
from starlette.routing import Route

from turboapi._serving import log


async def hello(scope, receive, send):
    assert scope["type"] == "http"
    await send_text(send, "hello")


# -- the plain case -------------------------------------------------------------------------------


@both_protocols
def test_hello():
    with running(hello) as server:
        status, headers, body = server.get("/")
    assert (status, body) == (200, b"hello")
    assert headers["content-length"] == "5"
    assert headers["content-type"] == "text/plain"
    assert headers["server"] == "turboapi"
    assert "date" in headers


def test_headers_of_the_server_can_be_left_out_or_replaced():
    @handler
    async def app(scope, receive, send):
        more = [(b"Date", b"today"), (b"Server", b"mine")] if scope["path"] == "/own" else []
        await send_text(send, "x", headers=more)

    with running(app, server_header=False, date_header=False) as server:
        headers = server.get("/")[1]
        assert "server" not in headers
        assert "date" not in headers
    with running(app) as server:
        raw = server.exchange(b"GET /own HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").lower()
    assert raw.count(b"date:") == raw.count(b"server:") == 1
    assert b"date: today\r\n" in raw


def test_scope():
    scopes = []

    @handler
    async def app(scope, receive, send):
        scopes.append(scope)
        await send_text(send, "x")

    with running(app) as server:
        client = server.connect()
        with client:
            client.sendall(
                b"GET /a%20b/%C3%A9?q=1&r=%20 HTTP/1.1\r\nHost: Example\r\nX-Many: 1\r\n"
                b"x-many:  2 \r\nconnection: close\r\n\r\n"
            )
            read_all(client)
        server.exchange(b"POST / HTTP/1.0\r\ncontent-length: 0\r\n\r\n")
    scope = scopes[0]
    client = scope.pop("client")
    assert client[0] == "127.0.0.1"
    assert isinstance(client[1], int)
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": server.address,
        "scheme": "http",
        "root_path": "",
        "headers": [
            (b"host", b"Example"),
            (b"x-many", b"1"),
            (b"x-many", b"2"),
            (b"connection", b"close"),
        ],
        "state": {},
        "method": "GET",
        "path": "/a b/é",
        "raw_path": b"/a%20b/%C3%A9",
        "query_string": b"q=1&r=%20",
        "extensions": {"http.response.trailers": {}, "http.response.early_hint": {}},
    }
    assert scopes[1]["http_version"] == "1.0"
    assert scopes[1]["method"] == "POST"


def test_each_scope_tells_of_its_own_request():
    names = "http_version", "method", "query_string", "server"
    seen = []

    @handler
    async def app(scope, receive, send):
        seen.append(tuple(scope[name] for name in names))
        for name in names:
            scope[name] = "changed"
        await send_text(send, "x")

    asked = [
        ("1.1", "GET", b"", "127.0.0.1"),
        ("1.0", "GET", b"", "127.0.0.1"),
        ("1.1", "OPTIONS", b"a=1", "127.0.0.1"),
        ("1.1", "GET", b"", "127.0.0.2"),
        ("1.1", "GET", b"b", "127.0.0.1"),
        ("1.1", "GET", b"", "127.0.0.1"),
    ]
    with running(app, host="0.0.0.0") as server:
        port = server.address[1]
        for version, method, query, host in asked:
            with socket.create_connection((host, port), patience.seconds(10)) as client:
                target = b"/?" + query if query else b"/"
                line = b"%s %s HTTP/%s\r\n" % (method.encode(), target, version.encode())
                client.sendall(line + b"host: x\r\nconnection: close\r\n\r\n")
                read_all(client)
    assert seen == [(*each, (host, port)) for *each, host in asked]


@both_protocols
def test_scopes_share_nothing_that_is_mutable():
    scopes = []

    @handler
    async def app(scope, receive, send):
        scope["state"]["n"] = scope["asgi"]["n"] = len(scopes)
        scopes.append(scope)
        await send_text(send, "x")

    with running(app) as server:
        for _ in range(3):
            server.get("/")
    assert [scope["state"]["n"] for scope in scopes] == [0, 1, 2]
    assert [scope["asgi"]["n"] for scope in scopes] == [0, 1, 2]


@both_protocols
def test_root_path_and_bad_utf8():
    seen = []

    @handler
    async def app(scope, receive, send):
        seen.append((scope["root_path"], scope["path"], scope["raw_path"]))
        await send_text(send, "x")

    with running(app, root_path="/api") as server:
        server.get("/x")
        server.get("/%FF%20")
    assert seen == [("/api", "/api/x", b"/x"), ("/api", "/api/\ufffd ", b"/%FF%20")]


def test_unix_socket(tmp_path):
    scopes = []

    @handler
    async def app(scope, receive, send):
        scopes.append(scope)
        await send_text(send, "x")

    path = str(tmp_path / "s")
    with running(app, uds=path) as server:
        assert b"200 OK" in server.exchange(
            b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        )
    assert scopes[0]["client"] is None


@both_protocols
def test_proxy_headers():
    @text_app
    async def app(scope):
        return json.dumps([scope["scheme"], scope["client"]])

    headers = {"X-Forwarded-For": "9.8.7.6, 127.0.0.1", "X-Forwarded-Proto": "https"}
    with running(app) as server:
        assert json.loads(server.get("/", **headers)[2]) == ["https", ["9.8.7.6", 0]]
    with running(app, proxy_headers=False) as server:
        assert json.loads(server.get("/", **headers)[2])[0] == "http"
    with running(app, forwarded_allow_ips=("10.0.0.1",)) as server:
        assert json.loads(server.get("/", **headers)[2])[1][0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("trusted", "chain", "client"),
    [
        ("unix", "9.8.7.6", ["9.8.7.6", 0]),
        ("unix", "1.1.1.1, 9.8.7.6", ["9.8.7.6", 0]),  # the first is what the client says
        ("unix,10.0.0.0/8", "1.1.1.1, 9.8.7.6, 10.1.2.3", ["9.8.7.6", 0]),
        ("unix", "9.8.7.6, unix", ["unix", 0]),
        ("unix", "9.8.7.6,", None),
        ("*", "1.1.1.1, 9.8.7.6", ["1.1.1.1", 0]),
        ("127.0.0.1", "9.8.7.6", None),
    ],
)
def test_proxy_headers_over_a_unix_socket(tmp_path, trusted, chain, client):
    @text_app
    async def app(scope):
        return json.dumps([scope["scheme"], scope["client"]])

    head = f"x-forwarded-for: {chain}\r\nx-forwarded-proto: https\r\nconnection: close"
    with running(app, uds=str(tmp_path / "s"), forwarded_allow_ips=trusted) as server:
        answer = server.exchange(f"GET / HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n".encode())
    scheme = "http" if trusted == "127.0.0.1" else "https"
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == [scheme, client]


@both_protocols
def test_peers_with_an_address_are_not_those_of_a_unix_socket():
    @text_app
    async def app(scope):
        return scope["client"][0]

    with running(app, forwarded_allow_ips="unix") as server:
        assert server.get("/", **{"X-Forwarded-For": "9.8.7.6"})[2] == b"127.0.0.1"


# -- request bodies -------------------------------------------------------------------------------


@handler
async def echo(scope, receive, send):
    body = await read_body(receive)
    await send_text(send, body)


@both_protocols
@pytest.mark.parametrize("size", [0, 1, 1000, 65536, 300_000, 3_000_000])
def test_echo(size):
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    with running(echo) as server:
        assert server.request("POST", "/", body=body)[2] == body


def test_echo_chunked():
    def chunks():
        for i in range(50):
            yield b"%d," % i * 500

    with running(echo) as server:
        with server.client() as conn:
            conn.request("POST", "/", body=chunks(), encode_chunked=True)
            body = conn.getresponse().read()
    assert body == b"".join(chunks())


def test_expect_continue():
    with running(echo) as server:
        head = b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n"
        with server.raw(head) as sock:
            assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
            sock.sendall(b"abc")
            assert read_until(sock, b"abc").endswith(b"abc")


def test_no_continue_when_the_body_is_not_wanted():
    with running(hello) as server:
        head = b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n"
        with server.raw(head) as sock:
            assert read_until(sock, b"hello").startswith(b"HTTP/1.1 200 ")


@both_protocols
def test_a_body_that_nobody_reads():
    with running(hello) as server, server.client() as conn:
        for _ in range(3):
            conn.request("POST", "/", body=b"z" * 1000)
            assert conn.getresponse().read() == b"hello"


def test_body_arrives_while_the_handler_waits():
    with running(echo) as server:
        with server.raw(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\nab") as sock:
            wait_for(lambda: server.server.tasks == 1)
            sock.sendall(b"cd")
            sock.sendall(b"ef")
            assert read_until(sock, b"abcdef").endswith(b"abcdef")


def test_slow_reader_of_a_body_pauses_the_peer():
    gate = threading.Event()
    sizes = []

    @handler
    async def app(scope, receive, send):
        total = 0
        while True:
            message = await receive()
            sizes.append(len(message["body"]))
            total += len(message["body"])
            if not message["more_body"]:
                break
            while not gate.is_set():
                await asyncio.sleep(0.01)
        await send_text(send, str(total))

    size = 8_000_000
    with running(app) as server, server.connect() as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size)
        sock.settimeout(0.5)
        sent = 0
        block = b"x" * 65536
        with pytest.raises(TimeoutError):
            while sent < size:
                sent += sock.send(block[: size - sent])
        assert sent < size
        gate.set()
        sock.settimeout(10)
        while sent < size:
            sent += sock.send(block[: size - sent])
        assert read_until(sock, b"%d" % size).endswith(b"%d" % size)
    assert max(sizes) < 1_000_000


def test_receive_after_the_body_waits_for_the_end():
    messages = []
    over = threading.Event()

    @handler
    async def app(scope, receive, send):
        assert await read_body(receive) == b"abc"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        messages.append(await receive())
        over.set()

    with running(app) as server:
        with server.raw(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc") as sock:
            read_until(sock, b"\r\n\r\n")
        assert over.wait(5)
    assert messages == [{"type": "http.disconnect"}]


@both_protocols
def test_receive_after_the_response_says_disconnect():
    messages = []

    @handler
    async def app(scope, receive, send):
        await send_text(send, "x")
        messages.append(await receive())

    with running(app) as server, server.client() as conn:
        for _ in range(2):
            conn.request("GET", "/")
            assert conn.getresponse().read() == b"x"
    assert messages == [{"type": "http.disconnect"}] * 2


@both_protocols
def test_receive_and_send_are_coroutines():
    @handler
    async def app(scope, receive, send):
        message = await asyncio.create_task(receive())
        assert message == {"type": "http.request", "body": b"", "more_body": False}
        waiting = asyncio.create_task(receive())
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting), 0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert asyncio.iscoroutine(receive())
        await asyncio.create_task(
            send({"type": "http.response.start", "status": 200, "headers": []})
        )
        await asyncio.gather(send({"type": "http.response.body", "body": b"ok"}))

    with running(app) as server:
        assert server.get("/")[2] == b"ok"


# -- responses ------------------------------------------------------------------------------------


def test_streamed_response_is_chunked():
    @handler
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 201, "headers": []})
        for i in range(3):
            await send(
                {"type": "http.response.body", "body": bytearray(b"%d" % i), "more_body": True}
            )
            await asyncio.sleep(0.001)
        await send({"type": "http.response.body", "body": memoryview(b"end")})

    with running(app) as server:
        status, headers, body = server.get("/")
        assert (status, body) == (201, b"012end")
        assert headers["transfer-encoding"] == "chunked"
        raw = server.exchange(b"GET / HTTP/1.0\r\n\r\n")
    assert raw.endswith(b"\r\n\r\n012end")
    assert b"chunked" not in raw


def test_head_is_sent_before_the_first_piece():
    gate = threading.Event()

    @handler
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1")]})
        while not gate.is_set():
            await asyncio.sleep(0.005)
        await send({"type": "http.response.body", "body": b"later"})

    with running(app) as server, server.raw(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n") as sock:
        assert b"x-a: 1\r\n" in read_until(sock, b"\r\n\r\n")
        gate.set()
        assert b"later" in read_until(sock, b"0\r\n\r\n")


def test_backpressure():
    sent = []

    @handler
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(200):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            sent.append(1)
        await send({"type": "http.response.body"})

    with running(app) as server, server.connect() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        wait_for(lambda: len(sent) > 2)
        asyncio.run(asyncio.sleep(0.3))
        before = len(sent)
        assert before < 200, "send() did not wait for the client"
        assert server.server.tasks == 1
        total = 0
        while total < 200 * 65536:
            total += len(sock.recv(1 << 20))
        wait_for(lambda: server.server.tasks == 0)
    assert len(sent) == 200


@both_protocols
def test_content_length_is_kept():
    @handler
    async def app(scope, receive, send):
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", b"4")]}
        )
        await send({"type": "http.response.body", "body": b"ab", "more_body": True})
        await send({"type": "http.response.body", "body": b"cd"})

    with running(app) as server:
        _, headers, body = server.get("/")
    assert body == b"abcd"
    assert headers["content-length"] == "4"
    assert "transfer-encoding" not in headers


@both_protocols
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [200, 204, 304, 404, 599])
def test_statuses(method, status):
    body = b"" if status in (204, 304) else b"abc"

    @handler
    async def app(scope, receive, send):
        await send_text(send, body, status)

    with running(app) as server, server.client() as conn:
        for _ in range(2):  # the connection stays usable
            conn.request(method, "/")
            response = conn.getresponse()
            assert response.status == status
            assert response.read() == (b"" if method == "HEAD" else body)


@both_protocols
def test_pathsend(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"0123456789" * 100_000)

    @handler
    async def app(scope, receive, send):
        headers = [(b"content-length", b"1000000")] if scope["path"] == "/length" else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.pathsend", "path": str(file)})

    with running(app) as server, server.client() as conn:
        for path in ("/", "/length"):
            for method in ("GET", "HEAD", "GET"):
                conn.request(method, path)
                response = conn.getresponse()
                body = response.read()
                assert response.getheader("content-length") == "1000000"
                assert body == (b"" if method == "HEAD" else file.read_bytes())


def test_keep_alive_and_pipelining():
    @handler
    async def app(scope, receive, send):
        if scope["path"] == "/slow":
            await asyncio.sleep(0.05)
        await send_text(send, scope["path"])

    with running(app) as server:
        wire = b"".join(
            b"GET %s HTTP/1.1\r\nhost: x\r\n\r\n" % path
            for path in (b"/1", b"/slow", b"/2", b"/3", b"/slow", b"/4")
        )
        last = b"GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        answer = server.exchange(wire + last)
        bodies = [part.split(b"\r\n\r\n")[1] for part in answer.split(b"HTTP/1.1 200 OK")[1:]]
        assert bodies == [b"/1", b"/slow", b"/2", b"/3", b"/slow", b"/4", b"/last"]
        assert server.server.requests == 7


def test_many_pipelined_requests_do_not_recurse():
    with running(hello) as server:
        n = 3000
        wire = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * n
        with server.connect() as sock:
            threading.Thread(target=sock.sendall, args=(wire,), daemon=True).start()
            data = b""
            while data.count(b"hello") < n:
                data += sock.recv(1 << 20)
        assert data.count(b"HTTP/1.1 200 OK") == n


# -- errors ---------------------------------------------------------------------------------------


def errors_of(caplog):
    return [
        record.getMessage().strip() for record in caplog.records if record.name == "turboapi.error"
    ]


async def before_start(scope, receive, send):
    raise ValueError("broken")


async def after_a_wait(scope, receive, send):
    await asyncio.sleep(0.001)
    raise ValueError("broken")


async def group(scope, receive, send):
    async with asyncio.TaskGroup() as tg:
        tg.create_task(after_a_wait(scope, receive, send))


@pytest.mark.parametrize("function", [before_start, after_a_wait, group])
def test_exception_before_the_response(function, caplog):
    with running(handler(function)) as server:
        status, headers, body = server.get("/")
    assert (status, body) == (500, b"Internal Server Error")
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers["connection"] == "close"
    assert errors_of(caplog) == ["Exception in ASGI application"]
    assert isinstance(caplog.records[-1].exc_info[1], (ValueError, ExceptionGroup))


def test_exception_after_the_start_closes(caplog):
    @handler
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        await asyncio.sleep(0.01)
        raise ValueError("broken")

    with running(app) as server:
        answer = server.exchange(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert b"0\r\n\r\n" not in answer
    assert b"500" not in answer
    assert errors_of(caplog) == ["Exception in ASGI application"]


async def nothing(scope, receive, send):
    pass


async def start_only(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def start_and_fail(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise ValueError("broken")


async def something(scope, receive, send):
    await send_text(send, "fine")
    return 5


async def something_first(scope, receive, send):
    return 5


def not_async(scope, receive, send):
    return 7


@pytest.mark.parametrize(
    ("function", "status", "message"),
    [
        (nothing, b"500", "ASGI callable returned without starting response."),
        (start_only, b"200", "ASGI callable returned without completing response."),
        (start_and_fail, b"200", "Exception in ASGI application"),
        (something, b"200", "ASGI callable should return None, but returned '5'."),
        (something_first, b"500", "ASGI callable should return None, but returned '5'."),
        (not_async, b"500", "Exception in ASGI application"),
    ],
)
def test_what_an_application_leaves_undone(function, status, message, caplog):
    async def app(scope, receive, send):
        raise RuntimeError

    def switch(scope, receive, send):
        chosen = app if scope["type"] == "lifespan" else function
        return chosen(scope, receive, send)

    with running(switch) as server:
        answer = server.exchange(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert answer[9:12] == status
    assert b"0\r\n\r\n" not in answer
    assert errors_of(caplog) == [message]


START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b""}


@pytest.mark.parametrize(
    ("messages", "error", "text"),
    [
        ([BODY], RuntimeError,
         "Expected ASGI message 'http.response.start', but got 'http.response.body'."),
        ([START, START], RuntimeError,
         "Expected ASGI message 'http.response.body', but got 'http.response.start'."),
        ([START, BODY, BODY], RuntimeError,
         "Unexpected ASGI message 'http.response.body' sent, after response already completed."),
        ([{**START, "headers": [(b"a b", b"")]}], RuntimeError, "Invalid HTTP header name."),
        ([{**START, "headers": [(b"a", b"x\r\ny: 1")]}], RuntimeError,
         "Invalid HTTP header value."),
        ([{**START, "headers": [(b"content-length", b"2")]}, {**BODY, "body": b"abc"}],
         RuntimeError, "Response content longer than Content-Length"),
        ([{**START, "headers": [(b"content-length", b"2")]}, {**BODY, "body": b"a"}],
         RuntimeError, "Response content shorter than Content-Length"),
        ([{**START, "status": 42}], RuntimeError, "Invalid HTTP status code 42."),
        ([{"type": "http.response.start"}], KeyError, "'status'"),
        ([{"status": 200}], KeyError, "'type'"),
        ([{**START, "headers": [("a", "b")]}], TypeError,
         "header fields must be pairs of bytes, not of str and str"),
        ([START, {**BODY, "body": "text"}], TypeError,
         "a bytes-like object is required, not 'str'"),
    ],
)  # fmt: skip
def test_wrong_messages(messages, error, text):
    raised = []

    @handler
    async def app(scope, receive, send):
        try:
            for message in messages:
                await send(message)
        except Exception as exc:
            raised.append(exc)
            raise

    with running(app) as server:
        server.exchange(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert [(type(exc), str(exc)) for exc in raised] == [(error, text)]


@both_protocols
def test_system_exit_ends_its_request_only(caplog):
    @handler
    async def app(scope, receive, send):
        if scope["path"] == "/exit":
            raise SystemExit(3)
        await send_text(send, "still here")

    with running(app) as server:
        assert server.get("/exit")[0] == 500
        assert server.get("/")[2] == b"still here"


def test_requests_that_are_not_http(caplog):
    called = []

    async def app(scope, receive, send):
        called.append(scope)
        await hello(scope, receive, send)

    with running(app) as server:
        assert server.exchange(b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 ")
        assert server.server.requests == 1  # refused ones are counted
    assert [scope["type"] for scope in called if scope["type"] != "lifespan"] == []


def test_other_upgrades_are_ignored():
    with running(hello) as server:
        status, _, body = server.get("/", Connection="upgrade", Upgrade="h2c")
    assert (status, body) == (200, b"hello")


# -- the client goes ------------------------------------------------------------------------------


def test_plain_handler_runs_on_when_the_client_has_gone():
    finished = threading.Event()
    waiting = threading.Event()

    @handler
    async def app(scope, receive, send):
        waiting.set()
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"
        assert (await receive())["type"] == "http.disconnect"
        await asyncio.sleep(0.01)
        await send_text(send, "x" * 100)
        finished.set()

    with running(app) as server:
        with server.raw(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"):
            assert waiting.wait(5)
        assert finished.wait(5)


def test_a_client_that_ends_its_side_gets_its_answers():
    with running(echo) as server, server.connect() as sock:
        sock.sendall(
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc"
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\ndef"
        )
        sock.shutdown(socket.SHUT_WR)
        answer = read_all(sock)
    assert answer.count(b"200 OK") == 2
    assert b"abc" in answer
    assert answer.endswith(b"def")


def test_send_to_a_client_that_has_gone():
    over = threading.Event()
    raised = []

    def make(version):
        @handler
        async def app(scope, receive, send):
            assert scope["asgi"]["spec_version"] == version
            await send({"type": "http.response.start", "status": 200, "headers": []})
            try:
                for _ in range(500):
                    await send({"type": "http.response.body", "body": b"x", "more_body": True})
                    await asyncio.sleep(0.002)
            except Exception as exc:
                raised.append(type(exc))
            over.set()

        return app

    with running(make("2.3")) as server:
        with server.raw(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n") as sock:
            sock.recv(10)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert over.wait(10)
    assert raised == []


def test_disconnect_while_the_body_is_read():
    raised = []
    over = threading.Event()

    @handler
    async def app(scope, receive, send):
        try:
            await read_body(receive)
        except ConnectionError as exc:
            raised.append(exc)
        over.set()

    with running(app) as server:
        with server.raw(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc"):
            wait_for(lambda: server.server.tasks == 1)
        assert over.wait(5)
    assert len(raised) == 1


def test_endless_stream_ends_with_the_client():
    over = threading.Event()

    @handler
    async def app(scope, receive, send):
        async def watch():
            while (await receive())["type"] != "http.disconnect":
                pass

        async def stream():
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": b"tick", "more_body": True})
                await asyncio.sleep(0.001)

        try:
            ticking = asyncio.create_task(stream())
            await watch()
            ticking.cancel()
        finally:
            over.set()

    with running(app) as server:
        with server.raw(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n") as sock:
            read_until(sock, b"tick")
        assert over.wait(5)
        wait_for(lambda: server.server.active == 0)


def test_writer_that_waits_for_room_is_woken_by_the_end():
    over = threading.Event()

    @handler
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(10_000):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            if not server.server.connections:
                break
        over.set()

    with running(app) as server:
        with server.raw(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n") as sock:
            sock.recv(1000)
            asyncio.run(asyncio.sleep(0.1))
        assert over.wait(5)


# -- limits ---------------------------------------------------------------------------------------


def test_limits_come_from_the_settings():
    with running(hello, limit_request_line=100, limit_body_bytes=10) as server:
        assert server.get("/" + "x" * 200)[0] == 414
        assert server.request("POST", "/", body=b"x" * 11)[0] == 413
        assert server.request("POST", "/", body=b"x" * 10)[0] == 200


def test_idle_connections_are_closed():
    with running(hello, timeout_idle=0.2) as server:
        with server.raw(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n") as sock:
            assert read_all(sock).endswith(b"hello")


def test_slow_head_is_cut():
    with running(hello, timeout_header=0.2) as server:
        with server.raw(b"GET / HTTP/1.1\r\n") as sock:
            read_all(sock)  # ends


# -- access log -----------------------------------------------------------------------------------


def test_access_log(caplog):
    caplog.set_level(logging.INFO, "turboapi.access")
    with running(hello, access_log=True) as server:
        server.get("/a%20b?x=1")
        server.request("POST", "/", headers={"X-Forwarded-For": "1.2.3.4"})
    lines = [r.getMessage() for r in caplog.records if r.name == "turboapi.access"]
    assert lines[0].startswith("127.0.0.1:")
    assert lines[0].endswith(' - "GET /a%20b?x=1 HTTP/1.1" 200')
    assert lines[1] == '1.2.3.4:0 - "POST / HTTP/1.1" 200'


@pytest.mark.parametrize("colours", [False, True])
def test_lines_made_in_c_are_those_of_the_logger(colours, monkeypatch):
    """With the logging of `turboapi run` nothing but the speed tells which way was taken."""
    stream = io.StringIO()
    access = logging.getLogger("turboapi.access")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(log.Formatter(use_colors=colours))
    monkeypatch.setattr(access, "handlers", [handler])
    monkeypatch.setattr(access, "propagate", False)
    monkeypatch.setattr(access, "level", logging.INFO)
    access.manager._clear_cache()

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await send_text(send, "x", int(scope["query_string"] or 200))

    with running(app, access_log=True) as server:
        with server.client() as conn:
            for path in ("/a%20b?404", "/%C3%A9?503", "/?799", "/?204", "/"):
                conn.request("GET", path)
                conn.getresponse().read()
            client = "{}:{}".format(*conn.sock.getsockname())
            quick = stream.getvalue()
            handler.addFilter(lambda record: True)  # from here on the logger is called
            conn.request("GET", "/last")
            conn.getresponse().read()
            for path in ("/a%20b?404", "/%C3%A9?503", "/?799", "/?204", "/"):
                conn.request("GET", path)
                conn.getresponse().read()
    slow = stream.getvalue()[len(quick) :].split("\n", 1)[1]
    assert quick == slow
    assert quick.count(client) == quick.count("\n") == 5


# -- shutdown -------------------------------------------------------------------------------------


def test_shutdown_waits_for_what_is_in_flight():
    @handler
    async def app(scope, receive, send):
        await asyncio.sleep(0.3)
        await send_text(send, "done")

    answers = []
    with running(app) as server:
        sock = server.connect()
        idle = server.connect()
        sock.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        wait_for(lambda: server.server.tasks == 1)
        server.loop_thread.stop()
        with sock, idle:
            answers.append(read_all(sock))
            assert read_all(idle) == b""
    assert answers[0].endswith(b"done")
    assert b"connection: close" in answers[0]
    assert server.loop_thread.exit_code == 0


@both_protocols
def test_shutdown_waits_for_background_work():
    over = []

    @handler
    async def app(scope, receive, send):
        await send_text(send, "x")
        await asyncio.sleep(0.2)
        over.append(1)

    with running(app) as server:
        assert server.get("/")[2] == b"x"
    assert over == [1]


def test_shutdown_cancels_after_its_time(caplog):
    events = []

    @handler
    async def app(scope, receive, send):
        try:
            await forever()
        except asyncio.CancelledError as exc:
            events.append(str(exc))
            raise

    with running(app, timeout_graceful_shutdown=0.2) as server:
        sock = server.connect()
        sock.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        wait_for(lambda: server.server.tasks == 1)
        server.loop_thread.stop()
        with sock:
            assert read_all(sock).startswith(b"HTTP/1.1 500 ")
    assert events == ["Task cancelled, timeout graceful shutdown exceeded"]
    assert "Cancel 1 running task(s)" in caplog.text


def test_second_stop_is_at_once():
    @handler
    async def app(scope, receive, send):
        await forever()

    with running(app, timeout_graceful_shutdown=30) as server:
        sock = server.connect()
        sock.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        wait_for(lambda: server.server.tasks == 1)
        server.loop_thread.stop()
        server.loop_thread.stop()
        server.thread.join(5)
        assert not server.thread.is_alive()
        sock.close()
    assert server.loop_thread.exit_code == 1


# -- lifespan -------------------------------------------------------------------------------------


def lifespan_app(events, **behaviour):
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            assert (await receive()) == {"type": "lifespan.startup"}
            scope["state"]["from"] = "startup"
            events.append("startup")
            if "startup" in behaviour:
                raise behaviour["startup"]
            if "startup_failed" in behaviour:
                await send(
                    {"type": "lifespan.startup.failed", "message": behaviour["startup_failed"]}
                )
                return
            await send({"type": "lifespan.startup.complete"})
            assert (await receive()) == {"type": "lifespan.shutdown"}
            events.append("shutdown")
            if "shutdown" in behaviour:
                raise behaviour["shutdown"]
            await send({"type": "lifespan.shutdown.complete"})
            events.append("after")
        else:
            await send_text(send, scope["state"]["from"])

    return app


@both_protocols
def test_lifespan():
    events = []
    with running(lifespan_app(events)) as server:
        assert events == ["startup"]
        assert server.get("/")[2] == b"startup"
    assert events == ["startup", "shutdown", "after"]
    assert server.loop_thread.exit_code == 0


def test_lifespan_off():
    events = []
    with running(lifespan_app(events), lifespan="off"):
        pass
    assert events == []


def test_lifespan_that_raises_is_taken_for_none_unless_it_must_be_there(caplog):
    with running(lifespan_app([], startup=ValueError("no"))):
        pass
    with pytest.raises(RuntimeError, match="exit 3"):
        with running(lifespan_app([], startup=ValueError("no")), lifespan="on"):
            pass
    assert "Exception in 'lifespan' protocol" in caplog.text


def test_startup_failure_ends_the_server(caplog):
    with pytest.raises(RuntimeError, match="exit 3"):
        with running(lifespan_app([], startup_failed="no database")):
            pass
    assert "no database" in caplog.text


def test_shutdown_failure_is_told(caplog):
    with running(lifespan_app([], shutdown=ValueError("no"))) as server:
        pass
    assert server.loop_thread.exit_code == 3
    assert "Application shutdown failed" in caplog.text


def test_lifespan_that_fails_while_requests_are_served_is_told(caplog):
    failing = asyncio.Event()

    @contextlib.asynccontextmanager
    async def lifespan(app):
        async def watch():
            await failing.wait()
            raise ValueError("lost the broker")

        async with asyncio.TaskGroup() as group:
            group.create_task(watch())
            yield

    app = Starlette(lifespan=lifespan)
    with running(app) as server:
        server.loop_thread._loop.call_soon_threadsafe(failing.set)
        wait_for(lambda: "lost the broker" in caplog.text)
        assert server.get("/")[0] == 404


def test_lifespan_that_a_forced_end_cancels_is_no_failure(caplog):
    @contextlib.asynccontextmanager
    async def lifespan(app):
        yield

    async def wait(request):
        begun.append(1)
        await asyncio.sleep(3600)

    begun = []
    app = Starlette(routes=[Route("/", wait)], lifespan=lifespan)
    with running(app, timeout_graceful_shutdown=60) as server:
        with server.raw(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"):
            wait_for(lambda: begun)
            server.loop_thread.stop()
            server.loop_thread.stop()
            server.thread.join(patience.seconds(5))
    assert server.loop_thread.exit_code == 1
    assert [r.message for r in caplog.records if r.levelno >= logging.ERROR] == []
