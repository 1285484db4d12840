"""What `@app.middleware("http")` does with `call_next`: our way, Starlette's class, and FastAPI.

Each scenario is an application and what became of one request to it. It is made with Starlette's
own `BaseHTTPMiddleware` through ASGI, which is right by definition, then with ours through both
doors; where FastAPI is installed, with that too.
"""

import asyncio
import contextlib
import contextvars
import importlib
import sys

import anyio
import pytest
from doors_kit import DOORS
from server_kit import wait_for
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

import turboapi
from turboapi.middleware import _inside_task

var = contextvars.ContextVar("var", default="unset")
SOON = 0.05
LATE = PlainTextResponse("late", 504)


class World:
    """One application and its log."""

    def __init__(self, module):
        self.log = []
        self.app = module.FastAPI()
        self.Request = module.Request
        self.go = asyncio.Event()  # lets endpoints go on
        self.end = None  # an entry that the log gets at last

    def note(self, *words):
        self.log.append(words if len(words) > 1 else words[0])

    def middleware(self, function):
        self.app.add_middleware(BaseHTTPMiddleware, dispatch=function)

    def endpoint(self, path="/", methods=("GET", "POST"), after=None):
        """An endpoint that waits, and notes its fate."""

        async def waits():
            self.note("begins", var.get())
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.note("cancelled")
                raise
            self.note("goes on")
            return await after() if after is not None else "waited"

        self.app.api_route(path, methods=list(methods))(waits)


# -- whoever stops waiting ---------------------------------------------------------------------------


async def wait_for_it(coro, seconds):
    return await asyncio.wait_for(coro, seconds)


async def timeout(coro, seconds):
    async with asyncio.timeout(seconds):
        return await coro


async def move_on(coro, seconds):
    with anyio.move_on_after(seconds):
        return await coro
    raise TimeoutError


async def fail_after(coro, seconds):
    with anyio.fail_after(seconds):
        return await coro


async def waiting(coro, seconds):
    task = asyncio.create_task(coro)
    done, _ = await asyncio.wait([task], timeout=seconds)
    if not done:
        task.cancel()
        raise TimeoutError
    return task.result()


async def shielded(coro, seconds):
    task = asyncio.ensure_future(coro)
    try:
        return await asyncio.wait_for(asyncio.shield(task), seconds)
    except TimeoutError:
        task.cancel()
        raise


async def cancelled_group(coro, seconds):
    result = None
    async with anyio.create_task_group() as group:

        async def ask():
            nonlocal result
            result = await coro

            group.cancel_scope.cancel()

        group.start_soon(ask)
        await anyio.sleep(seconds)
        group.cancel_scope.cancel()
    if result is None:
        raise TimeoutError
    return result


LIMITS = [wait_for_it, timeout, move_on, fail_after, waiting, shielded, cancelled_group]


def limited(limit, slow):
    def scenario(w):
        @w.middleware
        async def watch(request, call_next):
            var.set("middleware")
            try:
                response = await limit(call_next(request), SOON if slow else 60)
            except TimeoutError:
                w.note("late")
                w.go.set()
                return LATE
            w.note(response.status_code)
            return response

        if slow:
            w.endpoint()
            w.end = "goes on"
        else:
            w.app.get("/")(lambda: w.note("endpoint", var.get()))

    scenario.__name__ = f"{limit.__name__}_{'slow' if slow else 'quick'}"
    return scenario


def limited_twice(inner, outer):
    def scenario(w):
        def add(name, limit, last):
            @w.middleware
            async def watch(request, call_next):
                try:
                    return await limit(call_next(request), SOON)
                except TimeoutError:
                    w.note(name, "late")
                    if last:
                        w.go.set()
                    return PlainTextResponse(name, 504)
                except asyncio.CancelledError:
                    w.note(name, "cancelled")
                    raise
                finally:
                    w.note(name, "ends")

        async def never(coro, _):
            return await coro

        add("inner", wait_for_it if inner else never, inner and not outer)
        add("outer", wait_for_it if outer else never, outer)
        w.endpoint()
        w.end = "goes on"

    scenario.__name__ = f"limited_inside_{inner}_outside_{outer}"
    return scenario


def fails_after_the_timeout(w):
    @w.middleware
    async def watch(request, call_next):
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(call_next(request), SOON)
        raise ValueError("of the middleware")

    w.endpoint()
    w.end = "cancelled"


def endpoint_fails_after_the_timeout(w):
    @w.middleware
    async def watch(request, call_next):
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(call_next(request), SOON)
        w.go.set()
        return LATE

    async def fail():
        raise ValueError("of the endpoint")

    w.endpoint(after=fail)
    w.end = "goes on"


def is_told_of_the_answer(w):
    @w.middleware
    async def watch(request, call_next):
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(call_next(request), SOON)
        return LATE

    async def read(request: w.Request):
        w.note(len(await request.body()))
        w.note((await request.receive())["type"])
        w.note(await request.is_disconnected())
        return 1

    w.app.post("/")(read)
    w.end = True


def background_after_the_timeout(w):
    @w.middleware
    async def watch(request, call_next):
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(call_next(request), SOON)
        w.go.set()
        return LATE

    async def later():
        return JSONResponse(1, background=BackgroundTask(w.note, "background"))

    w.endpoint(after=later)
    w.end = "background"


# -- cancellation -------------------------------------------------------------------------------------


def middleware_is_cancelled(w):
    @w.middleware
    async def watch(request, call_next):
        asyncio.get_running_loop().call_later(SOON, asyncio.current_task().cancel)
        try:
            return await call_next(request)
        except asyncio.CancelledError:
            w.note("middleware cancelled")
            asyncio.current_task().uncancel()
            w.go.set()
            return PlainTextResponse("cancelled", 503)

    w.endpoint()
    w.end = "goes on"


def scope_round_the_application(w):
    class Limit:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            with anyio.move_on_after(SOON if scope["type"] == "http" else None) as limit:
                await self.app(scope, receive, send)
            if limit.cancel_called:
                w.note("given up")
                await PlainTextResponse("outside", 504)(scope, receive, send)

    @w.middleware
    async def watch(request, call_next):
        try:
            return await call_next(request)
        finally:
            w.note("middleware ends")

    w.app.add_middleware(Limit)
    w.endpoint()
    w.end = "given up"


def endpoint_cancels_itself(w):
    @w.middleware
    async def watch(request, call_next):
        try:
            return await call_next(request)
        except BaseException as exc:
            w.note(repr(exc))
            raise

    async def gone():
        raise asyncio.CancelledError

    w.app.get("/")(gone)


def tasks_are_two(w):
    @w.middleware
    async def watch(request, call_next):
        w.task = asyncio.current_task()
        response = await call_next(request)
        w.note(asyncio.current_task() is w.task)
        return response

    async def compare():
        me = asyncio.current_task()
        w.note(me is w.task)
        async with asyncio.timeout(10):
            await asyncio.sleep(0)
        with anyio.fail_after(10):
            await anyio.sleep(0)
        w.note(asyncio.current_task() is me, me in asyncio.all_tasks())
        return 1

    w.app.get("/")(compare)


# -- how call_next is called --------------------------------------------------------------------------


def never_called(w):
    @w.middleware
    async def watch(request, call_next):
        return PlainTextResponse("no")

    w.endpoint()


def in_a_task(w):
    @w.middleware
    async def watch(request, call_next):
        response = await asyncio.create_task(call_next(request))
        response.headers["x-task"] = "1"
        return response

    w.app.get("/")(lambda: w.note("endpoint", var.get()))


def too_late(w):
    @w.middleware
    async def watch(request, call_next):
        async def ask():
            w.note("asks")
            try:
                await call_next(request)
            except RuntimeError as exc:
                w.note(str(exc))

        w.app.state.ask = ask
        return PlainTextResponse("no")

    class Outside:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            await self.app(scope, receive, send)
            if scope["type"] == "http":
                await w.app.state.ask()

    w.app.add_middleware(Outside)
    w.endpoint()
    w.end = "This task group is not active; no new tasks can be started."


def left_alone(w):
    """A task of call_next that nobody awaits: its endpoint is awaited before the request ends."""

    @w.middleware
    async def watch(request, call_next):
        w.task = asyncio.create_task(call_next(request))
        await asyncio.sleep(SOON)
        w.go.set()
        return PlainTextResponse("at once")

    w.endpoint()
    w.end = "goes on"


def again_when_consumed(w):
    @w.middleware
    async def watch(request, call_next):
        first = await call_next(request)
        w.note(b"".join([piece async for piece in first.body_iterator]))
        return await call_next(request)

    w.app.get("/")(lambda: len(w.log))


# -- contexts, bodies, exceptions ---------------------------------------------------------------------


def contexts(w):
    @w.middleware
    async def watch(request, call_next):
        var.set("middleware")
        request.state.seen = ["middleware"]
        response = await call_next(request)
        w.note(var.get(), request.state.seen)
        return response

    async def set_it(request: w.Request):
        w.note(var.get())
        await asyncio.sleep(0)
        var.set("endpoint")
        request.state.seen.append("endpoint")
        return 1

    w.app.get("/")(set_it)


def body_first_here(w):
    @w.middleware
    async def watch(request, call_next):
        w.note(await request.body())
        return await call_next(request)

    async def read(request: w.Request):
        w.note(b"".join([piece async for piece in request.stream()]))
        return (await request.body()).decode()

    w.app.post("/")(read)


def stream_first_here(w):
    @w.middleware
    async def watch(request, call_next):
        w.note(b"".join([piece async for piece in request.stream()]))
        return await call_next(request)

    async def read(request: w.Request):
        return (await request.body()).decode()

    w.app.post("/")(read)


def body_only_inside(w):
    @w.middleware
    async def watch(request, call_next):
        response = await call_next(request)
        w.note(request._stream_consumed)
        return response

    async def read(item: dict):
        return item

    w.app.post("/")(read)


def known_exception(w):
    @w.middleware
    async def watch(request, call_next):
        response = await call_next(request)
        w.note(response.status_code)
        return response

    async def refuse():
        await asyncio.sleep(0)
        raise turboapi.HTTPException(418, "tea")

    w.app.get("/")(refuse)


def unknown_exception(w):
    @w.middleware
    async def watch(request, call_next):
        try:
            return await call_next(request)
        except ValueError as exc:
            w.note(repr(exc), repr(exc.__cause__))
            return PlainTextResponse("mended", 502)

    async def fail():
        await asyncio.sleep(0)
        try:
            raise KeyError("first")
        except KeyError as exc:
            raise ValueError("second") from exc

    w.app.get("/")(fail)


def fails_behind_the_response(w):
    @w.middleware
    async def watch(request, call_next):
        await call_next(request)
        raise ValueError("of the middleware")

    async def fine():
        return JSONResponse(1, background=BackgroundTask(w.note, "background"))

    w.app.get("/")(fine)


def backgrounds(w):
    def add(name):
        @w.middleware
        async def watch(request, call_next):
            response = await call_next(request)
            response.background = BackgroundTask(w.note, name)
            return response

    add("inner")
    add("outer")

    async def fine():
        return JSONResponse(1, background=BackgroundTask(w.note, "endpoint"))

    w.app.get("/")(fine)
    w.end = "endpoint"


def background_fails(w):
    @w.middleware
    async def watch(request, call_next):
        return await call_next(request)

    def fail():
        raise ValueError("of the background")

    async def fine():
        return JSONResponse(1, background=BackgroundTask(fail))

    w.app.get("/")(fine)


def wrapped_stream(w):
    @w.middleware
    async def watch(request, call_next):
        response = await call_next(request)
        original = response.body_iterator

        async def doubled():
            async for piece in original:
                yield piece
                yield piece

        response.body_iterator = doubled()
        return response

    async def pieces():
        for piece in "abc":
            await asyncio.sleep(0)
            yield piece

    w.app.get("/")(lambda: StreamingResponse(pieces()))


def waits_in_the_response(w):
    """The response that `call_next` gave is dropped while the other one waits."""

    @w.middleware
    async def watch(request, call_next):
        dropped = await call_next(request)
        await asyncio.sleep(0)
        w.note(dropped.status_code)
        return Response("instead", 203)

    async def fine():
        await asyncio.sleep(0)
        return JSONResponse(1, background=BackgroundTask(w.note, "background"))

    w.app.get("/")(fine)
    w.end = "background"


SCENARIOS = [
    *(limited(limit, slow) for limit in LIMITS for slow in (False, True)),
    limited_twice(True, False), limited_twice(False, True),
    fails_after_the_timeout, endpoint_fails_after_the_timeout, is_told_of_the_answer,
    background_after_the_timeout, middleware_is_cancelled, scope_round_the_application,
    endpoint_cancels_itself, tasks_are_two, never_called, in_a_task, too_late, left_alone,
    again_when_consumed, contexts, body_first_here, stream_first_here, body_only_inside, known_exception,
    unknown_exception, fails_behind_the_response, backgrounds, background_fails, wrapped_stream,
    waits_in_the_response,
]  # fmt: skip


def outcome(scenario, module, client_class, **options):
    """What the client got, what it was raised, and what was noted."""
    world = World(module)
    scenario(world)
    posts = any("POST" in (getattr(route, "methods", None) or ()) for route in world.app.routes)
    with client_class(world.app, **options) as client:
        try:
            response = client.request(*(("POST", "/") if posts else ("GET", "/")), json={"a": "b"})
            seen = response.status_code, response.text, response.headers.get("x-task")
        except Exception as error:  # noqa: BLE001
            seen = type(error).__name__, str(error)
        if world.end is not None:
            wait_for(lambda: world.end in world.log)
    return seen, world.log


def right(scenario, module=turboapi):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("turboapi.applications.accelerate", lambda app, inside: (app, None))
        return outcome(scenario, module, DOORS["asgi"])


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
def test_as_starlettes_class(scenario, door):
    assert outcome(scenario, turboapi, DOORS[door]) == right(scenario)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
def test_as_starlettes_class_with_uvloop(scenario, door):
    uvloop = pytest.importorskip("uvloop")
    options = {"loop_factory": uvloop.new_event_loop}
    seen = outcome(scenario, turboapi, DOORS[door], backend_options=options)
    assert seen == right(scenario)


def test_a_task_factory_makes_the_tasks():
    """As under Starlette, whose tasks are made by the loop."""
    made = []

    def make(loop, coro, **options):
        made.append(coro.__qualname__)
        return asyncio.Task(coro, loop=loop, **options)

    def new_loop():
        loop = asyncio.new_event_loop()
        loop.set_task_factory(make)
        return loop

    options = {"loop_factory": new_loop}
    seen = outcome(contexts, turboapi, DOORS["asgi"], backend_options=options)
    assert seen == right(contexts)
    assert "endpoint" in made


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
def test_as_fastapi(scenario):
    pytest.importorskip("fastapi")
    fastapi = importlib.import_module("fastapi")
    expected = outcome(scenario, fastapi, DOORS["asgi"])
    for door in DOORS.values():
        assert outcome(scenario, turboapi, door) == expected


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
def test_unchanged_applications_as_under_fastapi(scenario):
    """Their stack has the same inside as ours when `turboapi run` serves them."""
    fastapi = pytest.importorskip("fastapi")
    expected = outcome(scenario, fastapi, DOORS["asgi"])
    assert outcome(scenario, fastapi, DOORS["native"]) == expected


def test_unchanged_applications_have_the_same_inside():
    fastapi = pytest.importorskip("fastapi")
    world = World(fastapi)
    backgrounds(world)
    with DOORS["native"](world.app) as client:
        assert client.get("/").status_code == 200
        level, kinds = world.app.middleware_stack, []
        while hasattr(level, "app"):
            kinds.append(type(level).__name__)
            level = level.app
    assert kinds.count("FastHTTPMiddleware") == 2
    assert kinds.count("TheirInnermost") == 1


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="tasks are started eagerly")
def test_a_step_that_is_made_at_once_takes_nobodys_place():
    """As another thread's call_soon_threadsafe() can come at any moment: it is lost otherwise."""
    done = []

    async def inside():
        done.append("inside")

    async def main():
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()

        def current_task(loop):
            loop.call_soon(done.append, "another")
            return asyncio.tasks.current_task(loop)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("asyncio.current_task", current_task)
            task = _inside_task.start(loop, inside(), context)
        assert done == ["inside"]
        await task
        await asyncio.sleep(0)
        assert done == ["inside", "another"]

    asyncio.run(main())
