"""For instrumentation that replaces functions of `fastapi.routing`, as Logfire's does.

A plan does not call `solve_dependencies` and `run_endpoint_function`. When somebody put their own
in the place of ours, requests go step by step, so that theirs are called.
"""

import json
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from turboapi._compat import Undefined
from turboapi.dependencies.models import _is_coroutine_callable
from turboapi.dependencies.utils import solve_dependencies
from turboapi.routing import _stream
from turboapi.telemetry._api import _operation

if TYPE_CHECKING:
    from turboapi._hooks import RequestHooks


def is_instrumented() -> bool:
    """Whether one of the two functions is not ours."""
    from turboapi import routing
    from turboapi.routing._handler import run_endpoint_function

    return (
        routing.solve_dependencies is not solve_dependencies
        or routing.run_endpoint_function is not run_endpoint_function
    )


async def solve(route: "RequestHooks", connection: Any, body: Any = Undefined) -> Any:
    """Solve the dependencies of a route with whatever stands for `solve_dependencies`."""
    from turboapi import routing

    return await routing.solve_dependencies(
        request=connection,
        dependant=route.dependant,
        body=body,
        dependency_overrides_provider=route.overrides,
        async_exit_stack=connection.scope["fastapi_inner_astack"],
        embed_body_fields=route.embed_body_fields,
    )


async def respond(route: "RequestHooks", request: Request) -> Response:
    """What `plan.respond` does."""
    from turboapi import routing

    body = await _read_body(route, request)
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
    given = _stream.response_arguments(route.status_code, solved)
    with _operation(name="serialization", function=route.call):
        made = route.make_response(
            value, given.get("status_code"), given["background"], request, is_coroutine
        )
        response: Response = made if isinstance(made, Response) else await made
    response.headers.raw.extend(solved.response.headers.raw)
    return response


async def _read_body(route: "RequestHooks", request: Request) -> Any:
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
