"""How a router serves: it asks the table of its routes, which it makes anew when they change.

`APIRouter` adds the ways of declaring them.
"""

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, SupportsIndex

from starlette import routing
from starlette._utils import get_route_path
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from turboapi._compile.route_table import (
    Kind,
    RouteTable,
    overrides,
    redirect_to,
    with_other_slash,
)
from turboapi._form_limits import _FormLimits
from turboapi.routing import _files, _scope
from turboapi.routing._included import (
    RouteContext,
    _EffectiveRouteContext,
    _IncludedRouter,
    match_effective,
)
from turboapi.routing._route import APIRoute
from turboapi.telemetry._api import _route_selected

# Tables made for one request, if other threads change the routes meanwhile. The last one has what
# was there when the request came; a thread that goes on changing them must not hold it up for good.
TRIES = 2


class RouteList(list[BaseRoute]):
    """The routes of a router, which learns of every change."""

    def __init__(self, routes: Iterable[BaseRoute], router: "DispatchingRouter") -> None:
        super().__init__(routes)
        # A weak reference: the router owns the list.
        self._router = weakref.ref(router)
        self._contexts: tuple[RouteContext, ...] | None = None

    def _own_contexts(self) -> tuple[RouteContext, ...] | None:
        """Return the context of each route; None where routers are included, which may change."""
        contexts = self._contexts
        if contexts is None:
            if any(isinstance(route, _IncludedRouter) for route in self):
                return None
            routes = list(self)
            contexts = self._contexts = tuple(map(RouteContext, routes))
            if list(map(id, self)) != list(map(id, routes)):  # by another thread, meanwhile
                self._contexts = None
        return contexts

    def _changed(self) -> None:
        self._contexts = None
        if (router := self._router()) is not None:
            router._mark_routes_changed()

    def __reduce__(self) -> Any:
        return list, (list(self),)

    def append(self, route: BaseRoute, /) -> None:
        super().append(route)
        self._changed()

    def extend(self, routes: Iterable[BaseRoute], /) -> None:
        super().extend(routes)
        self._changed()

    def insert(self, index: SupportsIndex, route: BaseRoute, /) -> None:
        super().insert(index, route)
        self._changed()

    def pop(self, index: SupportsIndex = -1, /) -> BaseRoute:
        route = super().pop(index)
        self._changed()
        return route

    def remove(self, route: BaseRoute, /) -> None:
        super().remove(route)
        self._changed()

    def clear(self) -> None:
        super().clear()
        self._changed()

    def reverse(self) -> None:
        super().reverse()
        self._changed()

    def sort(self, *, key: Any = None, reverse: bool = False) -> None:
        super().sort(key=key, reverse=reverse)
        self._changed()

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(index, value)
        self._changed()

    def __delitem__(self, index: Any) -> None:
        super().__delitem__(index)
        self._changed()

    def __iadd__(self, routes: Iterable[BaseRoute]) -> Any:  # type: ignore[misc, override]
        self.extend(routes)
        return self

    def __imul__(self, count: SupportsIndex) -> Any:
        self[:] = list(self) * count
        return self


class DispatchingRouter(routing.Router):
    """A router with a table of its routes.

    Attributes:
        form_limits: for forms that are read in a request that it serves.
    """

    form_limits: _FormLimits

    def __init__(self, **options: Any) -> None:
        """`options` are those of Starlette's router."""
        self._routes_version = 0
        self._table: RouteTable | None = None
        self._websocket_table: RouteTable | None = None
        self._table_lock = threading.RLock()
        # Routers that include this one: their tables depend on it.
        # (Routers compare by their routes, so that they have no hash: no set can hold them.)
        self._including: list[weakref.ref[DispatchingRouter]] = []
        self._watchers: list[Callable[[], None]] = []
        # What is tried when no route matches (`frontend()`).
        self._low_priority_routes: list[BaseRoute] = []
        super().__init__(**options)

    # -- the routes, and who must know when they change ---------------------------------------

    @property
    def routes(self) -> list[BaseRoute]:
        """The routes in the order in which they are tried; a list that may be changed."""
        return self._routes

    @routes.setter
    def routes(self, routes: Iterable[BaseRoute]) -> None:
        self._routes = RouteList(routes, self)
        self._mark_routes_changed()

    @property
    def redirect_slashes(self) -> bool:
        """Whether a path without a route is redirected to the one with, or without, a slash."""
        return self._redirect_slashes

    @redirect_slashes.setter
    def redirect_slashes(self, redirect_slashes: bool) -> None:
        self._redirect_slashes = redirect_slashes
        self._tell_watchers()

    @property
    def default(self) -> ASGIApp:
        """What answers when nothing matches."""
        return self._default

    @default.setter
    def default(self, default: ASGIApp) -> None:
        self._default = default
        self._tell_watchers()

    def _mark_routes_changed(self) -> None:
        self._routes_version += 1
        self._drop_table(set())

    def _drop_table(self, seen: set[int]) -> None:
        if id(self) in seen:
            return
        seen.add(id(self))
        self._table = self._websocket_table = None
        self._tell_watchers()
        for reference in list(self._including):
            if (router := reference()) is None:
                self._including.remove(reference)
            else:
                router._drop_table(seen)

    def _tell_watchers(self) -> None:
        # Each is told once: what is made anew watches anew, maybe in another thread.
        while self._watchers:
            try:
                watcher = self._watchers.pop()
            except IndexError:
                return
            watcher()

    def _get_routes_version(self, seen: set[int] | None = None) -> int:
        """Return a number that grows with every change of this router or of one below it."""
        seen = set() if seen is None else seen
        version = self._routes_version
        if id(self) in seen:
            return version
        seen.add(id(self))
        included = (route for route in self.routes if isinstance(route, _IncludedRouter))
        return version + sum(each.original_router._get_routes_version(seen) for each in included)

    def _contains_router(self, router: "DispatchingRouter", seen: set[int] | None = None) -> bool:
        """Return whether `router` is included in this one, or below."""
        seen = set() if seen is None else seen
        if id(self) in seen:
            return False
        seen.add(id(self))
        below = [each.original_router for each in self.routes if isinstance(each, _IncludedRouter)]
        return any(each is router or each._contains_router(router, seen) for each in below)

    def _route_table(self) -> RouteTable:
        table = self._table
        if table is None:
            with self._table_lock:
                table = self._table
                if table is None:
                    table, self._table = self._make_table("http")
        return table

    def _table_of_websockets(self) -> RouteTable:
        table = self._websocket_table
        if table is None:
            with self._table_lock:
                table = self._websocket_table
                if table is None:
                    table, self._websocket_table = self._make_table("websocket")
        return table

    def _make_table(self, kind: Kind) -> tuple[RouteTable, RouteTable | None]:
        """Return the table, and again if it is to be kept for further requests."""
        tries = TRIES
        while True:
            version = self._get_routes_version()
            table = RouteTable(self, kind)
            if version == self._get_routes_version():  # else changed by another thread meanwhile
                return table, table
            tries -= 1
            if tries == 0:
                return table, None

    # -- dispatch -----------------------------------------------------------------------------

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, a WebSocket or the lifespan: the engine first, then Starlette's way."""
        kind = scope["type"]
        assert kind in ("http", "websocket", "lifespan")
        _scope.add_form_limits(scope, self.form_limits)
        if "router" not in scope:
            scope["router"] = self
        if kind == "lifespan":
            await self.lifespan(scope, receive, send)
            return
        if kind == "websocket":
            await self._dispatch(self._table_of_websockets(), scope, receive, send)
            return
        table = self._route_table()
        found = table.match(scope["method"], get_route_path(scope))
        if found is None:
            await self._dispatch(table, scope, receive, send)
        else:
            place: Any = table.targets[found[0]]
            place.enter(scope, found[1])
            await place.run(scope, receive, send)

    async def _dispatch(
        self, table: RouteTable, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Do what `_search` would, with what the table knows."""
        found = table.lookup(scope)
        if found is None:
            await self._search(scope, receive, send)
        elif (place := found[1]) is not None:
            await place.serve(found[2], scope, receive, send)
        else:
            await self._unmatched(table, scope, receive, send)

    async def _search(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Try the routes one by one: there are some whose class decides for itself."""
        partial: tuple[BaseRoute, Scope] | None = None
        for route in self.routes:
            match, child = route.matches(scope)
            if match is Match.FULL:
                await self._handle(route, child, scope, receive, send)
                return
            if match is Match.PARTIAL and partial is None:
                partial = route, child
        if partial is not None:
            await self._handle(*partial, scope, receive, send)
            return
        http = scope["type"] == "http"
        table = self._route_table() if http else self._table_of_websockets()
        await self._unmatched(table, scope, receive, send)

    async def _unmatched(
        self, table: RouteTable, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Redirect, or try what has low priority, or give it to `default`."""
        if (redirect := self._slash_redirect(table, scope)) is not None:
            await redirect(scope, receive, send)
        elif not await self._handle_low_priority(table, scope, receive, send):
            await self.default(scope, receive, send)

    async def _handle(
        self, route: BaseRoute, child: Scope, scope: Scope, receive: Receive, send: Send
    ) -> None:
        _scope.merge_child(scope, child)
        _route_selected(
            scope=scope,
            path=getattr(route, "path_format", None),
            mount=isinstance(route, routing.Mount),
        )
        if _files.is_static(route):
            scope = _files.with_pathsend(scope, send)
        await route.handle(scope, receive, send)

    def _slash_redirect(self, table: RouteTable, scope: Scope) -> Response | None:
        other = with_other_slash(scope) if self.redirect_slashes else None
        if other is None:
            return None
        found = table.lookup(other)
        if found is None:
            route = next((e for e in self.routes if e.matches(other)[0] is not Match.NONE), None)
            if route is None:
                return None
            self._tell_redirect(route, scope, other)
        elif (place := found[1]) is not None:
            _route_selected(scope=scope, path=getattr(place.state, "path_format", None))
        else:
            return None
        return redirect_to(other)

    @staticmethod
    def _tell_redirect(route: Any, scope: Scope, other: Scope) -> None:
        if scope.get("fastapi.telemetry") is None:
            return
        while isinstance(route, _IncludedRouter):
            _, _, matched, effective = route._match(other)
            route = matched
            if effective is not None:
                route = effective.starlette_route or effective
        _route_selected(scope=scope, path=getattr(route, "path_format", None))

    async def _handle_low_priority(
        self, table: RouteTable, scope: Scope, receive: Receive, send: Send
    ) -> bool:
        match, child, route, effective = self._match_low_priority(table.low_priority, scope)
        if match is Match.NONE or route is None:
            return False
        _scope.merge_child(scope, child)
        _route_selected(scope=scope, path=getattr(effective or route, "path_format", None))
        if effective is None:
            await route.handle(scope, receive, send)
            return True
        _scope.own_scope(scope)[_scope.EFFECTIVE_ROUTE] = effective
        if isinstance(route, APIRoute):
            scope["route"] = route
            await route.handle(scope, receive, send)
        else:
            assert effective.app is not None
            await effective.app(scope, receive, send)
        return True

    def _low_priority(self) -> Iterator[BaseRoute | _EffectiveRouteContext]:
        yield from self._low_priority_routes
        for route in self.routes:
            if isinstance(route, _IncludedRouter):
                yield from route.effective_low_priority_routes()

    @staticmethod
    def _match_low_priority(
        candidates: Iterable[BaseRoute | _EffectiveRouteContext], scope: Scope
    ) -> tuple[Match, Scope, BaseRoute | None, _EffectiveRouteContext | None]:
        """Return the first full match, or the most specific frontend; else the same of partial
        ones.
        """
        best: dict[Match, tuple[Scope, BaseRoute, _EffectiveRouteContext | None]] = {}
        for candidate in candidates:
            if isinstance(candidate, _EffectiveRouteContext):
                match, child, route = match_effective(candidate, scope)
                effective: _EffectiveRouteContext | None = candidate
            else:
                match, child = candidate.matches(scope)
                route, effective = candidate, None
            if match not in best or _is_more_specific(child, best[match][0]):
                best[match] = child, route, effective
        for match in (Match.FULL, Match.PARTIAL):
            if match in best:
                return (match, *best[match])
        return Match.NONE, {}, None, None

    def _own_inclusion(self, scope: Scope) -> _IncludedRouter | None:
        """Return where this router is included, when that is what is being asked."""
        included = _scope.peek(scope, _scope.INCLUDED_ROUTER)
        if isinstance(included, _IncludedRouter) and included.original_router is self:
            return included
        return None

    def _decides_itself(self) -> bool:
        """Return whether its class, or instrumentation, matches or serves in a way of its own."""
        return overrides(self, DispatchingRouter, "matches", "handle")

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match as an included router; may be overridden. Matches nothing by itself."""
        if (included := self._own_inclusion(scope)) is None:
            return Match.NONE, {}
        match, child, _, _ = included._match(scope)
        return match, child

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve as an included router; may be overridden."""
        if (included := self._own_inclusion(scope)) is None:
            await self.app(scope, receive, send)
        else:
            await included._handle_selected(scope, receive, send)


def _is_more_specific(child: Scope, than: Scope) -> bool:
    ours = child.get(_scope.FASTAPI, {}).get(_scope.FRONTEND_SPECIFICITY)
    theirs = than.get(_scope.FASTAPI, {}).get(_scope.FRONTEND_SPECIFICITY)
    return isinstance(ours, int) and isinstance(theirs, int) and ours > theirs
