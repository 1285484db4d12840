"""Lifespan contexts: from generators, from event handlers, and those of included routers."""

import contextlib
import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from starlette.types import Lifespan

if TYPE_CHECKING:
    from turboapi.routing._router import APIRouter


class _Lifted(AbstractAsyncContextManager[Any]):
    """A plain context manager as an asynchronous one."""

    def __init__(self, inner: AbstractContextManager[Any]) -> None:
        self._inner = inner

    async def __aenter__(self) -> Any:
        return self._inner.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return self._inner.__exit__(kind, value, trace)


class EventHandlersLifespan:
    """The lifespan of a router that was given none: its startup and shutdown handlers."""

    def __init__(self, router: "APIRouter") -> None:
        self._router = router

    def __call__(self, app: object) -> "EventHandlersLifespan":
        return self

    async def __aenter__(self) -> None:
        await self._router._startup()

    async def __aexit__(self, *exc_info: object) -> None:
        await self._router._shutdown()


def as_lifespan(lifespan: Any, router: "APIRouter") -> Lifespan[Any]:
    """Return what the user gave (a context manager function or a generator function), or the
    default.
    """
    if lifespan is None:
        return EventHandlersLifespan(router)
    if inspect.isasyncgenfunction(lifespan):
        return asynccontextmanager(lifespan)
    if inspect.isgeneratorfunction(lifespan):
        manager: Callable[[Any], AbstractContextManager[Any]] = contextlib.contextmanager(lifespan)

        @functools.wraps(manager)
        def lifted(app: Any) -> _Lifted:
            return _Lifted(manager(app))

        return lifted
    return lifespan  # type: ignore[no-any-return]


def merged_lifespan(outer: Lifespan[Any], inner: Lifespan[Any]) -> Lifespan[Any]:
    """One lifespan of two: `outer` starts first and ends last, and its state wins."""

    @asynccontextmanager
    async def both(app: Any) -> AsyncGenerator[Mapping[str, Any] | None]:
        async with outer(app) as outer_state, inner(app) as inner_state:
            if outer_state is None and inner_state is None:
                yield None
            else:
                yield {**(inner_state or {}), **(outer_state or {})}

    return both  # type: ignore[return-value] # both kinds of state are meant
