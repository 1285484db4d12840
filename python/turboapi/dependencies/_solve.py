"""Generator dependencies, and dependencies solved from Python instead of by a route's plan."""

from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

from anyio import CancelScope
from starlette.background import BackgroundTasks as StarletteBackgroundTasks
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from turboapi._compat import Undefined
from turboapi.concurrency import (
    _asynccontextmanager_with_shielded_exit,
    _contextmanager_with_concurrency_limit,
    asynccontextmanager,
    contextmanager_in_threadpool,
)
from turboapi.dependencies.models import (
    Dependant,
    _get_cache_key,
    _is_async_gen_callable,
    _UsesScopesCache,
)
from turboapi.types import DependencyCacheKey

_CLEANUP_SCOPES = "turboapi_async_cleanup_scopes"


@dataclass
class SolvedDependency:
    """What a dependant's call gets, or the errors why it can't be made."""

    values: dict[str, Any]
    errors: list[Any]
    background_tasks: StarletteBackgroundTasks | None
    response: Response
    dependency_cache: dict[DependencyCacheKey, Any]


def _cleanup_scope(request: Request | WebSocket) -> CancelScope:
    """Return the scope that shields the exits of this request's async generators.

    It is entered on the request's own stack before the first of them, so that it encloses the
    scopes that they open, whichever stack they themselves are on.
    """
    stack = cast("AsyncExitStack", request.scope["fastapi_inner_astack"])
    scopes: dict[AsyncExitStack, CancelScope] = request.scope.setdefault(_CLEANUP_SCOPES, {})
    scope = scopes.get(stack)
    if scope is None:
        scope = scopes[stack] = stack.enter_context(CancelScope())
        stack.callback(scopes.pop, stack)
    return scope


async def _solve_generator(
    *,
    dependant: Dependant,
    stack: AsyncExitStack,
    sub_values: dict[str, Any],
    request: Request | WebSocket,
) -> Any:
    """Return what the generator yields; ``stack`` runs the rest of it when it is closed."""
    scope = _cleanup_scope(request) if _is_async_gen_callable(dependant.call) else None
    return await stack.enter_async_context(open_generator(dependant, sub_values, scope))


def open_generator(
    dependant: Dependant, values: dict[str, Any], scope: CancelScope | None
) -> AbstractAsyncContextManager[Any]:
    """Return a generator as a context manager; ``scope`` shields the exit of an async one."""
    call = dependant.call
    assert call
    cm: AbstractAsyncContextManager[Any]
    if _is_async_gen_callable(call):
        cm = asynccontextmanager(call)(**values)
        if scope is not None:
            cm = _asynccontextmanager_with_shielded_exit(cm, scope)
    else:
        cm = contextmanager_in_threadpool(contextmanager(call)(**values))
    if dependant.concurrency is not None:
        cm = _contextmanager_with_concurrency_limit(cm, dependant.concurrency.get_semaphore())
    return cm


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
    from turboapi._compile.hooks import RequestHooks
    from turboapi.dependencies._analysis import _get_flat_body_params

    body_fields = _get_flat_body_params(dependant)
    hooks = RequestHooks(
        dependant=dependant,
        body_field=body_fields[0] if body_fields else None,
        dependency_overrides_provider=dependency_overrides_provider,
        embed_body_fields=embed_body_fields,
        is_websocket=isinstance(request, WebSocket),
    )
    # Parameters get the caller's own objects: what is done to them later counts too.
    own: Any = hooks
    if response is not None:
        own.new_response = lambda: response
    if background_tasks is not None:
        own.new_background = lambda: background_tasks
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
