"""`APIRouter`: declares path operations, includes other routers, and dispatches."""

import threading
import weakref
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from enum import Enum
from typing import Annotated, Any, Literal, SupportsIndex

from starlette import routing
from starlette._utils import get_route_path, is_async_callable
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send
from starlette.websockets import WebSocket
from typing_extensions import Unpack, deprecated

from turboapi import params
from turboapi._body_limit import (
    get_body_size_limit,
    validate_max_body_size,
    wrap_app_with_body_limit,
)
from turboapi._compile.route_table import (
    Kind,
    RouteTable,
    overrides,
    redirect_to,
    with_other_slash,
)
from turboapi._form_limits import _FormLimits, _validate_form_limits
from turboapi.datastructures import Default
from turboapi.exceptions import FastAPIError
from turboapi.routing import _files, _frontend, _scope
from turboapi.routing._frontend import Directory, Fallback, _FrontendRouteGroup
from turboapi.routing._included import (
    _EffectiveRouteContext,
    _IncludedRouter,
    _RouterIncludeContext,
    match_effective,
    routes_with_context,
)
from turboapi.routing._lifespan import as_lifespan, merged_lifespan
from turboapi.routing._options import (
    ADD_API_ROUTE,
    API_ROUTE,
    INCLUDE,
    ROUTE,
    AddRouteOptions,
    IncludeOptions,
    MethodsOptions,
    RouteOptions,
    RunMode,
    takes_options,
)
from turboapi.routing._route import APIRoute, APIWebSocketRoute
from turboapi.telemetry._api import _route_selected
from turboapi.types import DecoratedCallable
from turboapi.utils import generate_unique_id, get_value_or_default

_ROUTES_WARNING = """
You normally wouldn't use this parameter with FastAPI, it is inherited
from Starlette and supported for compatibility.

In FastAPI, you normally would use the *path operation methods*,
like `router.get()`, `router.post()`, etc.
"""


class RouteList(list[BaseRoute]):
    """The routes of a router, which learns of every change."""

    def __init__(self, routes: Iterable[BaseRoute], router: "APIRouter") -> None:
        super().__init__(routes)
        # A weak reference: the router owns the list.
        self._router = weakref.ref(router)

    def _changed(self) -> None:
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


def _check_prefix(prefix: str) -> None:
    if prefix:
        assert prefix.startswith("/"), "A path prefix must start with '/'"
        assert not prefix.endswith("/"), (
            "A path prefix must not end with '/', as the routes will start with '/'"
        )


class APIRouter(routing.Router):
    """A group of path operations. https://fastapi.tiangolo.com/reference/apirouter/

    Parameters are FastAPI's; besides them `run` ("inline" or "thread") says where the `def`
    endpoints of this router run.

    Raises:
        AssertionError: for a prefix without a slash at its start, or with one at its end.
        ValueError: for a negative `max_body_size`.
        pydantic.ValidationError: for unknown or wrong `form_limits`.
    """

    def __init__(
        self,
        *,
        prefix: str = "",
        tags: list[str | Enum] | None = None,
        dependencies: Sequence[params.Depends] | None = None,
        default_response_class: type[Response] = Default(JSONResponse),
        responses: dict[int | str, dict[str, Any]] | None = None,
        callbacks: list[BaseRoute] | None = None,
        routes: Annotated[list[BaseRoute] | None, deprecated(_ROUTES_WARNING)] = None,
        redirect_slashes: bool = True,
        default: ASGIApp | None = None,
        dependency_overrides_provider: Any | None = None,
        route_class: type[APIRoute] = APIRoute,
        on_startup: Sequence[Callable[[], Any]] | None = None,
        on_shutdown: Sequence[Callable[[], Any]] | None = None,
        lifespan: Lifespan[Any] | None = None,
        deprecated: bool | None = None,
        include_in_schema: bool = True,
        generate_unique_id_function: Callable[[APIRoute], str] = Default(generate_unique_id),
        strict_content_type: bool = Default(True),
        max_body_size: int | None = None,
        form_limits: _FormLimits | None = None,
        run: RunMode | None = None,
    ) -> None:
        validate_max_body_size(max_body_size)
        self._routes_version = 0
        self._table: RouteTable | None = None
        self._websocket_table: RouteTable | None = None
        self._table_lock = threading.RLock()
        # Routers that include this one: their tables depend on it.
        # (Routers compare by their routes, so that they have no hash: no set can hold them.)
        self._including: list[weakref.ref[APIRouter]] = []
        self._watchers: list[Callable[[], None]] = []
        limit = [Middleware(wrap_app_with_body_limit, max_body_size=max_body_size)]
        super().__init__(
            routes=routes,
            redirect_slashes=redirect_slashes,
            default=default,
            lifespan=as_lifespan(lifespan, self),
            middleware=None if max_body_size is None else limit,
        )
        _check_prefix(prefix)
        self.prefix = prefix
        self.tags: list[str | Enum] = tags or []
        self.dependencies = list(dependencies or [])
        self.default_response_class = default_response_class
        self.responses = responses or {}
        self.callbacks = callbacks or []
        self.dependency_overrides_provider = dependency_overrides_provider
        self.route_class = route_class
        self.on_startup: list[Callable[[], Any]] = list(on_startup or [])
        self.on_shutdown: list[Callable[[], Any]] = list(on_shutdown or [])
        self.deprecated = deprecated
        self.include_in_schema = include_in_schema
        self.generate_unique_id_function = generate_unique_id_function
        self.strict_content_type = strict_content_type
        self.max_body_size = max_body_size
        self.form_limits = _validate_form_limits(form_limits)
        self.run_mode: RunMode | None = run
        self._low_priority_routes: list[BaseRoute] = []
        self._frontend_routes: _FrontendRouteGroup | None = None

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

    def _contains_router(self, router: "APIRouter", seen: set[int] | None = None) -> bool:
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
                    table = self._table = self._make_table("http")
        return table

    def _table_of_websockets(self) -> RouteTable:
        table = self._websocket_table
        if table is None:
            with self._table_lock:
                table = self._websocket_table
                if table is None:
                    table = self._websocket_table = self._make_table("websocket")
        return table

    def _make_table(self, kind: Kind) -> RouteTable:
        while True:
            version = self._get_routes_version()
            table = RouteTable(self, kind)
            if version == self._get_routes_version():  # else changed by another thread meanwhile
                return table

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
        """Whether its class, or instrumentation, matches or serves in a way of its own."""
        return overrides(self, APIRouter, "matches", "handle")

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

    # -- declaring routes ---------------------------------------------------------------------

    @takes_options(ADD_API_ROUTE)
    def add_api_route(
        self, path: str, endpoint: Callable[..., Any], **options: Unpack[AddRouteOptions]
    ) -> None:
        """Add a path operation; as the decorators, for an endpoint that exists."""
        given: dict[str, Any] = {**options}
        route_class = given.pop("route_class_override") or self.route_class
        merged: dict[str, Any] = {
            **given,
            "tags": [*self.tags, *(given["tags"] or ())],
            "dependencies": [*self.dependencies, *(given["dependencies"] or [])],
            "responses": {**self.responses, **(given["responses"] or {})},
            "callbacks": [*self.callbacks, *(given["callbacks"] or ())],
            "deprecated": given["deprecated"] or self.deprecated,
            "include_in_schema": given["include_in_schema"] and self.include_in_schema,
            "response_class": get_value_or_default(
                given["response_class"], self.default_response_class
            ),
            "generate_unique_id_function": get_value_or_default(
                given["generate_unique_id_function"], self.generate_unique_id_function
            ),
            "strict_content_type": get_value_or_default(
                given["strict_content_type"], self.strict_content_type
            ),
            "max_body_size": get_body_size_limit(given["max_body_size"], self.max_body_size),
            "run": given["run"] or self.run_mode,
            "dependency_overrides_provider": self.dependency_overrides_provider,
        }
        for name in ("form_limits", "run"):
            # Route classes that take fixed parameters need not know these.
            if merged[name] is None:
                del merged[name]
        self.routes.append(route_class(self.prefix + path, endpoint=endpoint, **merged))

    @takes_options(API_ROUTE)
    def api_route(
        self, path: str, **options: Unpack[MethodsOptions]
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate the endpoint of a path operation with any `methods`."""

        def decorate(endpoint: DecoratedCallable) -> DecoratedCallable:
            self.add_api_route(path, endpoint, **options)
            return endpoint

        return decorate

    def add_api_websocket_route(
        self,
        path: str,
        endpoint: Callable[..., Any],
        name: str | None = None,
        *,
        dependencies: Sequence[params.Depends] | None = None,
    ) -> None:
        """Add a WebSocket endpoint with dependencies."""
        self.routes.append(
            APIWebSocketRoute(
                self.prefix + path,
                endpoint=endpoint,
                name=name,
                dependencies=[*self.dependencies, *(dependencies or [])],
                dependency_overrides_provider=self.dependency_overrides_provider,
            )
        )

    def websocket(
        self,
        path: str,
        name: str | None = None,
        *,
        dependencies: Sequence[params.Depends] | None = None,
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate a WebSocket endpoint."""

        def decorate(endpoint: DecoratedCallable) -> DecoratedCallable:
            self.add_api_websocket_route(path, endpoint, name=name, dependencies=dependencies)
            return endpoint

        return decorate

    def websocket_route(
        self, path: str, name: str | None = None
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate a plain Starlette WebSocket endpoint."""

        def decorate(endpoint: DecoratedCallable) -> DecoratedCallable:
            self.add_websocket_route(path, endpoint, name=name)
            return endpoint

        return decorate

    def route(
        self,
        path: str,
        methods: Collection[str] | None = None,
        name: str | None = None,
        include_in_schema: bool = True,
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate a plain Starlette endpoint: it gets the request and gives a response."""

        def decorate(endpoint: DecoratedCallable) -> DecoratedCallable:
            self.add_route(
                path, endpoint, methods=methods, name=name, include_in_schema=include_in_schema
            )
            return endpoint

        return decorate

    def add_route(
        self,
        path: str,
        endpoint: Callable[[Request], Awaitable[Response] | Response],
        methods: Collection[str] | None = None,
        name: str | None = None,
        include_in_schema: bool = True,
    ) -> None:
        """Add a plain Starlette endpoint."""
        super().add_route(path, endpoint, methods, name, include_in_schema)

    def add_websocket_route(
        self,
        path: str,
        endpoint: Callable[[WebSocket], Awaitable[None]],
        name: str | None = None,
    ) -> None:
        """Add a plain Starlette WebSocket endpoint."""
        super().add_websocket_route(path, endpoint, name)

    def frontend(
        self,
        path: str,
        *,
        directory: Directory,
        fallback: Fallback | None = "auto",
        check_dir: bool | Literal["auto"] = "auto",
    ) -> None:
        """Serve a built single-page application below `path`, where no other route matches.

        Raises:
            AssertionError: for a path that is empty or does not start with a slash.
            RuntimeError: when the directory or the fallback page is missing and `check_dir` holds.
        """
        check_dir = _frontend.resolve_check_dir(directory=directory, check_dir=check_dir)
        path = _frontend.join_paths(self.prefix, _frontend.normalize_path(path))
        if self._frontend_routes is None:
            self._frontend_routes = _FrontendRouteGroup(
                dependencies=self.dependencies,
                dependency_overrides_provider=self.dependency_overrides_provider,
            )
            self._low_priority_routes.append(self._frontend_routes)
        self._frontend_routes.add_frontend_route(
            path, directory=directory, fallback=fallback, check_dir=check_dir
        )
        self._mark_routes_changed()

    @takes_options(INCLUDE)
    def include_router(self, router: "APIRouter", **options: Unpack[IncludeOptions]) -> None:
        """Include another router: its routes, now and later, its event handlers and lifespan.

        Raises:
            AssertionError: for a bad prefix, or when it would include itself.
            FastAPIError: when the prefix and the path of a route are both empty.
        """
        assert self is not router, (
            "Cannot include the same APIRouter instance into itself. "
            "Did you mean to include a different router?"
        )
        assert not router._contains_router(self), (
            "Cannot include an APIRouter instance that already includes this router. "
            "Did you mean to include a different router?"
        )
        given: dict[str, Any] = {**options}
        prefix = given["prefix"]
        _check_prefix(prefix)
        if not prefix:
            _check_no_empty_path(router)
        context = _RouterIncludeContext.for_include(self, router, given)
        router._including.append(weakref.ref(self))
        self.routes.append(_IncludedRouter(router, context))
        for handler in router.on_startup:
            self.add_event_handler("startup", handler)
        for handler in router.on_shutdown:
            self.add_event_handler("shutdown", handler)
        self.lifespan_context = merged_lifespan(self.lifespan_context, router.lifespan_context)

    # -- one method for each HTTP method ------------------------------------------------------

    @takes_options(ROUTE)
    def get(
        self, path: str, **options: Unpack[RouteOptions]
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate the endpoint of a *path operation* with GET."""
        return self.api_route(path=path, methods=["GET"], **options)

    @takes_options(ROUTE)
    def put(
        self, path: str, **options: Unpack[RouteOptions]
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate the endpoint of a *path operation* with PUT."""
        return self.api_route(path=path, methods=["PUT"], **options)

    @takes_options(ROUTE)
    def post(
        self, path: str, **options: Unpack[RouteOptions]
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate the endpoint of a *path operation* with POST."""
        return self.api_route(path=path, methods=["POST"], **options)

    @takes_options(ROUTE)
    def delete(
        self, path: str, **options: Unpack[RouteOptions]
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate the endpoint of a *path operation* with DELETE."""
        return self.api_route(path=path, methods=["DELETE"], **options)

    @takes_options(ROUTE)
    def options(
        self, path: str, **options: Unpack[RouteOptions]
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate the endpoint of a *path operation* with OPTIONS."""
        return self.api_route(path=path, methods=["OPTIONS"], **options)

    @takes_options(ROUTE)
    def head(
        self, path: str, **options: Unpack[RouteOptions]
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate the endpoint of a *path operation* with HEAD."""
        return self.api_route(path=path, methods=["HEAD"], **options)

    @takes_options(ROUTE)
    def patch(
        self, path: str, **options: Unpack[RouteOptions]
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate the endpoint of a *path operation* with PATCH."""
        return self.api_route(path=path, methods=["PATCH"], **options)

    @takes_options(ROUTE)
    def trace(
        self, path: str, **options: Unpack[RouteOptions]
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate the endpoint of a *path operation* with TRACE."""
        return self.api_route(path=path, methods=["TRACE"], **options)

    # -- events -------------------------------------------------------------------------------

    async def _startup(self) -> None:
        await _call_all(self.on_startup)

    async def _shutdown(self) -> None:
        await _call_all(self.on_shutdown)

    def add_event_handler(self, event_type: str, func: Callable[[], Any]) -> None:
        """Call `func` at "startup" or "shutdown"."""
        assert event_type in ("startup", "shutdown")
        handlers = self.on_startup if event_type == "startup" else self.on_shutdown
        handlers.append(func)

    # A literal: type checkers show no other message.
    @deprecated(
        """
on_event is deprecated, use lifespan event handlers instead.

Read more about it in the
[FastAPI docs for Lifespan Events](https://fastapi.tiangolo.com/advanced/events/).
"""
    )
    def on_event(self, event_type: str) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate a handler of "startup" or "shutdown"; a lifespan is the better way."""

        def decorate(func: DecoratedCallable) -> DecoratedCallable:
            self.add_event_handler(event_type, func)
            return func

        return decorate


async def _call_all(handlers: Sequence[Callable[[], Any]]) -> None:
    for handler in handlers:
        if is_async_callable(handler):
            await handler()
        else:
            handler()


def _is_more_specific(child: Scope, than: Scope) -> bool:
    ours = child.get(_scope.FASTAPI, {}).get(_scope.FRONTEND_SPECIFICITY)
    theirs = than.get(_scope.FASTAPI, {}).get(_scope.FRONTEND_SPECIFICITY)
    return isinstance(ours, int) and isinstance(theirs, int) and ours > theirs


def _check_no_empty_path(router: APIRouter) -> None:
    for route, effective in routes_with_context(router.routes):
        serving: Any = route if effective is None else effective.starlette_route or effective
        if getattr(serving, "path", None) == "":
            name = getattr(serving, "name", "unknown")
            raise FastAPIError(f"Prefix and path cannot be both empty (path operation: {name})")
