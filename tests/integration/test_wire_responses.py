"""What an application may ask of a response that HTTP does not allow: the connection stays in order.

Each response is asked for twice on one connection, and both must be as said, to the byte.
"""

import pytest
from server_kit import running

from turboapi import FastAPI, Response
from turboapi.middleware.gzip import GZipMiddleware
from turboapi.responses import StreamingResponse

TWICE = (
    b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" + b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
)
LENGTH = ("content-length", "5")
ERROR = b"HTTP/1.1 500 Internal Server Error\r\n"


def asgi(status, headers, *pieces):
    raw = [(name.encode(), value.encode()) for name, value in headers]

    async def app(scope, receive, send):
        assert scope["type"] == "http", "no lifespan"
        await send({"type": "http.response.start", "status": status, "headers": raw})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    return app, "asgi"


def whole(status, headers, *pieces):
    raw = [(name.encode(), value.encode()) for name, value in headers]

    async def app(scope, receive, send):
        assert scope["type"] == "http", "no lifespan"
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": b"".join(pieces)})

    return app, "asgi"


def with_headers(response, headers):
    response.raw_headers = [(name.encode(), value.encode()) for name, value in headers]
    return response


def plain(status, headers, *pieces):
    app = FastAPI()

    @app.get("/")
    async def index():
        return with_headers(Response(b"".join(pieces), status), headers)

    return app, "turboapi"


def streamed(status, headers, *pieces):
    app = FastAPI()

    @app.get("/")
    async def index():
        async def make():
            for piece in pieces:
                yield piece

        return with_headers(StreamingResponse(make(), status), headers)

    return app, "turboapi"


def answers(app, interface):
    with running(app, interface=interface, date_header=False, server_header=False) as server:
        return server.exchange(TWICE)


def both(head, body=b""):
    first = head + b"\r\n" + body
    return first + head + b"connection: close\r\n\r\n" + body


@pytest.mark.parametrize("make", [asgi, whole, plain, streamed])
@pytest.mark.parametrize("headers", [[], [LENGTH], [("transfer-encoding", "chunked")]])
@pytest.mark.parametrize(
    ("status", "head"),
    [
        (204, b"HTTP/1.1 204 No Content\r\n"),  # RFC 9110 8.6: no content-length
        (205, b"HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n"),  # 15.3.6
    ],
)
def test_responses_without_content(make, headers, status, head):
    assert answers(*make(status, headers, b"he", b"llo")) == both(head)


@pytest.mark.parametrize("make", [plain, streamed])
@pytest.mark.parametrize("status", [204, 205])
def test_a_compressed_response_without_content(make, status):
    app, interface = make(status, [LENGTH], b"he", b"llo")
    app.add_middleware(GZipMiddleware, minimum_size=0)
    with running(app, interface=interface) as server:
        answer = server.exchange(TWICE.replace(b"host", b"accept-encoding: gzip\r\nhost"))
    parts = answer.split(b"\r\n\r\n")
    assert (len(parts), parts[-1]) == (3, b"")
    for head in parts[:2]:
        lengths = [line for line in head.split(b"\r\n") if line.startswith(b"content-length")]
        assert lengths == ([] if status == 204 else [b"content-length: 0"])


@pytest.mark.parametrize("make", [asgi, whole, plain, streamed])
def test_not_modified_may_have_the_length_of_what_was_not_sent(make):
    head = b"HTTP/1.1 304 Not Modified\r\n"
    assert answers(*make(304, [], b"hello")) == both(head)
    assert answers(*make(304, [LENGTH], b"hello")) == both(head + b"content-length: 5\r\n")
    assert answers(*make(304, [LENGTH])) == both(head + b"content-length: 5\r\n")


@pytest.mark.parametrize("make", [asgi, whole, plain, streamed])
@pytest.mark.parametrize("coding", ["chunked", "Chunked", "identity"])
def test_framing_is_the_servers(make, coding):
    """RFC 9112 6.1: never a transfer-encoding beside a content-length."""
    headers = [("transfer-encoding", coding), LENGTH]
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n"
    assert answers(*make(200, headers, b"he", b"llo")) == both(head, b"hello")


@pytest.mark.parametrize("make", [asgi, whole, plain, streamed])
@pytest.mark.parametrize(
    ("status", "headers", "says"),
    [
        (200, [("transfer-encoding", "gzip"), LENGTH], "Transfer codings"),
        (200, [("transfer-encoding", "gzip, chunked")], "Transfer codings"),
        (200, [("x-a", "a\r\nset-cookie: b=c")], "Invalid HTTP header value"),
        (200, [("x-a", "a\nb")], "Invalid HTTP header value"),
        (200, [("x-a", "a\0b")], "Invalid HTTP header value"),
        (200, [("x a", "b")], "Invalid HTTP header name"),
        (200, [("content-length", "+5")], "Invalid HTTP header value"),
        (200, [LENGTH, ("content-length", "6")], "Conflicting Content-Length headers: 5 and 6"),
        (200, [LENGTH, ("content-length", "x")], "Invalid HTTP header value"),
        (100, [], None),
        (103, [], None),
        (101, [], None),
        (99, [], None),
        (0, [], None),
    ],
)
def test_impossible_heads_are_errors_that_are_logged(make, status, headers, says, caplog):
    answer = answers(*make(status, headers, b"hello"))
    assert answer.startswith(ERROR)
    assert b"set-cookie" not in answer
    assert b"hello" not in answer
    texts = "".join(str(record.exc_info) for record in caplog.records if record.exc_info)
    assert (says or "nvalid") in texts


@pytest.mark.parametrize(
    ("status", "head", "body"),
    [
        (0, b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n", b'{"a":1}'),  # not set, as in FastAPI
        (204, b"HTTP/1.1 204 No Content\r\n", b""),
        (205, b"HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n", b""),
        (304, b"HTTP/1.1 304 Not Modified\r\n", b""),
    ],
)
def test_a_status_set_on_the_injected_response(status, head, body):
    app = FastAPI()

    @app.get("/")
    async def index(response: Response):
        response.status_code = status
        return {"a": 1}

    assert answers(app, "turboapi") == both(head + b"content-type: application/json\r\n", body)


@pytest.mark.parametrize("make", [asgi, whole, plain, streamed])
def test_a_body_shorter_than_its_content_length_is_sent_as_far_as_it_goes(make, caplog):
    """What comes next on the connection would count as its rest, so that nothing may."""
    answer = answers(*make(200, [("content-length", "9")], b"he", b"llo"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\ncontent-length: 9")
    assert body == b"hello"
    errors = [r for r in caplog.records if r.levelname == "ERROR"]
    texts = "".join(f"{record.getMessage()} {record.exc_info}" for record in errors)
    assert "shorter than" in texts


@pytest.mark.parametrize("make", [asgi, whole, plain, streamed])
@pytest.mark.parametrize(
    ("version", "asks", "given", "said"),
    [
        ("1.0", None, ["keep-alive"], ["close"]),
        ("1.0", "keep-alive", ["keep-alive"], ["keep-alive"]),
        ("1.0", "keep-alive", ["x-a"], ["x-a", "keep-alive"]),
        ("1.1", "close", ["Keep-Alive"], ["close"]),
        ("1.1", "close", ["x-a,keep-alive, x-b"], ["x-a,x-b", "close"]),
        ("1.1", "close", ["keep-alive", "x-a"], ["x-a", "close"]),
        ("1.1", "close", ["close, keep-alive"], ["close"]),
        ("1.1", None, ["close", "keep-alive"], ["close"]),
        ("1.1", None, ["keep-alive"], ["keep-alive"]),
    ],
)
def test_a_connection_is_kept_or_closed_but_not_both(make, version, asks, given, said):
    """RFC 9112 9.3; h11, which uvicorn uses, takes the option out too."""
    app, interface = make(200, [LENGTH, *(("connection", each) for each in given)], b"hello")
    option = f"connection: {asks}\r\n" if asks else ""
    request = f"GET / HTTP/{version}\r\nhost: x\r\n{option}\r\n".encode()
    with running(app, interface=interface) as server, server.connect(30) as sock:
        sock.sendall(request)
        answer = b""
        while not answer.endswith(b"\r\n\r\nhello"):
            piece = sock.recv(1000)
            assert piece
            answer += piece
        fields = [line.partition(b": ") for line in answer.lower().split(b"\r\n")]
        assert [v.decode() for name, _, v in fields if name == b"connection"] == said
        sock.sendall(request)  # a connection that is to end answers no more
        try:
            again = sock.recv(1000)
        except ConnectionError:
            again = b""
        assert bool(again) == ("close" not in said)
