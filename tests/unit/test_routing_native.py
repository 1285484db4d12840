"""The application as the native server gets it: when plans run directly, who learns of changes."""

import asyncio

import pytest
from starlette.middleware import Middleware

from turboapi import APIRouter, Depends, FastAPI, Form, HTTPException, Request, _core
from turboapi._compile.native_app import native_app, runs_directly
from turboapi.routing import APIRoute


def endpoint():
    return 1


def make(**options):
    app = FastAPI(openapi_url=None, **options)
    app.add_api_route("/x", endpoint)
    return app


def direct_paths(app):
    made = app._native_app()
    assert made.direct
    return [
        entry[1]
        for entry, target in zip(app.router._table.entries, app.router._table.targets, strict=True)
        if target is not None and target.plan is not None
    ]


def test_a_plain_application_runs_directly():
    made = make()._native_app()
    assert isinstance(made, _core.App)
    assert made.direct
    assert made.router.match("GET", "/x") == (0, {})


class PassOn:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        await self.app(scope, receive, send)


class OwnCall(FastAPI):
    async def __call__(self, scope, receive, send):
        await super().__call__(scope, receive, send)


class OwnStack(FastAPI):
    def build_middleware_stack(self):
        return PassOn(super().build_middleware_stack())


def with_decorator(app):
    @app.middleware("http")
    async def pass_on(request, call_next):
        return await call_next(request)


def with_patched_stack(app):
    build = app.build_middleware_stack
    app.build_middleware_stack = lambda: PassOn(build())


def with_router_app(app):
    inner = app.router.app

    async def around(scope, receive, send):
        await inner(scope, receive, send)

    app.router.app = around


def with_built_stack(app):
    app.middleware_stack = PassOn(app.build_middleware_stack())


@pytest.mark.parametrize(
    "app",
    [
        pytest.param(lambda: make(middleware=[Middleware(PassOn)]), id="middleware"),
        pytest.param(lambda: make(max_body_size=10), id="body limit"),
        pytest.param(lambda: OwnCall(), id="own __call__"),
        pytest.param(lambda: OwnStack(), id="own stack"),
    ],
)
def test_what_stands_in_the_way(app):
    made = app()._native_app()
    assert not made.direct
    assert made.router is None


@pytest.mark.parametrize(
    "change", [with_decorator, with_patched_stack, with_router_app, with_built_stack]
)
def test_what_is_put_in_the_way_later(change):
    app = make()
    assert runs_directly(app)
    change(app)
    assert not runs_directly(app)


@pytest.mark.parametrize(
    "target",
    [
        "starlette.applications.Starlette.__call__",
        "starlette.middleware.exceptions.ExceptionMiddleware.__call__",
        "starlette.middleware.errors.ServerErrorMiddleware.__call__",
        "turboapi.applications.FastAPI.__call__",
        "turboapi.routing.solve_dependencies",
        "turboapi.routing.run_endpoint_function",
    ],
)
def test_patched_classes(monkeypatch, target):
    async def patched(*args, **kwargs):
        raise AssertionError

    monkeypatch.setattr(target, patched)
    assert not runs_directly(make())


def test_telemetry_stands_in_the_way():
    from opentelemetry.trace import NoOpTracerProvider

    assert not runs_directly(make(telemetry={"tracer_provider": NoOpTracerProvider()}))


def test_routes_that_need_python():
    def resource():
        yield 1

    class Custom(APIRoute):
        def get_route_handler(self):
            original = super().get_route_handler()

            async def handler(request):
                return await original(request)

            return handler

    app = make()
    app.add_api_route("/yield", endpoint, dependencies=[Depends(resource)])
    app.router.routes.append(Custom("/custom", endpoint))
    app.add_api_route("/limited", endpoint, max_body_size=10)

    @app.get("/stream")
    async def stream():
        yield 1

    @app.post("/form")
    async def form(field: str = Form()):
        return field

    router = APIRouter()
    router.add_api_route("/included", endpoint)
    app.include_router(router, prefix="/p")
    assert direct_paths(app) == ["/x", "/yield", "/stream", "/form", "/p/included"]


def test_changes_are_told(monkeypatch):
    told = []
    original = _core.App

    class Told:
        def __init__(self, *args, **kwargs):
            self.app = original(*args, **kwargs)
            self.rebuild = kwargs.get("rebuild")

        def invalidate(self):
            told.append(self)
            self.app.invalidate()

    monkeypatch.setattr(_core, "App", Told)
    app = make()
    first = native_app(app)
    app.add_api_route("/y", endpoint)
    assert told == [first]
    app.add_api_route("/z", endpoint)
    assert told == [first]  # once is enough
    second = first.rebuild()
    assert second is not first
    app.routes.clear()
    assert told == [first, second]
    assert app.router._watchers == []


@pytest.mark.parametrize(
    "change",
    [
        lambda app: app.add_middleware(PassOn),
        lambda app: app.add_exception_handler(LookupError, endpoint),
        lambda app: app.exception_handler(404)(endpoint),
    ],
)
def test_middleware_and_handlers_are_changes(change):
    app = make()
    app._native_app()
    assert len(app.router._watchers) == 1
    change(app)
    assert app.router._watchers == []


def run_error_app(app, exc):
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/x",
        "query_string": b"",
        "headers": [],
        "turboapi.exception": exc,
    }
    made = app._native_app()
    try:
        asyncio.run(made.error_app(scope, receive, send))
    except Exception as raised:
        return sent, raised
    return sent, None


def test_errors_of_direct_runs_are_answered_by_the_middleware():
    app = make()
    sent, raised = run_error_app(app, LookupError("broken"))
    assert (sent[0]["status"], sent[1]["body"]) == (500, b"Internal Server Error")
    assert isinstance(raised, LookupError)  # for the server's log

    @app.exception_handler(Exception)
    async def on_error(request: Request, exc: Exception):
        from turboapi.responses import JSONResponse

        return JSONResponse([str(exc), request.app is app], status_code=503)

    sent, raised = run_error_app(app, LookupError("broken"))
    assert (sent[0]["status"], sent[1]["body"]) == (503, b'["broken",true]')
    sent, raised = run_error_app(app, HTTPException(418))
    assert (sent[0]["status"], raised) == (418, None)


def test_the_form_limits_of_routers_hold_without_a_match_in_python():
    app = make(form_limits={"max_fields": 3})
    router = APIRouter(form_limits={"max_fields": 1})

    @router.post("/form")
    async def form(field: str = Form()):
        return field

    app.include_router(router)
    app._native_app()
    hooks = app.router._table.targets[-1].hooks
    request = hooks.new_request({"type": "http"}, None, None)
    own = request.scope["fastapi"]
    assert own["form_limits"] == {"max_fields": 1}
    assert own["effective_route_context"].path == "/form"
