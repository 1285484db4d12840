"""Responses packed by the server (`--compress`) and by CompressMiddleware, in C and in Python."""

import contextlib
import time

import pytest
from middleware_kit import GET_PATHS, HUGE, TEXT, Client, X, make_app, same, unpack
from server_kit import TIMEOUT, read_until, running
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route
from test_native_middleware import both

from turboapi import FastAPI
from turboapi.middleware import CompressMiddleware
from turboapi.middleware.cors import CORSMiddleware
from turboapi.middleware.gzip import GZipMiddleware
from turboapi.responses import PlainTextResponse, Response, StreamingResponse

ACCEPTED = [
    None,
    "",
    "gzip",
    "br;q=0.5, gzip;q=0.4, zstd;q=0.1",
    "gzip, deflate, br, zstd",
    "*;q=0.1",
    "identity;q=1, gzip;q=0.5",
    "identity;q=0, br",
    "gzip;q=0",
]


def fields(accepted, **more):
    return {**({} if accepted is None else {"Accept-Encoding": accepted}), **more}


@pytest.mark.parametrize("accepted", ACCEPTED)
def test_c_and_python_do_the_same(monkeypatch, tmp_path, accepted):
    middleware = [Middleware(CompressMiddleware, minimum_size=500)]
    with both(monkeypatch, tmp_path, middleware) as clients:
        for path in GET_PATHS:
            same(clients, "GET", path, fields(accepted))
        same(clients, "HEAD", "/big", fields(accepted))


def test_with_other_middleware(monkeypatch, tmp_path):
    cors = Middleware(CORSMiddleware, allow_origins=["*"], allow_credentials=True)
    for middleware in (
        [Middleware(CompressMiddleware, codings=["br:11"]), cors],
        [cors, Middleware(CompressMiddleware, codings=["zstd:1"], types=["text/plain"])],
    ):
        with both(monkeypatch, tmp_path, middleware) as clients:
            for path in ("/big", "/response", "/handled", "/stream"):
                answer = same(clients, "GET", path, fields("br, zstd", Origin=X))
                assert ("access-control-allow-credentials", "true") in answer[1]


def test_wrong_options():
    for wrong in ({"codings": ["lzma"]}, {"codings": ["br:12"]}, {"codings": ["gzip:x"]}):
        with pytest.raises(ValueError, match="must be all|has levels"):
            CompressMiddleware(None, **wrong)
    with pytest.raises(ValueError, match="media types"):
        CompressMiddleware(None, types=["text"])


# -- The server's own


def tagged():
    app = FastAPI()

    @app.get("/tag")
    async def tag(strong: bool = True):
        etag = '"a"' if strong else 'W/"a"'
        return PlainTextResponse(TEXT, headers={"etag": etag, "accept-ranges": "bytes"})

    @app.get("/kept")
    async def kept():
        return PlainTextResponse(TEXT, headers={"cache-control": "public, no-transform"})

    @app.get("/varied")
    async def varied():
        return PlainTextResponse(TEXT, headers={"vary": "Cookie, accept-encoding"})

    @app.get("/size/{n}")
    async def size(n: int):
        return PlainTextResponse("x" * n)

    @app.get("/image")
    async def image():
        return Response(TEXT.encode(), media_type="image/png")

    return app


async def raw(scope, receive, send):
    if scope["type"] != "http":
        return
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(TEXT)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": TEXT.encode()})


def ask(server, path, accepted="br", method="GET"):
    client = Client(server)
    try:
        client.conn.putrequest(method, path, skip_accept_encoding=True)
        if accepted is not None:
            client.conn.putheader("accept-encoding", accepted)
        client.conn.endheaders()
        response = client.conn.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        body = response.read()
        if method != "HEAD":
            assert headers.get("content-length") in (None, str(len(body)))
        return response.status, headers, unpack(list(headers.items()), body).decode()
    finally:
        client.close()


@pytest.mark.parametrize("interface", ["turboapi", "asgi"])
def test_the_server_packs(interface):
    with running(tagged(), interface=interface, compress="all") as server:
        for accepted, coding in (
            ("gzip", "gzip"),
            ("x-gzip", "gzip"),
            ("br", "br"),
            ("gzip, br, zstd", "zstd"),
            ("gzip;q=1.0, br;q=0.9", "gzip"),
            ("gzip, identity;q=0", "gzip"),
            ("deflate", None),
            (None, None),
        ):
            status, headers, body = ask(server, "/size/1024", accepted)
            assert (status, body) == (200, "x" * 1024)
            assert headers.get("content-encoding") == coding
            assert headers["vary"] == "Accept-Encoding"
        assert "content-encoding" not in ask(server, "/size/1023")[1]
        assert ask(server, "/size/1023", "br, identity;q=0")[1]["content-encoding"] == "br"
        _, headers, _ = ask(server, "/tag")
        assert headers["etag"] == 'W/"a"'
        assert "accept-ranges" not in headers
        assert ask(server, "/tag?strong=0")[1]["etag"] == 'W/"a"'
        assert ask(server, "/tag", None)[1]["etag"] == '"a"'
        assert "content-encoding" not in ask(server, "/kept")[1]
        assert ask(server, "/varied")[1]["vary"] == "Cookie, accept-encoding"
        assert ask(server, "/varied")[1]["content-encoding"] == "br"
        _, headers, _ = ask(server, "/image")
        assert "content-encoding" not in headers
        assert "vary" not in headers


def test_raw_applications_and_settings():
    settings = {"compress": "gzip:1", "compress_min_size": 0, "compress_type": "text/html"}
    with running(raw, compress="gzip:9,br") as server:
        assert ask(server, "/", "gzip, br")[1]["content-encoding"] == "gzip"
    with running(raw, **settings) as server:
        assert "content-encoding" not in ask(server, "/", "gzip")[1]


def test_an_application_that_packs_is_left_alone():
    app = FastAPI(middleware=[Middleware(GZipMiddleware, minimum_size=10)])

    @app.get("/")
    async def index():
        return {"a": TEXT}

    for interface in ("turboapi", "asgi"):
        with running(app, interface=interface, compress="br") as server:
            assert ask(server, "/", "br, gzip")[1]["content-encoding"] == "gzip"


class Through:
    """Middleware that does nothing."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        await self.app(scope, receive, send)


class OwnGZip(GZipMiddleware):
    pass


def sized(kind=FastAPI, **settings):
    app = kind(**settings)

    async def size(request):
        return PlainTextResponse("x" * int(request.path_params["n"]))

    app.router.routes.append(Route("/size/{n}", size))
    return app


def with_functions(middleware):
    """A function of @app.middleware("http") outside of these."""
    app = sized(middleware=middleware)

    @app.middleware("http")
    async def through(request, call_next):
        return await call_next(request)

    return app


@pytest.mark.parametrize("interface", ["turboapi", "asgi"])
@pytest.mark.parametrize(
    "make",
    [
        lambda gzip: with_functions([gzip]),
        lambda gzip: sized(middleware=[Middleware(Through), gzip]),
        lambda gzip: sized(middleware=[gzip, Middleware(Through)]),
        lambda gzip: sized(Starlette, middleware=[Middleware(Through), gzip]),
        lambda gzip: Through(gzip.cls(sized(), **gzip.kwargs)),
    ],
    ids=["function", "inner", "outer", "starlette", "wrapped"],
)
@pytest.mark.parametrize("kind", [GZipMiddleware, OwnGZip])
def test_what_the_middleware_of_an_application_leaves_alone_stays(make, interface, kind):
    app = make(Middleware(kind, minimum_size=3000))
    with running(app, interface=interface, compress="br,gzip") as server:
        _, headers, body = ask(server, "/size/2000", "br, gzip")
        assert body == "x" * 2000
        assert "content-encoding" not in headers and headers["content-length"] == "2000"
        packed = ask(server, "/size/4000", "br, gzip")
        assert (packed[1]["content-encoding"], packed[2]) == ("gzip", "x" * 4000)


@pytest.mark.parametrize("interface", ["turboapi", "asgi"])
def test_small_streams_of_a_known_length_stay(interface):
    with running(with_functions([]), interface=interface, compress="br") as server:
        _, headers, body = ask(server, "/size/2")
        assert body == "xx"
        assert "content-encoding" not in headers and headers["content-length"] == "2"
        assert ask(server, "/size/2", "br, identity;q=0")[1]["content-encoding"] == "br"
        assert ask(server, "/size/2000")[1]["content-encoding"] == "br"


@pytest.mark.parametrize("outside", [[], [Middleware(Through)]], ids=["in C", "in Python"])
def test_the_middleware_heeds_the_length_of_streams(outside):
    app = FastAPI(middleware=[*outside, Middleware(CompressMiddleware)])

    @app.get("/stream/{n}")
    async def stream(n: int, known: bool = True):
        fields = {"content-length": str(n)} if known else {}
        return StreamingResponse(iter(["x" * n]), media_type="text/plain", headers=fields)

    with running(app, interface="turboapi") as server:
        for path, accepted, coding in (
            ("/stream/900", "br", None),
            ("/stream/900", "br, identity;q=0", "br"),
            ("/stream/1024", "br", "br"),
            ("/stream/900?known=0", "br", "br"),
        ):
            _, headers, body = ask(server, path, accepted)
            assert headers.get("content-encoding") == coding
            assert headers["vary"] == "Accept-Encoding"
            assert len(body) == int(path[8:].partition("?")[0])


@pytest.mark.parametrize("interface", ["turboapi", "asgi"])
def test_every_kind_of_response(tmp_path, interface):
    """Packed or not, what the client reads is the same."""
    with (
        running(make_app([], tmp_path), interface=interface, log_level="critical") as plain,
        running(
            make_app([], tmp_path), interface=interface, log_level="critical", compress="zstd"
        ) as packing,
    ):
        for path in GET_PATHS:
            answers = []
            for server in (plain, packing):
                with contextlib.closing(Client(server)) as client:
                    answers.append(client.ask("GET", path, fields("zstd")))
            one, other = answers
            assert (one[0], one[3]) == (other[0], other[3]), path


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_pieces_of_a_stream_arrive_at_once(coding):
    app = FastAPI()

    @app.get("/")
    async def events():
        import asyncio

        async def pieces():
            yield "data: first\n\n"
            await asyncio.sleep(TIMEOUT)
            yield "data: second\n\n"

        return StreamingResponse(pieces(), media_type="text/event-stream")

    with running(app, interface="turboapi", compress=coding, timeout_stream_shutdown=0.1) as server:
        request = f"GET / HTTP/1.1\r\nhost: x\r\naccept-encoding: {coding}\r\n\r\n".encode()
        with server.raw(request) as client:
            head, _, rest = read_until(client, b"\r\n\r\n").partition(b"\r\n\r\n")
            assert f"content-encoding: {coding}".encode() in head
            while rest.count(b"\r\n") < 2:
                rest += client.recv(1000)
            size, _, chunk = rest.partition(b"\r\n")
            chunk = chunk[: int(size, 16)]
            assert unpack([("content-encoding", coding)], chunk) == b"data: first\n\n"


def test_large_bodies_do_not_hold_up_the_loop():
    app = FastAPI()
    text = "".join(f"{n * n} " for n in range(300_000))

    @app.get("/large")
    async def large():
        return PlainTextResponse(text)

    @app.get("/")
    async def quick():
        return "quick"

    with running(app, interface="turboapi", compress="br:9") as server:
        request = (
            b"GET /large HTTP/1.1\r\nhost: x\r\naccept-encoding: br\r\nconnection: close\r\n\r\n"
        )
        ask(server, "/")
        with server.raw(request) as client:
            time.sleep(0.05)
            began = time.monotonic()
            for _ in range(5):
                ask(server, "/")
            quick = time.monotonic() - began
            client.settimeout(60)
            packed = b""
            while piece := client.recv(1 << 20):
                packed += piece
            whole = time.monotonic() - began
        head, _, body = packed.partition(b"\r\n\r\n")
        assert unpack([("content-encoding", "br")], body).decode() == text
        assert quick < whole


def test_clients_that_leave_while_a_thread_packs():
    app = FastAPI()

    @app.get("/")
    async def large():
        return PlainTextResponse(HUGE * 10)

    with running(app, interface="turboapi", compress="br:11,gzip") as server:
        for _ in range(5):
            with server.raw(b"GET / HTTP/1.1\r\nhost: x\r\naccept-encoding: br\r\n\r\n"):
                time.sleep(0.02)
        assert ask(server, "/", "gzip")[2] == HUGE * 10
