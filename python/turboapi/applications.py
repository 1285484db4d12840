"""The application class, under two names: `FastAPI` and `TurboAPI`."""

import os
import sys
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, ParamSpec, TypeVar, cast

from starlette.applications import Starlette
from starlette.datastructures import State
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware, _MiddlewareFactory
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, ExceptionHandler, Lifespan, Receive, Scope, Send
from typing_extensions import Unpack, deprecated

from turboapi import routing
from turboapi._body_limit import AppBodyLimitMiddleware
from turboapi._form_limits import _FormLimits
from turboapi._untouched import is_from
from turboapi.datastructures import Default
from turboapi.exception_handlers import (
    http_exception_handler,
    request_validation_exception_handler,
    websocket_request_validation_exception_handler,
)
from turboapi.exceptions import (
    FastAPIDeprecationWarning,
    RequestValidationError,
    WebSocketRequestValidationError,
)
from turboapi.middleware._http import accelerate, known_inside
from turboapi.middleware._innermost import innermost
from turboapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from turboapi.openapi import assets
from turboapi.openapi._endpoints import (
    assets_url,
    oauth2_redirect_endpoint,
    openapi_endpoint,
    redoc_endpoint,
    swagger_ui_endpoint,
)
from turboapi.params import Depends
from turboapi.routing._frontend import Directory, Fallback, resolve_check_dir
from turboapi.routing._options import (
    APP_ADD_ROUTE,
    APP_API_ROUTE,
    APP_INCLUDE,
    ROUTE,
    AppAddRouteOptions,
    AppMethodsOptions,
    IncludeOptions,
    RouteOptions,
    RunMode,
    takes_options,
)
from turboapi.telemetry import TelemetryConfig
from turboapi.telemetry._api import CompleteConfig
from turboapi.types import DecoratedCallable
from turboapi.utils import generate_unique_id

if TYPE_CHECKING:
    from turboapi.telemetry._asgi import NativeTelemetry

AppType = TypeVar("AppType", bound="FastAPI")
P = ParamSpec("P")

_ROUTES_WARNING = """
You normally wouldn't use this parameter with FastAPI, it is inherited
from Starlette and supported for compatibility.

In FastAPI, you normally would use the *path operation methods*,
like `app.get()`, `app.post()`, etc.
"""
_ROOT_PATH_WARNING = (
    "The `root_path` parameter is deprecated. Configure the server's root path instead, "
    "for example with `fastapi run --root-path /api/v1`."
)
_TELEMETRY_DEFAULTS: TelemetryConfig = {
    "tracer_provider": None,
    "meter_provider": None,
    "logger_provider": None,
    "tracing": True,
    "metrics": True,
    "logs": True,
    "operation_spans": True,
    "exclude": None,
}


class FastAPI(Starlette):
    """The application. https://fastapi.tiangolo.com/reference/fastapi/

        from turboapi import FastAPI

        app = FastAPI()

    Parameters are FastAPI's; besides them `run` ("inline" or "thread") decides where all `def`
    endpoints run (by default the server finds out which of them are quick), and
    `docs_assets="local"` serves the files of the documentation pages from here instead of a CDN.

    Raises:
        AssertionError: without a title or version, when there is an `openapi_url`.
        ValueError: for a negative `max_body_size`.
        pydantic.ValidationError: for unknown or wrong `form_limits`.
    """

    def __init__(
        self: AppType,
        *,
        telemetry: TelemetryConfig | None = None,
        debug: bool = False,
        routes: Annotated[list[BaseRoute] | None, deprecated(_ROUTES_WARNING)] = None,
        title: str = "FastAPI",
        summary: str | None = None,
        description: str = "",
        version: str = "0.1.0",
        openapi_url: str | None = "/openapi.json",
        openapi_tags: list[dict[str, Any]] | None = None,
        servers: list[dict[str, str | Any]] | None = None,
        dependencies: Sequence[Depends] | None = None,
        default_response_class: type[Response] = Default(JSONResponse),
        redirect_slashes: bool = True,
        docs_url: str | None = "/docs",
        redoc_url: str | None = "/redoc",
        swagger_ui_oauth2_redirect_url: str | None = "/docs/oauth2-redirect",
        swagger_ui_init_oauth: dict[str, Any] | None = None,
        middleware: Sequence[Middleware] | None = None,
        exception_handlers: dict[
            int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]
        ]
        | None = None,
        on_startup: Sequence[Callable[[], Any]] | None = None,
        on_shutdown: Sequence[Callable[[], Any]] | None = None,
        lifespan: Lifespan[AppType] | None = None,
        terms_of_service: str | None = None,
        contact: dict[str, str | Any] | None = None,
        license_info: dict[str, str | Any] | None = None,
        root_path: Annotated[str, deprecated(_ROOT_PATH_WARNING)] = "",
        root_path_in_servers: bool = True,
        responses: dict[int | str, dict[str, Any]] | None = None,
        callbacks: list[BaseRoute] | None = None,
        webhooks: routing.APIRouter | None = None,
        deprecated: bool | None = None,
        include_in_schema: bool = True,
        swagger_ui_parameters: dict[str, Any] | None = None,
        generate_unique_id_function: Callable[[routing.APIRoute], str] = Default(
            generate_unique_id
        ),
        separate_input_output_schemas: bool = True,
        openapi_external_docs: dict[str, Any] | None = None,
        strict_content_type: bool = True,
        max_body_size: int | None = None,
        form_limits: _FormLimits | None = None,
        run: RunMode | None = None,
        docs_assets: assets.DocsAssets | None = None,
    ) -> None:
        self.debug = debug
        self.max_body_size = max_body_size
        # What the OpenAPI document says of the API.
        self.title = title
        self.summary = summary
        self.description = description
        self.version = version
        self.terms_of_service = terms_of_service
        self.contact = contact
        self.license_info = license_info
        self.openapi_tags = openapi_tags
        self.openapi_external_docs = openapi_external_docs
        self.servers = servers or []
        self.root_path_in_servers = root_path_in_servers
        self.separate_input_output_schemas = separate_input_output_schemas
        self.openapi_version: str = "3.1.0"
        self.openapi_schema: dict[str, Any] | None = None
        self._openapi_routes_version: int | None = None
        # Where it and its pages are served.
        self.openapi_url = openapi_url
        self.docs_url = docs_url
        self.redoc_url = redoc_url
        self.swagger_ui_oauth2_redirect_url = swagger_ui_oauth2_redirect_url
        self.swagger_ui_init_oauth = swagger_ui_init_oauth
        self.swagger_ui_parameters = swagger_ui_parameters
        self.docs_assets = assets.choose(docs_assets)
        if openapi_url:
            assert title, "A title must be provided for OpenAPI, e.g.: 'My API'"
            assert version, "A version must be provided for OpenAPI, e.g.: '2.1.0'"
        if root_path:
            warnings.warn(_ROOT_PATH_WARNING, category=FastAPIDeprecationWarning, stacklevel=2)
        self.root_path = root_path
        self.state: State = State()
        self.dependency_overrides: dict[Callable[..., Any], Callable[..., Any]] = {}
        self.webhooks: routing.APIRouter = webhooks or routing.APIRouter()
        self.router: routing.APIRouter = routing.APIRouter(
            routes=routes,
            redirect_slashes=redirect_slashes,
            dependency_overrides_provider=self,
            on_startup=on_startup,
            on_shutdown=on_shutdown,
            lifespan=lifespan,
            default_response_class=default_response_class,
            dependencies=dependencies,
            callbacks=callbacks,
            deprecated=deprecated,
            include_in_schema=include_in_schema,
            responses=responses,
            generate_unique_id_function=generate_unique_id_function,
            strict_content_type=strict_content_type,
            max_body_size=max_body_size,
            form_limits=form_limits,
            run=run,
        )
        self.exception_handlers: dict[
            Any, Callable[[Request, Any], Response | Awaitable[Response]]
        ] = {
            HTTPException: http_exception_handler,
            RequestValidationError: request_validation_exception_handler,
            WebSocketRequestValidationError: cast(
                "Any", websocket_request_validation_exception_handler
            ),
            **(exception_handlers or {}),
        }
        self.user_middleware: list[Middleware] = list(middleware or [])
        self.middleware_stack: ASGIApp | None = None
        automatic = os.getenv("FASTAPI_OTEL_AUTO_CONFIGURE", "").lower() == "true"
        self._telemetry = cast(
            "CompleteConfig",
            {**_TELEMETRY_DEFAULTS, "auto_configure": automatic, **(telemetry or {})},
        )
        self.setup()

    @cached_property
    def _native_telemetry(self) -> "NativeTelemetry":
        from turboapi.telemetry._asgi import NativeTelemetry  # lazy: takes long, and serves only

        return NativeTelemetry(self._telemetry)

    # -- serving ------------------------------------------------------------------------------

    def build_middleware_stack(self) -> ASGIApp:
        """Return the application as one ASGI callable: the routers inside of all middleware."""
        return self._wrap_middleware(self.router)

    def _wrap_middleware(self, app: ASGIApp) -> ASGIApp:
        # lazy: takes long, and only what is served needs it
        from turboapi.telemetry._asgi import ExceptionTelemetryMiddleware

        handlers = dict(self.exception_handlers)
        on_error = None
        for key in self.exception_handlers:
            if key in (500, Exception):
                on_error = handlers.pop(key)
        stack: list[Middleware] = [
            Middleware(ServerErrorMiddleware, handler=on_error, debug=self.debug),
            Middleware(ExceptionTelemetryMiddleware),
            Middleware(AppBodyLimitMiddleware, max_body_size=self.max_body_size),
            *self.user_middleware,
            Middleware(ExceptionMiddleware, handlers=handlers, debug=self.debug),
            Middleware(AsyncExitStackMiddleware),
        ]
        inside: Any = None
        for cls, args, kwargs in reversed(stack):
            below = app
            if cls is ExceptionMiddleware:
                app = innermost(below, self.router, **kwargs)
                inside = known_inside(self.router, below, app)
                continue
            app = cls(below, *args, **kwargs)
            if cls is not AsyncExitStackMiddleware:
                app, inside = accelerate(app, inside)
        return app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, a WebSocket or the lifespan (ASGI 3)."""
        if self.root_path:
            scope["root_path"] = self.root_path
        serve = super().__call__
        if scope["type"] == "lifespan":
            from turboapi.telemetry._runtime import lifespan  # lazy: not to be imported

            await lifespan(
                config=self._telemetry, app=serve, scope=scope, receive=receive, send=send
            )
        elif (
            scope["type"] not in ("http", "websocket")
            or "fastapi.telemetry" in scope
            or not self._native_telemetry.enabled()
        ):
            await serve(scope, receive, send)
        else:
            if self.middleware_stack is None:
                self.middleware_stack = self.build_middleware_stack()
            scope["app"] = self
            from turboapi.telemetry._asgi import _legacy_otel  # lazy: as above

            legacy = _legacy_otel(self.middleware_stack)
            await self._native_telemetry(
                app=serve, scope=scope, receive=receive, send=send, legacy_otel=legacy
            )

    def run(self, **settings: Any) -> None:
        """Serve the application until a signal ends it.

        Settings are those of `turboapi.config.Config` (`host`, `port`, `log_level`, ...); what is
        not given comes from the environment. Several workers need an import string:
        `turboapi run module:app --workers 4`.

        Raises:
            ConfigError: a setting can't be used.
            BindError: the address can't be listened on.
        """
        from turboapi._serving.run import run  # lazy: under another server it is not used

        run(self, **settings)

    def _native_app(self) -> Any:
        """Return the `_core.App` that the native server serves: see docs/engine.md."""
        from turboapi._compile.native_app import native_app  # lazy: only for our server

        return native_app(self)

    def _serves_itself(self) -> bool:
        """Return whether nobody has put their own in the place of what serves a request here."""
        names = ("build_middleware_stack", "_wrap_middleware", "__call__")
        module = sys.modules[__name__]
        return not vars(self).keys() & set(names) and all(
            is_from(getattr(type(self), name), module) for name in names
        )

    # -- the OpenAPI document -----------------------------------------------------------------

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, made anew when routes were added.

        May be replaced: https://fastapi.tiangolo.com/how-to/extending-openapi/
        """
        version = self.router._get_routes_version()
        if not self.openapi_schema or self._openapi_routes_version != version:
            # Looked up where `turboapi.applications.get_openapi` may have been replaced.
            schema: dict[str, Any] = sys.modules[__name__].get_openapi(
                title=self.title,
                version=self.version,
                openapi_version=self.openapi_version,
                summary=self.summary,
                description=self.description,
                terms_of_service=self.terms_of_service,
                contact=self.contact,
                license_info=self.license_info,
                routes=self.routes,
                webhooks=self.webhooks.routes,
                tags=self.openapi_tags,
                servers=self.servers,
                separate_input_output_schemas=self.separate_input_output_schemas,
                external_docs=self.openapi_external_docs,
            )
            self.openapi_schema = schema
            self._openapi_routes_version = version
        return self.openapi_schema

    def setup(self) -> None:
        """Add the routes of the OpenAPI document and of the pages that show it."""
        if not self.openapi_url:
            return
        pages = [
            (self.openapi_url, openapi_endpoint(self)),
            (self.docs_url, swagger_ui_endpoint(self)),
            (
                self.docs_url and self.swagger_ui_oauth2_redirect_url,
                oauth2_redirect_endpoint(),
            ),
            (self.redoc_url, redoc_endpoint(self)),
        ]
        if self.docs_assets == "local" and (self.docs_url or self.redoc_url):
            pages.append((f"{assets_url(self)}/{{name}}", assets.endpoint()))
        for url, endpoint in pages:
            if url:
                self.add_route(url, endpoint, include_in_schema=False)

    # -- declaring routes ---------------------------------------------------------------------

    @takes_options(APP_ADD_ROUTE)
    def add_api_route(
        self, path: str, endpoint: Callable[..., Any], **options: Unpack[AppAddRouteOptions]
    ) -> None:
        """Add a path operation; as the decorators, for an endpoint that exists."""
        self.router.add_api_route(path, endpoint=endpoint, **options)

    @takes_options(APP_API_ROUTE)
    def api_route(
        self, path: str, **options: Unpack[AppMethodsOptions]
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate the endpoint of a path operation with any `methods`."""

        def decorate(endpoint: DecoratedCallable) -> DecoratedCallable:
            self.router.add_api_route(path, endpoint, **options)
            return endpoint

        return decorate

    def add_api_websocket_route(
        self,
        path: str,
        endpoint: Callable[..., Any],
        name: str | None = None,
        *,
        dependencies: Sequence[Depends] | None = None,
    ) -> None:
        """Add a WebSocket endpoint with dependencies."""
        self.router.add_api_websocket_route(path, endpoint, name=name, dependencies=dependencies)

    def websocket(
        self,
        path: str,
        name: str | None = None,
        *,
        dependencies: Sequence[Depends] | None = None,
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
            self.router.add_websocket_route(path, endpoint, name=name)
            return endpoint

        return decorate

    def frontend(
        self,
        path: str,
        *,
        directory: Directory,
        fallback: Fallback | None = "auto",
        check_dir: bool | Literal["auto"] = "auto",
    ) -> None:
        """Serve a built single-page application below `path`, where no other route matches.

        https://fastapi.tiangolo.com/tutorial/frontend/

        Raises:
            AssertionError: for a path that is empty or does not start with a slash.
            RuntimeError: when the directory or the fallback page is missing and `check_dir` holds.
        """
        # Here, so that its warning names the line of the caller.
        check_dir = resolve_check_dir(directory=directory, check_dir=check_dir)
        self.router.frontend(path, directory=directory, fallback=fallback, check_dir=check_dir)

    @takes_options(APP_INCLUDE)
    def include_router(self, router: routing.APIRouter, **options: Unpack[IncludeOptions]) -> None:
        """Include a router: its routes, now and later, its event handlers and lifespan."""
        self.router.include_router(router, **options)

    @takes_options(ROUTE)
    def get(
        self, path: str, **options: Unpack[RouteOptions]
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate the endpoint of a *path operation* with GET."""
        return self.router.get(path, **options)

    @takes_options(ROUTE)
    def put(
        self, path: str, **options: Unpack[RouteOptions]
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate the endpoint of a *path operation* with PUT."""
        return self.router.put(path, **options)

    @takes_options(ROUTE)
    def post(
        self, path: str, **options: Unpack[RouteOptions]
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate the endpoint of a *path operation* with POST."""
        return self.router.post(path, **options)

    @takes_options(ROUTE)
    def delete(
        self, path: str, **options: Unpack[RouteOptions]
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate the endpoint of a *path operation* with DELETE."""
        return self.router.delete(path, **options)

    @takes_options(ROUTE)
    def options(
        self, path: str, **options: Unpack[RouteOptions]
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate the endpoint of a *path operation* with OPTIONS."""
        return self.router.options(path, **options)

    @takes_options(ROUTE)
    def head(
        self, path: str, **options: Unpack[RouteOptions]
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate the endpoint of a *path operation* with HEAD."""
        return self.router.head(path, **options)

    @takes_options(ROUTE)
    def patch(
        self, path: str, **options: Unpack[RouteOptions]
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate the endpoint of a *path operation* with PATCH."""
        return self.router.patch(path, **options)

    @takes_options(ROUTE)
    def trace(
        self, path: str, **options: Unpack[RouteOptions]
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate the endpoint of a *path operation* with TRACE."""
        return self.router.trace(path, **options)

    # -- events, middleware, errors -----------------------------------------------------------

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
        return self.router.on_event(event_type)  # pyright: ignore[reportDeprecated]

    def add_middleware(
        self, middleware_class: _MiddlewareFactory[P], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Put a middleware round the application, outside of those that are there.

        Raises:
            RuntimeError: once the application has started.
        """
        super().add_middleware(middleware_class, *args, **kwargs)
        self.router._tell_watchers()

    def add_exception_handler(
        self, exc_class_or_status_code: int | type[Exception], handler: ExceptionHandler
    ) -> None:
        """Let `handler(request, exc)` answer for such an exception or status."""
        super().add_exception_handler(exc_class_or_status_code, handler)
        self.router._tell_watchers()

    def middleware(self, middleware_type: str) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate a function `(request, call_next)`; `middleware_type` is "http"."""

        def decorate(func: DecoratedCallable) -> DecoratedCallable:
            self.add_middleware(BaseHTTPMiddleware, dispatch=func)
            return func

        return decorate

    def exception_handler(
        self, exc_class_or_status_code: int | type[Exception]
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Decorate a function `(request, exc)` that answers for such an exception or status."""

        def decorate(func: DecoratedCallable) -> DecoratedCallable:
            self.add_exception_handler(exc_class_or_status_code, func)
            return func

        return decorate


TurboAPI = FastAPI


def __getattr__(name: str) -> Any:
    if name != "get_openapi":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # lazy: documents are made when somebody asks for one, by many modules
    from turboapi.openapi.utils import get_openapi

    return get_openapi


def __dir__() -> list[str]:
    return sorted({*globals(), "get_openapi"})
