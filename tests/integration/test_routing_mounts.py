"""Applications below other applications, and what the routers answer without Python."""

import inspect
import logging
import warnings

import pytest
from doors_kit import DOORS, both
from server_kit import both_protocols, read_until, running, wait_for
from starlette import routing as starlette_routing
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

from turboapi import APIRouter, BackgroundTasks, Depends, FastAPI, Request, WebSocket
from turboapi.middleware.cors import CORSMiddleware
from turboapi.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from turboapi.routing import APIRoute

ROUTES = 60


def filled(**settings):
    """An application with many routes, some of them in a router."""
    app = FastAPI(openapi_url=None, **settings)
    router = APIRouter(prefix="/deep")
    for n in range(ROUTES):
        router.add_api_route(f"/r{n}/{{a}}", endpoint, methods=["GET", "PUT"])
        app.add_api_route(f"/r{n}/{{a}}", endpoint)
    app.include_router(router)
    return app


async def endpoint(a: str):
    return a


async def scoped(request: Request):
    scope = request.scope
    return {
        "path": scope["path"],
        "root_path": scope["root_path"],
        "app_root_path": scope.get("app_root_path"),
        "path_params": scope["path_params"],
        "url": request.url.path,
        "base": request.base_url.path,
        "named": request.url_for("inner", item="1").path if "inner" in names(scope) else None,
        "app": scope["app"].title,
        "router": scope["router"] is OUTER[0].router if OUTER else None,
        "endpoint": scope["endpoint"].__name__,
        "route": scope["route"].path,
    }


OUTER = []


def names(scope):
    return {getattr(route, "name", None) for route in scope["router"].routes}


# -- the Python routers are not asked -------------------------------------------------------------


@pytest.fixture
def entered(monkeypatch):
    """How often a router or a route was asked, or an application called."""
    calls = []

    def count(owner, name):
        original = getattr(owner, name)

        if inspect.iscoroutinefunction(original):

            async def counted(self, *args):
                calls.append(f"{owner.__name__}.{name}")
                await original(self, *args)
        else:

            def counted(self, *args):
                calls.append(f"{owner.__name__}.{name}")
                return original(self, *args)

        # Its code is said to be of that file: who looks for replacements must not see it.
        counted.__code__ = counted.__code__.replace(co_filename=original.__code__.co_filename)
        monkeypatch.setattr(owner, name, counted)

    for owner in (APIRoute, starlette_routing.Route, Mount, Host, WebSocketRoute):
        count(owner, "matches")
    count(APIRouter, "app")
    count(FastAPI, "__call__")
    return calls


MISSES = {
    "404": ("GET", "/nosuch", 404),
    "404 below a router": ("GET", "/deep/nosuch", 404),
    "405": ("POST", "/r3/x", 405),
    "405 below a router": ("POST", "/deep/r3/x", 405),
    "redirect": ("GET", "/r3/x/", 307),
    "redirect below a router": ("PUT", "/deep/r3/x/", 307),
    "mounted": ("GET", "/sub/r3/x", 200),
    "404 in a mounted": ("GET", "/sub/nosuch", 404),
    "405 in a mounted": ("POST", "/sub/r3/x", 405),
    "redirect in a mounted": ("GET", "/sub/r3/x/", 307),
    "redirect to a mounted": ("GET", "/sub", 307),
    "404 two below": ("GET", "/sub/v1/nosuch", 404),
    "two below": ("GET", "/sub/v1/r3/x", 200),
}


def nested():
    app, sub = filled(), filled()
    sub.mount("/v1", filled())
    app.mount("/sub", sub)
    return app


@both_protocols
@pytest.mark.parametrize("case", MISSES)
def test_nothing_of_python_is_entered(entered, case):
    method, path, status = MISSES[case]
    with running(nested(), interface="turboapi") as server:
        entered.clear()
        assert server.request(method, path)[0] == status
        assert entered == []


# What is asked through ASGI: the route that says 405 and each mount on the way.
ASKED = {
    "405": 1,
    "405 below a router": 1,
    "redirect": 1,
    "redirect below a router": 1,
    "mounted": 1,
    "404 in a mounted": 1,
    "405 in a mounted": 2,
    "redirect in a mounted": 2,
    "redirect to a mounted": 1,
    "404 two below": 2,
    "two below": 2,
}


@pytest.mark.parametrize("case", MISSES)
def test_only_the_route_that_answers_is_asked_through_asgi(entered, case):
    method, path, status = MISSES[case]
    with DOORS["asgi"](nested(), follow_redirects=False) as client:
        assert client.request(method, path).status_code == status
        entered.clear()
        assert client.request(method, path).status_code == status
    asked = [each for each in entered if each.endswith(".matches") and each != "Route.matches"]
    assert len(asked) == ASKED.get(case, 0), entered


@pytest.mark.parametrize("door", DOORS)
def test_missing_websockets_ask_nobody(entered, door):
    app = nested()

    @app.websocket("/ws/{a}")
    async def websocket(session: WebSocket, a: str):
        await session.accept()
        await session.send_text(f"{a} {session.scope['route'].path} {session.url.path}")
        await session.close()

    router = APIRouter()
    router.add_api_websocket_route("/ws/{a}", websocket)
    app.include_router(router, prefix="/in")
    with DOORS[door](app) as client:
        with client.websocket_connect("/ws/x") as session:
            assert session.receive_text() == "x /ws/{a} /ws/x"
        with client.websocket_connect("/in/ws/x") as session:
            assert session.receive_text() == "x /in/ws/{a} /in/ws/x"
        entered.clear()
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/nosuch"):
            pass
    assert [each for each in entered if each.endswith(".matches")] == []


# -- mounted applications -------------------------------------------------------------------------


def tree(sub_options=None, app_options=None):
    app = FastAPI(title="outer", openapi_url=None, **(app_options or {}))
    sub = FastAPI(title="inner", openapi_url=None, **(sub_options or {}))
    sub.add_api_route("/scope/{item}", scoped, name="inner")
    app.mount("/plain", sub)
    app.mount("/with/{tenant}/{n:int}", sub)
    app.add_api_route("/scope/{item}", scoped)
    OUTER[:] = [app]
    return app


@both_protocols
@pytest.mark.parametrize("path", ["/scope/1", "/plain/scope/1", "/with/a%C3%A9/7/scope/x"])
@pytest.mark.parametrize("root", ["", "/root"])
def test_scope(path, root):
    def scenario(client_class):
        app = tree()
        with client_class(app, root_path=root) as client:
            return client.get(path).json()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = both(scenario)
    if not root:  # else the path does not begin with it, and mounts lose their way
        assert found["app"] == ("outer" if path == "/scope/1" else "inner")
    with running(tree(), interface="turboapi", root_path=root) as server:
        direct = server.get(path)[2]
    with running(through_asgi(tree()), lifespan="off", root_path=root) as server:
        assert server.get(path)[2] == direct


def through_asgi(app):
    async def call(scope, receive, send):
        await app(scope, receive, send)

    return call


def make_failing(told, **options):
    app, sub = FastAPI(openapi_url=None), FastAPI(openapi_url=None)

    class Own(Exception):
        pass

    class Outer(Exception):
        pass

    @sub.exception_handler(Own)
    async def on_own(request, exc):
        return PlainTextResponse(f"own {request.app is sub}", 418)

    @app.exception_handler(Outer)
    async def on_outer(request, exc):
        told.append("outer")
        return PlainTextResponse("never sent")

    def raising(kind):
        async def fail():
            raise kind

        return fail

    def yields():
        yield 1
        told.append("left")

    sub.add_api_route("/own", raising(Own("x")))
    sub.add_api_route("/outer", raising(Outer("x")))
    sub.add_api_route("/value", raising(ValueError("x")))
    sub.add_api_route("/http", raising(HTTPException(409, "gone", {"x-a": "b"})))

    @sub.get("/dependency")
    async def dependency(tasks: BackgroundTasks, value: int = Depends(yields)):
        tasks.add_task(told.append, "task")
        return value

    @sub.get("/stream")
    async def stream():
        def pieces():
            yield b"a"
            yield b"b"

        return StreamingResponse(pieces())

    app.mount("/sub", sub)
    return app, sub


@both_protocols
@pytest.mark.parametrize("path", ["/own", "/outer", "/value", "/http", "/dependency", "/stream"])
def test_what_happens_in_a_mounted_application(path, caplog):
    caplog.set_level(logging.ERROR)
    answers = []
    for wrap in (lambda app: app, through_asgi):
        told = []
        app, _ = make_failing(told)
        caplog.clear()
        with running(wrap(app), interface="turboapi", lifespan="off") as server:
            status, headers, body = server.get("/sub" + path)
            headers.pop("date")
            if path == "/dependency":
                wait_for(lambda told=told: len(told) == 2)
            if path in ("/outer", "/value"):
                wait_for(lambda: caplog.records)
        raised = [type(record.exc_info[1]).__name__ for record in caplog.records]
        answers.append((status, headers, body, told, raised))
    assert answers[0] == answers[1]


class Marking:
    def __init__(self, app, name="x-seen"):
        self.app = app
        self.name = name.encode()

    async def __call__(self, scope, receive, send):
        async def mark(message):
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (self.name, b"yes")]}
            await send(message)

        await self.app(scope, receive, mark)


@both_protocols
@pytest.mark.parametrize("path", ["/sub/x", "/sub/nosuch"])
def test_changes_below_are_seen(path):
    app, sub = FastAPI(openapi_url=None), FastAPI(openapi_url=None)
    app.mount("/sub", sub)

    @app.get("/change/{what}")
    async def change(what: str):
        if what == "route":
            sub.add_api_route("/x", lambda: "x")
        elif what == "handler":
            sub.add_exception_handler(404, not_here)
        elif what == "default":
            sub.router.default = PlainTextResponse("default", 444)
        elif what == "mount":
            app.router.routes[:] = [each for each in app.routes if not isinstance(each, Mount)]
        elif what == "middleware":
            sub.add_middleware(Marking)

    async def not_here(request, exc):
        return PlainTextResponse("handler", 404)

    with running(app, interface="turboapi") as server:
        assert server.get(path)[0] == 404
        server.get("/change/middleware")
        assert server.get(path)[1]["x-seen"] == "yes"
        server.get("/change/route")
        assert server.get("/sub/x")[2] == b'"x"'
        server.get("/change/default")
        assert server.get("/sub/nosuch")[::2] == (444, b"default")
        server.get("/change/mount")
        assert server.get("/sub/x")[2] == b'{"detail":"Not Found"}'


@both_protocols
def test_handlers_and_settings_that_come_later():
    app = filled()

    async def not_here(request, exc):
        return PlainTextResponse("handler", 404)

    @app.get("/change/{what}")
    async def change(what: str):
        if what == "slashes":
            app.router.redirect_slashes = False
        else:
            app.router.default = PlainTextResponse("default", 444)

    with running(app, interface="turboapi") as server:
        assert server.get("/r1/x/")[0] == 307
        server.get("/change/slashes")
        assert server.get("/r1/x/")[0] == 404
        server.get("/change/default")
        assert server.get("/r1/x/")[2] == b"default"


def test_no_watchers_are_left_behind():
    app, sub = filled(), filled()
    app.mount("/sub", sub)
    made = app._native_app()
    for n in range(5):
        sub.add_api_route(f"/new{n}", endpoint)
        made = app._native_app()
    assert made.direct
    assert len(app.router._watchers) == len(sub.router._watchers) == 1


@both_protocols
@pytest.mark.parametrize("outer", [None, "gzip", "cors"])
@pytest.mark.parametrize("inner", [None, "gzip", "cors", "own"])
@pytest.mark.parametrize("path", ["/sub/text", "/sub/file", "/sub/nosuch", "/sub/fail"])
def test_middleware_of_both(outer, inner, path, tmp_path):
    (tmp_path / "file.txt").write_text("0123456789" * 200)
    answers = []
    for wrap in (lambda app: app, through_asgi):
        app, sub = FastAPI(openapi_url=None), FastAPI(openapi_url=None)
        for each, name in ((app, outer), (sub, inner)):
            if name == "gzip":
                each.add_middleware(GZipMiddleware, minimum_size=10)
            elif name == "cors":
                each.add_middleware(CORSMiddleware, allow_origins=["http://o.org"])
            elif name == "own":
                each.add_middleware(Marking)

        @sub.get("/text")
        async def text():
            return PlainTextResponse("0123456789" * 200)

        @sub.get("/file")
        async def file():
            return FileResponse(tmp_path / "file.txt")

        @sub.get("/fail")
        async def fail():
            raise ValueError

        app.mount("/sub", sub)
        with running(wrap(app), interface="turboapi", lifespan="off") as server:
            headers = {"Origin": "http://o.org", "Accept-Encoding": "gzip"}
            status, got, body = server.request("GET", path, headers=headers)
            got.pop("date")
            answers.append((status, got, body))
    assert answers[0] == answers[1]
    if inner == "own" and path != "/sub/fail":
        assert answers[0][1]["x-seen"] == "yes"


@both_protocols
def test_an_application_below_itself():
    app = filled()
    app.mount("/again", app)
    with running(app, interface="turboapi") as server:
        assert server.get("/again/r1/x")[2] == b'"x"'
        assert server.get("/again/again/again/r1/y")[2] == b'"y"'
        assert server.get("/again/again/nosuch")[0] == 404


@both_protocols
def test_one_application_at_two_places_and_a_host():
    app, sub = FastAPI(openapi_url=None, title="outer"), FastAPI(openapi_url=None, title="inner")
    sub.add_api_route("/scope/{item}", scoped)
    OUTER[:] = [app]
    app.router.routes.append(Host("a.org", sub))
    app.router.routes.append(Host("{name}.b.org", sub))
    app.mount("/one", sub)
    app.mount("/two/{x}", sub)
    answers = []
    for wrap in (lambda app: app, through_asgi):
        with running(wrap(app), interface="turboapi", lifespan="off") as server:
            answers.append(
                [
                    server.get(path, Host=host)[::2]
                    for host in ("a.org:81", "A.ORG", "x.b.org", "c.org", "b.org")
                    for path in ("/scope/1", "/one/scope/2", "/two/y/scope/3", "/nosuch", "/one")
                ]
            )
    assert answers[0] == answers[1]
    assert b'"root_path":""' in answers[0][0][1]


def test_plain_routers_and_starlette_below(tmp_path):
    inner = APIRouter()
    inner.add_api_route("/r/{a}", endpoint)

    async def page(request):
        return JSONResponse(dict(request.path_params))

    other = Starlette(routes=[Route("/p/{b}", page), Mount("/x", routes=[Route("/q", page)])])
    app = FastAPI(openapi_url=None)
    app.mount("/router", inner)
    app.mount("/starlette/{c}", other)
    app.mount("/plain", Router([Route("/p/{b}", page)]))
    paths = [
        "/router/r/1",
        "/router/nosuch",
        "/router/r/1/",
        "/starlette/1/p/2",
        "/starlette/1/x/q",
    ]
    paths += ["/starlette/1/x/nosuch", "/plain/p/3", "/plain/p/3/", "/plain/nosuch"]

    def scenario(client_class):
        with client_class(app, follow_redirects=False) as client:
            return [
                (client.request(method, path).status_code, client.request(method, path).text)
                for path in paths
                for method in ("GET", "POST")
            ]

    both(scenario)


# -- answers without a route ----------------------------------------------------------------------


def test_a_body_that_nobody_reads_and_a_connection_that_goes_on():
    with running(filled(), interface="turboapi") as server, server.connect() as sock:
        for _ in range(3):
            sock.sendall(b"POST /nosuch HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde")
            assert b'{"detail":"Not Found"}' in read_until(sock, b"}")
        sock.sendall(
            b"HEAD /nosuch HTTP/1.1\r\nHost: a\r\n\r\nGET /r1/x HTTP/1.1\r\nHost: a\r\n\r\n"
        )
        answers = read_until(sock, b'"x"')
        assert answers.startswith(b"HTTP/1.1 404")
        assert b"content-length: 22" in answers
        assert b"Not Found" not in answers.partition(b"\r\n")[2]


def test_the_access_log_has_them(caplog):
    caplog.set_level(logging.INFO)
    lines = [
        '"GET /nosuch HTTP/1.1" 404',
        '"GET /r1/x/ HTTP/1.1" 307',
        '"DELETE /r1/x HTTP/1.1" 405',
    ]
    with running(filled(), interface="turboapi", access_log=True) as server:
        for line in lines:
            method, path, _ = line.strip('"').split(" ", 2)
            server.request(method, path)
        wait_for(lambda: all(line in caplog.text for line in lines))


@pytest.mark.parametrize("path", ["/r1/x", "/nosuch", "/r1/x/", "/docs"])
def test_the_access_log_has_who_asked_the_proxy(path, caplog):
    caplog.set_level(logging.INFO)
    app = filled()
    app.docs_url, app.openapi_url = "/docs", "/openapi.json"
    app.setup()
    with running(app, interface="turboapi", access_log=True) as server:
        server.get(path, **{"X-Forwarded-For": "192.0.2.7"})
        wait_for(lambda: f'192.0.2.7:0 - "GET {path} HTTP/1.1"' in caplog.text)


@pytest.mark.parametrize("digits", [700, 5000])
def test_long_numbers_ask_only_their_route(entered, digits):
    app = filled()
    app.add_api_route("/int/{n:int}", lambda n: len(str(n)))
    app.add_api_route("/int/{n}", endpoint)

    def scenario(client_class):
        with client_class(app, raise_server_exceptions=False) as client:
            client.get("/nosuch")
            entered.clear()
            response = client.get("/int/" + "7" * digits)
            return response.status_code, response.text, entered.count("APIRoute.matches")

    assert both(scenario)[2] == 1


@both_protocols
@pytest.mark.parametrize("length", [10, 1000, 1100, 2000, 2600])
@pytest.mark.parametrize("slash", ["", "/"])
def test_redirects_of_long_paths(length, slash):
    app = FastAPI(openapi_url=None)
    app.add_api_route("/with/{a}/", endpoint)
    app.add_api_route("/without/{a}", endpoint)
    name = "with" if not slash else "without"
    value = "é" * (length // 2)
    path = f"/{name}/{'%C3%A9' * (length // 2)}{slash}?q=1"
    answers = []
    for wrap in (lambda app: app, through_asgi):
        with running(wrap(app), interface="turboapi", lifespan="off") as server:
            status, headers, _ = server.get(path, Host="a.org")
            assert (status, server.get(f"/nosuch/{value.encode().hex()}{slash}")[0]) == (307, 404)
            answers.append(headers["location"])
    assert answers[0] == answers[1]
    assert answers[0].startswith(f"http://a.org/{name}/%C3%A9")


def test_the_openapi_document_is_what_json_makes_of_it():
    app = FastAPI()
    app.add_api_route("/r/{a}", endpoint)
    wanted = JSONResponse(app.openapi())

    def scenario(client_class):
        with client_class(app) as client:
            response = client.get("/openapi.json")
            return response.content, response.headers["content-type"]

    assert both(scenario) == (wanted.body, "application/json")
    app.openapi = lambda: {"when": {1: [None, "é", 1.5]}}
    assert both(scenario)[0] == '{"when":{"1":[null,"é",1.5]}}'.encode()
