"""Unchanged FastAPI applications: what the routers decide, and that Python is not asked for it."""

# ruff: noqa: E402 (without FastAPI the module is skipped)
import pytest

fastapi = pytest.importorskip("fastapi")

from fastapi import APIRouter, FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute
from server_kit import running
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from test_fastapi_bridge import ask, bridge_of, compare, since

from turboapi._fastapi_bridge import _bridge


def tree_app():
    app = FastAPI(openapi_url=None)
    router, inner, sub = APIRouter(), APIRouter(), FastAPI(openapi_url=None)

    async def show(request: Request):
        scope = request.scope
        return JSONResponse(
            [
                {key: repr(value) for key, value in scope["path_params"].items()},
                scope["root_path"],
                scope.get("app_root_path"),
                scope["app"] is sub,
                scope["router"] is app.router,
                str(request.url),
            ]
        )

    async def fail():
        raise ValueError

    for n in range(30):
        router.add_api_route(f"/r{n}/{{a}}", show, methods=["PUT", "GET"])
        inner.add_api_route(f"/s{n}/{{a:int}}/", show)
        sub.add_api_route(f"/t{n}/{{b}}", show)
    sub.add_api_route("/fail", fail)
    router.include_router(inner, prefix="/in")
    app.include_router(router, prefix="/deep")
    app.router.routes.append(Route("/plain/{c}", show))
    app.add_api_websocket_route("/deep/ws", show)
    app.mount("/sub/{tenant}", sub)
    app.mount("/sub", sub)
    app.host("x.org", sub)
    return app


TREE = [
    *[("GET", path) for path in ("/", "/nosuch", "/deep/nosuch", "/deep/r3/x", "/deep/r3/x/")],
    *[("GET", path) for path in ("/deep/in/s3/7", "/deep/in/s3/7/", "/deep/in/s3/x/")],
    *[("POST", path) for path in ("/deep/r3/x", "/deep/in/s3/7/", "/plain/1", "/sub/t1/x")],
    *[("HEAD", path) for path in ("/deep/r3/x", "/plain/1", "/nosuch")],
    *[("GET", path) for path in ("/sub", "/sub/", "/sub/y/t1/z", "/sub/t1/z", "/sub/y/t1/z/")],
    *[("GET", path) for path in ("/sub/y/nosuch", "/sub/y/fail", "/deep/ws", "//deep/r3/x")],
    *[("GET", path, {"host": "x.org"}) for path in ("/t1/x", "/t1/x/", "/deep/r3/x")],
    ("GET", "/deep/r3/x/?q=1&r=%C3%A9"),
    ("OPTIONS", "/deep/r3/x"),
    ("PURGE", "/deep/r3/x"),
]


def with_handlers():
    app = tree_app()

    @app.exception_handler(404)
    async def not_here(request: Request, exc: HTTPException):
        return PlainTextResponse(f"{request.url.path} {exc.detail}", 404)

    @app.exception_handler(405)
    async def not_so(request: Request, exc: HTTPException):
        return PlainTextResponse(str(exc.headers), 405)

    return app


def with_middleware():
    app = tree_app()
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    return app


def without_slashes():
    app = tree_app()
    app.router.redirect_slashes = False
    app.router.default = PlainTextResponse("default", 444)
    return app


@pytest.mark.parametrize("make", [tree_app, with_handlers, with_middleware, without_slashes])
def test_what_the_routers_decide(make):
    compare(make, TREE, direct=make is not with_middleware)


@pytest.mark.parametrize("make", [tree_app, with_middleware])
def test_the_routers_are_not_entered(make, monkeypatch):
    entered = []
    app = make()
    original = Route.matches

    def matches(self, scope):
        entered.append(self)
        return original(self, scope)

    with running(app, interface="fastapi") as server:
        monkeypatch.setattr(Route, "matches", matches)
        for method, path, status in (
            ("GET", "/nosuch", 404),
            ("GET", "/deep/r3/x/", 307),
            ("GET", "/sub/y/t1/z", 200),
            ("GET", "/sub/y/nosuch", 404),
            ("PUT", "/deep/r3/x", 200),
        ):
            assert ask(server, method, path)[0] == status
        # An APIRoute of before 0.137 asks Starlette's whether it matches.
        assert len(entered) <= (0 if since("0.137.0") else 1)
        entered.clear()
        assert ask(server, "POST", "/deep/r3/x")[0] == 405
        assert len(entered) <= 1


def test_websockets_are_found_by_a_table(monkeypatch):
    async def talk(websocket: WebSocket, x: int):
        await websocket.accept()
        scope = websocket.scope
        await websocket.send_json([x, scope["path_params"]["x"], scope["route"].path])
        await websocket.close()

    app, router = FastAPI(openapi_url=None), APIRouter()
    app.add_api_websocket_route("/ws/{x:int}", talk)
    router.add_api_websocket_route("/ws/{x}", talk)
    app.include_router(router, prefix="/in")
    bridge_of(app).native_app()
    entered = []
    original = WebSocketRoute.matches

    def matches(self, scope):
        entered.append(self)
        return original(self, scope)

    monkeypatch.setattr(WebSocketRoute, "matches", matches)
    with TestClient(app) as client:
        with client.websocket_connect("/ws/7") as session:
            assert session.receive_json() == [7, 7, "/ws/{x:int}"]
        with client.websocket_connect("/in/ws/7") as session:
            assert session.receive_json() == [7, "7", "/in/ws/{x}"]
        entered.clear()
        for path in ("/ws/x", "/nosuch", "/ws/7/"):
            with pytest.raises(WebSocketDisconnect), client.websocket_connect(path):
                pass
    assert entered == []


@pytest.mark.parametrize("prefix", ["", "/below"])
def test_routes_added_where_c_answers_404(prefix):
    app = changing = FastAPI()
    if prefix:
        changing = FastAPI()
        app.mount(prefix, changing)

    @changing.get("/old")
    async def old():
        return "old"

    with running(app, interface="fastapi") as server:
        assert server.get(f"{prefix}/new")[0] == 404

        @changing.get("/new")
        async def new():
            return "new"

        assert server.get(f"{prefix}/new")[2] == b'"new"'
        changing.router.routes.insert(0, APIRoute("/old", new))
        assert server.get(f"{prefix}/old")[2] == b'"new"'
        del changing.router.routes[0]
        assert server.get(f"{prefix}/old")[2] == b'"old"'


def test_a_new_route_leaves_the_compiled_ones_as_they_are():
    app, router = FastAPI(), APIRouter()

    @router.get("/included")
    @app.get("/own")
    async def read(q: int = 0):
        return q

    app.include_router(router)
    before = bridge_of(app).table()
    app.get("/new")(read)
    after = bridge_of(app).table()
    assert after is not before
    compiled = [each.plan for each in before.targets if hasattr(each, "plan")]
    assert len(compiled) == 2
    assert [each.plan for each in after.targets if hasattr(each, "plan")][:2] == compiled
    # What a route is made of has changed.
    own = next(route for route in app.routes if route.path == "/own")
    own.path = "/other"
    app.get("/newer")(read)
    changed = [each.plan for each in bridge_of(app).table().targets if hasattr(each, "plan")]
    assert changed[0] is not compiled[0]
    assert changed[1] is compiled[1]


def test_routes_that_change_all_the_time_hold_up_no_request(monkeypatch):
    app = FastAPI()

    @app.get("/")
    async def read():
        return "read"

    class Changing(_bridge.Table):
        def __init__(self, *args):
            super().__init__(*args)
            app.get("/new")(read)  # as another thread does

    monkeypatch.setattr(_bridge, "Table", Changing)
    with running(app, interface="fastapi") as server:
        for _ in range(3):
            assert server.get("/")[2] == b'"read"'
        assert server.get("/new")[2] == b'"read"'
