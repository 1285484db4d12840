"""From the tree of routers to the flat table of `_core.Router`.

The table has an entry for each route, in the order in which the tree would be searched. What the C
router can't decide (custom matching, mounts, hosts, 405, redirects) is left to the Python routers.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from starlette import routing as starlette_routing
from starlette.convertors import (
    FloatConvertor,
    IntegerConvertor,
    PathConvertor,
    StringConvertor,
    UUIDConvertor,
)
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from turboapi import _core
from turboapi._body_limit import wrap_app_with_body_limit
from turboapi._form_limits import _FormLimits
from turboapi.routing import _handler, _scope
from turboapi.routing._included import _EffectiveRouteContext, _IncludedRouter
from turboapi.routing._route import APIRoute, APIWebSocketRoute
from turboapi.telemetry._api import _route_selected

if TYPE_CHECKING:
    from turboapi.routing._router import APIRouter

CONVERTORS = (StringConvertor, IntegerConvertor, FloatConvertor, UUIDConvertor, PathConvertor)

_WEBSOCKET_MATCHES = (starlette_routing.WebSocketRoute.matches, APIWebSocketRoute.matches)

Entry = tuple[str, str, frozenset[str] | None, Any, dict[str, Any]]


class Target:
    """What serves an entry through the ASGI door."""

    __slots__ = (
        "effective", "form_limits", "hooks", "included", "limited", "plan", "route", "state",
    )  # fmt: skip

    def __init__(
        self,
        route: BaseRoute,
        effective: _EffectiveRouteContext | None,
        included: _IncludedRouter | None,
        form_limits: _FormLimits,
    ) -> None:
        self.route = route
        self.effective = effective
        self.included = included
        self.form_limits = form_limits
        serving: Any = route
        if effective is not None:
            serving = effective.starlette_route or effective
        self.state = serving
        # A Starlette route has no limit of its own; that of the routers round it holds.
        limit = included.include_context.max_body_size if included is not None else None
        self.limited: ASGIApp | None = None
        # The plan, when running it is all that the route does, and its hooks (_plan_of).
        self.plan: Any | None = None
        self.hooks: Any | None = None
        if limit is not None and not isinstance(route, APIRoute):
            self.limited = wrap_app_with_body_limit(serving.app, limit)

    def scope_items(self) -> dict[str, Any]:
        """What every request of this entry has in its scope."""
        items: dict[str, Any] = {"endpoint": self.state.endpoint}
        if isinstance(self.route, APIRoute):
            items["route"] = self.route
        return items

    def enter(self, scope: Scope, path_params: dict[str, Any]) -> None:
        """Put into the scope what matching in Python would have put there."""
        inherited = scope.get("path_params")
        scope["path_params"] = {**inherited, **path_params} if inherited else path_params
        scope["endpoint"] = self.state.endpoint
        if isinstance(self.route, APIRoute):
            scope["route"] = self.route
        if self.effective is not None:
            own = _scope.own_scope(scope)
            own[_scope.INCLUDED_ROUTER] = self.included
            own[_scope.EFFECTIVE_ROUTE] = self.effective
            _scope.add_form_limits(scope, self.form_limits)
        if "fastapi.telemetry" in scope:
            _route_selected(scope=scope, path=self.state.path_format)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        # `app` is looked up at each request: instrumentation may have replaced it.
        await (self.limited or self.state.app)(scope, receive, send)


class RouteTable:
    """The compiled routes of one router: an immutable snapshot of the tree."""

    def __init__(self, router: "APIRouter") -> None:
        self.targets: list[Target | None] = []
        self.entries: list[Entry] = []
        for entry, target in _walk(router):
            self.entries.append(entry)
            self.targets.append(target)
        self.router = _core.Router(self.entries)
        self.match = self.router.match


OPAQUE: Entry = ("any", "", None, None, {})


def _walk(router: "APIRouter") -> Iterator[tuple[Entry, Target | None]]:
    for route in router.routes:
        if isinstance(route, _IncludedRouter):
            yield from _walk_included(route, router.form_limits)
        else:
            yield from _entries(route, None, None, router.form_limits)


def _walk_included(
    included: _IncludedRouter, limits: _FormLimits
) -> Iterator[tuple[Entry, Target | None]]:
    if _is_custom(included.original_router):
        yield OPAQUE, None
        return
    limits = {**limits, **included.include_context.form_limits}
    for candidate in included.effective_candidates():
        if isinstance(candidate, _IncludedRouter):
            yield from _walk_included(candidate, limits)
        else:
            yield from _entries(candidate.original_route, candidate, included, limits)


def _is_custom(router: "APIRouter") -> bool:
    from turboapi.routing._router import APIRouter

    kind = type(router)
    return any(
        getattr(kind, name) is not getattr(APIRouter, name) for name in ("matches", "handle")
    )


def _entries(
    route: BaseRoute,
    effective: _EffectiveRouteContext | None,
    included: _IncludedRouter | None,
    limits: _FormLimits,
) -> Iterator[tuple[Entry, Target | None]]:
    kind = type(route)
    if getattr(kind, "matches", None) in _WEBSOCKET_MATCHES:
        return  # never matches an HTTP request
    serving: Any = route
    if effective is not None:
        serving = effective.starlette_route or effective
    if kind is starlette_routing.Mount:
        yield ("mount", serving.path, None, None, {}), None
        return
    base = APIRoute if isinstance(route, APIRoute) else starlette_routing.Route
    if (
        not isinstance(route, base)
        or any(getattr(kind, name) is not getattr(base, name) for name in ("matches", "handle"))
        or any(type(each) not in CONVERTORS for each in serving.param_convertors.values())
    ):
        yield OPAQUE, None
        return
    target = Target(route, effective, included, limits)
    methods = frozenset(serving.methods) if serving.methods else None
    _find_plan(target, limits)
    yield ("route", serving.path, methods, target.plan, target.scope_items()), target


def _find_plan(target: Target, limits: _FormLimits) -> None:
    """Give the target its plan, if running it is all that the route does."""
    if not isinstance(target.route, APIRoute):
        return
    hooks = _handler.hooks_of(target.state.app)
    if hooks is None:
        return  # a body limit round it, a custom handler, or something the user put there
    hooks.effective, hooks.inherited_limits = target.effective, limits
    try:
        target.plan = hooks.plan
    except Exception:
        return  # it shall fail for requests of this route only
    target.hooks = hooks
