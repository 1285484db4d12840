"""What Starlette's own tests (tests/conformance/starlette.py) once found to differ on a socket."""

import contextvars
import threading
import time

import pytest
from server_kit import both_protocols, running, wait_for
from starlette.background import BackgroundTask

from turboapi import BackgroundTasks, Depends, FastAPI, HTTPException
from turboapi._testclient import NativeTestClient
from turboapi.middleware.cors import CORSMiddleware
from turboapi.middleware.gzip import GZipMiddleware
from turboapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from turboapi.testclient import TestClient


def make_app(told, **settings):
    app = FastAPI(**settings)

    @app.exception_handler(Exception)
    def on_error(request, exc):
        told.append((type(exc).__name__, str(exc), request.url.path, request.app is app))
        called = BackgroundTask(told.append, "called")
        return JSONResponse("sent before the response only", 503, background=called)

    @app.exception_handler(LookupError)
    async def on_lookup(request, exc):
        return JSONResponse("not found", status_code=404)

    def fail(exc):
        raise exc

    @app.get("/response")
    async def response():
        return PlainTextResponse("sent", background=BackgroundTask(fail, ValueError("later")))

    @app.get("/injected")
    def injected(tasks: BackgroundTasks):
        tasks.add_task(fail, ValueError("later"))
        return "sent"

    @app.get("/handled")
    async def handled(tasks: BackgroundTasks):
        tasks.add_task(fail, KeyError("later"))
        return "sent"

    @app.get("/http")
    async def http(tasks: BackgroundTasks):
        tasks.add_task(fail, HTTPException(418))
        return "sent"

    def closing():
        yield 1
        raise ValueError("on the way out")

    @app.get("/generator")
    async def generator(value: int = Depends(closing)):
        return value

    @app.get("/broken")
    async def broken():
        def chunks():
            yield b"some"
            raise ValueError("in the middle")

        return StreamingResponse(chunks())

    @app.get("/before")
    async def before():
        raise ValueError("before")

    return app


AFTERWARDS = ["/response", "/injected", "/handled", "/http", "/generator", "/broken", "/before"]


@pytest.mark.parametrize("middleware", ["none", "CORS", "GZip"])
@pytest.mark.parametrize("path", AFTERWARDS)
def test_handlers_of_errors_are_called_when_the_response_has_begun(path, middleware):
    told = []
    app = make_app(told)
    if middleware == "CORS":
        app.add_middleware(CORSMiddleware, allow_origins=["*"])
    elif middleware == "GZip":  # it holds the beginning of a response back
        app.add_middleware(GZipMiddleware)
    with running(app, interface="turboapi") as server:
        request = f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        native = server.exchange(request.encode())
        wait_for(lambda: told and not server.server.tasks)
    here, told[:] = told[:], []
    asgi = TestClient(app, raise_server_exceptions=False).get(path)
    assert here == told
    assert here[0][3]
    assert here[1:] == (["called"] if path == "/before" else [])
    assert b" %d " % asgi.status_code in native.split(b"\r\n")[0]
    assert asgi.content in native


@both_protocols
@pytest.mark.parametrize("debug", [False, True])
def test_an_error_after_the_response_leaves_the_connection(debug):
    told = []
    app = make_app(told, debug=debug)
    with running(app, interface="turboapi") as server, server.client() as conn:
        for n in range(1, 4):
            conn.request("GET", "/injected")
            assert conn.getresponse().read() == b'"sent"'
            if not debug:
                wait_for(lambda n=n: len(told) == n)
        wait_for(lambda: server.server.tasks == 0)


# -- the context ----------------------------------------------------------------------------------

var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="unset")


def test_handlers_see_the_context_in_which_the_server_was_started():
    app = FastAPI()

    def sync_dependency():
        return var.get()

    @app.get("/sync")
    def sync():
        return var.get()

    @app.get("/slow")
    def slow():
        time.sleep(0.001)  # so that it stays in a thread
        return [var.get(), threading.current_thread() is threading.main_thread()]

    @app.get("/async")
    async def asynchronous():
        return var.get()

    @app.get("/inline", run="inline")
    def inline():
        before = var.get()
        var.set("changed")
        return before

    @app.get("/both")
    async def both(before: str = Depends(sync_dependency)):
        return before

    token = var.set("set by the one who starts it")
    try:
        with NativeTestClient(app) as client:
            for _ in range(60):  # also once it has been promoted
                assert client.get("/sync").json() == "set by the one who starts it"
            assert client.get("/slow").json() == ["set by the one who starts it", False]
            for path in ("/async", "/both", "/inline", "/inline"):
                assert client.get(path).json() == "set by the one who starts it"
    finally:
        var.reset(token)


# -- the protocol ---------------------------------------------------------------------------------


@both_protocols
def test_trailers_that_the_client_did_not_ask_for_are_not_sent():
    returned = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
        await send({"type": "http.response.body", "body": b"body"})
        await send({"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")]})
        returned.append("trailers" in str(scope.get("extensions")))
        try:
            await send({"type": "http.response.body", "body": b"more"})
        except RuntimeError as exc:
            returned.append(str(exc))

    with running(app) as server:
        status, headers, body = server.get("/")
        assert (status, body, "grpc-status" in headers) == (200, b"body", False)
        wait_for(lambda: len(returned) == 2)
    assert returned == [
        True,
        "Unexpected ASGI message 'http.response.body' sent, after response already completed.",
    ]


def test_an_address_of_the_future_is_a_host():
    app = FastAPI()

    @app.get("/")
    async def host(request_host: str = Depends(lambda: "")):
        return request_host

    with running(app, interface="turboapi") as server:
        for host, status in (("[v1.foo]", 200), ("[v1.foo]:80", 200), ("[v1.]", 400)):
            request = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            assert server.exchange(request.encode()).startswith(b"HTTP/1.1 %d " % status)
