"""Injected responses, classes of responses and background tasks: as FastAPI has them, both doors."""

import asyncio
import datetime as dt
import functools
import inspect
import itertools
import threading
import time
from typing import Annotated, Any

import pytest
from doors_kit import DOORS
from frameworks_kit import assert_same, names_of
from patience import until
from starlette import background as starlette_background
from starlette import responses as starlette_responses
from starlette.background import BackgroundTask
from starlette.background import BackgroundTasks as StarletteBackgroundTasks

from turboapi._response import EngineResponse, new_response

COOKIES: list[dict[str, Any]] = [
    {},
    {"httponly": True},
    {"secure": True, "httponly": True, "max_age": 0, "samesite": "none", "path": "/a/b-c"},
    {"max_age": 3600, "samesite": None, "path": None},
    {"samesite": "Strict"},
    {"expires": "never", "domain": "example.com"},
    {"expires": dt.datetime(2026, 1, 2, tzinfo=dt.UTC)},
    {"path": ""},
    {"path": "/a b;c"},
    {"max_age": "5"},
    {"max_age": True},
    {"samesite": "other"},
]
TEXTS = ["", "b", "a-b_c.d|e~f:g", "a b", 'a"b', "a,b;c", "a=b", "ü", "\u20ac", "a\nb", "{}", "()"]


def outcome(response: Any, key: Any, value: Any, options: Any) -> Any:
    try:
        response.set_cookie(key, value, **options)
    except Exception as error:
        return type(error), str(error)
    return response.raw_headers


@pytest.mark.parametrize("options", COOKIES, ids=repr)
def test_cookies_are_those_of_starlette(options: dict[str, Any]) -> None:
    for key, value in itertools.product([*TEXTS, "path", "Secure"], [*TEXTS, 5, None]):
        theirs, ours = starlette_responses.Response(), new_response()
        theirs.raw_headers.clear()
        wanted = outcome(theirs, key, value, options)
        assert outcome(ours, key, value, options) == wanted, (key, value)


def test_a_replaced_set_cookie_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(
        starlette_responses.Response, "set_cookie", lambda *given, **more: seen.append(given)
    )
    new_response().set_cookie("a", "b")
    assert seen


def test_the_injected_response_is_what_init_would_make() -> None:
    made = new_response()
    by_init = EngineResponse()
    del by_init.headers["content-length"]
    by_init.status_code = None  # type: ignore[assignment]
    assert vars(made) == vars(by_init)
    assert isinstance(made, starlette_responses.Response)
    assert type(made).__name__ == "Response"
    ours, theirs = (
        [
            (each.name, each.default, each.kind)
            for each in inspect.signature(cls.set_cookie).parameters.values()
        ]
        for cls in (EngineResponse, starlette_responses.Response)
    )
    assert ours == theirs


def test_injected_responses() -> None:
    def make(f: Any) -> Any:
        app = f.FastAPI()
        app.router.routes.clear()

        @app.get("/cookie")
        async def cookie(response: f.Response) -> Any:
            response.set_cookie("a", "b", httponly=True)
            response.headers["x-y"] = "1"
            response.headers.append("X-Y", "2")
            return {"ok": 1}

        @app.get("/status", status_code=202)
        def status(response: f.Response, code: int) -> Any:
            response.status_code = code
            return [1]

        def dependency(response: f.Response) -> None:
            response.headers["x-d"] = "1"
            response.status_code = 203

        @app.get("/dependency")
        async def with_dependency(
            d: Annotated[None, f.Depends(dependency)], response: f.Response
        ) -> Any:
            return dict(response.headers)

        @app.get("/html", response_class=f.HTMLResponse)
        async def html(response: f.Response) -> Any:
            response.set_cookie("q", "1")
            return "<b>\u00fc</b>"

        @app.get("/own")
        async def own(response: f.Response) -> Any:
            response.headers["x-y"] = "1"
            return f.PlainTextResponse("own")

        return app

    assert_same(
        make,
        ("GET", "/cookie"),
        ("GET", "/status?code=404"),
        ("GET", "/status?code=204"),
        ("GET", "/dependency"),
        ("GET", "/html"),
        ("GET", "/own"),
    )


TEXT_RESULTS: list[Any] = ["<h1>hi</h1>", "", "\u20ac", None, b"bytes", 5, {"a": 1}, "\ud800"]


def response_class_app(f: Any) -> Any:
    app = f.FastAPI()

    class Upper(f.HTMLResponse):
        def render(self, content: Any) -> bytes:
            return content.upper().encode()

    class Typed(f.PlainTextResponse):
        media_type = "text/x-mine"

    class Headers(f.HTMLResponse):
        def init_headers(self, headers: Any = None) -> None:
            super().init_headers({"x-mine": "1"})

    class Latin(f.PlainTextResponse):
        charset = "latin-1"

    class Sent(f.HTMLResponse):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            self.headers["x-sent"] = "1"
            await super().__call__(scope, receive, send)

    classes = [f.HTMLResponse, f.PlainTextResponse, f.RedirectResponse]
    for i, cls in enumerate([*classes, Upper, Typed, Headers, Latin, Sent]):

        def add(i: int, cls: Any) -> None:
            @app.get(f"/{i}/{{n}}", response_class=cls)
            async def result(n: int, response: f.Response, background: f.BackgroundTasks) -> Any:
                return TEXT_RESULTS[n]

            @app.get(f"/sync/{i}/{{n}}", response_class=cls, status_code=201)
            def sync(n: int) -> Any:
                return TEXT_RESULTS[n]

        add(i, cls)

    return app


CLASS_REQUESTS = [
    *[("GET", f"/{i}/{n}") for i in range(8) for n in range(len(TEXT_RESULTS) - 1)],
    *[("GET", f"/sync/{i}/0") for i in range(8)],
    ("GET", "/0/7"),
    ("HEAD", "/0/0"),
]


def test_classes_of_responses() -> None:
    assert_same(response_class_app, *CLASS_REQUESTS)


def test_classes_of_responses_with_replaced_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    original = starlette_responses.Response.init_headers

    def init_headers(self: Any, headers: Any = None) -> None:
        original(self, {**(headers or {}), "x-replaced": "1"})

    monkeypatch.setattr(starlette_responses.Response, "init_headers", init_headers)
    answers = assert_same(response_class_app, ("GET", "/0/0"), ("GET", "/1/1"))
    assert (b"x-replaced", b"1") in answers[0][1]


# -- background tasks ------------------------------------------------------------------------------


def background_app(f: Any) -> Any:
    app = f.FastAPI()
    log: list[Any] = []

    def note(*args: Any, **kwargs: Any) -> None:
        log.append([*args, kwargs])

    async def anote(text: str) -> None:
        await asyncio.sleep(0)
        log.append(text)

    def fail() -> None:
        raise ValueError("background")

    class Callable:
        async def __call__(self, text: str) -> None:
            log.append(text)

    def resource() -> Any:
        yield "r"
        log.append("left")

    async def aresource() -> Any:
        try:
            yield "r"
        finally:
            log.append("left async")

    @app.get("/order")
    async def order(
        tasks: f.BackgroundTasks,
        a: Annotated[str, f.Depends(resource)],
        b: Annotated[str, f.Depends(aresource)],
    ) -> Any:
        tasks.add_task(note, 1, k=2)
        tasks.add_task(anote, "async")
        tasks.add_task(functools.partial(anote, "partial"))
        tasks.add_task(Callable(), "callable")
        tasks.add_task(lambda: tasks.add_task(note, "later"))
        tasks.add_task(log.append, "builtin")
        tasks.add_task(note, *range(20))
        return {"ok": 1}

    @app.get("/sync")
    def sync(tasks: f.BackgroundTasks) -> Any:
        tasks.add_task(note, "from sync")
        return {"ok": 1}

    @app.get("/fails")
    async def fails(tasks: f.BackgroundTasks) -> Any:
        tasks.add_task(note, "before")
        tasks.add_task(fail)
        tasks.add_task(note, "after")
        return {"ok": 1}

    @app.get("/own")
    async def own(tasks: f.BackgroundTasks) -> Any:
        tasks.add_task(note, "injected")
        return f.JSONResponse({}, background=BackgroundTask(note, "own"))

    @app.get("/starlette")
    async def of_starlette() -> Any:
        tasks = StarletteBackgroundTasks([BackgroundTask(note, "a")])
        tasks.add_task(anote, "b")
        return f.PlainTextResponse("x", background=tasks)

    @app.get("/injected")
    async def injected(tasks: f.BackgroundTasks) -> Any:
        tasks.add_task(anote, "c")
        return f.PlainTextResponse("x")

    class Special(BackgroundTask):
        async def __call__(self) -> None:
            log.append("special")
            await super().__call__()

    @app.get("/special")
    async def special() -> Any:
        return f.PlainTextResponse("x", background=Special(note, "s"))

    @app.get("/log")
    def get_log() -> Any:
        return log

    return app


BACKGROUND = ["order", "sync", "fails", "own", "starlette", "injected", "special"]


@pytest.mark.parametrize("name", BACKGROUND)
def test_background_tasks(name: str) -> None:
    # each in an app of its own: one request may overtake the background of the one before
    logs = []
    pytest.importorskip("fastapi")
    for framework, door in (("fastapi", "asgi"), ("turboapi", "asgi"), ("turboapi", "native")):
        app = background_app(names_of(framework))
        with DOORS[door](app, raise_server_exceptions=False) as client:
            client.get(f"/{name}")
            last = "left" if name == "order" else None
            wanted = logs[0] if logs else None

            def log(client: Any = client) -> Any:
                return client.get("/log").json()

            if wanted is None:
                until(lambda: last is None or last in log())
            else:
                until(lambda wanted=wanted: len(log()) >= len(wanted))
            logs.append(log())
    assert logs[1] == logs[2] == logs[0]


def test_replaced_functions_of_background_tasks_are_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []
    original = starlette_background.BackgroundTask.__call__
    add_task = StarletteBackgroundTasks.add_task

    async def call(self: Any) -> None:
        seen.append("call")
        await original(self)

    def add(self: Any, *args: Any, **kwargs: Any) -> None:
        seen.append("add")
        add_task(self, *args, **kwargs)

    monkeypatch.setattr(starlette_background.BackgroundTask, "__call__", call)
    monkeypatch.setattr(StarletteBackgroundTasks, "add_task", add)
    for door in DOORS.values():
        seen.clear()
        with door(background_app(names_of("turboapi"))) as client:
            client.get("/sync")
            until(lambda: seen == ["add", "call"])


@pytest.mark.parametrize("door", DOORS)
def test_tasks_that_block_do_not_hold_up_the_loop(door: str) -> None:
    f = names_of("turboapi")
    app = f.FastAPI()
    release, started = threading.Event(), threading.Event()

    def block() -> None:
        started.set()
        release.wait(60)

    def run_it(func: Any) -> None:
        func()

    @app.get("/quick")
    async def quick(tasks: f.BackgroundTasks) -> Any:
        tasks.add_task(run_it, int)
        return threading.get_ident()

    @app.get("/block")
    async def blocking(tasks: f.BackgroundTasks) -> Any:
        tasks.add_task(run_it, block)
        return 1

    with DOORS[door](app) as client:
        for _ in range(80):
            client.get("/quick")
        asking = threading.Thread(target=client.get, args=("/block",))
        asking.start()
        until(started.is_set)
        if door == "native":  # the other waits for the end of the request
            before = time.monotonic()
            assert client.get("/quick").status_code == 200
            assert time.monotonic() - before < 30
        release.set()
        asking.join()


@pytest.mark.parametrize("door", DOORS)
def test_a_quick_task_moves_to_the_loop(door: str) -> None:
    f = names_of("turboapi")
    app = f.FastAPI()
    threads: list[int] = []

    def note() -> None:
        threads.append(threading.get_ident())

    @app.get("/x")
    async def x(tasks: f.BackgroundTasks) -> Any:
        tasks.add_task(note)
        return threading.get_ident()

    with DOORS[door](app) as client:
        loop = client.get("/x").json()

        def moved() -> bool:
            client.get("/x")
            return loop in threads

        if door == "native":
            until(moved)
        assert threads[0] != loop


def test_replaced_fields_of_an_injected_response() -> None:
    """FastAPI takes the fields of `headers`, which is made before the endpoint is called."""

    def make(f: Any) -> Any:
        app = f.FastAPI()

        def replaced(response: f.Response) -> f.Response:
            response.raw_headers = [(b"x-lost", b"1")]
            return response

        @app.get("/json")
        async def as_json(response: f.Response) -> Any:
            replaced(response).set_cookie("lost", "1")
            response.headers["x-kept"] = "1"
            return {"fields": response.headers.items()}

        @app.get("/before")
        async def before(response: f.Response) -> Any:
            response.headers["x-kept"] = "1"
            response.set_cookie("kept", "1")
            response.raw_headers.append((b"x-more", b"1"))
            replaced(response)
            return {}

        @app.get("/class", response_class=f.PlainTextResponse)
        async def by_class(response: f.Response) -> Any:
            replaced(response)
            return "text"

        @app.get("/made", response_class=f.RedirectResponse)
        def made(response: f.Response) -> Any:
            replaced(response).headers.append("x-kept", "1")
            return "/json"

        @app.get("/dependency")
        async def dependency(response: Annotated[f.Response, f.Depends(replaced)]) -> Any:
            return {"same": response.headers.raw is not response.raw_headers}

        @app.get("/field", response_model=dict[str, int])
        async def field(response: f.Response) -> Any:
            del replaced(response).headers["nothing"]
            response.headers.update({"x-kept": "1"})
            return {"a": 1}

        @app.get("/deleted")
        async def deleted(response: f.Response) -> Any:
            del response.raw_headers
            return {"a": 1}

        return app

    answers = assert_same(
        make,
        *(
            ("GET", f"/{name}")
            for name in ("json", "before", "class", "made", "dependency", "field", "deleted")
        ),
    )
    assert all(status in (200, 307) for status, _, _ in answers)
    assert not any(
        b"lost" in value for _, fields, _ in answers for pair in fields for value in pair
    )
