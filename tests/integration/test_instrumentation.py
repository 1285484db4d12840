"""What instrumentation replaces is called, or the log says that it is not; through both doors.

The ways are those of Sentry (get_request_handler), Logfire (solve_dependencies,
run_endpoint_function), New Relic (run_endpoint_function, run_in_threadpool), Datadog
(serialize_response, build_middleware_stack, Route.handle through wrapt) and OpenTelemetry
(build_middleware_stack of one application).
"""

import functools
import logging

import pytest
from doors_kit import DOORS, both
from starlette import routing as starlette_routing

import turboapi.applications
import turboapi.dependencies.utils
from turboapi import Depends, FastAPI, WebSocket, routing
from turboapi.responses import PlainTextResponse
from turboapi.routing import APIRoute


def make_app():
    app = FastAPI(openapi_url=None)

    def dependency():
        return 2

    @app.get("/sync")
    def sync(d: int = Depends(dependency)) -> int:
        return d

    @app.get("/async", status_code=201)
    async def coroutine(d: int = Depends(dependency)):
        return {"d": d}

    @app.websocket("/ws")
    async def socket(websocket: WebSocket):
        await websocket.accept()
        await websocket.close()

    async def plain(request):
        return PlainTextResponse("plain")

    app.router.routes.append(starlette_routing.Route("/plain", plain))
    return app


class Proxy:
    """As wrapt's: it says that it is what it wraps."""

    def __init__(self, wrapped, before):
        self.__wrapped__ = wrapped
        self.before = before

    @property
    def __class__(self):
        return type(self.__wrapped__)

    @property
    def __code__(self):
        return self.__wrapped__.__code__

    def __call__(self, *args, **kwargs):
        self.before()
        return self.__wrapped__(*args, **kwargs)

    def __get__(self, instance, owner):
        if instance is None:
            return self
        return functools.partial(self, instance)


def plainly(function, before):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        before()
        return function(*args, **kwargs)

    return wrapper


ONCE = {"sync": 1, "async": 1}
CALLED = [
    (routing, "solve_dependencies", ONCE),
    (routing, "run_endpoint_function", ONCE),
    (routing, "serialize_response", ONCE),
    (routing, "run_in_threadpool", {"sync": 2, "async": 0}),  # the endpoint, the serialization
    (APIRoute, "handle", ONCE),
    (starlette_routing.Route, "handle", {**ONCE, "plain": 1}),
    (turboapi.applications.FastAPI, "build_middleware_stack", {"sync": 1, "async": 0}),
]


@pytest.mark.parametrize("wrap", [plainly, Proxy])
@pytest.mark.parametrize(("owner", "name", "times"), CALLED, ids=lambda each: str(each))
def test_is_called(monkeypatch, owner, name, times, wrap):
    def scenario(door):
        calls = []
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, wrap(vars(owner)[name], lambda: calls.append(1)))
            counts = {}
            with door(make_app()) as client:
                calls.clear()
                for path in ("sync", "async", "plain"):
                    response = client.get(f"/{path}")
                    counts[path] = len(calls), response.status_code, response.text
                    calls.clear()
        return counts

    seen = both(scenario)
    answers = {path: answer[1:] for path, answer in seen.items()}
    assert answers == {"sync": (200, "2"), "async": (201, '{"d":2}'), "plain": (200, "plain")}
    if name == "build_middleware_stack":
        return  # when the application starts
    for path, count in times.items():
        assert seen[path][0] == count, path


# What is called when a route is made, and wraps what it makes.
MAKERS = ["get_request_handler", "request_response", "get_websocket_app", "websocket_session"]


@pytest.mark.parametrize("name", MAKERS)
def test_what_a_maker_gives_is_called(monkeypatch, name):
    def scenario(door):
        calls = []
        original = getattr(routing, name)

        def patched(*args, **kwargs):
            made = original(*args, **kwargs)

            @functools.wraps(made)
            async def wrapper(*args, **kwargs):
                calls.append(name)
                return await made(*args, **kwargs)

            return wrapper

        with monkeypatch.context() as patch:
            patch.setattr(routing, name, patched)
            app = make_app()
        with door(app) as client:
            assert client.get("/sync").json() == 2
            with client.websocket_connect("/ws"):
                pass
        return calls

    assert both(scenario) == [name]


def test_get_route_handler_of_the_class(monkeypatch):
    def scenario(door):
        calls = []
        original = APIRoute.get_route_handler

        def get_route_handler(self):
            handler = original(self)

            async def wrapper(request):
                calls.append(request.url.path)
                return await handler(request)

            return wrapper

        with monkeypatch.context() as patch:
            patch.setattr(APIRoute, "get_route_handler", get_route_handler)
            app = make_app()
        with door(app) as client:
            assert client.get("/sync").json() == 2
        return calls

    assert both(scenario) == ["/sync"]


def test_stack_of_one_application():
    def scenario(door):
        calls = []
        app = make_app()
        original = app.build_middleware_stack

        def build():
            stack = original()

            async def wrapper(scope, receive, send):
                calls.append(scope["type"])
                await stack(scope, receive, send)

            return wrapper

        app.build_middleware_stack = build
        with door(app) as client:
            assert client.get("/sync").json() == 2
        return calls

    assert both(scenario) == ["lifespan", "http"]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (turboapi.dependencies.utils, "request_body_to_args"),
        (turboapi.dependencies.utils, "solve_dependencies"),
        (turboapi.dependencies.utils, "_solve_generator"),
        (turboapi.dependencies.utils, "run_in_threadpool"),
        (routing, "jsonable_encoder"),
        (routing, "get_dependant"),
    ],
)
def test_what_has_no_effect_is_said_once(monkeypatch, caplog, module, name):
    monkeypatch.setattr(turboapi.routing._instrumented, "_told", set())
    monkeypatch.setattr(module, name, plainly(getattr(module, name), lambda: None))
    with caplog.at_level(logging.WARNING, "turboapi.server"):
        for _ in range(2):
            app = make_app()
            for door in DOORS.values():
                with door(app) as client:
                    assert client.get("/sync").json() == 2
    said = [each.getMessage() for each in caplog.records if "no effect" in each.getMessage()]
    assert said == [
        f"{module.__name__}.{name} was replaced, which has no effect: compiled plans do what it did"
    ]


def test_nothing_is_said_otherwise(caplog):
    with DOORS["asgi"](make_app()) as client:
        assert client.get("/async").status_code == 201
    assert not [each for each in caplog.records if "no effect" in each.getMessage()]
