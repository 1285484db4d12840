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
