"""Unchanged FastAPI applications inside middleware of others: compared as in `test_fastapi_bridge`."""

# ruff: noqa: E402 (without FastAPI the module is skipped)
import pytest

pytest.importorskip("fastapi")

from fastapi import APIRouter, FastAPI, HTTPException
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles
from test_fastapi_bridge import compare


def test_scope_of_routers_below_middleware():
    """What the routers put into the scope is there when the middleware has the request back."""

    class Watch:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            await self.app(scope, receive, send)
            if scope["type"] == "http" and scope["path"] != "/seen":
                own = scope.get("fastapi", {})
                context = own.get("effective_route_context")
                seen.append(
                    [
                        scope.get("path_params"),
                        getattr(scope.get("route"), "path", None),
                        getattr(scope.get("endpoint"), "__name__", None),
                        sorted(own),
                        getattr(context, "path", None),
                        scope["router"] is scope["app"].router,
                        len(scope["starlette.exception_handlers"]),
                    ]
                )

    seen = []

    def make():
        app, router, inner = FastAPI(), APIRouter(prefix="/r"), APIRouter(prefix="/{b}")
        app.add_middleware(Watch)

        @inner.get("/x/{a}")
        async def deep(a: int, b: str):
            return [a, b]

        @app.get("/own/{a}")
        def own(a: int):
            if a == 4:
                raise HTTPException(418, "four")
            return a

        @app.get("/seen")
        async def told():
            taken, seen[:] = seen[:], []
            return taken

        router.include_router(inner)
        app.include_router(router)
        return app

    paths = ["/own/3", "/own/4", "/own/x", "/r/k/x/1", "/r/k/x/y", "/none", "/own/3/"]
    asks = [("GET", each) for path in paths for each in (path, "/seen")]
    compare(make, asks, direct=False)


def test_middleware_whose_app_can_not_be_exchanged():
    """They are called as before, and what is inside of them is served all the same."""

    class Slots:
        __slots__ = ("app",)

        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            await self.app(scope, receive, send)

    class Other:
        def __init__(self, app):
            self.inner = app

        async def __call__(self, scope, receive, send):
            await self.inner(scope, receive, send)

    class Computed:
        def __init__(self, app):
            self.inner = app

        @property
        def app(self):
            return self.inner

        async def __call__(self, scope, receive, send):
            await self.app(scope, receive, send)

    for kind in (Slots, Other, Computed):

        def make(kind=kind):
            app = FastAPI()
            app.add_middleware(BaseHTTPMiddleware, dispatch=lambda request, go: go(request))
            app.add_middleware(kind)
            app.add_middleware(BaseHTTPMiddleware, dispatch=lambda request, go: go(request))

            @app.get("/x/{a}")
            async def x(a: int):
                return a

            return app

        compare(make, [("GET", "/x/3"), ("GET", "/x/y"), ("GET", "/y")], direct=False)


def test_files_behind_middleware(tmp_path):
    (tmp_path / "a.txt").write_text("a" * 500)

    def make():
        app = FastAPI()
        seen = []

        async def looks(request, call_next):
            response = await call_next(request)
            seen.append((response.headers.items(), request.url.path, request.scope["root_path"]))
            return response

        app.add_middleware(BaseHTTPMiddleware, dispatch=looks)
        app.add_middleware(BaseHTTPMiddleware, dispatch=lambda request, go: go(request))
        app.mount("/static", StaticFiles(directory=tmp_path))

        @app.get("/file")
        async def file():
            return FileResponse(tmp_path / "a.txt")

        @app.get("/seen")
        async def show():
            return seen

        return app

    paths = ["/static/a.txt", "/static/a.txt", "/static/absent", "/static", "/file", "/seen"]
    compare(make, [("GET", path) for path in paths], direct=False)
