"""What is inside of all middleware, in C: `ExceptionMiddleware`, the exit stack and the router.

`_core.Innermost` does for a request whose route has a plan what these do, and gives everything else
to them. It stands where `ExceptionMiddleware` would, and is one.
"""

from collections.abc import Awaitable
from typing import Any, cast

from starlette import applications as starlette_applications
from starlette import routing as starlette_routing
from starlette._exception_handler import _lookup_exception_handler, wrap_app_handling_exceptions
from starlette._utils import get_route_path
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import errors as starlette_errors
from starlette.middleware import exceptions as starlette_exceptions
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from turboapi import _core
from turboapi._compile.route_table import FULL
from turboapi._untouched import is_from
from turboapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from turboapi.routing import (
    APIRouter,
    _dispatch,
    _handler,
    _instrumented,
    _replaceable,
    _route,
    _scope,
)
from turboapi.routing._places import Place

Guard = tuple[dict[str, Any], str, Any]
# Status, headers and body.
WholeFile = tuple[int, list[tuple[bytes, bytes]], bytes]
# Where the application of a route is, the one that its plan stands for, and what the framework has
# of the place in its own part of the scope.
Served = tuple[dict[str, Any] | None, Any, dict[str, Any] | None]
_REPLACED = object()
_CALLED = ("solve_dependencies", "run_endpoint_function", "serialize_response")


class InnermostMiddleware(_core.Innermost, ExceptionMiddleware):  # type: ignore[misc]
    """An `ExceptionMiddleware` that knows the router below it."""

    def __init__(self, app: ASGIApp, router: APIRouter, **options: Any) -> None:
        """`options` are those of `ExceptionMiddleware`."""
        ExceptionMiddleware.__init__(self, app, **options)
        self._router = router
        self._mounts: tuple[Any, dict[int, Place]] | None = None
        self._handlers = self._exception_handlers, self._status_handlers
        self._prepare(router, self._handlers, tuple(guards()))

    def _renew(self) -> None:
        """Take the table of routes as it is now."""
        self._router._watchers.append(self._drop)  # before it is looked at
        if not self._leads_to_the_routes():
            self._use(None)
            return
        table = self._table()
        self._use((table.router, tuple(_as_served(place) for place in table.targets)))

    def find_files(self, scope: Scope) -> Place | None:
        """Return the place of the `StaticFiles` to which a request goes, if C knows it."""
        if type(scope) is not dict or scope["type"] != "http" or "fastapi.telemetry" in scope:
            return None
        table = self._table()
        mounts = self._mounts
        if mounts is None or mounts[0] is not table:
            known = self._leads_to_the_routes()
            mounts = self._mounts = table, _find_mounts(table.targets) if known else {}
        if not mounts[1]:
            return None
        found = table.router.find(scope["method"], get_route_path(cast("Scope", scope)), 0)
        if found is None or found[0] != FULL:
            return None
        place = mounts[1].get(cast("int", found[1]))
        return None if place is None or place.native_files() is None else place

    def read_file(self, scope: Scope, receive: Receive, send: Send) -> WholeFile | None:
        """Return what a mounted `StaticFiles` answers, if C can tell at once."""
        place = self.find_files(scope)
        files = None if place is None else place.native_files()
        if place is None or files is None:
            return None
        match, child = place.ask(scope)
        if match is not Match.FULL:
            return None
        inside = {**scope, "starlette.exception_handlers": self._handlers}
        inside.setdefault("router", self._router)
        _scope.merge_child(inside, child)
        answer = files.read(inside, receive, send)
        if answer is not None:
            scope.update(inside)  # the middleware may look at it
        return answer

    def _table(self) -> Any:
        """Return the table of routes as it is now."""
        return self._router._route_table()

    def _leads_to_the_routes(self) -> bool:
        """Return whether nothing that is not known is called before a route."""
        return is_untouched(self._router)

    def _serve(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve what has no plan."""
        return ExceptionMiddleware.__call__(self, scope, receive, send)

    def _failed(
        self, exc: Exception, started: bool, scope: Scope, receive: Receive, send: Send
    ) -> Awaitable[None] | None:
        """Answer for an exception that has left the route; None when there is no handler."""
        return _answer(exc, started, scope, receive, send) if self._handles(exc) else None

    def _handles(self, exc: Exception) -> bool:
        """Return whether there is a handler for the exception."""
        if isinstance(exc, HTTPException) and self._status_handlers.get(exc.status_code):
            return True
        return bool(_lookup_exception_handler(self._exception_handlers, exc))


def _find_mounts(places: list[Place]) -> dict[int, Place]:
    """Return those that C can serve, by their index in the table."""
    return {
        index: place
        for index, place in enumerate(places)
        if place.included is None and not place.asked_only and place.native_files() is not None
    }


def _as_served(place: Place) -> Served:
    space = cast("dict[str, Any]", vars(place.state))
    if "app" not in space:
        return None, None, place.own_items()
    app = space["app"]
    return space, app if _handler.hooks_of(app) is not None else _REPLACED, place.own_items()


async def _answer(
    exc: Exception, started: bool, scope: Scope, receive: Receive, send: Send
) -> None:
    async def raise_again(scope: Scope, receive: Receive, send: Send) -> None:
        if started:
            await send({"type": "http.response.start"})
        raise exc

    async def send_other(message: Message) -> None:
        nonlocal started
        if started:
            started = False  # that of raise_again
        else:
            await send(message)

    request = Request(scope, receive, send)
    await wrap_app_handling_exceptions(raise_again, request)(scope, receive, send_other)


def innermost(app: ASGIApp, router: APIRouter, **options: Any) -> ASGIApp:
    """Return `ExceptionMiddleware(app, **options)`, or what does the same faster."""
    inner: Any = app
    plain = (
        type(inner) is AsyncExitStackMiddleware
        and inner.app is router
        and is_from(ExceptionMiddleware.__init__, starlette_exceptions)
        and is_from(ExceptionMiddleware.__call__, starlette_exceptions)
        and is_plain(router)
    )
    if not plain:
        return ExceptionMiddleware(app, **options)
    return InnermostMiddleware(app, router, **options)


def guards() -> list[Guard]:
    """Return what plans don't call, and what they would have to call if it were replaced."""
    space = cast("dict[str, Any]", vars(_replaceable.routing))
    found: list[Guard] = [(space, name, _instrumented._ours[name]) for name in _CALLED]
    return [*found, (space, "run_in_threadpool", run_in_threadpool)]


def is_plain(router: APIRouter) -> bool:
    """Return whether calling the router leads straight to its routes."""
    kind = type(router)
    return (
        kind.app is APIRouter.app
        and kind.__call__ is APIRouter.__call__
        and not vars(router).keys() & {"app", "__call__"}
        and bool(router.middleware_stack == router.app)
    )


def is_untouched(router: APIRouter) -> bool:
    """Return whether the functions on the way to a route are ours and Starlette's."""
    return (
        is_plain(router)
        and not _instrumented.is_instrumented()
        and all(is_from(*each) for each in the_way(type(router)))
    )


def the_way(router: type) -> list[tuple[Any, Any]]:
    """Return each function that a request passes through below the application, with its module."""
    return [
        (router.app, _dispatch),  # type: ignore[attr-defined]
        (router.__call__, starlette_routing),
        (_route.APIRoute.matches, _route),
        (_route.APIRoute.handle, _route),
        (starlette_applications.Starlette.__call__, starlette_applications),
        (ServerErrorMiddleware.__init__, starlette_errors),
        (ServerErrorMiddleware.__call__, starlette_errors),
        (ExceptionMiddleware.__init__, starlette_exceptions),
        (ExceptionMiddleware.__call__, starlette_exceptions),
    ]
