"""A FastAPI application as the native server, and as its own middleware sees it."""

import logging
import threading
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from starlette._utils import get_route_path
from starlette.routing import Host, Mount
from starlette.types import Receive, Scope, Send

from turboapi import _core
from turboapi._compile.native_app import adapt as adapt_own
from turboapi._compile.native_app import (
    answers_of,
    called_app_of,
    handlers_of,
    native_app_of,
    stacked_app,
    starlette_is_untouched,
)
from turboapi._compile.route_table import Kind, redirect_to, with_other_slash
from turboapi._fastapi_bridge import _theirs, is_fastapi
from turboapi._fastapi_bridge._stack import put_into
from turboapi._fastapi_bridge._table import Table, Target
from turboapi.middleware.compress import packs_itself
from turboapi.routing._dispatch import TRIES, RouteList

logger = logging.getLogger("turboapi.server")

# The attribute of a router that has its application's bridge.
_KEPT = "_turboapi_bridge"


class Bridge:
    """One application: its table of routes, and who must know when that changes.

    It stands in `app.router.middleware_stack`, between the application's middleware and its
    router, and serves the routes that it compiled; the others it hands to the router.
    """

    @classmethod
    def of(cls, app: Any) -> "Bridge":
        """Return the one bridge of an application."""
        # One is enough for all threads that serve it. The router keeps it before it stands in
        # there, too: those who wait for changes of the routes have to wait at the same one.
        with _making:
            kept: dict[str, Any] = app.router.__dict__
            found = kept.get(_KEPT)
            if not isinstance(found, cls):
                found = kept[_KEPT] = cls(app)
            return found

    def __init__(self, app: Any) -> None:
        self.app = app
        self.router = app.router
        self._lock = threading.RLock()
        # The table of each kind of request.
        self._tables: dict[Kind, Table] = {}
        # The last ones: most of what they have will do for the next, too.
        self._before: dict[Kind, Table] = {}
        self._watchers: list[Callable[[], None]] = []
        self._told = False
        self._why_not = _theirs.why_not()

    # -- the routes -------------------------------------------------------------------------------

    def table(self, kind: Kind = "http") -> Table:
        """Return the table of the routes as they are now."""
        table = self._tables.get(kind)
        if table is None:
            with self._lock:
                for _ in range(TRIES):
                    if (found := self._tables.get(kind)) is not None:
                        return found
                    # Others take its place when another thread changes the routes meanwhile.
                    tables = self._tables
                    table = Table(self.app, kind, self._watch, self._before.get(kind))
                    tables[kind] = self._before[kind] = table
        assert table is not None
        return table

    def _watch(self, router: Any) -> None:
        routes = router.routes
        ours: Any = self
        if not (type(routes) is RouteList and routes._router() is ours):
            router.routes = RouteList(routes, ours)

    def _mark_routes_changed(self) -> None:
        """Drop the tables; the lists of routes call this on every change."""
        self._tables = {}
        while self._watchers:
            try:
                watcher = self._watchers.pop()
            except IndexError:
                return
            watcher()

    # -- the server's side ------------------------------------------------------------------------

    def native_app(self) -> Any:
        """Return a `_core.App`; it is told when routes change."""
        app = self.app
        if self._why_not is not None:
            self._tell(f"Through ASGI, as {self._why_not}")
            return _core.App(app, packs=packs_itself(app))
        made = native_app_of(BridgedApp(app), adapt, self.native_app)
        table = self.table()
        self._tell(_summary(table))
        self.install()
        return made or stacked_app(app, self._called_app)

    def why_not(self) -> str | None:
        """Why no request gets to a plan, or None."""
        if self._why_not is None and _theirs.telemetry_is_on(self.app):
            return "its telemetry is on"
        if self._why_not is None and not (BridgedApp(self.app).is_direct() or self._is_between()):
            return "its router is not FastAPI's own, or has limits of forms"
        return self._why_not

    def _called_app(self) -> Any:
        """Return a `_core.App` that calls the user's middleware, without what is round it."""
        plain = _theirs.serves_itself(self.app)
        return called_app_of(self.app, _theirs.outer_layers(), plain=plain)

    def install(self) -> None:
        """Stand between the application's middleware and its router, and below its mounts."""
        if self._why_not is not None or not self._is_between():
            return
        with self._lock:
            if self.router.middleware_stack == self.serve:
                return
            self.router.middleware_stack = self.serve
            put_into(self.app, self)
        for place in self.table().targets:
            below = getattr(place.route, "app", None)
            if isinstance(place.route, Mount | Host) and is_fastapi(below):
                Bridge.of(below).install()

    def _tell(self, text: str) -> None:
        level = logging.DEBUG if self._told else logging.INFO
        logger.log(level, "FastAPI %s application: %s", _theirs.version(), text)
        self._told = True

    # -- the middleware's side --------------------------------------------------------------------

    def _is_between(self) -> bool:
        """Return whether the router may be replaced by `serve`: nobody else did something to it."""
        router = self.router
        kind = cast("Any", type(router))
        return (
            router.middleware_stack in (router.app, self.serve)
            and "app" not in vars(router)
            and kind.app is _theirs.module("fastapi.routing").APIRouter.app
            and not _theirs.form_limits(router)
        )

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Do what the router does, with plans for the routes that have one."""
        if scope["type"] == "http" and scope.get("fastapi.telemetry") is None:
            table = self.table()
            found = table.router.match(scope["method"], get_route_path(scope))
            target = None if found is None else table.targets[found[0]]
            if found is not None and isinstance(target, Target):
                scope.setdefault("router", self.router)
                await target.run(found[1], scope, receive, send)
                return
        elif scope["type"] == "websocket" and scope.get("fastapi.telemetry") is None:
            table = self.table("websocket")
        else:
            table = None
        if table is None or not await self._dispatch(table, scope, receive, send):
            await self.router.app(scope, receive, send)

    async def _dispatch(self, table: Table, scope: Scope, receive: Receive, send: Send) -> bool:
        """Do what the router would with what the table knows; False: it has to look itself."""
        found = table.lookup(scope)
        if found is None:
            return False
        _, place, child = found
        scope.setdefault("router", self.router)
        if place is not None:
            await place.serve(child, scope, receive, send)
            return True
        other = with_other_slash(scope) if self.router.redirect_slashes else None
        there = None if other is None else table.lookup(other)
        if other is not None and (there is None or there[1] is not None):
            if there is None:
                return False
            await redirect_to(other)(scope, receive, send)
            return True
        if table.low_priority:
            return False
        await self.router.default(scope, receive, send)
        return True


class BridgedApp:
    """A FastAPI application on the way to what runs directly (_compile/native_app.py)."""

    sends_paths = False

    def __init__(self, app: Any) -> None:
        self.app = app
        self.watched = self.bridge = Bridge.of(app)

    def is_direct(self) -> bool:
        app = self.app
        if self.bridge._why_not is not None:
            return False
        if app.middleware_stack is None:
            # As at the first request; the lifespan has been.
            app.middleware_stack = app.build_middleware_stack()
        return _theirs.stack_is_plain(app) and starlette_is_untouched()

    def wrap(self, inner: Any) -> Any:
        kind = cast("Any", type(self.app))
        return kind.build_middleware_stack(_WithRouter(self.app, inner))

    @staticmethod
    def filters(errors: Any) -> tuple[tuple[Any, ...], ...] | None:
        return ()

    def handlers(self, errors: Any) -> tuple[Any, Any]:
        found: tuple[Any, Any] = handlers_of(self.app.middleware_stack)
        return found

    def table(self) -> Table:
        return self.bridge.table()

    def answers(self, errors: Any) -> tuple[str, ...]:
        handlers = _theirs.module("fastapi.exception_handlers")
        low_priority = self.table().low_priority
        return answers_of(self.app.router, self.handlers(errors), low_priority, handlers)


def adapt(app: Any) -> Any:
    """Return an application that is mounted, if it can run directly at all."""
    return BridgedApp(app) if is_fastapi(app) else adapt_own(app)


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
