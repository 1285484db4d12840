"""Included routers: the tree of routers, and what its routes are at each place.

`include_router` keeps the router that it is given: routes that are added to it later are there
too, everywhere it is included. A route of an included router has an *effective route* for each
place: its path, tags, dependencies and other settings as they are there.
"""

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette import routing
from starlette._utils import get_route_path
from starlette.routing import BaseRoute, Match, NoMatchFound, compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from turboapi._body_limit import (
    wrap_app_with_body_limit,
)
from turboapi.routing import _scope
from turboapi.routing._frontend import _FrontendRouteGroup
from turboapi.routing._include_context import _RouterIncludeContext
from turboapi.routing._route import APIRoute, APIWebSocketRoute, effective_route, operation_app
from turboapi.routing._state import OperationState
from turboapi.telemetry._api import _route_selected

if TYPE_CHECKING:
    from turboapi.routing._router import APIRouter


class _EffectiveRouteContext(OperationState):
    """A route at one place in the tree.

    Attributes:
        original_route: the route as its router has it.
        starlette_route: for routes that are not `APIRoute`: the one that serves this place.
        app: the ASGI application at this place.
        frontend_prefix: for `frontend()` routes: where the router is included.
    """

    def __init__(
        self,
        original_route: BaseRoute,
        *,
        starlette_route: BaseRoute | None = None,
        frontend_prefix: str = "",
    ) -> None:
        self.original_route = original_route
        self.starlette_route = starlette_route
        self.frontend_prefix = frontend_prefix
        self.app: ASGIApp | None = None
        self.tags = []
        self.responses = {}
        self.param_convertors = {}
        self.methods = set()
        self.dependencies = []
        self.response_fields = {}

    @classmethod
    def of_api_route(
        cls, route: APIRoute, context: _RouterIncludeContext
    ) -> "_EffectiveRouteContext":
        made = cls(route)
        made._configure(
            context.path_for(route),
            route.endpoint,
            context.options_for(route),
            stream_item_type=route.stream_item_type,
        )
        token = effective_route.set(made)
        try:
            made.app = operation_app(route, made)
        finally:
            effective_route.reset(token)
        return made

    @classmethod
    def of_frontend(
        cls, group: _FrontendRouteGroup, context: _RouterIncludeContext
    ) -> "_EffectiveRouteContext":
        made = cls(group, frontend_prefix=context.prefix)
        made.dependencies = context.dependencies + group.dependencies
        made.dependency_overrides_provider = context.dependency_overrides_provider
        made.guard = group.guard_for(made.dependencies, made.dependency_overrides_provider)
        return made

    guard: Any = None
    """For `frontend()` routes: what runs their dependencies."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As a route's `matches`, at this place."""
        if isinstance(self.original_route, _FrontendRouteGroup):
            return self.original_route.matches_with_prefix(scope, self.frontend_prefix)
        if self.starlette_route is not None:
            return self.starlette_route.matches(scope)
        if scope["type"] != "http":
            return Match.NONE, {}
        found = self.path_regex.match(get_route_path(scope))
        if found is None:
            return Match.NONE, {}
        own_params = {
            name: self.param_convertors[name].convert(text)
            for name, text in found.groupdict().items()
        }
        child: Scope = {
            "endpoint": self.endpoint,
            "path_params": {**scope.get("path_params", {}), **own_params},
        }
        allowed = not self.methods or scope["method"] in self.methods
        return (Match.FULL if allowed else Match.PARTIAL), child

    def url_path_for(self, name: str, /, **path_params: Any) -> Any:
        """Return the path of this route; raise NoMatchFound when it is not the one asked for."""
        if self.starlette_route is not None:
            return self.starlette_route.url_path_for(name, **path_params)
        if not isinstance(self.original_route, APIRoute):
            raise NoMatchFound(name, path_params)
        # Starlette's own, on the attributes that stand here.
        return routing.Route.url_path_for(self, name, **path_params)  # type: ignore[arg-type]


@dataclass(frozen=True)
class RouteContext:
    """A route as `iter_route_contexts` gives it: its attributes are those at its place.

    Attributes:
        route: the route as its router has it; also as `original_route`.
    """

    route: BaseRoute
    _route_context: _EffectiveRouteContext | None = field(default=None, repr=False)

    @property
    def original_route(self) -> BaseRoute:
        return self.route if self._route_context is None else self._route_context.original_route

    @property
    def _effective_route(self) -> BaseRoute | _EffectiveRouteContext:
        context = self._route_context
        if context is None:
            return self.route
        return context if context.starlette_route is None else context.starlette_route

    @property
    def path(self) -> str | None:
        return getattr(self._effective_route, "path", None)

    @property
    def path_format(self) -> str | None:
        return getattr(self._effective_route, "path_format", None)

    @property
    def name(self) -> str | None:
        return getattr(self._effective_route, "name", None)

    @property
    def methods(self) -> set[str] | None:
        return getattr(self._effective_route, "methods", None)

    @property
    def endpoint(self) -> Callable[..., Any] | None:
        return getattr(self._effective_route, "endpoint", None)

    @property
    def starlette_route(self) -> BaseRoute | None:
        # Exporters of metrics ask for it at every request; without this it is an error each time.
        return getattr(self._effective_route, "starlette_route", None)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Ask the route: exporters of metrics do so for every request, and every route."""
        route: Any = self.route if self._route_context is None else self._effective_route
        return route.matches(scope)  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.route if self._route_context is None else self._effective_route, name)


class _IncludedRouter(BaseRoute):
    """The route that stands in a router for one that it includes."""

    def __init__(
        self, original_router: "APIRouter", include_context: _RouterIncludeContext
    ) -> None:
        self.original_router = original_router
        self.include_context = include_context
        self._effective_routes_lock = threading.Lock()
        self._effective_candidates: list[_EffectiveRouteContext | _IncludedRouter] = []
        self._effective_candidates_version: int | None = None
        self._effective_low_priority_routes: list[_EffectiveRouteContext] = []
        self._effective_low_priority_routes_version: int | None = None

    # -- what is there ------------------------------------------------------------------------

    def effective_candidates(self) -> list["_EffectiveRouteContext | _IncludedRouter"]:
        """Return the routes of the router at this place, in order; made anew when the router
        changed.
        """
        if self._effective_candidates_version == self.original_router._get_routes_version():
            return self._effective_candidates
        with self._effective_routes_lock:
            version = self.original_router._get_routes_version()
            if self._effective_candidates_version != version:
                made = map(self._at_this_place, list(self.original_router.routes))
                self._effective_candidates = [each for each in made if each is not None]
                self._effective_candidates_version = version
            return self._effective_candidates

    def effective_low_priority_routes(self) -> list[_EffectiveRouteContext]:
        """Return the same for what is tried last (`frontend()`), with that of the routers below."""
        version = self.original_router._get_routes_version()
        if self._effective_low_priority_routes_version == version:
            return self._effective_low_priority_routes
        with self._effective_routes_lock:
            version = self.original_router._get_routes_version()
            if self._effective_low_priority_routes_version != version:
                self._effective_low_priority_routes = list(self._make_low_priority_routes())
                self._effective_low_priority_routes_version = version
            return self._effective_low_priority_routes

    def _make_low_priority_routes(self) -> Iterator[_EffectiveRouteContext]:
        for route in self.original_router._low_priority_routes:
            made = self._effective(route)
            if made is None:
                continue
            if not isinstance(route, APIRoute):
                serving = made.starlette_route or route
                made.app = wrap_app_with_body_limit(
                    serving.handle, self.include_context.max_body_size
                )
            yield made
        for route in self.original_router.routes:
            if isinstance(route, _IncludedRouter):
                yield from self._below(route).effective_low_priority_routes()

    def _below(self, included: "_IncludedRouter") -> "_IncludedRouter":
        return _IncludedRouter(
            included.original_router, self.include_context.combine(included.include_context)
        )

    def _at_this_place(self, route: BaseRoute) -> "_EffectiveRouteContext | _IncludedRouter | None":
        if isinstance(route, _IncludedRouter):
            return self._below(route)
        return self._effective(route)

    def _effective(self, route: BaseRoute) -> _EffectiveRouteContext | None:
        """Return the effective route, or None for a route that can't be moved below a prefix."""
        if isinstance(route, APIRoute):
            return _EffectiveRouteContext.of_api_route(route, self.include_context)
        if isinstance(route, _FrontendRouteGroup):
            return _EffectiveRouteContext.of_frontend(route, self.include_context)
        moved = self._moved(route)
        return None if moved is None else _EffectiveRouteContext(route, starlette_route=moved)

    def _moved(self, route: BaseRoute) -> BaseRoute | None:
        context = self.include_context
        if isinstance(route, routing.Route):
            return routing.Route(
                context.path_for(route),
                endpoint=route.endpoint,
                methods=list(route.methods or []),
                name=route.name,
                include_in_schema=route.include_in_schema,
            )
        if isinstance(route, APIWebSocketRoute):
            return APIWebSocketRoute(
                context.path_for(route),
                endpoint=route.endpoint,
                name=route.name,
                dependencies=context.dependencies + route.dependencies,
                dependency_overrides_provider=context.dependency_overrides_provider,
            )
        if isinstance(route, routing.WebSocketRoute):
            return routing.WebSocketRoute(context.path_for(route), route.endpoint, name=route.name)
        if isinstance(route, routing.Mount):
            mount = copy.copy(route)
            mount.path = context.path_for(route).rstrip("/")
            mount.path_regex, mount.path_format, mount.param_convertors = compile_path(
                mount.path + "/{path:path}"
            )
            return mount
        if isinstance(route, routing.Host):
            app = route.app
            if context.prefix:
                app = routing.Router(routes=[routing.Mount(context.prefix, app=app)])
            return routing.Host(route.host, app=app, name=route.name)
        return None

    def effective_route_contexts(self) -> Iterator[_EffectiveRouteContext]:
        """All effective routes at this place and below it."""
        for candidate in self.effective_candidates():
            if isinstance(candidate, _IncludedRouter):
                yield from candidate.effective_route_contexts()
            else:
                yield candidate

    # -- as a route ---------------------------------------------------------------------------

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Ask the router itself, which may be of a class that overrides `matches`."""
        with _scope.key_set(scope, _scope.INCLUDED_ROUTER, self):
            match, _ = self.original_router.matches(scope)
        return match, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the router itself handle it, for the same reason."""
        _scope.add_form_limits(scope, self.include_context.form_limits)
        _scope.own_scope(scope)[_scope.INCLUDED_ROUTER] = self
        await self.original_router.handle(scope, receive, send)

    def _match(
        self, scope: Scope
    ) -> tuple[Match, Scope, BaseRoute | None, _EffectiveRouteContext | None]:
        """Return the first full match here, else the first partial one."""
        partial: tuple[Match, Scope, BaseRoute | None, _EffectiveRouteContext | None] | None = None
        for candidate in self.effective_candidates():
            if isinstance(candidate, _IncludedRouter):
                match, child = candidate.matches(scope)
                found: Any = (match, child, candidate, None)
            else:
                match, child, route = match_effective(candidate, scope)
                found = (match, child, route, candidate)
            if match is Match.FULL:
                return found  # type: ignore[no-any-return]
            if match is Match.PARTIAL and partial is None:
                partial = found
        return partial or (Match.NONE, {}, None, None)

    async def _handle_selected(self, scope: Scope, receive: Receive, send: Send) -> None:
        match, child, route, effective = self._match(scope)
        limit = self.include_context.max_body_size
        if match is Match.NONE or route is None:
            await wrap_app_with_body_limit(self.original_router.default, limit)(
                scope, receive, send
            )
            return
        _scope.merge_child(scope, child)
        if effective is None:
            await route.handle(scope, receive, send)
            return
        _route_selected(
            scope=scope,
            path=getattr(effective.starlette_route, "path_format", None) or effective.path_format,
            mount=isinstance(route, routing.Mount),
        )
        _scope.own_scope(scope)[_scope.EFFECTIVE_ROUTE] = effective
        if isinstance(route, APIRoute):
            scope["route"] = route
            await route.handle(scope, receive, send)
        else:
            await wrap_app_with_body_limit(route.handle, limit)(scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: Any) -> Any:
        """Return the path of the first route here of that name and those parameters."""
        for effective in self.effective_route_contexts():
            try:
                return effective.url_path_for(name, **path_params)
            except NoMatchFound:
                continue
        raise NoMatchFound(name, path_params)


def match_effective(
    effective: _EffectiveRouteContext, scope: Scope
) -> tuple[Match, Scope, BaseRoute]:
    """Match one effective route; an `APIRoute` is asked itself, as its class may override it."""
    original = effective.original_route
    if isinstance(original, APIRoute):
        with _scope.key_set(scope, _scope.EFFECTIVE_ROUTE, effective):
            return (*original.matches(scope), original)
    return (*effective.matches(scope), effective.starlette_route or original)


def routes_with_context(
    routes: Sequence[BaseRoute],
) -> Iterator[tuple[BaseRoute, _EffectiveRouteContext | None]]:
    """Every route below `routes`, with its effective route when it is an included router's."""
    for route in routes:
        if isinstance(route, _IncludedRouter):
            for effective in route.effective_route_contexts():
                yield effective.original_route, effective
        else:
            yield route, None


def _iter_included_route_candidates(routes: Sequence[BaseRoute]) -> Iterator[BaseRoute]:
    for route, effective in routes_with_context(routes):
        yield (effective.starlette_route if effective is not None else None) or route


def iter_route_contexts(routes: Sequence[BaseRoute | RouteContext]) -> Iterator[RouteContext]:
    """Every path operation below `routes`, with its path and settings as they are there.

    Contexts among `routes` are given back as they are.
    """
    kept: Callable[[], Sequence[RouteContext] | None] | None
    kept = getattr(routes, "_own_contexts", None)
    yield from (kept and kept()) or _contexts_of(routes)


def _contexts_of(routes: Sequence[BaseRoute | RouteContext]) -> Iterator[RouteContext]:
    for route in routes:
        if isinstance(route, RouteContext):
            yield route
        elif isinstance(route, _IncludedRouter):
            for effective in route.effective_route_contexts():
                yield RouteContext(effective.original_route, effective)
        else:
            yield RouteContext(route)
