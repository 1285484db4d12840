"""What the routers decide, byte for byte as Starlette's own: random tables, through each door.

Each table is made twice, of our classes and of Starlette's, and the same bytes are sent to three
servers: ours running directly, ours called through ASGI, and Starlette's application.
"""

import contextlib
import datetime
import os
import random
import re
import warnings

import pytest
from server_kit import running
from starlette import convertors
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Host, Match, Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from turboapi import APIRouter, FastAPI, Request, WebSocket
from turboapi._testclient import NativeTestClient
from turboapi.exception_handlers import http_exception_handler
from turboapi.routing import APIRoute, _dispatch

SEGMENTS = ["a", "b", "ab", "items", "é", "{p}", "{n:int}", "{f:float}", "{u:uuid}", "{rest:path}"]
VALUES = ["a", "b", "7", "007", "1.5", "x-y", "%C3%A9", "%FF", "a%2Fb", "%3F", "%25", "~", "a%0A"]
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PURGE"]
HOSTS = ["A.ORG:80", "b.example.com", "a.org:99999", "a.org:8080", "[::1]:80", "x_1.y~z", ""]
FITTING = {"int": "7", "float": "1.5", "uuid": "12345678-1234-5678-1234-567812345678"}
WORDS = ["", "?", "?q=1", "?q=%20+&r=%C3%A9", '?a=<b>^"`{|}\\', "?q=é"]


class DayConvertor(convertors.Convertor):
    regex = "[0-9]{4}-[0-9]{2}"

    def convert(self, value):
        return datetime.date.fromisoformat(value + "-01")

    def to_string(self, value):
        return value.isoformat()[:7]


@pytest.fixture(autouse=True)
def day_convertor(monkeypatch):
    monkeypatch.setitem(convertors.CONVERTOR_TYPES, "day", DayConvertor())


def describe(name, request):
    """All that a match puts into the scope, as far as handlers see it."""
    scope = request.scope
    return JSONResponse(
        {
            "name": name,
            "path_params": {key: repr(value) for key, value in scope["path_params"].items()},
            "root_path": scope["root_path"],
            "app_root_path": scope.get("app_root_path"),
            "url": str(request.url),
            "base_url": str(request.base_url),
        }
    )


def endpoint_of(name):
    async def endpoint(request: Request):
        return describe(name, request)

    return endpoint


async def plain(scope, receive, send):
    if scope["type"] == "websocket":
        await websocket(WebSocket(scope, receive, send))
        return
    request = Request(scope, receive)
    await describe("plain", request)(scope, receive, send)


async def websocket(session):
    scope = session.scope
    await session.accept()
    params = {key: repr(value) for key, value in scope["path_params"].items()}
    await session.send_json([params, scope["root_path"], scope.get("app_root_path")])
    await session.close()


async def websocket_operation(session: WebSocket):
    await websocket(session)


class PassOn:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        await self.app(scope, receive, send)


async def on_status(request, exc):
    headers = {"x-handler": str(exc.status_code), **(exc.headers or {})}
    return JSONResponse([exc.detail, request.url.path], exc.status_code, headers)


HANDLERS = {
    "default": {},
    "404": {404: on_status},
    "405": {405: on_status},
    "class": {HTTPException: on_status},
    "never": {ValueError: on_status, 500: on_status, Exception: on_status},
}


class Pair:
    """The same application of our classes, and of Starlette's."""

    def __init__(self, rng, depth, directory):
        self.rng = rng
        self.directory = directory
        handlers = rng.choice([*["default"] * 4, *HANDLERS])
        middleware = rng.choice([[]] * 4 + [[Middleware(PassOn)], [cors()], [cors()]])
        self.slashes = rng.random() < 0.8
        self.ours = FastAPI(
            openapi_url=None,
            redirect_slashes=self.slashes,
            middleware=middleware,
            exception_handlers=HANDLERS[handlers],
        )
        self.names = []
        self.theirs = Starlette(
            routes=self.fill(self.ours.router, "", rng.randrange(3, 9), depth),
            middleware=middleware,
            exception_handlers={HTTPException: http_exception_handler, **HANDLERS[handlers]},
        )
        self.theirs.router.redirect_slashes = self.slashes

    def path(self):
        count = self.rng.randrange(1, 4)
        parts = self.rng.sample(SEGMENTS, count)
        return "/" + "/".join(parts) + self.rng.choice(["", "", "/"])

    def fill(self, router, prefix, count, depth):
        """Add routes to ours; return theirs."""
        theirs = []
        for _ in range(count):
            theirs += self.add(router, prefix, depth)
        return theirs

    def add(self, router, prefix, depth):
        rng = self.rng
        kind = rng.choice(
            ["operation"] * 6
            + ["route", "route", "websocket", "mount", "mount", "include", "day", "host", "custom"]
        )
        name = f"r{len(self.names)}"
        path = self.path()
        self.names.append(prefix + path)
        if kind in ("operation", "day"):
            if kind == "day":
                path = "/days/{day:day}" + rng.choice(["", "/{p}"])
            methods = rng.sample(METHODS, rng.randrange(1, 3))
            endpoint = endpoint_of(name)
            router.add_api_route(path, endpoint, methods=methods)
            return [same_methods(Route(prefix + path, endpoint), router.routes[-1].methods)]
        if kind == "custom":
            route = Reluctant(path, endpoint_of(name))
            router.routes.append(route)
            return [ReluctantRoute(prefix + path, route.endpoint)]
        if kind == "route":
            endpoint = endpoint_of(name)
            methods = rng.choice([None, ["GET"], ["POST", "PUT"]])
            router.routes.append(Route(path, endpoint, methods=methods))
            made = Route(prefix + path, endpoint, methods=methods)
            return [same_methods(made, set(made.methods))]
        if kind == "websocket":
            if rng.random() < 0.5:
                router.routes.append(WebSocketRoute(path, websocket))
            else:
                router.add_api_websocket_route(path, websocket_operation)
            return [WebSocketRoute(prefix + path, websocket)]
        if kind == "include" and depth > 0:
            inner = APIRouter(redirect_slashes=rng.random() < 0.5)
            below = "/" + rng.choice(["in", "a", "items"])
            theirs = self.fill(inner, prefix + below, rng.randrange(1, 4), depth - 1)
            router.include_router(inner, prefix=below)
            return theirs
        app, other = self.mounted(depth)
        if kind == "host":
            pattern = rng.choice(["a.org", "B.example.com", "{sub}.example.com", "a.org:80"])
            router.routes.append(Host(pattern, app))
            if prefix:
                other = Router(routes=[Mount(prefix, app=other)])
            return [Host(pattern, other)]
        at = rng.choice(["/m", "/a", "/m/{t}", "/{n:int}", "", "/items/"])
        self.names.append(prefix + at + "/a")
        self.names.append(prefix + at)
        router.routes.append(Mount(at, app))
        return [Mount(prefix + at, other)]

    def mounted(self, depth):
        kind = self.rng.choice(["ours", "ours", "ours", "plain", "static", "starlette"])
        if kind == "static":
            static = StaticFiles(directory=self.directory, html=self.rng.random() < 0.5)
            return static, static
        if kind == "plain" or depth <= 0:
            return plain, plain
        inner = Pair(self.rng, depth - 1, self.directory)
        self.names += inner.names
        return (inner.ours if kind == "ours" else inner.theirs), inner.theirs


class Reluctant(APIRoute):
    """A route that matches for some requests only."""

    def matches(self, scope):
        return reluctantly(super().matches(scope), scope)


class ReluctantRoute(Route):
    def matches(self, scope):
        return reluctantly(super().matches(scope), scope)

    def __init__(self, path, endpoint):
        super().__init__(path, endpoint)
        self.methods = {"GET"}


def reluctantly(found, scope):
    return found if len(scope["path"]) % 2 else (Match.NONE, {})


def cors():
    return Middleware(CORSMiddleware, allow_origins=["*"])


def same_methods(route, methods):
    route.methods = methods  # the order of a set depends on its history
    return route


def value(rng, convertor):
    fitting = FITTING.get(convertor)
    return fitting if fitting and rng.random() < 0.7 else rng.choice(VALUES)


def target(rng, names):
    if rng.random() < 0.2:
        path = "/" + "/".join(rng.choice(VALUES) for _ in range(rng.randrange(4)))
    else:
        path = re.sub(r"\{(\w+)(?::(\w+))?\}", lambda m: value(rng, m[2]), rng.choice(names))
        path = path.replace("é", "%C3%A9")
    path += rng.choice([*[""] * 7, "/", "/", "//", "/x", "/a", "/index.html"])
    if rng.random() < 0.1:
        path = "/days/2026-11" + rng.choice(["", "/", "/q", "-x"])
    if rng.random() < 0.05:
        path = "/" + path
    return path + rng.choice([*[""] * 4, *WORDS[:-2]])


def request(rng, names):
    method = rng.choice(["GET"] * 4 + METHODS)
    host = rng.choice(["a.org"] * 5 + HOSTS)
    version = rng.choice(["1.1"] * 9 + ["1.0"])
    lines = [f"{method} {target(rng, names)} HTTP/{version}", "Connection: close"]
    if version == "1.1" or rng.random() < 0.5:
        lines.insert(1, f"Host: {host}")
    if rng.random() < 0.3:
        lines.append("Origin: http://o.org")
    if rng.random() < 0.1:
        lines.append("X-Forwarded-Proto: https")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def ask(server, data):
    """The answer, without what differs from one server to the other."""
    response = server.exchange(data).replace(b":%d" % server.address[1], b":12345")
    response = re.sub(rb"\r\ndate: [^\r]*", b"", response)
    # The methods are a set: their order is that of hashes, and of how the set was made.
    return re.sub(rb"(?<=\r\nallow: )[^\r]*", in_order, response)


def in_order(methods):
    return b", ".join(sorted(methods[0].split(b", ")))


def through_asgi(app):
    async def call(scope, receive, send):
        await app(scope, receive, send)

    return call


@contextlib.contextmanager
def three(ours, theirs, **settings):
    """What the three servers answer, by name, to some bytes."""
    with (
        running(ours, interface="turboapi", **settings) as native,
        running(through_asgi(ours), lifespan="off", **settings) as asgi,
        running(through_asgi(theirs), lifespan="off", **settings) as other,
    ):
        servers = {"native": native, "asgi": asgi, "starlette": other}
        yield lambda data: {name: ask(s, data) for name, s in servers.items()}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("seed", range(int(os.environ.get("TURBOAPI_TEST_SEEDS", "12"))))
def test_as_starlette(seed, tmp_path):
    (tmp_path / "index.html").write_text("index")
    (tmp_path / "404.html").write_text("nothing here")
    (tmp_path / "a").mkdir()
    rng = random.Random(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pair = Pair(rng, 2, tmp_path)
    root = rng.choice(["", "", "/root", "/a"])
    with three(pair.ours, pair.theirs, root_path=root) as answers_to:
        for _ in range(60):
            data = request(rng, pair.names)
            answers = answers_to(data)
            wanted = answers["starlette"]
            assert answers == dict.fromkeys(answers, wanted), data


def conversation(client_class, app, url):
    """What a WebSocket there says, or how it is refused."""
    with client_class(app) as client:
        try:
            with client.websocket_connect(url) as session:
                return session.receive_json()
        except WebSocketDisconnect as error:
            return error.code, error.reason


@pytest.mark.parametrize("seed", range(100, 106))
def test_websockets_as_starlette(seed, tmp_path):
    rng = random.Random(seed)
    pair = Pair(rng, 2, tmp_path)
    pair.ours.router.routes.append(WebSocketRoute("/last/{x:int}", websocket))
    pair.theirs.router.routes.append(WebSocketRoute("/last/{x:int}", websocket))
    for url in ["/last/7", "/last/x", "/last/7/", *(target(rng, pair.names) for _ in range(25))]:
        url = "/" + url.lstrip("/")
        wanted = conversation(TestClient, pair.theirs, url)
        assert conversation(TestClient, pair.ours, url) == wanted, url
        assert conversation(NativeTestClient, pair.ours, url) == wanted, url


@pytest.mark.parametrize("door", [TestClient, NativeTestClient])
def test_routes_that_change_all_the_time_hold_up_no_request(monkeypatch, door):
    app = FastAPI()

    @app.get("/")
    async def read():
        return "read"

    class Changing(_dispatch.RouteTable):
        def __init__(self, *args):
            super().__init__(*args)
            app.get("/new")(read)  # as another thread does

    monkeypatch.setattr(_dispatch, "RouteTable", Changing)
    with door(app) as client:
        for _ in range(3):
            assert client.get("/").json() == "read"
        assert client.get("/new").json() == "read"
