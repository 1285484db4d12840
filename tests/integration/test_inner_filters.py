"""CORS, TrustedHost and HTTPSRedirect inside of other middleware: C against Starlette's own.

Through ASGI Starlette's classes are called; the native server has C do what they do.
"""

import asyncio
import itertools

import pytest
from doors_kit import DOORS, Outer
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from turboapi import FastAPI, Response
from turboapi._core import InnerFilter
from turboapi.middleware import _filters

ORIGINS = ["https://a.example", "https://b.example", "http://other"]
CORS = [
    {"allow_origins": ["*"]},
    {"allow_origins": ["*"], "allow_credentials": True, "expose_headers": ["x-a", "x-b"]},
    {"allow_origins": ORIGINS[:1], "allow_methods": ["*"]},
    {"allow_origins": ORIGINS[:1], "allow_origin_regex": "https://b.*", "allow_credentials": True},
]
REQUESTS = [
    (method, {"host": host, **fields})
    for method, host, fields in itertools.product(
        ("GET", "OPTIONS"),
        ("testserver", "a.example:80", "www.a.example", "b.example"),
        (
            {},
            *({"origin": each} for each in ORIGINS),
            {"origin": ORIGINS[0], "access-control-request-method": "GET"},
            {"origin": ORIGINS[2], "access-control-request-method": "PUT"},
        ),
    )
]


def application(kind, options):
    app = FastAPI()
    app.add_middleware(kind, **options)
    app.add_middleware(Outer)

    @app.api_route("/", methods=["GET", "OPTIONS"])
    async def root():
        return {"a": 1}

    @app.get("/vary")
    async def vary(response: Response):
        for value in ("Accept", "Cookie"):
            response.headers.append("vary", value)
        response.headers["access-control-allow-origin"] = "mine"

    return app


def answers(kind, options, door):
    app = application(kind, options)
    found = []
    with DOORS[door](app, follow_redirects=False) as client:
        for method, headers in REQUESTS:
            for path in ("/", "/vary", "/none"):
                response = client.request(method, path, headers=headers)
                given = [
                    each for each in response.headers.raw if each[0] not in (b"date", b"server")
                ]
                found.append((method, path, headers, response.status_code, given, response.text))
    return found, app


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((CORSMiddleware, options) for options in CORS),
        (TrustedHostMiddleware, {"allowed_hosts": ["a.example", "testserver"]}),
        (TrustedHostMiddleware, {"allowed_hosts": ["*.a.example"], "www_redirect": False}),
        (HTTPSRedirectMiddleware, {}),
    ],
)
def test_as_starlettes(kind, options):
    expected, plain = answers(kind, options, "asgi")
    found, app = answers(kind, options, "native")
    for one, other in zip(expected, found, strict=True):
        assert other == one
    kinds = [kinds_of(each) for each in (plain, app)]
    assert kinds == [False, True]


def kinds_of(app):
    """Whether C stands in for a middleware."""
    level, found = app.middleware_stack, []
    while hasattr(level, "app"):
        found.append(isinstance(level, InnerFilter))
        level = level.app
    return any(found)


def test_changed_middleware_is_called():
    """A class of somebody's own, and an object that has a method of its own."""

    class Own(CORSMiddleware):
        pass

    def make(change):
        app = FastAPI()
        app.add_middleware(Own if change == "class" else CORSMiddleware, allow_origins=["*"])
        app.add_middleware(Outer)
        app.get("/")(lambda: 1)
        app.middleware_stack = app.build_middleware_stack()
        if change == "object":
            level = app.middleware_stack
            while not isinstance(level, CORSMiddleware):
                level = level.app
            own = level.send

            async def send(message, send, request_headers):
                if message["type"] == "http.response.start":
                    message["headers"].append((b"x-own", b"1"))
                await own(message, send, request_headers)

            level.send = send
        return app

    for change in ("class", "object"):
        app = make(change)
        with DOORS["native"](app) as client:
            response = client.get("/", headers={"origin": "https://a.example"})
        assert response.headers["access-control-allow-origin"] == "*"
        assert response.headers.get("x-own") == ("1" if change == "object" else None)
        assert not kinds_of(app)


def messages(kind, scope, sent, options=None):
    """What `send` gets for messages that the inside sends."""
    out = []

    async def inside(scope, receive, send):
        for each in sent:
            if each == "keyword":
                await send(message={"type": "http.response.body"})
            else:
                await send(each)

    async def send(message):
        out.append(message)

    async def receive():
        raise AssertionError

    made = CORSMiddleware(inside, **(options or CORS[3]))
    if kind == "c":
        made = _filters._InnerCORS(made)
    try:
        asyncio.run(made(scope, receive, send))
    except Exception as error:  # noqa: BLE001
        out.append((type(error).__name__, str(error)))
    return out


START = {"type": "http.response.start", "status": 200}


@pytest.mark.parametrize(
    "start",
    [
        lambda: dict(START),
        lambda: {**START, "headers": ()},
        lambda: {**START, "headers": [(b"vary", b"a"), (b"x", b"1"), (b"vary", b"b")]},
        lambda: {**START, "headers": ([b"vary", b"a"], (b"x", b"1"))},
        lambda: {**START, "headers": iter([(b"vary", b"a")])},
        lambda: {**START, "headers": [(b"Vary", b"a"), (b"access-control-allow-origin", b"x")]},
        lambda: {**START, "headers": None},
        lambda: {"status": 200},
        lambda: {"type": "http.response.body", "body": b"x"},
        lambda: "keyword",
    ],
)
@pytest.mark.parametrize("origin", [None, b"https://b.example", b"https://\xff"])
def test_messages_as_starlettes(start, origin):
    fields = [(b"origin", origin)] if origin else []
    both = [
        messages(kind, {"type": "http", "method": "GET", "headers": list(fields)}, [start()])
        for kind in ("starlette", "c")
    ]
    assert both[1] == both[0]


@pytest.mark.parametrize(
    "scope",
    [
        {"type": "websocket", "headers": []},
        {"type": "lifespan"},
        {"type": "http", "method": "GET", "headers": ((b"origin", b"https://a.example"),)},
        {"type": "http", "method": "GET", "headers": [[b"origin", b"https://a.example"]]},
        {"type": "http", "method": "GET"},
    ],
)
def test_scopes_as_starlettes(scope):
    both = [messages(kind, dict(scope), [dict(START)]) for kind in ("starlette", "c")]
    assert both[1] == both[0]


def test_what_can_not_be_prepared():
    inside = _filters._InnerCORS(CORSMiddleware(None, allow_origins=["*"]))
    for given in ((), ("x",), ((("compress", 1, (), 3, (), print),),), ((("nothing",),),)):
        with pytest.raises((TypeError, ValueError)):
            InnerFilter()._prepare(*given)
    with pytest.raises(TypeError):
        inside._prepare((("https",),))  # a second time
    with pytest.raises(AttributeError):
        InnerFilter()({}, None, None)
