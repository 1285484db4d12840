"""A FastAPI application as the native server, and as its own middleware sees it."""

import logging
import threading
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from starlette._utils import get_route_path
from starlette.types import Receive, Scope, Send

from turboapi import _core
from turboapi._fastapi_bridge import _theirs
from turboapi._fastapi_bridge._table import Table
from turboapi._native import Errors, handlers_of, raise_again
from turboapi.routing._router import RouteList

logger = logging.getLogger("turboapi.server")


class Bridge:
    """One application: its table of routes, and who must know when that changes.

    It stands in `app.router.middleware_stack`, between the application's middleware and its
    router, and serves the routes that it compiled; the others it hands to the router.
    """

    @classmethod
    def of(cls, app: Any) -> "Bridge":
        """The one bridge of an application."""
        # One is enough for all threads that serve it.
        with _making:
            found = getattr(app.router.middleware_stack, "__self__", None)
            return found if isinstance(found, cls) else cls(app)

    def __init__(self, app: Any) -> None:
        self.app = app
        self.router = app.router
        self._lock = threading.RLock()
        self._table: Table | None = None
        self._version = 0
        self._watchers: list[Callable[[], None]] = []
        self._told = False
        self._why_not = _theirs.why_not()

    # -- the routes -------------------------------------------------------------------------------

    def table(self) -> Table:
        """The table of the routes as they are now."""
        table = self._table
        if table is None:
            with self._lock:
                while self._table is None:
                    version = self._version
                    table = Table(self.app)
                    for router in table.routers:
                        self._watch(router)
                    if version == self._version:  # else changed by another thread meanwhile
                        self._table = table
                table = self._table
        return table

    def _watch(self, router: Any) -> None:
        routes = router.routes
        ours: Any = self
        if not (type(routes) is RouteList and routes._router() is ours):
            router.routes = RouteList(routes, ours)

    def _mark_routes_changed(self) -> None:
        """Called by the lists of routes."""
        self._version += 1
        self._table = None
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            watcher()

    # -- the server's side ------------------------------------------------------------------------

    def native_app(self) -> Any:
        """A `_core.App`; it is told when routes change."""
        app = self.app
        if app.middleware_stack is None:
            # As at the first request; the lifespan has been.
            app.middleware_stack = app.build_middleware_stack()
        if self._why_not is not None:
            self._tell(f"Through ASGI, as {self._why_not}")
            return _core.App(app)
        made: Any = None

        def changed() -> None:
            if made is not None:
                made.invalidate()

        self._watchers.append(changed)
        table = self.table()
        self._tell(_summary(table))
        if self._is_between() and table.compiled:
            self.router.middleware_stack = self.serve
        if not table.compiled or not _theirs.stack_is_plain(app):
            return _core.App(app)
        # The application's own middleware, round what raises the exception of a direct run.
        kind = cast("Any", type(app))
        errors = kind.build_middleware_stack(_WithRouter(app, raise_again))
        made = _core.App(
            app,
            router=table.router,
            direct=True,
            error_app=Errors(app, errors),
            rebuild=self.native_app,
            scope_items={
                "app": app,
                "router": self.router,
                "starlette.exception_handlers": handlers_of(app.middleware_stack),
            },
            root_path=app.root_path,
        )
        if self._table is not table:
            made.invalidate()
        return made

    def _tell(self, text: str) -> None:
        level = logging.DEBUG if self._told else logging.INFO
        logger.log(level, "FastAPI %s application: %s", _theirs.version(), text)
        self._told = True

    # -- the middleware's side --------------------------------------------------------------------

    def _is_between(self) -> bool:
        """Whether the router may be replaced by `serve`: nobody else did something to it."""
        router = self.router
        kind = cast("Any", type(router))
        return (
            router.middleware_stack in (router.app, self.serve)
            and "app" not in vars(router)
            and kind.app is _theirs.module("fastapi.routing").APIRouter.app
            and not router.form_limits
        )

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What the router does, with plans for the routes that have one."""
        if scope["type"] == "http" and "fastapi.telemetry" not in scope:
            table = self.table()
            found = table.router.match(scope["method"], get_route_path(scope))
            target = None if found is None else table.targets[found[0]]
            if found is not None and target is not None:
                scope.setdefault("router", self.router)
                await target.serve(found[1], scope, receive, send)
                return
        await self.router.app(scope, receive, send)


_making = threading.Lock()


class _WithRouter(SimpleNamespace):
    """An application with something else in the place of its router."""

    def __init__(self, app: Any, router: Any) -> None:
        super().__init__(router=router)
        self._app = app

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)


def _summary(table: Table) -> str:
    total = table.compiled + len(table.left)
    text = f"{table.compiled} of {total} path operations run natively"
    if not table.left:
        return text
    reasons = Counter(reason for _, reason in table.left)
    first = {reason: label for label, reason in reversed(table.left)}
    why = "; ".join(
        f"{count} for {reason} ({first[reason]}{', ...' if count > 1 else ''})"
        for reason, count in reasons.items()
    )
    return f"{text}; through ASGI: {why}"
