"""What is left of a request's body, and who sees a context variable: both doors, and FastAPI."""

import asyncio
import contextlib
import contextvars
import importlib

import pytest
from doors_kit import DOORS, both
from pydantic import BaseModel
from server_kit import running, wait_for
from starlette.background import BackgroundTask
from starlette.responses import StreamingResponse

import turboapi

var = contextvars.ContextVar("var", default="unset")
BODY = {"a": 1}
KINDS = ("model", "body", "json", "dependency", "stream", "form", "pieces")


class Item(BaseModel):
    a: int = 0


# -- receive() after the body was read ---------------------------------------------------------------


def reading_app(module, watch):
    """Routes that read the body, each in its way, and then `watch(request)`."""
    app = module.FastAPI()

    async def reads(request: module.Request):
        await request.body()

    @app.post("/model")
    async def model(request: module.Request, item: Item):
        return await watch(request)

    @app.post("/body")
    async def body(request: module.Request):
        await request.body()
        return await watch(request)

    @app.post("/json")
    async def json(request: module.Request):
        await request.json()
        return await watch(request)

    @app.post("/dependency")
    async def dependency(request: module.Request, d=module.Depends(reads)):
        return await watch(request)

    @app.post("/stream")
    async def stream(request: module.Request):
        async for _ in request.stream():
            pass
        return await watch(request)

    @app.post("/form")
    async def form(request: module.Request, a: int = module.Form()):
        return await watch(request)

    @app.post("/pieces")
    async def pieces(request: module.Request):
        while (await request.receive()).get("more_body"):
            pass
        return await watch(request)

    return app


def what(path):
    return {"data": BODY} if path == "form" else {"json": BODY}


async def next_message(request):
    try:
        return (await asyncio.wait_for(request.receive(), 0.05))["type"]
    except TimeoutError:
        return "waits"


@pytest.mark.parametrize("path", KINDS)
def test_receive_waits_after_the_body(path):
    def scenario(client_class):
        with client_class(reading_app(turboapi, next_message)) as client:
            return client.post(f"/{path}", **what(path)).json()

    assert both(scenario) == "waits"


@pytest.mark.parametrize("path", KINDS)
def test_receive_waits_as_with_fastapi(path):
    pytest.importorskip("fastapi")
    app = reading_app(importlib.import_module("fastapi"), next_message)
    with DOORS["asgi"](app) as client:
        assert client.post(f"/{path}", **what(path)).json() == "waits"


@pytest.mark.parametrize("path", KINDS)
def test_receive_tells_of_the_disconnect_after_the_body(path):
    seen = []
    waits = []

    async def watch(request):
        waits.append(1)
        seen.append((await request.receive())["type"])

    body = b"a=1" if path == "form" else b'{"a":1}'
    kind = b"x-www-form-urlencoded" if path == "form" else b"json"
    head = b"POST /%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/%s\r\nContent-Length: %d\r\n\r\n"
    with running(reading_app(turboapi, watch), interface="turboapi") as server:
        with server.raw(head % (path.encode(), kind, len(body)) + body):
            wait_for(lambda: waits)
            assert not seen
        wait_for(lambda: seen)
    assert seen == ["http.disconnect"]


# -- who sees what a stream has set ------------------------------------------------------------------


def streaming_app(module, log):
    app = module.FastAPI()

    def note(name):
        log.append((name, var.get()))

    async def coroutine():
        token = var.set("dependency")
        try:
            yield
        finally:
            note("coroutine")
            with contextlib.suppress(ValueError):
                var.reset(token)

    def thread():
        var.set("thread")
        try:
            yield
        finally:
            note("thread")

    class Custom:
        """An iterator that runs code before it is awaited."""

        def __init__(self):
            self.left = 2

        def __aiter__(self):
            note("aiter")
            var.set("aiter")
            return self

        def __anext__(self):
            note("anext")
            var.set("anext")
            return self.next()

        async def next(self):
            note("next")
            self.left -= 1
            if self.left < 0:
                raise StopAsyncIteration
            return "x"

    async def pieces():
        note("first")
        var.set("stream")
        yield "a"
        await asyncio.sleep(0)
        note("second")
        yield "b"

    def lines():
        note("first")
        var.set("line")
        yield "a"
        note("second")
        yield "b"

    kinds = {"pieces": pieces, "lines": lines, "custom": Custom}

    async def endpoint(kind: str):
        return StreamingResponse(kinds[kind](), background=BackgroundTask(note, "background"))

    for name, dependency in (("coroutine", coroutine), ("thread", thread)):
        app.get(f"/{name}/{{kind}}", dependencies=[module.Depends(dependency)])(endpoint)

    async def also():
        note("background")

    @app.get("/coroutine-background")
    async def background(d=module.Depends(coroutine)):
        return StreamingResponse(pieces(), background=BackgroundTask(also))

    @app.get("/yields")
    async def yields(tasks: module.BackgroundTasks, d=module.Depends(coroutine)):
        tasks.add_task(also)
        var.set("endpoint")
        yield 1
        note("endpoint")

    return app


STREAMS = [
    *(f"/{name}/{kind}" for name in ("coroutine", "thread") for kind in ("pieces", "lines", "custom")),
    "/coroutine-background", "/yields",
]  # fmt: skip


def streamed(module, client_class, path):
    log = []
    with client_class(streaming_app(module, log)) as client:
        text = client.get(path).text
    return text, log


@pytest.mark.parametrize("path", STREAMS)
def test_nobody_sees_what_a_stream_has_set(path):
    text, log = both(lambda client_class: streamed(turboapi, client_class, path))
    assert text
    after = dict(log[-3:])
    assert all(value in ("unset", "dependency", "thread") for name, value in after.items()
               if name in ("coroutine", "thread", "background"))  # fmt: skip


@pytest.mark.parametrize("path", STREAMS)
def test_streams_set_variables_as_with_fastapi(path):
    pytest.importorskip("fastapi")
    expected = streamed(importlib.import_module("fastapi"), DOORS["asgi"], path)
    for client_class in DOORS.values():
        assert streamed(turboapi, client_class, path) == expected
