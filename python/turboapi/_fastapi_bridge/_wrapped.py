"""Plans within what instrumentation put in the place of FastAPI's functions (_instrumentation.py).

A function of an instrumentation calls FastAPI's own that it closes over. A copy of it, with the
plan in that place (`_with_original`), does the same round the plan: spans, errors and the names of
transactions are what they are anywhere else.
"""

import dataclasses
from collections.abc import Awaitable, Callable
from inspect import getattr_static
from types import CellType, FunctionType
from typing import Any, cast

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from turboapi._compat import Undefined
from turboapi._fastapi_bridge import _theirs
from turboapi._fastapi_bridge._instrumentation import (
    HANDLER,
    KNOWN,
    original_of,
)
from turboapi._request import EngineRequest
from turboapi.dependencies.models import _is_coroutine_callable
from turboapi.routing._instrumented import read_body, serialized


def app_of(route: Any, serving: Any, hooks: Any, handler: Any) -> ASGIApp | None:
    """Return what serves a route by its plan, with what was put there; None: nothing was.

    Args:
        route: the APIRoute.
        serving: what has its settings: the route, or the effective one.
        hooks: what was made of that.
        handler: what a known instrumentation made of FastAPI's handler, or None.
    """
    app: ASGIApp | None = None
    if _steps_are_replaced():
        respond: Any = _Stepwise(serving, hooks)
        if handler is not None:
            respond = _with_original(handler, HANDLER.original, respond)
        app = _theirs.module("fastapi.routing").request_response(_as_function(respond))
    elif handler is not None:
        app = _Handled(hooks.plan, handler)
    handle: Any = getattr_static(cast("type[object]", type(route)), "handle")
    if original_of("APIRoute.handle", handle) is not handle:
        app = _Traced(handle._self_wrapper, route, app or hooks.plan.asgi)
    return app


def _as_function(respond: Any) -> Callable[[Any], Awaitable[Response]]:
    async def handler(request: Any) -> Response:
        response: Response = await respond(request)
        return response

    return handler


class _Handled:
    """A plan within a handler that gets a request."""

    def __init__(self, plan: Any, handler: Any) -> None:
        self._plan = plan
        self._handler = _with_original(handler, HANDLER.original, self._run)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = EngineRequest(scope, receive, send)
        try:
            await self._handler(request)
        finally:
            if request._form is not None:
                await request.close()

    def _run(self, request: EngineRequest) -> Awaitable[None]:
        receive = request.receive
        if "_body" in vars(request):
            receive = _again(vars(request)["_body"], receive)
        elif request._is_disconnected:
            receive = _gone
        run: Awaitable[None] = self._plan.asgi(request.scope, receive, request._send)
        return run


def _again(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body that was read, and then what the client does."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


async def _gone() -> Message:
    raise ClientDisconnect


class _Traced:
    """What serves a route, within a wrapper of its method `handle`."""

    def __init__(self, wrapper: Callable[..., Awaitable[None]], route: Any, app: ASGIApp) -> None:
        self._wrapper = wrapper
        self._route = route
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self._wrapper(self._app, self._route, (scope, receive, send), {})


# -- step by step ---------------------------------------------------------------------------------

_STEPS = ("solve_dependencies", "run_endpoint_function", "serialize_response")


def _steps_are_replaced() -> bool:
    routing = _theirs.module("fastapi.routing")
    return any(
        original_of(f"fastapi.routing.{name}", getattr(routing, name)) is not getattr(routing, name)
        for name in _STEPS
    )


class _Stepwise:
    """What FastAPI's handler does, by its functions as they are now; a plan solves dependencies."""

    def __init__(self, serving: Any, hooks: Any) -> None:
        self._serving = serving
        self._hooks = hooks
        self._routing = _theirs.module("fastapi.routing")
        self._solved = _theirs.module("fastapi.dependencies.utils").SolvedDependency
        self._names = [field.name for field in dataclasses.fields(self._solved)]
        self._is_coroutine = _is_coroutine_callable(hooks.call)
        name = "fastapi.routing.solve_dependencies"
        there = self._routing.solve_dependencies
        self._solve: Any = self._solve_plainly
        if original_of(name, there) is not there:
            self._solve = _with_original(there, KNOWN[name].original, self._solve_plainly)

    async def _solve_plainly(self, *, request: Any, body: Any, **_: Any) -> Any:
        solved = await self._hooks.plan.solve(request, body)
        return self._solved(**{name: getattr(solved, name) for name in self._names})

    async def __call__(self, request: Any) -> Response:
        hooks, serving, routing = self._hooks, self._serving, self._routing
        body = await read_body(hooks, request)
        solved = await self._solve(
            request=request,
            dependant=serving.dependant,
            body=body,
            dependency_overrides_provider=hooks.overrides,
            async_exit_stack=request.scope["fastapi_inner_astack"],
            embed_body_fields=hooks.embed_body_fields,
        )
        if solved.errors:
            read = None if body is Undefined else body
            raise hooks.validation_error(solved.errors, read, request)
        value = await routing.run_endpoint_function(
            dependant=serving.dependant, values=solved.values, is_coroutine=self._is_coroutine
        )
        if isinstance(value, Response):
            if value.background is None:
                value.background = solved.background_tasks
            return value
        field = serving.response_field
        return await serialized(
            routing, field, hooks, request, value, solved, is_coroutine=self._is_coroutine
        )


def _with_original(there: Any, variable: str | None, original: Any) -> Any:
    """Return the same function that calls something else in the place of what it closes over."""
    code = there.__code__
    cells = [
        CellType(original) if name == variable else cell
        for name, cell in zip(code.co_freevars, there.__closure__, strict=True)
    ]
    made = FunctionType(code, there.__globals__, there.__name__, there.__defaults__, tuple(cells))
    made.__kwdefaults__ = there.__kwdefaults__
    return made
