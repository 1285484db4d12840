"""`@app.middleware("http")`: the quick way and Starlette's must give the same."""

import contextlib
from collections.abc import AsyncIterator

import pytest
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
