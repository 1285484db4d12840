"""Trailers, early hints and 100-continue, over both protocols."""

import pytest
from h2_kit import Client, Reset, needs_h2
from server_kit import handler, read_all, read_body, read_until, running, send_text

from turboapi import FastAPI, Response
from turboapi.middleware.gzip import GZipMiddleware

CHUNKED = b"transfer-encoding: chunked\r\n\r\n"


@handler
async def app(scope, receive, send):
    """Trailers behind `done`; the path and the query say how."""
    ways = scope["query_string"].decode()
    fields = [(b"trailer", b"x-sum")]
    if "length" in ways:
        fields.append((b"content-length", b"4"))
    start = {"type": "http.response.start", "status": 200, "headers": fields, "trailers": True}
    await send(start)
    if "pieces" in ways:
        await send({"type": "http.response.body", "body": b"do", "more_body": True})
        await send({"type": "http.response.body", "body": b"ne"})
    else:
        await send({"type": "http.response.body", "body": b"" if "empty" in ways else b"done"})
    if "none" in ways:
        return
    trailers = {"type": "http.response.trailers", "headers": [(b"x-sum", b"7")]}
    if "bad" in ways:
        trailers["headers"] = [(b"content-length", b"7")]
    if "several" in ways:
        await send({**trailers, "headers": [(b"x-a", b"b")], "more_trailers": True})
    await send(trailers)


def http1(server, query="", te="te: trailers\r\n", method="GET", version="1.1"):
    head = f"{method} /?{query} HTTP/{version}\r\nhost: a\r\n{te}connection: close\r\n\r\n"
    with server.raw(head.encode()) as sock:
        return read_all(sock)


@pytest.mark.parametrize("query", ["", "pieces"])
def test_trailers_of_http1(query):
    with running(app) as server:
        head, _, body = http1(server, query).partition(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head
        assert b"content-length" not in head
        assert body.endswith(b"\r\n0\r\nx-sum: 7\r\n\r\n")
        assert http1(server, query, te="te: deflate;q=0.5, Trailers\r\n").endswith(b"7\r\n\r\n")


def test_trailers_in_several_messages():
    with running(app) as server:
        assert http1(server, "several").endswith(b"4\r\ndone\r\n0\r\nx-a: b\r\nx-sum: 7\r\n\r\n")
        assert http1(server, "several+empty").endswith(b"\r\n\r\n0\r\nx-a: b\r\nx-sum: 7\r\n\r\n")


def test_trailers_only_where_they_can_be():
    """Who did not ask for them, and messages that are not in chunks, get none."""
    with running(app) as server:
        assert http1(server, te="").endswith(b"4\r\ndone\r\n0\r\n\r\n")
        assert http1(server, "length").endswith(b"\r\n\r\ndone")
        assert http1(server, version="1.0").endswith(b"\r\n\r\ndone")
        assert http1(server, method="HEAD").endswith(b"\r\n\r\n")


def test_trailers_that_never_come(caplog):
    with running(app) as server:
        assert http1(server, "none").endswith(b"4\r\ndone\r\n")  # and no end
    assert "without completing response" in caplog.text


def test_a_length_is_no_trailer(caplog):
    with running(app) as server:
        assert http1(server, "bad").endswith(b"4\r\ndone\r\n")
    assert "'content-length' cannot be a trailer field." in caplog.text


@needs_h2
def test_trailers_of_http2():
    with running(app) as server, server.h2() as client:
        te = {"te": "trailers"}
        for query in ("", "pieces", "length"):
            exchange = client.open("GET", f"/?{query}", te)
            assert exchange.read() == b"done"
            assert exchange.trailers == [("x-sum", "7")]
        exchange = client.open("GET", "/?several+empty", te)
        assert (exchange.read(), exchange.trailers) == (b"", [("x-a", "b"), ("x-sum", "7")])
        for exchange in (client.open("GET", "/"), client.open("HEAD", "/", te)):
            exchange.read()
            assert exchange.trailers == []
        with pytest.raises(Reset):
            client.open("GET", "/?none", te).read()


@needs_h2
def test_trailers_wait_for_the_body():
    """A window that is full holds up both."""

    @handler
    async def large(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "trailers": True})
        await send({"type": "http.response.body", "body": bytes(200_000)})
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"7")]})

    with running(large) as server, server.h2() as client:
        exchange = client.open("GET", "/", {"te": "trailers"})
        client.until(lambda: exchange.window == 0)
        assert exchange.trailers == []
        assert len(exchange.read()) == 200_000
        assert exchange.trailers == [("x-sum", "7")]


@needs_h2
def test_trailers_behind_a_packed_body():
    with running(GZipMiddleware(app, minimum_size=1)) as server, server.h2() as client:
        exchange = client.open("GET", "/", {"te": "trailers", "accept-encoding": "gzip"})
        assert exchange.read() != b"done"
        assert exchange.field("content-encoding") == "gzip"
        assert exchange.trailers == [("x-sum", "7")]


# -- trailers of requests -------------------------------------------------------------------------------


@handler
async def echo(scope, receive, send):
    await send_text(send, await read_body(receive))


@needs_h2
def test_trailers_of_a_request_are_dropped():
    with running(echo) as server, server.h2() as client:
        exchange = client.open("POST", "/", end=False)
        exchange.write(b"body")
        client.state.send_headers(exchange.id, [("x-sum", "7")], end_stream=True)
        client.flush()
        assert exchange.read() == b"body"


@needs_h2
@pytest.mark.parametrize("field", [(":path", "/"), ("X-Upper", "a"), ("connection", "close")])
def test_malformed_trailers_of_a_request(field):
    with running(echo) as server, server.h2() as client:
        exchange = client.open("POST", "/", end=False)
        exchange.write(b"body")
        client.state.send_headers(exchange.id, [field], end_stream=True)
        client.flush()
        with pytest.raises(Reset):
            exchange.read()
        assert client.open("POST", "/", body=b"next").read() == b"next"


def test_trailers_of_a_request_over_http1():
    begin = b"POST / HTTP/1.1\r\nhost: a\r\n" + CHUNKED + b"4\r\nbody\r\n0\r\n"
    with running(echo) as server:
        with server.raw(begin + b"x-sum: 7\r\n\r\n") as sock:
            assert read_until(sock, b"body").startswith(b"HTTP/1.1 200 ")
        with server.raw(begin + b"no field\r\n\r\n") as sock:
            assert read_all(sock).startswith(b"HTTP/1.1 400 ")


# -- early hints ---------------------------------------------------------------------------------------


def hint(*links):
    return {"type": "http.response.early_hint", "links": links}


@handler
async def hinting(scope, receive, send):
    assert "http.response.early_hint" in scope["extensions"] or scope["http_version"] == "1.0"
    assert "http.response.push" not in scope["extensions"]
    await send(hint(b"</a.css>; rel=preload", b"</b.js>; rel=preload"))
    await send(hint())
    await send({"type": "http.response.start", "status": 200})
    await send(hint(b"</late.css>; rel=preload"))  # the head has not been sent yet
    await send({"type": "http.response.body", "body": b"he", "more_body": True})
    await send(hint(b"</too-late.css>; rel=preload"))
    await send({"type": "http.response.body", "body": b"llo"})


def test_early_hints_of_http1():
    with running(hinting) as server:
        with server.raw(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n") as sock:
            got = read_until(sock, b"0\r\n\r\n")
        first, second, rest = got.split(b"\r\n\r\n", 2)
        assert first == (
            b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nlink: </b.js>; rel=preload"
        )
        assert second == b"HTTP/1.1 103 Early Hints\r\nlink: </late.css>; rel=preload"
        assert rest.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"too-late" not in rest
        with server.raw(b"GET / HTTP/1.0\r\n\r\n") as sock:
            assert read_all(sock).startswith(b"HTTP/1.1 200 OK\r\n")


@needs_h2
def test_early_hints_of_http2():
    with running(hinting) as server, server.h2() as client:
        exchange = client.open("GET", "/")
        assert exchange.read() == b"hello"
        assert exchange.interim == [
            (103, [("link", "</a.css>; rel=preload"), ("link", "</b.js>; rel=preload")]),
            (103, [("link", "</late.css>; rel=preload")]),
        ]


@pytest.mark.parametrize("link", [b"</a>\r\nset-cookie: a=b", "</a>"])
def test_wrong_hints(link, caplog):
    @handler
    async def wrong(scope, receive, send):
        await send(hint(link))

    with running(wrong) as server:
        assert server.get("/")[0] == 500
    assert "Invalid HTTP header value." in caplog.text or "pairs of bytes" in caplog.text


@needs_h2
def test_hints_of_middleware_before_an_endpoint():
    class Hints:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            if "http.response.early_hint" in scope.get("extensions", {}):
                await send(hint(b"</a.css>; rel=preload"))
            await self.app(scope, receive, send)

    app = FastAPI()
    app.add_middleware(Hints)

    @app.get("/")
    async def index():
        return Response("hello")

    with running(app) as server, Client(server.address) as client:
        exchange = client.open("GET", "/")
        assert exchange.read() == b"hello"
        assert exchange.interim == [(103, [("link", "</a.css>; rel=preload")])]


# -- 100-continue ----------------------------------------------------------------------------------------


@needs_h2
def test_continue_when_the_body_is_asked_for():
    @handler
    async def choosy(scope, receive, send):
        await send_text(send, await read_body(receive) if scope["path"] == "/read" else "no")

    expect = {"expect": "100-continue", "content-length": "4"}
    with running(choosy) as server, server.h2() as client:
        exchange = client.open("POST", "/read", expect, end=False)
        client.until(lambda: exchange.interim)
        assert exchange.interim == [(100, [])]
        exchange.write(b"body", end=True)
        assert exchange.read() == b"body"
        exchange = client.open("POST", "/", expect, end=False)
        assert (exchange.head()[0], exchange.read(), exchange.interim) == (200, b"no", [])
        exchange = client.open("POST", "/", {"expect": "more"}, end=False)
        assert exchange.head()[0] == 417


# -- priorities (RFC 9218) -------------------------------------------------------------------------------


@needs_h2
@pytest.mark.parametrize("how", ["field", "update"])
def test_what_is_urgent_goes_first(how):
    """Two bodies wait for their windows, which open at once."""

    @handler
    async def large(scope, receive, send):
        await send_text(send, bytes(60_000))

    # INITIAL_WINDOW_SIZE, NO_RFC7540_PRIORITIES
    with running(large) as server, Client(server.address, settings={4: 0, 9: 1}) as client:
        first = client.open("GET", "/", {"priority": "u=6"})
        second = client.open("GET", "/", {"priority": "u=7" if how == "update" else "u=0"})
        if how == "update":
            payload = second.id.to_bytes(4, "big") + b"u=0"
            client.sock.sendall(len(payload).to_bytes(3, "big") + b"\x10\0" + bytes(4) + payload)
        assert first.head()[0] == second.head()[0] == 200
        for exchange in (first, second):
            client.state.increment_flow_control_window(60_000, exchange.id)
        client.flush()
        client.until(lambda: second.body)
        assert first.body == b""
        client.until(lambda: first.over and second.over)
        assert first.body == second.body == bytes(60_000)
