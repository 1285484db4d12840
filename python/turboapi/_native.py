"""The application as the native server serves it: `_core.App` (docs/engine.md, "App").

Requests whose route has a plan run without the ASGI application when that makes no difference:
no middleware of the user but that which C stands in for (`middleware/_filters.py`), nothing
replaced that ours or Starlette's classes do on the way.
"""

from typing import TYPE_CHECKING, Any

from starlette import applications as starlette_applications
from starlette import routing as starlette_routing
from starlette.middleware import errors as starlette_errors
from starlette.middleware import exceptions as starlette_exceptions
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import Message, Receive, Scope, Send

from turboapi import _core
from turboapi.middleware._filters import are_known, filters_of
from turboapi.routing._instrumented import is_instrumented

if TYPE_CHECKING:
    from turboapi.applications import FastAPI

# Key of the scope: the response had begun when the exception was raised.
_STARTED = "turboapi.response_started"


def native_app(app: "FastAPI") -> Any:
    """A `_core.App` of the application as it is now; it is told when routes change."""
    if not runs_directly(app):
        return _core.App(app)
    try:
        errors = app._wrap_middleware(raise_again)
    except Exception:  # of a middleware's making: it shows when the application starts
        return _core.App(app)
    filters = filters_of(errors, len(app.user_middleware))
    if filters is None:
        return _core.App(app)
    made: Any = None

    def changed() -> None:
        if made is not None:
            made.invalidate()

    # Before the table is made: a change meanwhile must not be missed.
    app.router._watchers.append(changed)
    table = app.router._route_table()
    made = _core.App(
        app,
        router=table.router,
        direct=True,
        error_app=Errors(app, errors),
        rebuild=lambda: native_app(app),
        scope_items={
            "app": app,
            "router": app.router,
            "starlette.exception_handlers": handlers_of(errors),
        },
        root_path=app.root_path,
        filters=filters,
        # There is no middleware but that of `filters`, of which gzip wants a file's bytes.
        pathsend=all(name != "gzip" for name, *_ in filters),
    )
    if app.router._table is not table:
        made.invalidate()
    return made


class Errors:
    """The middleware that answers for an exception which no handler of the route wanted."""

    def __init__(self, app: "FastAPI", stack: Any) -> None:
        self.app = app
        self.stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self.app
        if _STARTED in scope:
            send = _send_nothing
        await self.stack(scope, receive, send)


async def raise_again(scope: Scope, receive: Receive, send: Send) -> None:
    if _STARTED in scope:
        # Middleware has to know that it can't answer any more.
        await send({"type": "http.response.start", "status": 500, "headers": []})
    raise scope["turboapi.exception"]


async def _send_nothing(message: Message) -> None:
    """In place of `send` when the response, or a part of it, was sent before the exception."""


def handlers_of(stack: Any) -> tuple[Any, Any]:
    while type(stack) is not ExceptionMiddleware:
        stack = stack.app
    return stack._exception_handlers, stack._status_handlers


def runs_directly(app: "FastAPI") -> bool:
    """Whether the way from the server to a route's plan is nothing but ours and Starlette's."""
    router, stack = app.router, app.middleware_stack
    return (
        are_known(app.user_middleware)
        and app.max_body_size is None
        and not app._native_telemetry.enabled()
        and not is_instrumented()
        # Instrumentation puts its own round the stack, or in place of a method.
        and (stack is None or type(stack) is ServerErrorMiddleware)
        and not vars(app).keys() & {"build_middleware_stack", "_wrap_middleware", "__call__"}
        and not vars(router).keys() & {"app", "__call__"}
        and router.middleware_stack == router.app
        and all(_is_untouched(*each) for each in _the_way(type(app), type(router)))
    )


def _the_way(app: type, router: type) -> list[tuple[Any, Any]]:
    """Each function that a request passes through, with the module it should be from."""
    from turboapi import applications
    from turboapi.routing import _router

    return [
        (app.__call__, applications),
        (app.build_middleware_stack, applications),  # type: ignore[attr-defined]
        (app._wrap_middleware, applications),  # type: ignore[attr-defined]
        (router.app, _router),  # type: ignore[attr-defined]
        (router.__call__, starlette_routing),
        (starlette_applications.Starlette.__call__, starlette_applications),
        (ServerErrorMiddleware.__init__, starlette_errors),
        (ServerErrorMiddleware.__call__, starlette_errors),
        (ExceptionMiddleware.__init__, starlette_exceptions),
        (ExceptionMiddleware.__call__, starlette_exceptions),
    ]


def _is_untouched(function: Any, module: Any) -> bool:
    code = getattr(function, "__code__", None)
    return code is not None and code.co_filename == module.__file__
