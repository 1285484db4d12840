"""The application as the native server serves it: `_core.App` (docs/engine.md, "App").

Requests whose route has a plan run without the ASGI application when that makes no difference:
no middleware of the user but that which C stands in for (`middleware/_filters.py`), nothing
replaced that ours or Starlette's classes do on the way.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, cast

from starlette import applications as starlette_applications
from starlette import responses as starlette_responses
from starlette import routing as starlette_routing
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import errors as starlette_errors
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import Message, Receive, Scope, Send

from turboapi import _core, exception_handlers
from turboapi._body_limit import AppBodyLimitMiddleware
from turboapi._own import is_own
from turboapi._untouched import is_from
from turboapi.middleware._filters import (
    are_known,
    can_be_joined,
    filters_of,
    outer_filters_of,
    put_inner_filters,
)
from turboapi.middleware._innermost import the_way
from turboapi.middleware.compress import packs_itself
from turboapi.routing import _files
from turboapi.routing._instrumented import is_instrumented
from turboapi.routing._places import Place
from turboapi.telemetry._asgi import ExceptionTelemetryMiddleware, NativeTelemetry

if TYPE_CHECKING:
    from turboapi.applications import FastAPI

# Key of the scope: the response had begun when the exception was raised.
_STARTED = "turboapi.response_started"
# The session that the handler had.
_SESSION = "turboapi.session"


def native_app(app: "FastAPI") -> Any:
    """Return a `_core.App` of the application as it is now; it is told when routes change."""
    made = native_app_of(OwnApp(app), adapt, lambda: native_app(app))
    return made or stacked_app(app, lambda: called_app(app))


def called_app(app: "FastAPI") -> Any:
    """Return a `_core.App` that calls the user's middleware, without what is round it."""
    layers = (ExceptionTelemetryMiddleware, AppBodyLimitMiddleware)
    return called_app_of(app, layers, plain=app._serves_itself())


def called_app_of(app: Any, layers: tuple[Any, ...], *, plain: bool) -> Any:
    """As `called_app`; `plain`: nobody has replaced a method of the application."""
    if app.middleware_stack is None:
        app.middleware_stack = app.build_middleware_stack()  # as at the first request
    stack: Any = app.middleware_stack
    outermost = None
    if plain and is_from(Starlette.__call__, starlette_applications):
        outermost = within(stack, layers)
    # An application of FastAPI's before 0.142 has no telemetry of its own.
    watched = NativeTelemetry(app._telemetry).watched() if hasattr(app, "_telemetry") else ()
    limit = getattr(app, "max_body_size", None)
    packs = packs_itself(app)
    if outermost is None or watched is None or limit is not None:
        return _core.App(app, packs=packs)
    own = cast("dict[str, Any]", vars(app))
    filters, inner = outer_filters_of(outermost)
    put_inner_filters(inner)
    return _core.App(
        app,
        stack=inner,
        filters=filters,
        guards=((own, "middleware_stack", stack), (own, "root_path", app.root_path), *watched),
        error_app=Errors(app, ServerErrorMiddleware(raise_again, stack.handler, stack.debug)),
        scope_items={"app": app},
        root_path=app.root_path,
        packs=packs,
    )


def stacked_app(app: Any, make: Callable[[], Any]) -> Any:
    """Return a `_core.App` that `make` makes when the first request comes: as late as possible."""

    def rebuild() -> Any:
        try:
            return make()
        except Exception:  # of a middleware's making: the application raises it itself
            return _core.App(app, packs=packs_itself(app))

    made = _core.App(app, rebuild=rebuild)
    made.invalidate()
    return made


def within(stack: Any, layers: tuple[Any, ...]) -> Any:
    """Return what is within ServerErrorMiddleware and these layers, or None."""
    plain = is_from(ServerErrorMiddleware.__init__, starlette_errors) and is_from(
        ServerErrorMiddleware.__call__, starlette_errors
    )
    if not plain:
        return None
    for layer in (ServerErrorMiddleware, *layers):
        if type(stack) is not layer or "__call__" in vars(stack):
            return None
        stack = stack.app
    return stack


def adapt(app: Any) -> "OwnApp | None":
    """Return an application that is mounted, if it can run directly at all."""
    return OwnApp(app) if is_own(app) else None


def native_app_of(app: "Adapted", adapt: Callable[[Any], "Adapted | None"], rebuild: Any) -> Any:
    """Return a `_core.App` that runs requests directly, or None."""
    watch = Watch()
    made = _Way((app,), (), watch, adapt, rebuild).make()
    if made is not None:
        watch.tell(made)
    return made


class Adapted(Protocol):
    """What has to be known of an application to run its plans directly."""

    app: Any
    # Has `_watchers`.
    watched: Any
    # Files may be sent by their path.
    sends_paths: bool

    def is_direct(self) -> bool:
        """Return whether there is nothing of the user's between the server and a route's plan."""
        ...

    def wrap(self, inner: Any) -> Any:
        """Its middleware round `inner`."""
        ...

    def filters(self, errors: Any) -> tuple[tuple[Any, ...], ...] | None:
        """Return what C does in place of its middleware, which is in `errors`, made by `wrap`."""
        ...

    def handlers(self, errors: Any) -> tuple[Any, Any]:
        """Its handlers of exceptions, by class and by status."""
        ...

    def table(self) -> Any:
        """Its table of routes."""
        ...

    def answers(self, errors: Any) -> tuple[str, ...]:
        """Return what its routers would answer in a way that C knows."""
        ...


class OwnApp:
    """An application of ours."""

    sends_paths = True

    def __init__(self, app: "FastAPI") -> None:
        self.app = app
        self.watched = app.router

    def is_direct(self) -> bool:
        return runs_directly(self.app)

    def wrap(self, inner: Any) -> Any:
        return self.app._wrap_middleware(inner)

    def filters(self, errors: Any) -> tuple[tuple[Any, ...], ...] | None:
        return filters_of(errors, len(self.app.user_middleware))

    @staticmethod
    def handlers(errors: Any) -> tuple[Any, Any]:
        return handlers_of(errors)

    def table(self) -> Any:
        return self.app.router._route_table()

    def answers(self, errors: Any) -> tuple[str, ...]:
        low_priority = self.table().low_priority
        return answers_of(self.app.router, handlers_of(errors), low_priority, exception_handlers)


class Watch:
    """Tells a `_core.App` that one of the routers which it was made of has changed."""

    def __init__(self) -> None:
        self._routers: list[Any] = []
        self._app: Any = None
        self._changed = False

    def add(self, router: Any) -> None:
        """Watch a router: before it is looked at, as a change meanwhile must not be missed."""
        router._watchers.append(self)
        self._routers.append(router)

    def forget(self, router: Any) -> None:
        """Take back what `add` did once."""
        self._routers.remove(router)
        with suppress(ValueError):  # it was told
            router._watchers.remove(self)

    def tell(self, app: Any) -> None:
        """Take the App that must be told when routes change."""
        self._app = app
        if self._changed:
            app.invalidate()

    def __call__(self) -> None:
        self._changed = True
        # What is made in its place watches anew.
        for router in self._routers:
            with suppress(ValueError):
                router._watchers.remove(self)
        if self._app is not None:
            self._app.invalidate()


class _Way:
    """The way to an application: from that which is served, through mounts, to itself.

    Attributes:
        apps: all of these applications, the outermost first.
        outer: what C does for the middleware of those before the last.
    """

    def __init__(
        self,
        apps: tuple[Adapted, ...],
        outer: tuple[tuple[Any, ...], ...],
        watch: Watch,
        adapt: Callable[[Any], Adapted | None],
        rebuild: Any,
        prefix: str = "",
    ) -> None:
        """`prefix`: the templates of the mounts on the way."""
        self.prefix = prefix
        self.apps = apps
        self.outermost, self.last = apps[0], apps[-1]
        self.outer = outer
        self.watch = watch
        self.adapt = adapt
        self.rebuild = rebuild

    def make(self) -> Any:
        """Return the `_core.App` of the last one; None: only the application can serve it."""
        watched = self.last.watched
        self.watch.add(watched)
        made = self._made() if self.last.is_direct() else None
        if made is None:
            self.watch.forget(watched)
        return made

    def _made(self) -> Any:
        last, app = self.last, self.last.app
        try:
            errors = last.wrap(raise_again)
            error_app = self._error_app(errors)
        except Exception:  # of a middleware's making: it shows when the application starts
            return None
        own = last.filters(errors)
        if own is None:
            return None
        filters = own + self.outer
        if not can_be_joined(filters):
            return None
        packs = any(name in ("gzip", "compress") for name, *_ in filters)
        return _core.App(
            app,
            router=self._router(last.table(), filters),
            direct=True,
            error_app=error_app,
            rebuild=self.rebuild if last is self.outermost else None,
            scope_items={
                "app": app,
                "router": self.outermost.app.router,
                "starlette.exception_handlers": last.handlers(errors),
            },
            root_path=app.root_path,
            filters=filters,
            # There is no middleware but that of `filters`: what packs wants the bytes of files.
            pathsend=not packs and all(each.sends_paths for each in self.apps),
            answers=last.answers(errors),
            prefix=self.prefix,
        )

    def _error_app(self, errors: Any) -> "Errors":
        """Return the middleware of all applications on the way, round what raises the exception."""
        for outer, inner in zip(reversed(self.apps[:-1]), reversed(self.apps), strict=False):
            errors = outer.wrap(_InApp(inner.app, errors))
        return Errors(self.outermost.app, errors)

    def _router(self, table: Any, filters: tuple[tuple[Any, ...], ...]) -> Any:
        """Return the table's, with applications in the place of mounts that run directly, too."""
        entries = list(table.entries)
        for index, (entry, place) in enumerate(zip(entries, table.targets, strict=True)):
            made = self._target(place, filters, entry[1])
            if made is not None:
                entries[index] = (*entry[:3], made, *entry[4:])
        return table.router if entries == table.entries else _core.Router(entries)

    def _target(self, place: Place, filters: tuple[tuple[Any, ...], ...], path: str) -> Any:
        """Return what C serves in the place of a mount: an App, or static files; or None."""
        app = self._mounted(place)
        if app is not None:
            way = (*self.apps, app)
            return _Way(way, filters, self.watch, self.adapt, None, self.prefix + path).make()
        if place.asked_only or place.included is not None or place.form_limits:
            return None
        return _files.native_static(place.route)

    def _mounted(self, place: Place) -> Adapted | None:
        route = place.route
        if (
            place.asked_only
            or not isinstance(route, starlette_routing.Mount | starlette_routing.Host)
            or place.included is not None
            or place.form_limits
        ):
            return None
        app: Any = route.app
        if any(app is each.app for each in self.apps):
            return None
        found = self.adapt(app)
        return None if found is None or app.root_path else found


class Errors:
    """The middleware that answers for an exception which no handler of the route wanted."""

    def __init__(self, app: "FastAPI", stack: Any) -> None:
        self.app = app
        self.stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self.app
        if _STARTED in scope:
            send = _send_nothing
        scope[_SESSION] = scope.get("session")
        await self.stack(scope, receive, send)


class _InApp:
    """The same of an application that is mounted in another one."""

    def __init__(self, app: "FastAPI", stack: Any) -> None:
        self.app = app
        self.stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self.app
        await self.stack(scope, receive, send)


def answers_of(
    router: Any, handlers: tuple[Any, Any], low_priority: Any, module: Any
) -> tuple[str, ...]:
    """Return the `answers` of `_core.App`; `module` has the default handlers."""
    by_class, by_status = handlers
    handler = by_class.get(HTTPException)
    if handler is not module.http_exception_handler or not is_from(handler, module):
        by_status = {404, 405}
    default: Any = router.default
    found: list[str] = []
    if router.redirect_slashes:
        found.append("redirect_slashes")
    if (
        getattr(default, "__func__", None) is starlette_routing.Router.not_found
        and default.__self__ is router
        and not low_priority
        and 404 not in by_status
    ):
        found.append("not_found")
    if 405 not in by_status:
        found.append("not_allowed")
    return tuple(found)


async def raise_again(scope: Scope, receive: Receive, send: Send) -> None:
    if _SESSION in scope:  # the middleware has begun another one
        scope["session"] = scope[_SESSION]
        if scope["session"] is None:
            del scope["session"]
    if _STARTED in scope:
        # Middleware has to know that it can't answer any more.
        await send({"type": "http.response.start", "status": 500, "headers": []})
        # GZipMiddleware passes the start on with the body.
        await send({"type": "http.response.body", "body": b"", "more_body": True})
    raise scope["turboapi.exception"]


async def _send_nothing(message: Message) -> None:
    """In place of `send` when the response, or a part of it, was sent before the exception."""


def handlers_of(stack: Any) -> tuple[Any, Any]:
    while not isinstance(stack, ExceptionMiddleware):
        stack = stack.app
    return stack._exception_handlers, stack._status_handlers


def runs_directly(app: "FastAPI") -> bool:
    """Return whether nothing but ours and Starlette's is between the server and a route's plan."""
    router, stack = app.router, app.middleware_stack
    return (
        are_known(app.user_middleware)
        and app.max_body_size is None
        and not app._native_telemetry.enabled()
        and not is_instrumented()
        # Instrumentation puts its own round the stack, or in place of a method.
        and (stack is None or type(stack) is ServerErrorMiddleware)
        and app._serves_itself()
        and not vars(router).keys() & {"app", "__call__"}
        and router.middleware_stack == router.app
        and all(is_from(*each) for each in the_way(type(router)))
        and starlette_is_untouched()
    )


def starlette_is_untouched() -> bool:
    """Return whether its routes do what C does in their place."""
    mount, host, route = starlette_routing.Mount, starlette_routing.Host, starlette_routing.Route
    functions: list[Any] = [starlette_routing.Router.not_found]
    functions += [each for kind in (mount, host, route) for each in (kind.matches, kind.handle)]
    redirect = starlette_responses.RedirectResponse.__init__
    return all(is_from(each, starlette_routing) for each in functions) and is_from(
        redirect, starlette_responses
    )
