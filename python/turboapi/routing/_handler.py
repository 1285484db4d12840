"""From functions to ASGI applications: request handlers, WebSocket handlers, their exit stacks."""

import functools
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

from starlette._exception_handler import wrap_app_handling_exceptions
from starlette._utils import is_async_callable
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from turboapi._compat import ModelField
from turboapi._compile.hooks import SWALLOWED, RequestHooks
from turboapi._form_limits import _FormLimits
from turboapi._request import EngineRequest
from turboapi.datastructures import Default, DefaultPlaceholder, value_of
from turboapi.dependencies.models import Dependant
from turboapi.encoders import jsonable_encoder
from turboapi.exceptions import EndpointContext, FastAPIError, ResponseValidationError
from turboapi.routing import _instrumented, _replaceable
from turboapi.telemetry._api import _operation, _run_sync_endpoint, get_telemetry_data
from turboapi.types import IncEx

# The attribute of functions made here that holds what they are made from.
_HOOKS = "__turboapi_hooks__"


async def _in_function_stack(scope: Scope, func: Callable[[Any], Awaitable[Any]], conn: Any) -> Any:
    async with AsyncExitStack() as stack:
        scope["fastapi_function_astack"] = stack
        return await func(conn)


def request_response(func: Callable[[Request], Awaitable[Response] | Response]) -> ASGIApp:
    """Return an ASGI application of a function that makes a response of a request.

    Dependencies of the scope "function" are closed when `func` is done, the others when the
    response was sent.

    Raises:
        FastAPIError: when a dependency with `yield` swallowed the exception of the function.
    """
    call: Callable[[Request], Awaitable[Response]] = (
        func if is_async_callable(func) else functools.partial(run_in_threadpool, func)  # type: ignore[assignment, call-arg]
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = EngineRequest(scope, receive, send)

        async def respond(scope: Scope, receive: Receive, send: Send) -> None:
            sent = False
            async with AsyncExitStack() as stack:
                scope["fastapi_inner_astack"] = stack
                response = await _in_function_stack(scope, call, request)
                await response(scope, receive, send)
                sent = True
            if not sent:
                raise FastAPIError(SWALLOWED)

        await wrap_app_handling_exceptions(respond, request)(scope, receive, send)

    return app


def websocket_session(func: Callable[[WebSocket], Awaitable[None]]) -> ASGIApp:
    """Return an ASGI application of a function that serves a WebSocket."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        session = WebSocket(scope, receive=receive, send=send)

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            async with AsyncExitStack() as stack:
                scope["fastapi_inner_astack"] = stack
                await _in_function_stack(scope, func, session)

        await wrap_app_handling_exceptions(serve, session)(scope, receive, send)

    return app


def _in_thread() -> Callable[..., Awaitable[Any]]:
    return _replaceable.routing.run_in_threadpool  # type: ignore[no-any-return]


async def serialize_response(
    *,
    field: ModelField | None = None,
    response_content: Any,
    include: IncEx | None = None,
    exclude: IncEx | None = None,
    by_alias: bool = True,
    exclude_unset: bool = False,
    exclude_defaults: bool = False,
    exclude_none: bool = False,
    is_coroutine: bool = True,
    endpoint_ctx: EndpointContext | None = None,
    dump_json: bool = False,
) -> Any:
    """Return what an endpoint returned as plain data, or as JSON bytes with `dump_json`.

    Raises:
        ResponseValidationError: when it does not fit `field`.
    """
    if not field:
        return jsonable_encoder(response_content)
    validate = functools.partial(field.validate, response_content, {}, loc=("response",))
    value, errors = validate() if is_coroutine else await _in_thread()(validate)
    if errors:
        raise ResponseValidationError(
            errors=errors, body=response_content, endpoint_ctx=endpoint_ctx or {}
        )
    dump = field.serialize_json if dump_json else field.serialize
    return dump(
        value,
        include=include,
        exclude=exclude,
        by_alias=by_alias,
        exclude_unset=exclude_unset,
        exclude_defaults=exclude_defaults,
        exclude_none=exclude_none,
    )


async def run_endpoint_function(
    *, dependant: Dependant, values: dict[str, Any], is_coroutine: bool
) -> Any:
    """Call an endpoint with its solved values: here, or in the thread pool when it may block."""
    call = dependant.call
    assert call is not None, "dependant.call must be a function"
    if is_coroutine:
        with _operation(name="endpoint", function=call):
            return await call(**values)
    return await _in_thread()(_run_sync_endpoint, function=call, arguments=values)


def get_request_handler(
    dependant: Dependant,
    body_field: ModelField | None = None,
    status_code: int | None = None,
    response_class: type[Response] | DefaultPlaceholder = Default(JSONResponse),
    response_field: ModelField | None = None,
    response_model_include: IncEx | None = None,
    response_model_exclude: IncEx | None = None,
    response_model_by_alias: bool = True,
    response_model_exclude_unset: bool = False,
    response_model_exclude_defaults: bool = False,
    response_model_exclude_none: bool = False,
    dependency_overrides_provider: Any | None = None,
    embed_body_fields: bool = False,
    strict_content_type: bool | DefaultPlaceholder = Default(True),
    stream_item_field: ModelField | None = None,
    is_json_stream: bool = False,
    form_limits: _FormLimits | None = None,
) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    """Return the function that answers a request: body, dependencies, endpoint, response.

    All of it is the work of a compiled plan (docs/engine.md); a router that finds this very
    function, not one that wraps it, runs the plan without going through it.
    """
    return handler_of(
        RequestHooks(
            dependant=dependant,
            body_field=body_field,
            status_code=status_code,
            response_class=value_of(response_class),
            # With the default class a response model is dumped to JSON bytes at once.
            dumps_json=isinstance(response_class, DefaultPlaceholder),
            response_field=response_field,
            dump_options={
                "include": response_model_include,
                "exclude": response_model_exclude,
                "by_alias": response_model_by_alias,
                "exclude_unset": response_model_exclude_unset,
                "exclude_defaults": response_model_exclude_defaults,
                "exclude_none": response_model_exclude_none,
            },
            overrides=dependency_overrides_provider,
            embed_body_fields=embed_body_fields,
            strict_content_type=value_of(strict_content_type),
            stream_item_field=stream_item_field,
            is_json_stream=is_json_stream,
            form_limits=form_limits,
        )
    )


def handler_of(hooks: RequestHooks) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    """Return the function that answers a request as these hooks say."""

    async def app(request: Request) -> Response:
        if _instrumented.is_instrumented():
            return await _instrumented.respond(hooks, request)
        traced = request.scope.get("fastapi.telemetry") is not None
        plan = hooks.traced_plan if traced else hooks.plan
        return await plan.respond(request)  # type: ignore[no-any-return]

    setattr(app, _HOOKS, (hooks, app))
    return app


def get_websocket_app(
    dependant: Dependant,
    dependency_overrides_provider: Any | None = None,
    embed_body_fields: bool = False,
) -> Callable[[WebSocket], Coroutine[Any, Any, Any]]:
    """Return the function that serves a WebSocket: dependencies, then the endpoint.

    Raises:
        WebSocketRequestValidationError: for parameters that don't validate.
    """
    hooks = RequestHooks(
        dependant=dependant,
        overrides=dependency_overrides_provider,
        embed_body_fields=embed_body_fields,
        is_websocket=True,
    )

    async def app(websocket: WebSocket) -> None:
        data = get_telemetry_data()
        if data is not None:
            data.websocket = websocket
        with _operation(name="dependencies", function=hooks.call):
            if _instrumented.is_instrumented():
                solved = await _instrumented.solve(hooks, websocket)
            else:
                solved = await hooks.plan.solve(websocket)
            if data is not None:
                data.values, data.errors = solved.values, solved.errors
        if solved.errors:
            raise hooks.validation_error(solved.errors, None, websocket)
        with _operation(name="endpoint", function=hooks.call):
            await hooks.call(**solved.values)

    setattr(app, _HOOKS, (hooks, app))
    return app


def hooks_of(function: Any) -> RequestHooks | None:
    """Return the hooks of a function that `get_request_handler` made; None for what wraps such a
    one.
    """
    found = getattr(function, _HOOKS, None)
    # functools.wraps() copies attributes: the wrapper must not pass for the function.
    return found[0] if found is not None and found[1] is function else None


def route_app(function: Callable[[Request], Any]) -> ASGIApp:
    """Return the ASGI application of a route's handler, which is its plan where that suffices."""
    ours = _replaceable.routing
    with_stacks: ASGIApp = ours.request_response(function)
    hooks = hooks_of(function)
    if hooks is None or ours.request_response is not request_response:
        return with_stacks

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        plan = hooks.plan
        if scope.get("fastapi.telemetry") is not None or _instrumented.is_instrumented():
            await with_stacks(scope, receive, send)
        else:
            await plan.asgi(scope, receive, send)

    setattr(app, _HOOKS, (hooks, app))
    return app
