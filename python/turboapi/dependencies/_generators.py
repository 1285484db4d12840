"""Dependencies with `yield`, as context managers on a request's exit stacks."""

from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from typing import Any, cast

from anyio import CancelScope
from starlette.requests import Request
from starlette.websockets import WebSocket

from turboapi.concurrency import (
    _asynccontextmanager_with_shielded_exit,
    _contextmanager_with_concurrency_limit,
    asynccontextmanager,
    contextmanager_in_threadpool,
)
from turboapi.dependencies.models import Dependant, _is_async_gen_callable

_CLEANUP_SCOPES = "turboapi_async_cleanup_scopes"


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
