"""The middleware of a FastAPI application, with what is inside of it in C, as in ours.

FastAPI has made the stack before it is served. Here its inside is exchanged: where the innermost
middleware would call Starlette's `ExceptionMiddleware`, it calls a `_core.Innermost`, and a
`BaseHTTPMiddleware` that has only such ones inside of it is called by C (middleware/_http.py).
What no attribute `app` leads to is left as it is.
"""

from typing import TYPE_CHECKING, Any, cast

from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import Router

from turboapi._fastapi_bridge import _theirs
from turboapi._fastapi_bridge._table import Target
from turboapi.middleware._filters import DEEPEST, may_exchange
from turboapi.middleware._http import accelerate
from turboapi.middleware._innermost import InnermostMiddleware, Served
from turboapi.routing._places import Place

if TYPE_CHECKING:
    from turboapi._fastapi_bridge._bridge import Bridge


class TheirInnermost(InnermostMiddleware):
    """An `InnermostMiddleware` over a table of FastAPI's routes."""

    def __init__(self, original: ExceptionMiddleware, bridge: "Bridge") -> None:
        """Take the place of `original`."""
        vars(self).update(vars(original))
        self._bridge = bridge
        self._router = bridge.router
        self._mounts = None
        self._handlers = self._exception_handlers, self._status_handlers
        self._prepare(bridge.router, self._handlers, ())

    def _table(self) -> Any:
        return self._bridge.table()

    def _leads_to_the_routes(self) -> bool:
        bridge = self._bridge
        return bridge.why_not() is None and _leads_to_the_bridge(self.app, bridge)

    def _renew(self) -> None:
        self._bridge._watchers.append(self._drop)  # before it is looked at
        if not self._leads_to_the_routes():
            self._use(None)
            return
        table = self._table()
        self._use((table.router, tuple(_as_served(place) for place in table.targets)))


def _as_served(place: Place) -> Served | None:
    if not isinstance(place, Target):
        return None
    space = cast("dict[str, Any]", vars(place.state))
    # From 0.137 to 0.142.0 the application of an included route is made at each request.
    at = space if "app" in space else None
    return at, space.get("app"), place.own_items()


def put_into(app: Any, bridge: "Bridge") -> None:
    """Exchange the inside of the application's middleware stack, if it was made."""
    levels: list[Any] = []
    level: Any = app.middleware_stack
    if level is None or not app.user_middleware:
        return
    while type(level) is not ExceptionMiddleware:
        levels.append(level)
        level = getattr(level, "app", None)
        if level is None or len(levels) > DEEPEST:
            return
    if "__call__" in vars(level) or not _theirs.has_own_call(ExceptionMiddleware):
        return
    if not levels or not _leads_to_the_bridge(level.app, bridge):
        return
    inner: Any = TheirInnermost(level, bridge)
    inside: Any = inner
    for outer in reversed(levels):
        if not may_exchange(outer, level):
            return
        outer.app = inner
        level = outer
        inner, inside = accelerate(outer, inside)
        if inner is outer:  # it is called as before
            return


def _leads_to_the_bridge(below: Any, bridge: "Bridge") -> bool:
    """Return whether what `ExceptionMiddleware` calls is only the exit stack round the router."""
    router = bridge.router
    own = cast("dict[str, Any]", vars(router))
    kind = _theirs.module("fastapi.applications").AsyncExitStackMiddleware
    return (
        type(below) is kind
        and "__call__" not in vars(below)
        and _theirs.has_own_call(kind)
        and below.app is router
        and cast("Any", type(router)).__call__ is Router.__call__
        and not own.keys() & {"app", "__call__"}
        and router.middleware_stack == bridge.serve
    )
