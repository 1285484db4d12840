"""WSGI applications behind the ASGI door."""

import wsgiref.validate

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from turboapi._wsgi import ClientGoneError, WSGIAdapter, make_environ


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
async def test_streams_both_ways_without_gathering():
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

    async def receive():
        return incoming.pop(0)

    async def send(message):
        events.append(("sent", message.get("body"), message.get("more_body", False)))

    await WSGIAdapter(app)(scope(), receive, send)
    assert events == [
        ("read", b"1\n"),
        ("read", b"2\n"),
        ("sent", None, False),
        ("sent", b"1\n", True),
        ("read", b"3"),
        ("sent", b"2\n", True),
        ("sent", b"3", False),
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

    async def receive():
        return incoming.pop(0)

    with pytest.raises(ClientGoneError):
        await WSGIAdapter(echo)(scope(), receive, None)


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
    import io

    environ = make_environ(scope(server=("/run/s", None), client=None), io.BytesIO(), True)
    assert environ["SERVER_NAME"] == "/run/s"
    assert "REMOTE_ADDR" not in environ
    assert environ["wsgi.multiprocess"] is True
