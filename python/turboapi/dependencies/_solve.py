"""Dependencies that are solved from Python, not by a route's plan."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from starlette.background import BackgroundTasks as StarletteBackgroundTasks
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from turboapi._compat import Undefined
from turboapi._compile.hooks import RequestHooks
from turboapi._response import new_response
from turboapi.background import BackgroundTasks
from turboapi.dependencies._analysis import _get_flat_body_params
from turboapi.dependencies.models import (
    Dependant,
    _get_cache_key,
    _UsesScopesCache,
)
from turboapi.types import DependencyCacheKey


@dataclass
class SolvedDependency:
    """What a dependant's call gets, or the errors why it can't be made."""

    values: dict[str, Any]
    errors: list[Any]
    background_tasks: StarletteBackgroundTasks | None
    response: Response
    dependency_cache: dict[DependencyCacheKey, Any]


async def solve_dependencies(
    *,
    request: Request | WebSocket,
    dependant: Dependant,
    body: Any = Undefined,
    background_tasks: StarletteBackgroundTasks | None = None,
    response: Response | None = None,
    dependency_overrides_provider: Any | None = None,
    dependency_cache: dict[DependencyCacheKey, Any] | None = None,
    async_exit_stack: AsyncExitStack,
    embed_body_fields: bool,
) -> SolvedDependency:
    """Solve ``dependant`` for a connection whose scope has the two exit stacks of a route.

    For code that calls it itself: routes have a compiled plan, and one is made here each time.
    ``dependency_cache`` is not read: what was solved elsewhere is solved again.
    """
    body_fields = _get_flat_body_params(dependant)
    # Parameters get the caller's own objects: what is done to them later counts, too.
    hooks = RequestHooks(
        dependant=dependant,
        body_field=body_fields[0] if body_fields else None,
        overrides=dependency_overrides_provider,
        embed_body_fields=embed_body_fields,
        is_websocket=isinstance(request, WebSocket),
        new_response=new_response if response is None else lambda: response,
        new_background=BackgroundTasks if background_tasks is None else lambda: background_tasks,
    )
    solved = await hooks.plan.solve(request, body)
    keys = list(_cache_keys(dependant, {}))
    return SolvedDependency(
        values=solved.values,
        errors=solved.errors,
        background_tasks=background_tasks or solved.background_tasks,
        response=response or solved.response,
        dependency_cache={keys[slot]: value for slot, value in solved.dependency_cache.items()},
    )


def _cache_keys(
    dependant: Dependant, scopes_cache: _UsesScopesCache
) -> dict[DependencyCacheKey, None]:
    """Return the keys of a plan's cache slots, in the order of the slots."""
    keys: dict[DependencyCacheKey, None] = {}
    for sub in dependant.dependencies:
        keys.update(_cache_keys(sub, scopes_cache))
        keys[_get_cache_key(dependant=sub, uses_scopes_cache=scopes_cache)] = None
    return keys
