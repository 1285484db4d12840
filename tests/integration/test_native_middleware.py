"""Starlette's middleware in C and in Python: the same application answers alike with both.

Each case is served twice over a socket, once directly with the filters of `_core.App` and once by the
ASGI application with the middleware itself; status, fields and body must be equal.
"""

import contextlib
import gzip
import itertools
import socket
import struct
import urllib.parse

import pytest
from middleware_kit import GET_PATHS, HUGE, TEXT, Client, X, Y, make_app, same
from server_kit import read_all, running, wait_for
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

import turboapi._compile.native_app
from turboapi import FastAPI
from turboapi.middleware._filters import filters_of
from turboapi.middleware.cors import CORSMiddleware
from turboapi.middleware.gzip import GZipMiddleware
from turboapi.middleware.httpsredirect import HTTPSRedirectMiddleware
from turboapi.responses import StreamingResponse


@contextlib.contextmanager
def both(monkeypatch, path, middleware, **settings):
    """Yield a client of each: one that runs natively, and one that calls the middleware."""
    native, called = make_app(list(middleware), path), make_app(list(middleware), path)
    original = turboapi._compile.native_app.runs_directly
    monkeypatch.setattr(
        turboapi._compile.native_app,
        "runs_directly",
        lambda app: app is not called and original(app),
    )
    assert native._native_app().direct, "this is not what is to be tested"
    assert not called._native_app().direct
    settings.setdefault("log_level", "critical")
    with contextlib.ExitStack() as stack:
        clients = []
        for app in (native, called):
            server = stack.enter_context(running(app, interface="turboapi", **settings))
            clients.append(stack.enter_context(contextlib.closing(Client(server))))
        yield clients


CORS = {
    "all": {"allow_origins": ["*"]},
    "all-credentials": {"allow_origins": ["*"], "allow_credentials": True},
    "all-exposed": {
        "allow_origins": ["*"],
        "expose_headers": ["X-A", "X-B"],
        "allow_methods": ["*"],
        "allow_headers": ["*"],
    },
    "list": {"allow_origins": [X, "https://z.example"]},
    "tuple-credentials": {
        "allow_origins": (X,),
        "allow_credentials": True,
        "expose_headers": ("X-A",),
    },
    "set": {"allow_origins": {X}},
    "regex": {"allow_origin_regex": r"https://[x-z]\.example"},
    "regex-and-list": {"allow_origins": ["null"], "allow_origin_regex": r"https://x\..*"},
    "none": {},
    "private": {"allow_origins": [X], "allow_private_network": True, "max_age": 5},
}
ORIGINS = [None, X, Y, "null", "", "\xe4"]


@pytest.mark.parametrize("options", CORS.values(), ids=CORS)
def test_cors(monkeypatch, tmp_path, options):
    with both(monkeypatch, tmp_path, [Middleware(CORSMiddleware, **options)]) as clients:
        allowed = 0
        for path, origin, cookie in itertools.product(GET_PATHS, ORIGINS, [None, "a=b"]):
            fields = {} if origin is None else {"Origin": origin}
            if cookie:
                fields["Cookie"] = cookie
            answer = same(clients, "GET", path, fields)
            if path == "/small":
                allowed += any(name == "access-control-allow-origin" for name, _ in answer[1])
        assert (allowed > 0) == (options != {})
        for origin in ORIGINS:
            fields = {} if origin is None else {"Origin": origin}
            same(clients, "HEAD", "/big", fields)
            same(clients, "OPTIONS", "/big", fields)
            same(clients, "DELETE", "/big", fields)
            same(clients, "POST", "/items", fields, body=b'{"name": "a"}')
            same(clients, "POST", "/items", fields, body=b'{"name": ')
            for asked in ({}, {"Access-Control-Request-Headers": "X-A"}):
                fields["Access-Control-Request-Method"] = "GET"
                same(clients, "OPTIONS", "/big", {**fields, **asked})
                same(clients, "GET", "/big", {**fields, **asked})


GZIP = {
    "default": {},
    "level-1": {"compresslevel": 1, "minimum_size": 20},
    "level-0": {"compresslevel": 0},
    "minimum-0": {"minimum_size": 0, "compresslevel": -1},
    "minimum-big": {"minimum_size": 5000},
    "threads": {"thread_minimum_size": 1},
    "threads-0": {"thread_minimum_size": 0, "minimum_size": 0},
    "excluded": {"exclude_content_types": ("Text/*; a", "application/grpc", "image/PNG ")},
    "excluded-none": {"exclude_content_types": ()},
}
ACCEPT = [None, "gzip", "br, gzip;q=0.5", "GZIP", "identity", "x-gzip"]
TYPES = [
    "text/plain",
    "TEXT/Event-Stream",
    "image/png",
    " image/png ; q=1",
    "image/svg+xml",
    "application/grpc+proto",
    "application/grpcx",
    "audio/x",
    "audio",
    "",
    "/",
    "/*",
    "image/png\xa0",
]


@pytest.mark.parametrize("options", GZIP.values(), ids=GZIP)
def test_gzip(monkeypatch, tmp_path, options):
    with both(monkeypatch, tmp_path, [Middleware(GZipMiddleware, **options)]) as clients:
        clients[0].stored = options.get("compresslevel") == 0
        packed = 0
        for accept in ACCEPT:
            fields = {} if accept is None else {"Accept-Encoding": accept}
            for path in GET_PATHS:
                answer = same(clients, "GET", path, fields)
                packed += ("content-encoding", "gzip") in answer[1] and path != "/encoded"
            for media_type in TYPES:
                quoted = media_type.encode().hex("%")
                path = f"/type?t=%{quoted}" if quoted else "/type?t="
                assert media_type in ("", urllib.parse.unquote(path[8:]))
                same(clients, "GET", path, fields)
            for size in (0, 1, 19, 20, 499, 500, 501, 4999, 5000, 131071, 131072):
                same(clients, "GET", f"/edge/{size}", fields)
            same(clients, "HEAD", "/big", fields)
            same(clients, "OPTIONS", "/big", fields)
            same(clients, "POST", "/items", fields, body=b'{"name": "a"}')
        assert packed > 10


def test_gzip_unpacks(monkeypatch, tmp_path):
    with both(monkeypatch, tmp_path, [Middleware(GZipMiddleware)]) as clients:
        fields = {"Accept-Encoding": "gzip"}
        _, headers, content, body = same(clients, "GET", "/huge", fields)
        assert body == b'{"a":"%s"}' % HUGE.encode()
        assert dict(headers)["content-length"] == str(len(content))
        _, headers, content, body = same(clients, "GET", "/stream/bytes", fields)
        assert body == b"a" + HUGE.encode() + b"b" * 1000
        assert "content-length" not in dict(headers)
        _, headers, content, body = same(clients, "GET", "/stream/broken", fields)
        assert (content, body) == ("<class 'http.client.IncompleteRead'>", TEXT.encode())


STACKS = {
    "cors-gzip": [Middleware(CORSMiddleware, **CORS["list"]), Middleware(GZipMiddleware)],
    "gzip-cors": [Middleware(GZipMiddleware), Middleware(CORSMiddleware, **CORS["list"])],
    "cors-gzip-cors": [
        Middleware(CORSMiddleware, **CORS["all-credentials"]),
        Middleware(GZipMiddleware, minimum_size=10),
        Middleware(CORSMiddleware, **CORS["regex"]),
    ],
    "host-cors-gzip": [
        Middleware(TrustedHostMiddleware, allowed_hosts=["a.example", "*.b.example"]),
        Middleware(CORSMiddleware, **CORS["tuple-credentials"]),
        Middleware(GZipMiddleware),
    ],
    "gzip-host": [
        Middleware(GZipMiddleware, minimum_size=5),
        Middleware(TrustedHostMiddleware, allowed_hosts=["a.example"]),
    ],
    "cors-cors": [
        Middleware(CORSMiddleware, **CORS["all-exposed"]),
        Middleware(CORSMiddleware, **CORS["list"]),
    ],
}


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
def test_stacks(monkeypatch, tmp_path, stack):
    with both(monkeypatch, tmp_path, stack) as clients:
        for path, origin, accept in itertools.product(GET_PATHS, [None, X, Y], [None, "gzip"]):
            fields = {}
            if origin is not None:
                fields["Origin"] = origin
            if accept is not None:
                fields["Accept-Encoding"] = accept
            same(clients, "GET", path, fields)
            if path in ("/big", "/small", "/nowhere"):
                same(clients, "GET", path, {**fields, "Host": "c.example"})
                same(clients, "OPTIONS", path, {**fields, "Access-Control-Request-Method": "GET"})


HOSTS = [
    "a.example",
    "A.Example:80",
    "a.example:",
    "a.example:x",
    "a.example.",
    ".a.example",
    "b.example",
    "www.b.example",
    "x.c.example",
    "X.y.C.example:8000",
    "c.example",
    ".c.example",
    "www.a.example",
    "d.example",
    "www.d.example",
    "[::1]:80",
    "[::1]",
    "1.2.3.4",
    "x~y.c.example",
    "x_y.c.example",
    "a b",
    "a@a.example",
    "\xe4.c.example",
    ":80",
    "",
]
ALLOWED_HOSTS = [
    {"allowed_hosts": ["a.example", "*.c.example", "www.d.example"]},
    {"allowed_hosts": ["A.EXAMPLE", "www.d.example", "[::1]"], "www_redirect": False},
    {"allowed_hosts": ["a.example", "*"]},
    {"allowed_hosts": []},
    {},
]


@pytest.mark.parametrize("options", ALLOWED_HOSTS)
def test_trusted_host(monkeypatch, tmp_path, options):
    with both(monkeypatch, tmp_path, [Middleware(TrustedHostMiddleware, **options)]) as clients:
        for host, path in itertools.product(HOSTS, ["/url?a=1", "/big", "/broken", "/nowhere"]):
            same(clients, "GET", path, {"Host": host})


def test_https_redirect(monkeypatch, tmp_path):
    stack = [Middleware(HTTPSRedirectMiddleware), Middleware(CORSMiddleware, allow_origins=[X])]
    with both(monkeypatch, tmp_path, stack, proxy_headers=True) as clients:
        for host, path, proto in itertools.product(
            ["a.example", "a.example:80", "a.example:8000", "[::1]:80", "a b"],
            ["/url?a=1", "/big", "/broken", "/nowhere"],
            [None, "http", "https", "wss", "ws", "ftp"],
        ):
            fields = {"Host": host, "Origin": X}
            if proto is not None:
                fields["X-Forwarded-Proto"] = proto
            status = same(clients, "GET", path, fields)[0]
            if host == "a.example" and path == "/big":
                assert status == (200 if proto in ("https", "wss") else 307)
        fields = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "1.2.3.4"}
        assert b'"url":"https://a.example/url"' in same(clients, "GET", "/url", fields)[2]


def test_https_redirect_without_a_proxy(monkeypatch, tmp_path):
    stack = [Middleware(HTTPSRedirectMiddleware)]
    with both(monkeypatch, tmp_path, stack, proxy_headers=False) as clients:
        assert same(clients, "GET", "/big", {"X-Forwarded-Proto": "https"})[0] == 307


def test_origins_that_change(monkeypatch, tmp_path):
    origins = []
    with both(
        monkeypatch, tmp_path, [Middleware(CORSMiddleware, allow_origins=origins)]
    ) as clients:
        for expected in (None, X):
            headers = dict(same(clients, "GET", "/small", {"Origin": X})[1])
            assert headers.get("access-control-allow-origin") == expected
            origins.append(X)


class Awkward:
    def __eq__(self, other):
        if other != "*":  # which the middleware asks for when it is made
            raise ValueError("awkward")
        return False

    __hash__ = None


def test_origins_that_cannot_be_compared(monkeypatch, tmp_path):
    stack = [
        Middleware(GZipMiddleware),
        Middleware(CORSMiddleware, allow_origins=[Awkward()]),
        Middleware(GZipMiddleware, minimum_size=0),
    ]
    for middleware in (stack[:2], stack[1:]):
        with both(monkeypatch, tmp_path, middleware) as clients:
            for path, accept in itertools.product(
                ["/big", "/sync", "/response", "/stream", "/asgi", "/broken"], ["gzip", ""]
            ):
                fields = {"Accept-Encoding": accept}
                good = path != "/broken"
                assert (same(clients, "GET", path, fields)[0] < 500) == good
                assert same(clients, "GET", path, {**fields, "Origin": X})[0] == 500


def test_background_runs_after_the_response(monkeypatch, tmp_path):
    app = make_app([Middleware(GZipMiddleware, thread_minimum_size=1)], tmp_path)
    assert app._native_app().direct
    with running(app, interface="turboapi") as server, contextlib.closing(Client(server)) as client:
        for _ in range(3):
            assert client.ask("GET", "/background", {"Accept-Encoding": "gzip"})[0] == 200
            assert client.ask("GET", "/small")[0] == 200
    assert app.done == [1, 1, 1]


def test_pipelined(monkeypatch, tmp_path):
    stack = [Middleware(CORSMiddleware, allow_origins=[X]), Middleware(GZipMiddleware)]
    head = "GET {} HTTP/1.1\r\nHost: a\r\nOrigin: " + X + "\r\nAccept-Encoding: gzip\r\n{}\r\n"
    paths = ["/huge", "/small", "/stream", "/encoded", "/big"] * 4
    data = "".join(head.format(path, "") for path in paths)
    data += head.format("/small", "Connection: close\r\n")
    with both(monkeypatch, tmp_path, stack) as clients:
        answers = []
        for client in clients:
            lines = client.server.exchange(data.encode()).split(b"\r\n")
            answers.append(sorted(each for each in lines if not each.startswith(b"date: ")))
        assert answers[0].count(b"access-control-allow-origin: " + X.encode()) == 21
        assert answers[0].count(b"content-encoding: gzip") == 16
        assert len(answers[0]) == len(answers[1])


def test_a_client_that_goes_while_it_is_compressed(tmp_path):
    app = make_app([Middleware(GZipMiddleware, thread_minimum_size=1)], tmp_path)
    request = b"GET /huge HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n"
    with running(app, interface="turboapi", log_level="critical") as server:
        for _ in range(20):
            with server.raw(request + b"\r\n"):
                pass
        with server.raw(request + b"Connection: close\r\n\r\n") as sock:
            head, _, body = read_all(sock).partition(b"\r\n\r\n")
        assert b"content-encoding: gzip" in head
        assert gzip.decompress(body) == b'{"a":"%s"}' % HUGE.encode()


class Streamed(StreamingResponse):
    """Not what C iterates: Starlette's own code sends the pieces."""

    async def __call__(self, scope, receive, send):
        await super().__call__(scope, receive, send)


def test_a_client_that_goes_while_a_piece_is_compressed(caplog):
    """What is sent after that piece goes nowhere, and nothing is said about it."""
    ended = []
    app = FastAPI()
    app.add_middleware(GZipMiddleware)

    @app.get("/")
    async def index():
        async def pieces():
            for _ in range(100):
                yield HUGE * 4

        return Streamed(pieces(), background=BackgroundTask(ended.append, True))

    with running(app, interface="turboapi") as server:
        for _ in range(5):
            ended.clear()
            with server.raw(b"GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n") as sock:
                sock.recv(1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            wait_for(lambda: ended or caplog.records)
            wait_for(lambda: not server.server.tasks)
    assert not caplog.records


# -- what is not for C ------------------------------------------------------------------------------


class OwnCORS(CORSMiddleware):
    pass


class Container(list):
    pass


async def dispatch(request, call_next):
    return await call_next(request)


@pytest.mark.parametrize(
    "middleware",
    [
        [Middleware(OwnCORS)],
        [Middleware(CORSMiddleware), Middleware(BaseHTTPMiddleware, dispatch=dispatch)],
        [Middleware(GZipMiddleware), Middleware(GZipMiddleware)],
        [Middleware(CORSMiddleware, allow_origins=Container([X]))],
        [Middleware(CORSMiddleware, allow_origins=["*"], expose_headers=["a\nb"])],
        [Middleware(CORSMiddleware, allow_origins=["*"], expose_headers=["\u0141"])],
        [Middleware(GZipMiddleware, minimum_size=1.5)],
        [Middleware(GZipMiddleware, compresslevel=10)],
        [Middleware(GZipMiddleware, exclude_content_types=("text/\xe4",))],
        [Middleware(CORSMiddleware, nonsense=1)],
    ],
)
def test_others_are_called(middleware):
    assert not FastAPI(middleware=middleware)._native_app().direct


def test_changed_classes_are_called(monkeypatch):
    app = FastAPI(middleware=[Middleware(CORSMiddleware)])
    assert app._native_app().direct
    monkeypatch.setattr(CORSMiddleware, "is_allowed_origin", lambda self, origin: True)
    assert not app._native_app().direct


def test_another_starlette_is_called(monkeypatch):
    app = FastAPI(middleware=[Middleware(GZipMiddleware)])
    assert app._native_app().direct
    monkeypatch.setattr("starlette.__version__", "1.9.0")
    assert not app._native_app().direct
    assert FastAPI()._native_app().direct


def test_filters_of_a_stack():
    app = FastAPI()
    app.add_middleware(GZipMiddleware, compresslevel=3)
    app.add_middleware(CORSMiddleware, allow_origins=[X])
    stack = app._wrap_middleware(app.router)
    assert [spec[0] for spec in filters_of(stack, 2)] == ["gzip", "cors"]
    assert filters_of(stack, 3) is None


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ([], TypeError),
        ((1,), TypeError),
        (((),), TypeError),
        (((1,),), TypeError),
        ((("nonsense",),), ValueError),
        ((("cors",),), TypeError),
        ((("cors", None, None, False, ((b"a",),)),), TypeError),
        ((("cors", None, None, False, ((b"a", "b"),)),), TypeError),
        ((("hosts", ("a",)),), TypeError),
        ((("gzip", 1, 10, 1, (), print),), ValueError),
        ((("gzip", 1, 9, 1, (), print),) * 2, ValueError),
    ],
)
def test_specs_that_are_refused(spec, error):
    app = FastAPI()
    with pytest.raises(error):
        turboapi._core.App(app, filters=spec)
