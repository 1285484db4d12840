"""The user's middleware on the native server: the same application answers alike in every way.

Each case is served twice over a socket: by the App that calls the user's middleware alone, with the
framework's own parts in C, and as a plain ASGI application of Starlette's and our Python classes.
What the middleware has seen is compared, too.
"""

import asyncio
import base64
import contextlib
import contextvars
import json

import itsdangerous
import pytest
from middleware_kit import GET_PATHS, TEXT, Client, X, make_app, same
from server_kit import running, wait_for
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import JSONResponse, PlainTextResponse

from turboapi import FastAPI, HTTPException, Request, applications
from turboapi.middleware.cors import CORSMiddleware

var = contextvars.ContextVar("var", default="unset")


def plainly(monkeypatch, make):
    """Make an application of Starlette's classes only, served through ASGI."""
    with monkeypatch.context() as patch:
        patch.setattr(
            applications, "innermost", lambda app, router, **more: ExceptionMiddleware(app, **more)
        )
        patch.setattr(applications, "accelerate", lambda app, inside: (app, None))
        app = make()
        app.middleware_stack = app.build_middleware_stack()

    async def plain(scope, receive, send):
        await app(scope, receive, send)

    return app, plain


@contextlib.contextmanager
def both(monkeypatch, make, **settings):
    """Yield a client of each, and the two applications."""
    ours = make()
    theirs, plain = plainly(monkeypatch, make)
    settings.setdefault("log_level", "critical")
    with contextlib.ExitStack() as stack:
        clients = []
        for app in (ours, plain):
            server = stack.enter_context(running(app, interface="turboapi", **settings))
            clients.append(stack.enter_context(contextlib.closing(Client(server))))
        yield clients, (ours, theirs)


class Noting:
    """Middleware that notes what passes through it."""

    def __init__(self, app, log):
        self.app, self.log = app, log

    async def __call__(self, scope, receive, send):
        async def noting_receive():
            message = await receive()
            self.log.append(("receive", message["type"]))
            return message

        async def noting_send(message):
            self.log.append(("send", message["type"], sorted(message)))
            await send(message)

        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            await self.app(scope, noting_receive, noting_send)
            self.log.append(("route", scope.get("route") and scope["route"].path))
            self.log.append(("params", scope.get("path_params"), "router" in scope, "app" in scope))
        except Exception as exc:
            self.log.append(("raised", repr(exc)))
            raise
        finally:
            self.log.append("end")


class Adding(Noting):
    async def __call__(self, scope, receive, send):
        async def adding(message):
            if message["type"] == "http.response.start":
                message["headers"].append((b"x-added", b"1"))
            await send(message)

        await self.app(scope, receive, adding)


class Copying(Noting):
    """It gives the inside a scope, and a path, of its own."""

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and scope["path"] == "/nowhere":
            scope = {**scope, "path": "/small"}
        await self.app(dict(scope), receive, send)


class Answering(Noting):
    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and scope["path"] == "/small":
            await PlainTextResponse("short", 203)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


class Catching(Noting):
    async def __call__(self, scope, receive, send):
        try:
            await self.app(scope, receive, send)
        except ValueError as exc:
            self.log.append(repr(exc))
            if scope["path"] == "/broken":
                await PlainTextResponse("caught", 418)(scope, receive, send)
            else:
                raise


class Raising(Noting):
    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and scope["path"] == "/small":
            raise HTTPException(403, "not handled out here")
        await self.app(scope, receive, send)
        if scope["type"] == "http" and scope["path"] == "/sync":
            raise RuntimeError("too late")


class Twice(Noting):
    async def __call__(self, scope, receive, send):
        async def forget(message):
            self.log.append(message["type"])

        if scope["type"] == "http":
            await self.app(dict(scope), receive, forget)
        await self.app(scope, receive, send)


class Never(Noting):
    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)


class NoCoroutine(Noting):
    """Middleware that is a plain function of an awaitable."""

    def __call__(self, scope, receive, send):
        return self.app(scope, receive, send)


KINDS = [Noting, Adding, Copying, Answering, Catching, Raising, Twice, Never, NoCoroutine]


def wrapped(kind, log):
    return Middleware(kind, log=log)


def same_logs(apps, noting):
    return apps[0].log == apps[1].log and (not noting or apps[0].log[-1:] == ["end"])


@pytest.mark.parametrize("kind", KINDS)
def test_pure_middleware(monkeypatch, tmp_path, kind):
    def make():
        log = []
        app = make_app([Middleware(kind, log=log)], tmp_path)
        app.log = log
        return app

    with both(monkeypatch, make) as (clients, apps):
        for path in GET_PATHS:
            same(clients, "GET", path)
            wait_for(lambda: same_logs(apps, kind is Noting))
            for app in apps:
                app.log.clear()
        same(clients, "HEAD", "/big")
        same(clients, "DELETE", "/big")
        if kind is not Twice:  # the second one waits for the end of the connection
            same(clients, "POST", "/items", body=b'{"name": "a"}')
            same(clients, "POST", "/items", body=b'{"name": ')
        wait_for(lambda: apps[0].log == apps[1].log)


STACKS = {
    "cors outside": [Middleware(CORSMiddleware, allow_origins=[X]), Adding],
    "cors inside": [Adding, Middleware(CORSMiddleware, allow_origins=["*"])],
    "gzip outside": [Middleware(GZipMiddleware), Noting],
    "gzip inside": [Noting, Middleware(GZipMiddleware), Adding],
    "session between": [Adding, Middleware(SessionMiddleware, secret_key="k"), Noting],
    "session outside": [Middleware(SessionMiddleware, secret_key="k"), Noting],
    "base": [Noting, Middleware(BaseHTTPMiddleware, dispatch=lambda r, n: n(r)), Adding],
}


@pytest.mark.parametrize("layers", STACKS.values(), ids=STACKS)
def test_mixed_stacks(monkeypatch, tmp_path, layers):
    def make():
        log = []
        middleware = [
            each if isinstance(each, Middleware) else Middleware(each, log=log) for each in layers
        ]
        app = make_app(middleware, tmp_path)
        app.log = log
        return app

    with both(monkeypatch, make) as (clients, apps):
        for path in GET_PATHS:
            if path.startswith("/stream") and layers[0] is Noting and len(layers) > 2:
                continue  # tasks of Starlette's class may note things in another order
            same(clients, "GET", path, {"Origin": X, "Accept-Encoding": "gzip"})
            same(clients, "GET", path)
        fields = {"Origin": X, "Access-Control-Request-Method": "GET"}
        same(clients, "OPTIONS", "/small", fields)


def test_what_stands_round_it(monkeypatch):
    """Handlers of 500, of HTTPException raised by a handler, and exceptions after the response."""

    class First(Exception):
        pass

    class Second(Exception):
        pass

    def make():
        app = FastAPI()
        app.root_path = "/root"
        app.log = []
        app.add_middleware(Adding, log=app.log)

        @app.exception_handler(First)
        async def first(request, exc):
            app.log.append("first")
            raise Second

        @app.exception_handler(Second)
        def second(request, exc):
            app.log.append(("second", request.url.path, repr(exc.__context__)))
            return PlainTextResponse("second", 418)

        @app.exception_handler(500)
        async def broken(request, exc):
            app.log.append((request.app is app, request.url.path, repr(exc)))
            return JSONResponse({"broken": repr(exc)}, 500)

        @app.get("/first")
        async def raise_first():
            raise First

        @app.get("/other")
        async def other():
            raise ValueError("other")

        @app.get("/state")
        async def state(request: Request):
            request.state.seen = 1
            return {"root": request.scope["root_path"], "url": request.url.path}

        return app

    with both(monkeypatch, make) as (clients, apps):
        for path in ("/first", "/other", "/state", "/none", "/root/state"):
            answer = same(clients, "GET", path)
            if path == "/first":
                assert answer[0] == 418
            if path == "/other":
                assert json.loads(answer[2]) == {"broken": "ValueError('other')"}
        wait_for(lambda: apps[0].log == apps[1].log)


def test_routes_and_the_stack_may_change(monkeypatch):
    def make():
        app = FastAPI()
        app.log = []
        app.add_middleware(Noting, log=app.log)

        @app.get("/add")
        async def add():
            @app.get("/new/{n}")
            async def new(n: int):
                return n

        @app.get("/wrap")
        async def wrap():
            app.middleware_stack = Adding(app.middleware_stack, app.log)

        @app.get("/replace")
        async def replace():
            route = next(each for each in app.routes if getattr(each, "path", "") == "/new/{n}")
            route.app = Adding(route.app, app.log)

        @app.get("/root")
        async def root(request: Request):
            app.root_path = "/api"
            return request.scope["root_path"]

        return app

    with both(monkeypatch, make) as (clients, apps):
        for path in (
            "/new/1",
            "/add",
            "/new/1",
            "/new/x",
            "/replace",
            "/new/3",
            "/root",
            "/root",
            "/wrap",
            "/new/2",
        ):
            answer = same(clients, "GET", path)
        assert ("x-added", "1") in answer[1]
        wait_for(lambda: apps[0].log == apps[1].log)
        with pytest.raises(RuntimeError, match="after an application has started"):
            apps[0].add_middleware(Adding, log=[])


def test_context_of_the_task(monkeypatch):
    """Pure middleware, the endpoint and what follows share one context; the next request none."""

    class Setting(Noting):
        async def __call__(self, scope, receive, send):
            if scope["type"] != "http":
                await self.app(scope, receive, send)
                return
            self.log.append(("before", var.get()))
            var.set("outer")
            await self.app(scope, receive, send)
            self.log.append(("after", var.get()))

    def make():
        app = FastAPI()
        app.log = []
        app.add_middleware(Setting, log=app.log)

        @app.get("/")
        async def index():
            app.log.append(("inside", var.get(), asyncio.current_task() is not None))
            await asyncio.sleep(0)
            var.set("inner")

        return app

    with both(monkeypatch, make) as (clients, apps):
        for _ in range(3):
            same(clients, "GET", "/")
        wait_for(lambda: apps[0].log == apps[1].log)
        assert apps[0].log[:3] == [
            ("before", "unset"),
            ("inside", "outer", True),
            ("after", "inner"),
        ]


# -- sessions ----------------------------------------------------------------------------------------


def session_app(**options):
    app = FastAPI(middleware=[Middleware(SessionMiddleware, secret_key="key", **options)])

    @app.get("/plain")
    async def plain():
        return 1

    @app.get("/request")
    async def request_only(request: Request):
        return {"url": request.url.path}

    @app.get("/get")
    async def get(request: Request):
        return dict(request.session)

    @app.get("/set")
    def set_it(request: Request):
        request.session["user"] = "ann"
        return {"text": TEXT}

    @app.get("/clear")
    async def clear(request: Request):
        request.session.clear()

    @app.get("/vary")
    async def vary(request: Request):
        request.session.setdefault("a", "b")
        return PlainTextResponse("x", headers={"vary": "Accept"})

    @app.get("/replace")
    async def replace(request: Request):
        request.scope["session"] = {"a": 1}

    @app.get("/remove")
    async def remove(request: Request):
        del request.scope["session"]

    @app.get("/http")
    async def http(request: Request):
        request.session["user"] = "bob"
        raise HTTPException(418)

    @app.get("/broken")
    async def broken(request: Request):
        request.session["user"] = "bob"
        raise ValueError("broken")

    @app.get("/unserializable")
    async def unserializable(request: Request):
        request.session["user"] = {1, 2}

    @app.get("/stream")
    async def stream(request: Request):
        request.session["n"] = 1
        return PlainTextResponse("streamed")

    @app.exception_handler(500)
    async def on_error(request, exc):
        return JSONResponse({"session": repr(dict(request.session))}, 500)

    return app


def signed(data, key="key"):
    signer = itsdangerous.TimestampSigner(key)
    return signer.sign(base64.b64encode(json.dumps(data).encode())).decode()


COOKIES = {
    "none": None,
    "other": "a=b; sess=x",
    "good": "a=b; session=" + signed({"user": "carl"}),
    "empty": "session=" + signed({}),
    "bad": "session=abc",
    "forged": "session=" + signed({"user": "carl"}, "other"),
    "null": "session=null",
    "quoted": 'session="' + signed({"user": "carl"}) + '"',
    "not one": "xsession=1; notsession=session",
    "no dict": "session=" + signed([["a", 1]]),
    "no json": "session=" + itsdangerous.TimestampSigner("key").sign(b"e30").decode(),
}
PATHS = "plain request get set clear vary replace remove http broken unserializable stream none"
OPTIONS = [{}, {"max_age": None, "https_only": True, "domain": "a.example", "path": "/x"}]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("cookie", COOKIES.values(), ids=COOKIES)
def test_session(monkeypatch, cookie, options):
    # A cookie is signed with the time in seconds: that of both servers shall be the same.
    monkeypatch.setattr(itsdangerous.TimestampSigner, "get_timestamp", lambda self: 1_700_000_000)
    if cookie is not None and "session=" in cookie:
        options = {**options, "max_age": None}
    with both(monkeypatch, lambda: session_app(**options)) as (clients, apps):
        assert apps[0]._native_app().direct
        for path in PATHS.split():
            if cookie == COOKIES["no json"] and path in ("plain", "none"):
                continue  # a handler that does not ask for it does not learn of it
            same(clients, "GET", f"/{path}", {"Cookie": cookie} if cookie else {})


def test_session_of_a_subclass_is_called(monkeypatch):
    class Own(SessionMiddleware):
        async def __call__(self, scope, receive, send):
            await super().__call__(scope, receive, send)

    app = FastAPI(middleware=[Middleware(Own, secret_key="key")])
    assert not app._native_app().direct
