"""The exchange over an ASGI application's scope, receive and send (src/py/exchange/asgi_exchange.c)."""

import asyncio

import pytest

from turboapi import FastAPI, Request


def call(app, messages, **scope):
    """One request; gives the messages that were sent."""
    sent = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        **scope,
    }
    left = list(messages)

    async def receive():
        return left.pop(0)

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent


END = {"type": "http.request", "body": b"", "more_body": False}


@pytest.mark.parametrize("kind", [tuple, list])
def test_the_headers_of_the_caller_are_left_as_they_are(kind):
    app = FastAPI()

    @app.post("/")
    def index(request: Request):
        return request.headers["a"]

    pairs = [[b"host", b"x"], (b"a", b"b")]
    headers = kind(pairs)
    assert call(app, [END], headers=headers)[1]["body"] == b'"b"'
    assert type(headers) is kind
    assert all(given is kept for given, kept in zip(pairs, headers, strict=True))


class Evil(str):
    """A type of message that cannot be compared."""

    __hash__ = str.__hash__

    def __eq__(self, other):
        raise ZeroDivisionError


def test_a_comparison_that_fails_is_an_error():
    app = FastAPI()

    @app.post("/")
    def index(body: dict):
        return body

    message = {"type": Evil("http.request"), "body": b"{}", "more_body": False}
    sent = call(app, [message, END], headers=[(b"content-type", b"application/json")])
    assert sent[0]["status"] == 400
    assert sent[1]["body"] == b'{"detail":"There was an error parsing the body"}'
