"""`@app.middleware("http")`: the quick way and Starlette's must give the same."""

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator

import pytest
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware

from turboapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request
from turboapi.middleware import _http
from turboapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from turboapi.testclient import TestClient


async def pieces(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def make_app(log: list[str]) -> FastAPI:
    app = FastAPI()

    @app.middleware("http")
    async def inner(request: Request, call_next):
        response = await call_next(request)
        response.headers["x-inner"] = str(response.status_code)
        return response

    class Outer(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next):
            path = request.url.path
            if path == "/stop":
                return JSONResponse({"stopped": True}, status_code=403)
            if path == "/moved":
                request.scope["path"] = "/file"
            if path == "/body":
                log.append(f"outer read {len(await request.body())}")
            if path == "/broken":
                with contextlib.suppress(ValueError):
                    return await call_next(request)
                return Response("mended")
            response = await call_next(request)
            if path in ("/iterated", "/file", "/stream"):
                body = b"".join([chunk async for chunk in response.body_iterator])
                log.append(f"{len(body)} bytes")
                response.body_iterator = pieces(body[:2], body[2:])
            log.append(f"after {path}")
            return response

    app.add_middleware(Outer)

    @app.get("/")
    async def root(tasks: BackgroundTasks):
        tasks.add_task(log.append, "background")
        return {"a": 1}

    @app.get("/iterated")
    def iterated():
        return [1, 2, 3]

    @app.post("/body")
    async def body(request: Request, item: dict[str, int]):
        return [item, len(await request.body()), request.scope["route"].path]

    @app.get("/teapot")
    async def teapot():
        raise HTTPException(418, "short and stout", {"x-pot": "tea"})

    @app.get("/broken")
    @app.get("/broken-again")
    async def broken():
        raise ValueError("no")

    @app.get("/stream")
    async def stream():
        return StreamingResponse(pieces(b"one", b"two"), background=None)

    @app.get("/file")
    async def file():
        return FileResponse(__file__, filename="x.py")

    async def session():
        yield "open"
        log.append("closed")

    @app.get("/yields")
    async def yields(value: str = Depends(session)):
        return value

    @app.get("/number/{n}")
    async def number(n: int, q: int = 1):
        return n * q

    return app


REQUESTS = [
    ("GET", "/"), ("GET", "/iterated"), ("POST", "/body"), ("GET", "/teapot"), ("GET", "/broken"),
    ("GET", "/broken-again"), ("GET", "/stream"), ("GET", "/file"), ("GET", "/moved"), ("GET", "/yields"),
    ("GET", "/number/4?q=2"), ("GET", "/number/x"), ("GET", "/stop"), ("GET", "/none"), ("PUT", "/"),
    ("GET", "/openapi.json"),
]  # fmt: skip


def answers() -> list[object]:
    seen: list[object] = []
    log: list[str] = []
    with TestClient(make_app(log), raise_server_exceptions=False) as client:
        for method, path in REQUESTS:
            log.clear()
            response = client.request(method, path, json={"k": 3} if method == "POST" else None)
            headers = sorted(response.headers.multi_items())
            seen.append((method, path, response.status_code, headers, response.content, log.copy()))
    return seen


def test_equal_to_starlette(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = answers()
    monkeypatch.setattr("turboapi.applications.accelerate", lambda app, inside: (app, None))
    assert quick == answers()


# -- what must not be told from Starlette's: contexts, background, exceptions, headers ---------------

var = contextvars.ContextVar("var", default="unset")


class Known(Exception):
    pass


class Failing(Response):
    async def __call__(self, scope, receive, send):
        raise Known("before")


class FailingLate(Response):
    async def __call__(self, scope, receive, send):
        await super().__call__(scope, receive, send)
        raise Known("after")


def make_watched_app(log: list[object]) -> FastAPI:
    app = FastAPI()

    def add(name: str) -> None:
        @app.middleware("http")
        async def watch(request: Request, call_next):
            log.append((name, "in", var.get()))
            var.set(name)
            todo = request.headers.get(name, "")
            try:
                response = await call_next(request)
            except Exception as error:
                log.append((name, repr(error), var.get()))
                raise
            log.append((name, response.status_code, var.get(), sorted(response.headers)))
            response.headers["x-" + name] = "1"
            if todo == "replace":
                body = b"".join([chunk async for chunk in response.body_iterator])
                return Response(body.upper(), headers={"x-replaced": name})
            if todo == "drop":
                return Response("dropped")
            if todo == "status":
                response.status_code = 202
            if todo == "background":
                response.background = BackgroundTask(log.append, name + " background")
            if todo == "none":
                return None
            return response

    add("inner")
    add("outer")

    @app.exception_handler(Known)
    async def on_known(request: Request, error: Known):
        log.append(("handled", str(error), var.get()))
        return JSONResponse(str(error), 418)

    @app.exception_handler(418)
    async def on_teapot(request: Request, error: HTTPException):
        return None

    @app.exception_handler(Exception)
    async def on_any(request: Request, error: Exception):
        log.append(("last", repr(error)))
        return Response("last", 500)

    async def later() -> None:
        log.append(("background", var.get()))

    def fail() -> None:
        raise Known("background")

    @app.get("/plain")
    async def plain(tasks: BackgroundTasks):
        tasks.add_task(later)
        log.append(("endpoint", var.get()))
        var.set("endpoint")
        return 1

    constant = Response("constant")

    @app.get("/constant")
    def same():
        return constant

    @app.get("/stream")
    async def stream():
        async def chunks():
            for i in range(2):
                log.append(("chunk", var.get()))
                var.set(f"chunk {i}")
                yield f"{i}"

        var.set("endpoint")
        return StreamingResponse(chunks(), background=BackgroundTask(later))

    @app.get("/stream-fails")
    async def stream_fails():
        async def chunks():
            yield "1"
            raise Known("stream")

        return StreamingResponse(chunks())

    @app.get("/background-fails")
    async def background_fails(tasks: BackgroundTasks):
        tasks.add_task(fail)

    app.get("/fails")(lambda: Failing())
    app.get("/fails-late")(lambda: FailingLate("x"))
    app.get("/file")(lambda: FileResponse(__file__, background=BackgroundTask(later)))

    @app.get("/raises")
    def raises():
        raise Known("endpoint")

    @app.get("/teapot")
    def teapot():
        raise HTTPException(418)

    return app


WATCHED = [
    "/plain", "/constant", "/stream", "/stream-fails", "/background-fails", "/fails", "/fails-late", "/file",
    "/raises", "/teapot", "/unknown",
]  # fmt: skip


def watched_answer(path: str, headers: dict[str, str]) -> object:
    log: list[object] = []
    with TestClient(make_watched_app(log), raise_server_exceptions=False) as client:
        response = client.get(path, headers=headers)
        again = client.get("/constant")
        shown = [sorted(each.headers.multi_items()) for each in (response, again)]
        # Starlette reads a chunk ahead: when it is made is not part of the comparison.
        chunks = [each for each in log if each[0] == "chunk"]
        rest = [each for each in log if each[0] != "chunk"]
        return response.status_code, response.content, again.status_code, shown, chunks, rest


@pytest.mark.parametrize("todo", ["", "replace", "drop", "status", "background", "none"])
@pytest.mark.parametrize("path", WATCHED)
def test_not_to_be_told_from_starlette(
    monkeypatch: pytest.MonkeyPatch, path: str, todo: str
) -> None:
    if path.startswith("/stream") and todo in ("drop", "background", "none"):
        pytest.skip("what Starlette's tasks do then is a matter of time")
    if path == "/file" and todo == "background":
        pytest.skip("as is the order of two backgrounds behind a file")
    if path == "/stream-fails" and todo == "replace":
        pytest.skip("Starlette takes the error for the end of the body")
    asked = [{}] if not todo else [{"inner": todo}, {"outer": todo}, {"inner": todo, "outer": todo}]
    quick = [watched_answer(path, headers) for headers in asked]
    monkeypatch.setattr("turboapi.applications.accelerate", lambda app, inside: (app, None))
    assert quick == [watched_answer(path, headers) for headers in asked]


def test_call_next_twice() -> None:
    log: list[str] = []
    app = FastAPI()

    @app.middleware("http")
    async def again(request: Request, call_next):
        await call_next(request)
        return await call_next(request)

    @app.get("/")
    async def root(tasks: BackgroundTasks):
        tasks.add_task(log.append, "background")
        return len(log)

    assert TestClient(app).get("/").json() == 0
    assert log == ["background", "background"]


def test_a_file_that_nobody_wants() -> None:
    app = FastAPI()
    tasks = []

    @app.middleware("http")
    async def replace(request: Request, call_next):
        await call_next(request)
        tasks.extend(asyncio.all_tasks())
        return Response("instead")

    app.get("/")(lambda: FileResponse(__file__))
    with TestClient(app) as client:
        assert client.get("/").text == "instead"
        assert [task for task in tasks if "_Running" in repr(task.get_coro())]
        assert all(task.done() for task in tasks if "_Running" in repr(task.get_coro()))


def test_is_used() -> None:
    app = make_app([])
    TestClient(app).get("/")
    kinds = []
    layer = app.middleware_stack
    while hasattr(layer, "app") and layer is not app.router:
        kinds.append(type(layer).__name__)
        layer = layer.app
    assert kinds.count("FastHTTPMiddleware") == 2


def test_error_reaches_the_client() -> None:
    with pytest.raises(ValueError, match="no"):
        TestClient(make_app([])).get("/broken-again")


def test_overrides_are_heard() -> None:
    app = make_app([])
    app.dependency_overrides[BackgroundTasks] = BackgroundTasks
    assert TestClient(app).get("/number/2").json() == 2


def test_subclass_with_own_call_is_left_alone() -> None:
    class Own(BaseHTTPMiddleware):
        async def __call__(self, scope, receive, send):
            await self.app(scope, receive, send)

    app = FastAPI()
    app.add_middleware(Own)
    stack, inside = _http.accelerate(Own(app.router), None)
    assert type(stack) is Own
    assert inside is None


class First(Exception):
    pass


class Second(Exception):
    pass


def handled(path: str) -> object:
    app = FastAPI()
    log: list[object] = []

    @app.middleware("http")
    async def watch(request: Request, call_next):
        try:
            response = await call_next(request)
        except Exception as exc:
            log.append(repr(exc))
            raise
        log.append((response.status_code, sorted(response.headers.items())))
        return response

    @app.exception_handler(First)
    async def first(request: Request, exc: First):
        log.append(("first", (await request.body()).decode()))
        raise Second

    @app.exception_handler(Second)
    async def second(request: Request, exc: Second):
        log.append("second")
        return JSONResponse({"second": True}, status_code=409)

    @app.exception_handler(KeyError)
    def nothing(request: Request, exc: KeyError):
        return None

    @app.post("/first")
    async def fails(item: dict[str, int]):
        raise First

    @app.post("/key")
    async def key():
        raise KeyError

    @app.post("/other")
    async def other():
        raise ZeroDivisionError

    try:
        response = TestClient(app).post(path, json={"a": 1})
    except Exception as exc:
        return log, repr(exc)
    return log, response.status_code, response.content


@pytest.mark.parametrize("path", ["/first", "/key", "/other"])
def test_handlers_that_fail(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    quick = handled(path)
    monkeypatch.setattr("turboapi.applications.accelerate", lambda app, inside: (app, None))
    assert quick == handled(path)


@pytest.mark.parametrize("quick", [True, False])
def test_arguments_of_call_next(monkeypatch: pytest.MonkeyPatch, quick: bool) -> None:
    if not quick:
        monkeypatch.setattr("turboapi.applications.accelerate", lambda app, inside: (app, None))
    app = FastAPI()

    @app.middleware("http")
    async def watch(request: Request, call_next):
        for arguments in ((), (request, request)):
            with pytest.raises(TypeError, match="argument"):
                call_next(*arguments)
        with pytest.raises(TypeError, match="argument"):
            call_next(other=request)
        with pytest.raises(TypeError, match="argument"):
            call_next(request, request=request)
        return await call_next(request=request)

    app.get("/")(lambda: 1)
    assert TestClient(app).get("/").json() == 1


def test_what_a_response_has() -> None:
    app = FastAPI()
    seen = []

    @app.middleware("http")
    async def watch(request: Request, call_next):
        response = await call_next(request)
        assert response.headers is response.headers
        assert response.headers.raw is response.raw_headers
        response.headers["x-a"] = "1"
        response.set_cookie("a", "b")
        response.delete_cookie("c")
        seen.append((response.status_code, response.media_type, response.background))
        response.status_code = 201
        response.raw_headers = [*response.raw_headers, (b"x-b", b"2")]
        return response

    app.get("/")(lambda: {"a": 1})
    response = TestClient(app).get("/")
    assert seen == [(200, None, None)]
    assert (response.status_code, response.json()) == (201, {"a": 1})
    assert (response.headers["x-a"], response.headers["x-b"]) == ("1", "2")
    assert len(response.headers.get_list("set-cookie")) == 2


def test_under_trio() -> None:
    pytest.importorskip("trio")
    with TestClient(make_app([]), backend="trio") as client:
        assert client.get("/number/4?q=2").json() == 8
        assert client.get("/").headers["x-inner"] == "200"
