"""WSGI applications behind the ASGI door."""

import asyncio
import io
import itertools
import warnings
import wsgiref.validate

import anyio
import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from turboapi import FastAPI
from turboapi._serving.wsgi import ClientGoneError, WSGIAdapter, make_environ


def client(app, **more):
    return TestClient(WSGIAdapter(app), **more)


def echo(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def test_obeys_the_standards_validator():
    def app(environ, start_response):
        start_response("201 Created", [("Content-Type", "text/plain")])
        return [b"a", b"b"]

    # The validator demands a native string for each environ value and more.
    answer = client(wsgiref.validate.validator(app)).get("/x?y=1")
    assert (answer.status_code, answer.text) == (201, "ab")


def test_environ():
    seen = {}

    def app(environ, start_response):
        seen.update(environ)
        start_response("204 No Content", [])
        return []

    answer = client(app, root_path="/root").get(
        "/root/caf%C3%A9?q=%20x",
        headers=[("x-a", "1"), ("x-a", "2"), ("cookie", "a=1"), ("x_b", "spoofed")],
    )
    assert answer.status_code == 204
    assert seen["SCRIPT_NAME"] == "/root"
    assert seen["PATH_INFO"].encode("latin-1").decode() == "/café"
    assert seen["QUERY_STRING"] == "q=%20x"
    assert seen["HTTP_X_A"] == "1,2"
    assert seen["HTTP_COOKIE"] == "a=1"
    assert "HTTP_X_B" not in seen
    assert (seen["SERVER_NAME"], seen["SERVER_PORT"]) == ("testserver", "80")
    assert seen["wsgi.url_scheme"] == "http"


def test_bodies():
    assert client(echo).post("/", content=b"x" * 100_000).content == b"x" * 100_000

    def pieces():
        for n in range(5):
            yield b"%d" % n * 50_000

    assert client(echo).post("/", content=pieces()).content == b"".join(pieces())


@pytest.mark.anyio
async def test_each_piece_is_sent_when_it_is_made():
    events = []
    incoming = [
        {"type": "http.request", "body": b"1\n", "more_body": True},
        {"type": "http.request", "body": b"2\n", "more_body": True},
        {"type": "http.request", "body": b"3", "more_body": False},
    ]

    def app(environ, start_response):
        start_response("200 OK", [])
        for line in environ["wsgi.input"]:
            events.append(("read", line))
            yield line
        events.append("end")

    async def receive():
        return incoming.pop(0) if incoming else await anyio.sleep_forever()

    async def send(message):
        if message["type"] == "http.response.body":
            events.append(("sent", message["body"], message.get("more_body", False)))

    await WSGIAdapter(app)(scope(), receive, send)
    assert events == [
        ("read", b"1\n"),
        ("sent", b"1\n", True),
        ("read", b"2\n"),
        ("sent", b"2\n", True),
        ("read", b"3"),
        ("sent", b"3", True),
        "end",
        ("sent", b"", False),
    ]


def scope(**more):
    return {
        "type": "http",
        "method": "POST",
        "path": "/",
        "query_string": b"",
        "headers": [],
        **more,
    }


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.anyio
async def test_client_gone_while_reading():
    incoming = [
        {"type": "http.request", "body": b"1", "more_body": True},
        {"type": "http.disconnect"},
    ]
    seen = []

    async def receive():
        return incoming.pop(0)

    def app(environ, start_response):
        try:
            environ["wsgi.input"].read()
        except ClientGoneError as error:
            seen.append(error)
            raise

    # The application learns of it; for the server it is no error.
    await WSGIAdapter(app)(scope(), receive, None)
    assert len(seen) == 1


class Pieces:
    """An iterable that counts what was taken of it, and the calls of `close`."""

    def __init__(self, pieces):
        self.pieces = iter(pieces)
        self.taken = self.closed = 0

    def __iter__(self):
        return self

    def __next__(self):
        piece = next(self.pieces)
        if isinstance(piece, Exception):
            raise piece
        self.taken += 1
        return piece

    def close(self):
        self.closed += 1


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["message", "error"])
async def test_client_gone_while_writing(how):
    """By http.disconnect, or by an error of send(), whichever the server has."""
    chunks = Pieces(itertools.repeat(b"x"))
    sent = []

    async def receive():
        if not sent:
            return {"type": "http.request", "body": b""}
        if how == "message" and len(sent) > 3:
            return {"type": "http.disconnect"}
        return await anyio.sleep_forever()

    async def send(message):
        sent.append(message)
        if how == "error" and len(sent) > 3:
            raise OSError("gone")

    def app(environ, start_response):
        start_response("200 OK", [])
        return chunks

    await WSGIAdapter(app)(scope(), receive, send)
    assert chunks.closed == 1
    assert chunks.taken == {"message": 4, "error": 3}[how]


@pytest.mark.anyio
async def test_write_to_a_client_that_left_is_an_error_for_the_application():
    errors = []
    sent = []

    async def receive():
        return {"type": "http.disconnect" if sent else "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    def app(environ, start_response):
        write = start_response("200 OK", [])
        write(b"1")
        for _ in range(2):
            try:
                write(b"2")
            except OSError as error:
                errors.append(error)
        return []

    await WSGIAdapter(app)(scope(), receive, send)
    assert [type(each) for each in errors] == [ClientGoneError] * 2


@pytest.mark.anyio
async def test_a_cancelled_request_gives_its_thread_back():
    chunks = Pieces(itertools.repeat(b"x"))
    begun = anyio.Event()

    async def receive():
        return await anyio.sleep_forever() if begun.is_set() else {"type": "http.request"}

    async def send(message):
        begun.set()
        await anyio.sleep(0.001)

    def app(environ, start_response):
        start_response("200 OK", [])
        return chunks

    task = asyncio.create_task(WSGIAdapter(app, threads=1)(scope(), receive, send))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with anyio.fail_after(60):
        while not chunks.closed:
            await anyio.sleep(0.01)
    assert chunks.closed == 1


@pytest.mark.parametrize(
    "pieces",
    [[b"a", ValueError("mine")], [ValueError("mine")], [b"a", "text"], [b"a", 5], ["text"]],
)
def test_close_is_called_once_after_an_error(pieces):
    chunks = Pieces(pieces)

    def app(environ, start_response):
        start_response("200 OK", [])
        return chunks

    with pytest.raises((ValueError, TypeError), match=r"^mine|^WSGI: pieces .* must be bytes"):
        client(app).get("/")
    assert chunks.closed == 1


@pytest.mark.parametrize("result", [b"bytes", "text", None, 5, ["text"], [5]])
def test_what_is_no_iterable_of_bytes(result):
    def app(environ, start_response):
        start_response("200 OK", [])
        return result

    with pytest.raises(TypeError, match="^WSGI: "):
        client(app).get("/")


@pytest.mark.anyio
async def test_the_end_is_sent_before_close():
    events = []

    async def receive():
        return await anyio.sleep_forever() if events else {"type": "http.request"}

    async def send(message):
        if message["type"] == "http.response.body":
            events.append(message.get("more_body", False))

    class Closing(Pieces):
        def close(self):
            events.append("close")

    for headers in ([], [("Content-Length", "2")]):

        def app(environ, start_response, headers=headers):
            start_response("200 OK", headers)
            return Closing([b"a", b"b"])

        await WSGIAdapter(app)(scope(), receive, send)
        assert events[-2:] == [False, "close"]
        events.clear()


def test_content_length_too_short(caplog):
    chunks = Pieces(itertools.repeat(b"abc"))

    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "4")])
        return chunks

    assert client(app).get("/").content == b"abca"
    assert (chunks.taken, chunks.closed) == (2, 1)
    assert "longer than its Content-Length" in caplog.text


def test_what_follows_a_whole_body_still_runs():
    events = []

    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "2")])
        yield b"ab"
        events.append("after")

    assert client(app).get("/").content == b"ab"
    assert events == ["after"]


@pytest.mark.parametrize("whole", [True, False])
def test_content_length_too_long(whole):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "4")])
        return [b"abc"] if whole else iter([b"abc"])

    with pytest.raises(RuntimeError, match="1 bytes short of its Content-Length"):
        client(app).get("/")


@pytest.mark.parametrize(
    "status", ["200", "20 OK", "abc OK", "2000 OK", "200OK", "\u0662\u0660\u0660 OK"]
)
def test_bad_status(status):
    def app(environ, start_response):
        start_response(status, [])
        return []

    if status == "200":
        assert client(app).get("/").status_code == 200
    else:
        with pytest.raises(ValueError, match="^WSGI: a status is three digits"):
            client(app).get("/")


def test_bad_headers():
    for headers in ([("Content-Length", "-1")], [("content-length", "x")], [(b"a", b"b")]):

        def app(environ, start_response, headers=headers):
            start_response("200 OK", headers)
            return []

        with pytest.raises((ValueError, TypeError), match="^WSGI: "):
            client(app).get("/")


def test_fields_of_the_connection_are_the_servers():
    def app(environ, start_response):
        start_response("200 OK", [("Transfer-Encoding", "chunked"), ("X-A", "1")])
        return [b"x"]

    headers = client(app).get("/").headers
    assert headers["x-a"] == "1"
    assert "transfer-encoding" not in headers


def test_file_wrapper(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 4096)
    files = []

    def app(environ, start_response):
        file = path.open("rb")
        files.append(file)
        file.seek(10)
        length = environ["PATH_INFO"][1:]
        start_response("200 OK", [("Content-Length", length)] if length else [])
        return environ["wsgi.file_wrapper"](file, 4096)

    assert client(app).get("/").content == path.read_bytes()[10:]
    for length in (0, 5, 200_000):  # a part of it
        assert client(app).get(f"/{length}").content == path.read_bytes()[10 : 10 + length]
    assert all(file.closed for file in files)


def test_file_wrapper_of_what_is_no_file():
    reads = []

    class Source:
        def read(self, size):
            reads.append(size)
            return b"x" if len(reads) < 4 else b""

    def app(environ, start_response):
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](Source(), 100)

    assert client(app).get("/").content == b"xxx"
    assert set(reads) == {100}


def test_threads_that_it_says():
    def app(environ, start_response):
        start_response("200 OK", [])
        return [str(environ["wsgi.multithread"]).encode()]

    assert TestClient(WSGIAdapter(app, threads=1)).get("/").text == "False"
    assert TestClient(WSGIAdapter(app, threads=2)).get("/").text == "True"


def test_a_limiter_in_each_event_loop():
    adapter = WSGIAdapter(echo, threads=1)
    for _ in range(2):  # each with a loop of its own
        assert TestClient(adapter).post("/", content=b"x").text == "x"


def test_middleware_streams_and_closes():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from starlette.middleware.wsgi import WSGIMiddleware as Theirs

        from turboapi.middleware.wsgi import WSGIMiddleware

    chunks = Pieces([b"a", b"b"])

    def app(environ, start_response):
        start_response("200 OK", [("X-Path", environ["SCRIPT_NAME"] + "," + environ["PATH_INFO"])])
        return chunks

    main = FastAPI()
    main.mount("/old", WSGIMiddleware(app))
    answer = TestClient(main).get("/old/x")
    assert (answer.text, answer.headers["x-path"], chunks.closed) == ("ab", "/old,/x", 1)
    assert isinstance(WSGIMiddleware(app), Theirs)


def test_a_root_path_is_whole_segments():
    for root, path, expected in [
        ("/app", "/application", ("/app", "/application")),
        ("/app", "/app/x", ("/app", "/x")),
        ("/app", "/app", ("/app", "")),
        ("/app/", "/app/x", ("/app/", "x")),
        ("", "/x", ("", "/x")),
    ]:
        environ = make_environ(scope(root_path=root, path=path), io.BytesIO(), False)
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == expected


def test_the_target_as_it_was_sent():
    environ = make_environ(scope(raw_path=b"/%41", query_string=b"a=%20"), io.BytesIO(), False)
    assert environ["REQUEST_URI"] == environ["RAW_URI"] == "/%41?a=%20"


def test_write_callable_and_close():
    closed = []

    class Chunks(list):
        def close(self):
            closed.append(True)

    def app(environ, start_response):
        write = start_response("200 OK", [])
        write(b"a")
        write(b"b")
        return Chunks([b"c"])

    assert client(app).get("/").content == b"abc"
    assert closed == [True]


def test_close_after_an_error():
    closed = []

    class Chunks:
        def __iter__(self):
            raise ValueError("mine")

        def close(self):
            closed.append(True)

    def app(environ, start_response):
        start_response("200 OK", [])
        return Chunks()

    with pytest.raises(ValueError, match="mine"):
        client(app).get("/")
    assert closed == [True]


def test_error_replaces_a_response_that_was_not_sent():
    import sys

    def app(environ, start_response):
        start_response("200 OK", [])
        try:
            raise KeyError("x")
        except KeyError:
            start_response("500 Oops", [("x-error", "1")], sys.exc_info())
        return [b"sorry"]

    answer = client(app).get("/")
    assert (answer.status_code, answer.headers["x-error"], answer.text) == (500, "1", "sorry")


def test_error_after_the_response_was_sent_is_raised():
    import sys

    def app(environ, start_response):
        write = start_response("200 OK", [])
        write(b"a")
        write(b"b")
        try:
            raise KeyError("late")
        except KeyError:
            start_response("500 Oops", [], sys.exc_info())
        return []

    with pytest.raises(KeyError, match="late"):
        client(app).get("/")


def test_misuse_is_an_error():
    def silent(environ, start_response):
        return []

    def early(environ, start_response):
        return [b"x"]

    def twice(environ, start_response):
        start_response("200 OK", [])
        start_response("200 OK", [])
        return []

    for app in (silent, early, twice):
        with pytest.raises(RuntimeError, match="^WSGI: "):
            client(app).get("/")


def test_head_has_no_body():
    assert client(echo).head("/").content == b""


def test_lifespan_and_websockets():
    with client(echo) as inside:
        assert inside.get("/").status_code == 200
        with pytest.raises(WebSocketDisconnect), inside.websocket_connect("/"):
            pass


def test_environ_of_a_unix_socket():
    environ = make_environ(scope(server=("/run/s", None), client=None), io.BytesIO(), True)
    assert environ["SERVER_NAME"] == "/run/s"
    assert "REMOTE_ADDR" not in environ
    assert environ["wsgi.multiprocess"] is True
