"""From the tree of routers to the flat table of `_core.Router`.

The table has an entry for each route, in the order in which the tree would be searched, and finds
for a request what that search would find, whatever the number of routes. Only routes and routers
whose class decides for itself (custom matching) have to be asked; the Python routers serve what
these want.
"""

from collections.abc import Iterator
from inspect import getattr_static
from typing import TYPE_CHECKING, Any, Literal

from starlette import routing as starlette_routing
from starlette._utils import get_route_path
from starlette.convertors import (
    FloatConvertor,
    IntegerConvertor,
    PathConvertor,
    StringConvertor,
    UUIDConvertor,
)
from starlette.datastructures import URL
from starlette.responses import RedirectResponse
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from turboapi import _core
from turboapi._form_limits import _FormLimits
from turboapi._untouched import is_from
from turboapi.routing import _handler, _instrumented, _route
from turboapi.routing._included import _EffectiveRouteContext, _IncludedRouter
from turboapi.routing._places import AskedPlace, Place, RoutePlace
from turboapi.routing._route import APIRoute, APIWebSocketRoute

if TYPE_CHECKING:
    from turboapi.routing._dispatch import DispatchingRouter

CONVERTORS = (StringConvertor, IntegerConvertor, FloatConvertor, UUIDConvertor, PathConvertor)
# The first member of what `_core.Router.find` gives.
NOTHING, PARTIAL, FULL, ASK = range(4)

Kind = Literal["http", "websocket"]
# Kind, path, methods, target, items of the scope, and what _core.Router calls `extra`.
Entry = tuple[str, str, frozenset[str] | None, Any, dict[str, Any], Any]
# Whether it matches, what does, and what the match adds to the scope.
Found = tuple[Match, Place | None, Scope]


class RouteTable:
    """The compiled routes of one router: an immutable snapshot of the tree.

    Attributes:
        low_priority: what is tried when nothing else matches (`frontend()`).
    """

    def __init__(self, router: "DispatchingRouter", kind: Kind = "http") -> None:
        _instrumented.tell_ignored()
        self.targets: list[Place] = []
        self.entries: list[Entry] = []
        for entry, target in _walk(router, kind):
            self.entries.append(entry)
            self.targets.append(target)
        self.low_priority = tuple(router._low_priority())
        self.router = _core.Router(self.entries)
        self.match = self.router.match
        self.find = self.router.find

    def lookup(self, scope: Scope) -> Found | None:
        """Return what the routers would find for a request; None: they have to look themselves."""
        return look_up(self.find, self.targets, scope)


def with_other_slash(scope: Scope) -> Scope | None:
    """Return the scope that a redirect would lead to; None for a path that is not redirected."""
    path = get_route_path(scope)
    if scope["type"] != "http" or path == "/":
        return None
    other = dict(scope)
    other["path"] = other["path"].rstrip("/") if path.endswith("/") else other["path"] + "/"
    return other


def redirect_to(scope: Scope) -> RedirectResponse:
    """Return the redirect to that scope."""
    return RedirectResponse(url=str(URL(scope=scope)))


def look_up(find: Any, places: Any, scope: Scope) -> Found | None:
    """As `RouteTable.lookup`, with the places of any table."""
    method, path = scope.get("method", ""), get_route_path(scope)
    start, partial = 0, None
    while True:
        found = find(method, path, start)
        if found is None:
            return None
        kind, index, more = found
        if kind == FULL:
            place = places[index]
            match, child = place.ask(scope)
            return (match, place, child) if match is Match.FULL else None
        if kind == ASK:
            if partial is None:
                partial = more
            place = places[index]
            match, child = place.ask(scope)
            if match is Match.FULL or (match is Match.PARTIAL and partial is None):
                if place.asked_only:
                    return None
                if match is Match.FULL:
                    return match, place, child
                partial = index
            start = index + 1
            continue
        if partial is None:
            partial = index
        if partial is None:
            return Match.NONE, None, {}
        place = places[partial]
        match, child = place.ask(scope)
        return None if match is Match.NONE else (match, place, child)


def _walk(router: "DispatchingRouter", kind: Kind) -> Iterator[tuple[Entry, Place]]:
    for route in router.routes:
        if isinstance(route, _IncludedRouter):
            yield from _walk_included(route, None, router.form_limits, kind)
        else:
            yield from _entries(route, None, None, router.form_limits, kind)


def _walk_included(
    included: _IncludedRouter, within: _IncludedRouter | None, limits: _FormLimits, kind: Kind
) -> Iterator[tuple[Entry, Place]]:
    if included.original_router._decides_itself():
        yield opaque(), AskedPlace(included, None, within, limits)
        return
    limits = {**limits, **included.include_context.form_limits}
    for candidate in included.effective_candidates():
        if isinstance(candidate, _IncludedRouter):
            yield from _walk_included(candidate, included, limits, kind)
        else:
            yield from _entries(candidate.original_route, candidate, included, limits, kind)


def overrides(made: object, base: type, *names: str) -> bool:
    """Return whether a method of `base` is another one for this object."""
    own = vars(made)
    kind = type(made)
    # Not as attributes: what wraps a method may bind itself anew each time it is looked up.
    return any(
        getattr_static(kind, name, None) is not getattr_static(base, name) or name in own
        for name in names
    )


def _entries(
    route: BaseRoute,
    effective: _EffectiveRouteContext | None,
    included: _IncludedRouter | None,
    limits: _FormLimits,
    kind: Kind,
) -> Iterator[tuple[Entry, Place]]:
    where = (route, effective, included, limits)
    serving: Any = route
    if effective is not None:
        serving = effective.starlette_route or effective
    base = base_of(route)
    if base is None or overrides(route, base, "matches", "handle") or _is_replaced(base):
        yield opaque(), AskedPlace(*where)
    elif base in (starlette_routing.Mount, starlette_routing.Host):
        place = Place(*where)
        yield (mount if base is starlette_routing.Mount else host)(serving), place
    elif (base in (starlette_routing.WebSocketRoute, APIWebSocketRoute)) != (kind == "websocket"):
        return  # never matches such a request
    elif kind == "websocket":
        yield websocket(serving), Place(*where)
    else:
        place = RoutePlace(*where)
        if not has_known_convertors(serving):
            yield opaque(serving.path), place
            return
        _find_plan(place, limits)
        # A limit of the routers round it is asked before the method is.
        limited = place.limited is not None
        yield operation(serving, place.plan, place.scope_items(), limited=limited), place


# What would be called for a route in Python, and the module that defines it.
_OF_STARLETTE = (starlette_routing.Route, starlette_routing)
_ON_THE_WAY: dict[Any, tuple[tuple[Any, Any], ...]] = {
    APIRoute: ((APIRoute, _route), _OF_STARLETTE),
    starlette_routing.Route: (_OF_STARLETTE,),
}


def _is_replaced(base: Any) -> bool:
    """Return whether instrumentation of the class wants to be called."""
    return not all(
        is_from(getattr(cls, name), module)
        for cls, module in _ON_THE_WAY.get(base, ())
        for name in ("matches", "handle")
    )


def base_of(route: BaseRoute) -> Any:
    """Return the class whose rules the route has, if nothing is overridden."""
    return next(
        (
            base
            for base in (
                APIRoute,
                starlette_routing.Route,
                APIWebSocketRoute,
                starlette_routing.WebSocketRoute,
                starlette_routing.Mount,
                starlette_routing.Host,
            )
            if isinstance(route, base)
        ),
        None,
    )


def has_known_convertors(route: Any) -> bool:
    """Return whether C knows what the parameters of the path match."""
    return all(type(each) in CONVERTORS for each in route.param_convertors.values())


def opaque(path: str = "") -> Entry:
    """Return the entry of what has to be asked, for paths that begin as this one does."""
    return "any", path, None, None, {}, None


def operation(route: Any, plan: Any, items: dict[str, Any], *, limited: bool = False) -> Entry:
    """Return the entry of a route with methods; `limited`: not only the method decides on a 405."""
    methods = frozenset(route.methods) if route.methods else None
    # As Route.handle says it, in the same order.
    allow = ", ".join(route.methods or ())
    known = bool(allow) and allow.isascii() and allow.isprintable() and not limited
    return "route", route.path, methods, plan, items, allow.encode() if known else None


def websocket(route: Any) -> Entry:
    """Return the entry of a `WebSocketRoute`."""
    if not has_known_convertors(route):
        return opaque(route.path)
    return "route", route.path, None, None, {}, None


def mount(route: Any) -> Entry:
    """Return the entry of a `Mount`."""
    if not has_known_convertors(route):
        return opaque(route.path)
    return "mount", route.path, None, None, {}, None


def host(route: Any) -> Entry:
    """Return the entry of a `Host`."""
    pattern: str = route.host
    name: Any = route.host_regex.match
    if not route.param_convertors and pattern.isascii():
        # As compile_path reads it.
        name = pattern if pattern.endswith("]") else pattern.rsplit(":", 1)[0]
        name = name.lower().encode()
    return "host", "", None, None, {}, name


def _find_plan(target: RoutePlace, limits: _FormLimits) -> None:
    """Give the target its plan, if running it is all that the route does."""
    if not isinstance(target.route, APIRoute):
        return
    hooks = _handler.hooks_of(target.state.app)
    if hooks is None:
        return  # a body limit round it, a custom handler, or something the user put there
    hooks = hooks.inheriting(limits)
    try:
        target.plan = hooks.plan
    except Exception:
        return  # it shall fail for requests of this route only
    target.hooks = hooks
