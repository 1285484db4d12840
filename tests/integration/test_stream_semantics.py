"""Endpoints of events when they fail and when they are left: both doors, and FastAPI."""

import asyncio
import importlib

import pytest
from server_kit import read_all, read_until, running, wait_for
from starlette.responses import PlainTextResponse

import turboapi
import turboapi.sse

GET = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


def left_app(module, sse, log, background):
    """An application whose endpoint of events waits until its client has left."""
    app = module.FastAPI()

    async def after():
        log.append("background")

    def tasks(tasks: module.BackgroundTasks):
        if background:
            tasks.add_task(after)

    async def resource():
        yield
        log.append("dependency")

    depends = [module.Depends(tasks), module.Depends(resource)] if background else []

    @app.get("/", response_class=sse.EventSourceResponse, dependencies=depends)
    async def events():
        yield "event"
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.append("cancelled")
            raise
        finally:
            log.append("endpoint")

    return app


def leave(module, background, interface):
    log = []
    sse = importlib.import_module(f"{module.__name__}.sse")
    with running(left_app(module, sse, log, background), interface=interface) as server:
        with server.raw(GET) as sock:
            read_until(sock, b"event")
        wait_for(lambda: log and server.server.tasks == 0)
    return log


# Background tasks belong to the response, the endpoint's task to the request.
LEFT = {
    True: ["background", "cancelled", "endpoint", "dependency"],
    False: ["cancelled", "endpoint"],
}


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("interface", ["turboapi", "asgi"])
def test_what_is_left_ends_in_order(interface, background):
    assert leave(turboapi, background, interface) == LEFT[background]


@pytest.mark.parametrize("background", [True, False])
def test_what_is_left_ends_as_with_fastapi(background):
    fastapi = pytest.importorskip("fastapi")
    assert leave(fastapi, background, "asgi") == LEFT[background]


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("interface", ["turboapi", "asgi"])
@pytest.mark.parametrize("seconds", [None, 0.0, 0.05])
@pytest.mark.parametrize("events", [0, 1, 2, 3])
def test_an_error_ends_the_stream_after_the_last_event(
    caplog, interface, background, seconds, events
):
    app, ran = turboapi.FastAPI(), []

    def tasks(tasks: turboapi.BackgroundTasks):
        tasks.add_task(ran.append, True)

    depends = [turboapi.Depends(tasks)] if background else []

    @app.get("/", response_class=turboapi.sse.EventSourceResponse, dependencies=depends)
    async def index():
        for number in range(events):
            yield number
        if seconds is not None:
            await asyncio.sleep(seconds)
        raise LookupError("no more")

    with running(app, interface=interface) as server:
        with server.raw(GET) as sock:
            head, _, body = read_all(sock).partition(b"\r\n\r\n")
        wait_for(lambda: server.server.tasks == 0)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body == b"".join(b"9\r\ndata: %d\n\n\r\n" % number for number in range(events))
    assert "LookupError: no more" in caplog.text
    assert not ran


def refused(module, interface):
    """What a client gets of an endpoint that fails before its first event, behind middleware."""
    app, seen = module.FastAPI(), []
    sse = importlib.import_module(f"{module.__name__}.sse")

    @app.middleware("http")
    async def watch(request, call_next):
        try:
            return await call_next(request)
        except Exception as error:
            seen.append(type(error))
            return PlainTextResponse("failed", 503)

    @app.get("/", response_class=sse.EventSourceResponse)
    async def index():
        if seen is not None:
            raise LookupError("no event")
        yield

    with running(app, interface=interface) as server:
        status, _, body = server.get("/")
    return status, body, seen


@pytest.mark.parametrize("interface", ["turboapi", "asgi"])
def test_middleware_may_answer_for_an_endpoint_that_fails_at_once(interface):
    assert refused(turboapi, interface) == (503, b"failed", [ExceptionGroup])


def test_middleware_may_answer_as_with_fastapi():
    fastapi = pytest.importorskip("fastapi")
    assert refused(fastapi, "asgi") == (503, b"failed", [ExceptionGroup])
