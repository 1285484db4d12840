"""`APIRouter`: declares path operations and includes other routers."""

import weakref
from collections.abc import Awaitable, Callable, Collection, Sequence
from enum import Enum
from typing import Annotated, Any, Literal

from starlette._utils import is_async_callable
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Lifespan
from starlette.websockets import WebSocket
from typing_extensions import Unpack, deprecated

from turboapi import params
from turboapi._body_limit import (
    get_body_size_limit,
    validate_max_body_size,
    wrap_app_with_body_limit,
)
from turboapi._form_limits import _FormLimits, _validate_form_limits
from turboapi.datastructures import Default
from turboapi.exceptions import FastAPIError
from turboapi.routing import _frontend
from turboapi.routing._dispatch import DispatchingRouter
from turboapi.routing._frontend import Directory, Fallback, _FrontendRouteGroup
from turboapi.routing._include_context import _RouterIncludeContext
from turboapi.routing._included import (
    _IncludedRouter,
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
from turboapi.types import DecoratedCallable
from turboapi.utils import generate_unique_id, get_value_or_default

_ROUTES_WARNING = """
You normally wouldn't use this parameter with FastAPI, it is inherited
from Starlette and supported for compatibility.

In FastAPI, you normally would use the *path operation methods*,
like `router.get()`, `router.post()`, etc.
"""


def _check_prefix(prefix: str) -> None:
    if prefix:
        assert prefix.startswith("/"), "A path prefix must start with '/'"
        assert not prefix.endswith("/"), (
            "A path prefix must not end with '/', as the routes will start with '/'"
        )


class APIRouter(DispatchingRouter):
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
        self._frontend_routes: _FrontendRouteGroup | None = None

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


def _check_no_empty_path(router: APIRouter) -> None:
    for route, effective in routes_with_context(router.routes):
        serving: Any = route if effective is None else effective.starlette_route or effective
        if getattr(serving, "path", None) == "":
            name = getattr(serving, "name", "unknown")
            raise FastAPIError(f"Prefix and path cannot be both empty (path operation: {name})")
