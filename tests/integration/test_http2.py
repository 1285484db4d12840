"""HTTP/2 on plain connections, with prior knowledge.

What both protocols do alike is in the other files, where a test has `both_protocols`.  Here is what
only a connection with many requests shows, and what the exchange does with each of them.
"""

import asyncio
import contextlib
import gzip
import os
from typing import Annotated

import h2.errors
import httpx2
import patience
import pytest
from h2_kit import MOST, START, Reset, needs_h2
from server_kit import handler, read_body, running, send_text, wait_for
from ws_kit import echo, frame

from turboapi import Body, FastAPI, File, HTTPException, Request, Response, UploadFile
from turboapi.middleware.gzip import GZipMiddleware
from turboapi.responses import FileResponse, JSONResponse, StreamingResponse

pytestmark = needs_h2

BIG = os.urandom(1 << 20)


def serving(app, **settings):
    return running(app, interface="turboapi", **settings)


def make_app():
    app = FastAPI()
    app.gates = {}

    @app.get("/items/{n}")
    async def item(n: int, q: str = "none"):
        return {"n": n, "q": q}

    @app.get("/sync/{n}")
    def sync(n: int):
        return n

    @app.post("/json")
    async def post(value: Annotated[dict, Body()]):
        return value

    @app.post("/size")
    async def size(request: Request):
        return len(await request.body())

    @app.post("/early")
    async def early():
        return "no body needed"

    @app.post("/file")
    async def upload(file: Annotated[UploadFile, File()]):
        return [file.filename, len(await file.read())]

    @app.get("/wait/{name}")
    async def wait(name: str):
        gate = app.gates[name] = asyncio.Event()
        await gate.wait()
        return name

    @app.get("/big")
    async def big():
        return Response(BIG)

    @app.get("/error")
    async def error():
        raise RuntimeError("broken")

    @app.get("/teapot")
    async def teapot():
        raise HTTPException(418, "short and stout", {"x-a": "b"})

    @app.get("/empty", status_code=204)
    async def empty():
        return None

    return app


def test_answers():
    with serving(make_app()) as server, server.h2() as client:
        one = client.open("GET", "/items/7?q=a%20b")
        assert one.head()[0] == 200
        assert one.field("content-length") == "17"
        assert one.field("server") == "turboapi" and one.field("date")
        assert one.read() == b'{"n":7,"q":"a b"}'
        for path, status, body in [
            ("/sync/3", 200, b"3"),
            ("/items/x", 422, None),
            ("/nowhere", 404, b'{"detail":"Not Found"}'),
            ("/json", 405, b'{"detail":"Method Not Allowed"}'),
            ("/items/7/", 307, b""),
            ("/error", 500, b"Internal Server Error"),
            ("/teapot", 418, b'{"detail":"short and stout"}'),
            ("/empty", 204, b""),
        ]:
            exchange = client.open("GET", path)
            assert exchange.head()[0] == status, path
            got = exchange.read()
            assert body is None or got == body, path


def test_head_has_no_body():
    app = FastAPI()

    @app.head("/")
    async def head():
        return Response(b"four")

    with serving(app) as server, server.h2() as client:
        exchange = client.open("HEAD", "/")
        assert exchange.head()[0] == 200
        assert (exchange.field("content-length"), exchange.read()) == ("4", b"")


def test_the_scope_names_the_version_and_the_addresses():
    seen = []

    @handler
    async def app(scope, receive, send):
        seen.append(scope)
        await send_text(send, await read_body(receive))

    with running(app) as server, server.h2() as client:
        exchange = client.open("PUT", "/%61?b", [("X-Name", "v"), ("host", "x")], b"body")
        assert (exchange.head()[0], exchange.read()) == (200, b"body")
        (scope,) = seen
        assert scope["http_version"] == "2"
        assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a", b"/%61", b"b")
        assert scope["headers"][:2] == [(b"host", b"x"), (b"x-name", b"v")]
        assert tuple(scope["client"]) == client.sock.getsockname()
        assert tuple(scope["server"]) == client.sock.getpeername()


def test_the_access_log_names_the_version(caplog):
    caplog.set_level("INFO", "uvicorn.access")
    caplog.set_level("INFO", "turboapi.access")
    with serving(make_app(), access_log=True) as server, server.h2() as client:
        client.open("GET", "/sync/1").read()
        wait_for(lambda: '"GET /sync/1 HTTP/2" 200' in caplog.text)


# -- bodies -----------------------------------------------------------------------------------------


def test_bodies_in_pieces():
    with serving(make_app()) as server, server.h2() as client:
        exchange = client.open("POST", "/json", {"content-type": "application/json"}, end=False)
        for piece in (b'{"a"', b":", b"1}"):
            exchange.write(piece)
        exchange.write(end=True)
        assert exchange.read() == b'{"a":1}'
        exchange = client.open("POST", "/size", body=BIG)
        assert exchange.read() == str(len(BIG)).encode()
        boundary = {"content-type": "multipart/form-data; boundary=x"}
        exchange = client.open("POST", "/file", boundary, end=False)
        exchange.write(b'--x\r\ncontent-disposition: form-data; name="file"; filename="n"\r\n\r\n')
        exchange.write(BIG[:100_000] + b"\r\n--x--\r\n", end=True)
        assert exchange.read() == b'["n",100000]'


def test_a_body_that_nobody_reads_stops_its_sender():
    """And only that one: the connection goes on."""
    gates = []

    @handler
    async def app(scope, receive, send):
        if scope["path"] == "/other":
            await send_text(send, "other")
            return
        gates.append(asyncio.Event())
        await gates[0].wait()
        await send_text(send, str(len(await read_body(receive))))

    with running(app) as server, server.h2() as client:
        exchange = client.open("POST", "/", end=False)
        sent = 0
        while exchange.credit:
            sent += exchange.credit
            exchange.write(bytes(exchange.credit))
            assert client.open("GET", "/other").read() == b"other"
        assert sent == 262144  # limit_body_buffer
        server.call(lambda: gates[0].set())
        exchange.write(BIG, end=True)
        assert exchange.read() == str(len(BIG) + sent).encode()


def test_a_body_goes_out_while_it_comes_in():
    @handler
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            await send({**message, "type": "http.response.body"})

    with running(app) as server, server.h2() as client:
        exchange = client.open("POST", "/", end=False)
        for piece in (b"one", b"two"):
            exchange.write(piece)
            assert exchange.read(3) == piece
        exchange.write(end=True)
        assert exchange.read() == b""


def test_a_response_before_the_end_of_the_body():
    with serving(make_app()) as server, server.h2() as client:
        exchange = client.open("POST", "/early", end=False)
        assert exchange.read() == b'"no body needed"'
        exchange.write(b"late", end=True)
        assert client.open("GET", "/sync/1").read() == b"1"


UNWANTED_MAX = 1 << 20


@pytest.mark.parametrize("path", ["/early", "/not-there"])
@pytest.mark.parametrize("size", [65_000, 65_600, 300_000, 900_000])
def test_a_body_that_nobody_reads_is_taken(path, size):
    """A client that is reset while it sends loses the response; one with a shut window waits."""
    with serving(make_app()) as server:
        for _ in range(3):
            client = httpx2.Client(http1=False, http2=True, timeout=patience.seconds(5))
            with client:
                url = "http://{}:{}{}".format(*server.address, path)
                assert client.post(url, content=bytes(size)).status_code in (200, 404)
                assert client.post(url, content=bytes(size)).status_code in (200, 404)


def test_a_body_that_nobody_reads_has_an_end():
    with serving(make_app()) as server, server.h2() as client:
        exchange = client.open("POST", "/early", end=False)
        assert exchange.read() == b'"no body needed"'

        exchange.ended = False
        client.exchanges[exchange.id] = exchange  # which still has something to tell
        sent = 0
        while sent < 4 * UNWANTED_MAX:
            client.until(lambda: exchange.credit > 0 or exchange.error is not None)
            if exchange.error is not None:
                break
            piece = bytes(min(MOST, exchange.credit))
            client.state.send_data(exchange.id, piece)
            client.flush()
            sent += len(piece)
        assert exchange.error == h2.errors.ErrorCodes.NO_ERROR
        assert UNWANTED_MAX < sent < 2 * UNWANTED_MAX
        assert client.open("GET", "/sync/1").read() == b"1"


def test_too_large_a_body():
    @handler
    async def app(scope, receive, send):
        await send_text(send, await read_body(receive))

    with running(app, limit_body_bytes=10) as server, server.h2() as client:
        declared = client.open("POST", "/", body=bytes(11), end=False)
        assert declared.head()[0] == 413
        exchange = client.open("POST", "/", end=False)
        exchange.write(bytes(11))
        assert exchange.head()[0] == 413
        assert client.open("POST", "/", body=bytes(10)).read() == bytes(10)


# -- many at once ------------------------------------------------------------------------------------


def test_requests_end_in_any_order():
    app = make_app()
    with serving(app) as server, server.h2() as client:
        waiting = {name: client.open("GET", f"/wait/{name}") for name in "abc"}
        assert client.open("GET", "/sync/1").read() == b"1"
        wait_for(lambda: len(app.gates) == 3)
        assert server.server.active == 3 and server.server.connections == 1
        for name in "cab":
            server.call(app.gates[name].set)
            assert waiting[name].read() == f'"{name}"'.encode()


def test_a_response_that_is_not_read_holds_up_no_other():
    with serving(make_app()) as server, server.h2() as client:
        big = client.open("GET", "/big")
        client.until(lambda: len(big.body) == START)  # as much as the client said it takes
        for n in range(3):
            assert client.open("GET", f"/sync/{n}").read() == str(n).encode()
        assert len(big.body) == START and not big.ended
        big.grant(10)
        client.until(lambda: len(big.body) == START + 10)
        big.grant(1 << 20)
        assert big.read() == BIG


def test_a_stream_waits_for_the_client():
    sent = []

    async def make():
        for n in range(64):
            sent.append(n)
            yield bytes(16384)

    app = FastAPI()

    @app.get("/")
    async def index():
        return StreamingResponse(make())

    with serving(app) as server, server.h2() as client:
        exchange = client.open("GET", "/")
        client.until(lambda: len(exchange.body) == START)
        assert client.open("GET", "/nowhere").head()[0] == 404  # it has had its turn
        assert 4 <= len(sent) < 20
        assert exchange.read() == bytes(64 * 16384)


def test_files(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(BIG)
    app = FastAPI()

    @app.get("/")
    async def index():
        return FileResponse(path)

    with serving(app) as server, server.h2() as client:
        first, second = client.open("GET", "/"), client.open("GET", "/")
        client.until(lambda: len(first.body) == START and len(second.body) == START)
        assert second.field("content-length") == str(len(BIG))
        assert second.read() == BIG
        assert first.read() == BIG


def test_gzip():
    app = FastAPI()
    app.add_middleware(GZipMiddleware, minimum_size=10)

    @app.get("/")
    async def index():
        return JSONResponse(["word"] * 1000)

    with serving(app) as server, server.h2() as client:
        exchange = client.open("GET", "/", {"accept-encoding": "gzip"})
        body = exchange.read()
        assert exchange.field("content-encoding") == "gzip"
        assert len(body) < 1000 and len(gzip.decompress(body)) == 7001


# -- the client, or the application, gives up ---------------------------------------------------------


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_client_that_goes_ends_its_stream(how):
    events = []

    async def make():
        try:
            yield b"first"
            await asyncio.sleep(60)
        finally:
            events.append("left")

    app = FastAPI()

    @app.get("/")
    async def index():
        return StreamingResponse(make())

    with serving(app) as server, server.h2() as client:
        exchange = client.open("GET", "/")
        assert exchange.read(5) == b"first"
        exchange.reset() if how == "reset" else client.sock.close()
        wait_for(lambda: events == ["left"])
        wait_for(lambda: server.server.active == 0)
        if how == "reset":
            assert client.open("GET", "/nowhere").head()[0] == 404
        else:
            wait_for(lambda: server.server.connections == 0)


def test_receive_tells_of_a_reset():
    messages = []

    @handler
    async def app(scope, receive, send):
        if scope["path"] == "/other":
            await send_text(send, "other")
            return
        while not messages or messages[-1] != "http.disconnect":
            messages.append((await receive())["type"])

    with running(app) as server, server.h2() as client:
        exchange = client.open("POST", "/", end=False)
        exchange.write(b"some")
        wait_for(lambda: len(messages) == 1)
        exchange.reset()
        wait_for(lambda: messages == ["http.request", "http.disconnect"])
        assert client.open("GET", "/other").read() == b"other"


def test_an_error_in_a_response_ends_that_one_only(caplog):
    async def make():
        yield b"some"
        raise ValueError("and no more")

    app = make_app()

    @app.get("/stream")
    async def stream():
        return StreamingResponse(make())

    with serving(app) as server, server.h2() as client:
        exchange = client.open("GET", "/stream")
        with pytest.raises(Reset):
            exchange.read()
        assert exchange.head()[0] == 200
        assert client.open("GET", "/sync/1").read() == b"1"
    assert "ValueError: and no more" in caplog.text


def test_shutdown_serves_what_is_open():
    app = make_app()
    with serving(app) as server:
        with server.h2() as client:
            exchange = client.open("GET", "/wait/a")
            wait_for(lambda: "a" in app.gates)
            server.loop_thread.stop()
            client.until(lambda: client.goaway)
            assert client.goaway.error_code == 0
            server.loop_thread._loop.call_soon_threadsafe(app.gates["a"].set)
            assert exchange.read() == b'"a"'
            with contextlib.suppress(ConnectionError):
                while True:
                    client.take()
            assert client.goaway.last_stream_id == exchange.id


# -- WebSockets (RFC 8441) ----------------------------------------------------------------------------


def open_websocket(client, path="/", **fields):
    fields = {"sec-websocket-version": "13", **fields}
    return client.open("CONNECT", path, fields, end=False, pseudo=[(":protocol", "websocket")])


def test_a_websocket_among_requests():
    with running(echo) as server, server.h2() as client:
        exchange = open_websocket(client)
        assert exchange.head()[0] == 200
        assert client.settings[8] == 1  # SETTINGS_ENABLE_CONNECT_PROTOCOL
        assert exchange.field("connection") is exchange.field("sec-websocket-accept") is None
        exchange.write(frame(1, b"text"))
        assert exchange.read(6) == b"\x81\x04text"
        big = bytes(200_000)
        exchange.write(frame(2, big))
        got = b""
        while len(got) < len(big) + 10:
            got += exchange.read(1)
        assert got[10:] == big
        exchange.write(frame(8, b"\x03\xe8"))
        assert exchange.read() == b"\x88\x02\x03\xe8"
        wait_for(lambda: server.server.active == 0)


@pytest.mark.parametrize(
    "line", [b"GET / FTP/1.0", b"GET /", b"GET /index.html", b"GET http://a/ XTTP/1.1", b"HELO a"]
)
def test_first_lines_that_are_wrong_get_an_answer(line):
    """As without HTTP/2: a preface that is wrong, which gets none, does not look like a request."""
    with serving(make_app()) as server:
        assert server.exchange(line + b"\r\nhost: a\r\n\r\n").startswith(b"HTTP/1.1 400 ")
        assert server.exchange(b"INVALID CONNECTION PREFACE\r\n\r\n") == b""
