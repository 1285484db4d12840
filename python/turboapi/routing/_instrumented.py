"""For instrumentation that replaces functions of `fastapi.routing`, as Logfire's does.

A plan does not call `solve_dependencies`, `run_endpoint_function`, `serialize_response` and
`run_in_threadpool`. If somebody has replaced one of them, requests run step by step, so that the
replacement is called. The functions that make handlers and applications (`get_request_handler`,
`request_response`, ...) are looked up when a route is made, where they may have been replaced.
Compiled plans do everything else that FastAPI would call during a request: replacing it has no
effect, which is logged (`tell_ignored`).
"""

import importlib
import json
import logging
import sys
from types import FunctionType
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from turboapi._compat import Undefined
from turboapi.dependencies.models import _is_coroutine_callable
from turboapi.routing import _replaceable, _stream
from turboapi.telemetry._api import _operation
from turboapi.utils import is_body_allowed_for_status_code

if TYPE_CHECKING:
    from turboapi._compile.hooks import RequestHooks

logger = logging.getLogger("turboapi.server")

# What a plan does by itself instead of calling it: our function of each name.
_ours: dict[str, Any] = {}


def is_instrumented() -> bool:
    """Return whether a function that a plan does not call is not ours any more."""
    now = _replaceable.routing
    return (
        now.solve_dependencies is not _ours["solve_dependencies"]
        or now.run_endpoint_function is not _ours["run_endpoint_function"]
        or now.serialize_response is not _ours["serialize_response"]
        or now.run_in_threadpool is not run_in_threadpool
    )


async def solve(route: "RequestHooks", connection: Any, body: Any = Undefined) -> Any:
    """Solve the dependencies of a route with whatever stands for `solve_dependencies`."""
    return await _replaceable.routing.solve_dependencies(
        request=connection,
        dependant=route.dependant,
        body=body,
        dependency_overrides_provider=route.overrides,
        async_exit_stack=connection.scope["fastapi_inner_astack"],
        embed_body_fields=route.embed_body_fields,
    )


async def respond(route: "RequestHooks", request: Request) -> Response:
    """Return what `plan.respond` does."""
    routing = _replaceable.routing
    body = await read_body(route, request)
    with _operation(name="dependencies", function=route.call):
        solved = await solve(route, request, body)
    if solved.errors:
        read = None if body is Undefined else body
        raise route.validation_error(solved.errors, read, request)
    if route.streams:
        return await route.endpoint_response(request, solved)
    is_coroutine = _is_coroutine_callable(route.call)
    value = await routing.run_endpoint_function(
        dependant=route.dependant, values=solved.values, is_coroutine=is_coroutine
    )
    if isinstance(value, Response):
        if value.background is None:
            value.background = solved.background_tasks
        return value
    with _operation(name="serialization", function=route.call):
        return await serialized(
            routing, route.response_field, route, request, value, solved, is_coroutine=is_coroutine
        )


async def serialized(
    routing: Any,
    field: Any,
    route: "RequestHooks",
    request: Any,
    value: Any,
    solved: Any,
    *,
    is_coroutine: bool,
) -> Response:
    """Return the response with what an endpoint returned.

    Args:
        routing: the module that has `serialize_response`: ours or FastAPI's.
        field: the response field, as that module's; or None.
        route: what else there is to know of the route.
        request: the request, as that module's functions expect it.
        value: what the endpoint returned.
        solved: what its dependencies were solved to.
        is_coroutine: whether it is an `async def`.
    """
    dumps_json = field is not None and route.dumps_json
    content = await routing.serialize_response(
        field=field,
        response_content=value,
        **route.dump_options,
        is_coroutine=is_coroutine,
        endpoint_ctx=route.endpoint_context(request),
        dump_json=dumps_json,
    )
    given = _stream.response_arguments(route.status_code, solved)
    if dumps_json:
        response = Response(content=content, media_type="application/json", **given)
    else:
        response = route.response_class(content, **given)
    if not is_body_allowed_for_status_code(response.status_code):
        response.body = b""
    response.headers.raw.extend(solved.response.headers.raw)
    return response


async def read_body(route: "RequestHooks", request: Request) -> Any:
    """Return the body as a handler reads it before it solves dependencies; or `Undefined`."""
    try:
        if route.is_form:
            return await route.read_form(request)
        raw = await request.body() if route.body_field is not None else b""
        if not raw:
            return Undefined
        content_type = request.headers.get("content-type")
        is_json = route.is_json(content_type) if content_type else not route.strict_content_type
        return await request.json() if is_json else raw
    except json.JSONDecodeError as error:
        raise route.json_invalid(error, request) from error
    except HTTPException:
        raise
    except Exception as error:
        other = route.body_error(error)
        if other is error:
            raise
        raise other from error


# -- what is replaced and not called ------------------------------------------------------------

# Names of `turboapi.routing` that are looked up there.
_CALLED = frozenset(
    {
        "get_request_handler", "get_websocket_app", "request_response", "run_endpoint_function",
        "run_in_threadpool", "serialize_response", "solve_dependencies", "websocket_session",
    }
)  # fmt: skip
_MODULES = ("turboapi.routing", "turboapi.dependencies.utils", "turboapi.dependencies.models")
_kept: dict[tuple[str, str], Any] = {}
_told: set[tuple[str, str]] = set()


def remember() -> None:
    """Keep the functions that stand there now: all these modules have been imported."""
    for module in _MODULES:
        for name, value in vars(importlib.import_module(module)).items():
            if type(value) is FunctionType and (module != _MODULES[0] or name not in _CALLED):
                _kept[module, name] = value
    for name in ("solve_dependencies", "run_endpoint_function", "serialize_response"):
        _ours[name] = getattr(_replaceable.routing, name)


def tell_ignored() -> None:
    """Log each function that was replaced although nothing calls it there, once."""
    for (module, name), original in _kept.items():
        if (module, name) in _told or getattr(sys.modules[module], name, None) is original:
            continue
        _told.add((module, name))
        logger.warning(
            "%s.%s was replaced, which has no effect: compiled plans do what it did", module, name
        )
