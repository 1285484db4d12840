"""FastAPI's tree of routes as a table for `_core.Router`.

It does what _compile/route_table.py does, over FastAPI's classes.
"""

import operator
from collections.abc import Callable, Iterator
from inspect import getattr_static, iscoroutinefunction
from types import CellType, FunctionType
from typing import Any

from starlette import routing as starlette_routing
from starlette.types import ASGIApp, Receive, Scope, Send

from turboapi import _core
from turboapi._compile.route_table import (
    Entry,
    Found,
    Kind,
    base_of,
    has_known_convertors,
    host,
    look_up,
    mount,
    opaque,
    operation,
    overrides,
    websocket,
)
from turboapi._fastapi_bridge import _instrumentation, _theirs, _wrapped
from turboapi._fastapi_bridge._hooks import BridgeHooks
from turboapi._fastapi_bridge._translate import CannotTranslate, Translator
from turboapi.routing import _scope
from turboapi.routing._places import Place


class Theirs(Place):
    """A place in FastAPI's tree of routes."""

    __slots__ = ()

    @property
    def operation(self) -> type:  # type: ignore[override]
        kind: type = _theirs.module("fastapi.routing").APIRoute
        return kind

    @staticmethod
    def limit_body(app: ASGIApp, max_body_size: int | None) -> ASGIApp:
        wrap = getattr(_theirs.module("fastapi.routing"), "wrap_app_with_body_limit", None)
        limited: ASGIApp = app if wrap is None else wrap(app, max_body_size)  # since 0.164
        return limited

    @property
    def body_limit(self) -> int | None:
        if self.included is None:
            return None
        return getattr(self.included.include_context, "max_body_size", None)


class AskedOfThem(Theirs):
    """As `AskedPlace`."""

    __slots__ = ()
    asked_only = True


class Target(Theirs):
    """A compiled path operation.

    Attributes:
        app: what runs the plan for a request that came through the middleware.
        is_known: nothing is round the plan but what known instrumentation put there.
        is_wrapped: something is, so that the plan can't run without that.
    """

    __slots__ = ("_made_of", "app", "endpoint", "hooks", "is_known", "is_wrapped", "plan")

    def __init__(
        self,
        route: Any,
        effective: Any | None,
        included: Any | None,
        limits: Any,
        hooks: Any,
        wrapper: Any | None,
        made_of: tuple[Any, ...],
    ) -> None:
        """Take also what `_wrapper_of` found, and what `is_of` compares."""
        super().__init__(route, effective, included, limits)
        self._made_of = made_of
        self.endpoint = self.state.endpoint
        self.hooks = hooks
        self.plan = hooks.plan
        function = None if wrapper is None else wrapper[0]
        self.is_known = function is None or _instrumentation.is_handler(function)
        app = _wrapped.app_of(route, self.state, hooks, function if self.is_known else None)
        if wrapper is not None and not self.is_known:
            if app is not None:
                raise CannotTranslate("a replaced handler")
            app = _theirs.wrapped_app(wrapper, self.plan)
        self.is_wrapped = app is not None
        self.app: ASGIApp = app or self.plan.asgi

    def is_of(self, made_of: tuple[Any, ...], limits: Any) -> bool:
        """Return whether these very objects would be compiled to the same."""
        same = all(map(operator.is_, self._made_of, made_of))
        return same and bool(self.form_limits == limits)

    async def run(
        self, path_params: dict[str, Any], scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Serve a request that came through the middleware."""
        inherited = scope.get("path_params")
        scope["path_params"] = {**inherited, **path_params} if inherited else path_params
        scope["endpoint"] = self.endpoint
        scope["route"] = self.route
        if (own := self.own_items()) is not None:
            _scope.own_scope(scope).update(own)
        await self.app(scope, receive, send)


class Table:
    """The routes of an application as they are now; does not change."""

    def __init__(
        self,
        app: Any,
        kind: Kind,
        watch: Callable[[Any], None],
        before: "Table | None" = None,
    ) -> None:
        """Make it, as of now or later.

        Args:
            app: the application.
            kind: what the requests are.
            watch: called for each router of the tree before its routes are read, as their changes
                make another table necessary.
            before: the one in whose place it comes, from which it takes what is the same.
        """
        self.kind = kind
        self._before = {} if before is None else before._known()
        self.entries: list[Entry] = []
        self.targets: list[Place] = []
        self._watch = watch
        # (methods and path, why) of the path operations that FastAPI serves.
        self.left: list[tuple[str, str]] = []
        self._translator = Translator()
        for entry, target in self._walk(app.router):
            self.entries.append(entry)
            self.targets.append(target)
        low_priority = getattr(app.router, "_iter_low_priority_routes", tuple)  # since 0.138
        self.low_priority = tuple(low_priority())
        self.compiled = sum(isinstance(each, Target) and each.is_known for each in self.targets)
        self.router = _core.Router(self.entries)
        self._before.clear()

    def _known(self) -> dict[tuple[int, int], Target]:
        """Return the compiled path operations, by the identities of what they were found as."""
        made = (each for each in self.targets if isinstance(each, Target))
        return {(id(each.route), id(each.effective)): each for each in made}

    def lookup(self, scope: Scope) -> Found | None:
        """Return what the routers would find for a request; None: they have to look themselves."""
        return look_up(self.router.find, self.targets, scope)

    def _walk(self, router: Any) -> Iterator[tuple[Entry, Place]]:
        self._watch(router)
        limits = _theirs.form_limits(router)
        for route in list(router.routes):
            if isinstance(route, _theirs.included_router()):
                yield from self._walk_included(route, None, limits)
            else:
                yield from self._entries(route, None, None, limits)

    def _walk_included(
        self, included: Any, within: Any | None, limits: Any
    ) -> Iterator[tuple[Entry, Place]]:
        routing = _theirs.module("fastapi.routing")
        router = included.original_router
        self._watch(router)
        if not _inherits(router, routing.APIRouter, "matches", "handle"):
            self.left.append((included.include_context.prefix or "/", "a custom router class"))
            yield opaque(), AskedOfThem(included, None, within, limits)
            return
        limits = {**limits, **_theirs.form_limits(included.include_context)}
        for candidate in included.effective_candidates():
            if isinstance(candidate, _theirs.included_router()):
                yield from self._walk_included(candidate, included, limits)
            else:
                yield from self._entries(candidate.original_route, candidate, included, limits)

    def _entries(
        self, route: Any, effective: Any | None, included: Any | None, limits: Any
    ) -> Iterator[tuple[Entry, Place]]:
        routing = _theirs.module("fastapi.routing")
        serving = (effective.starlette_route or effective) if effective is not None else route
        where = (route, effective, included, limits)
        is_operation = isinstance(route, routing.APIRoute)
        base: Any = base_of(route)
        if isinstance(route, routing.APIRoute | routing.APIWebSocketRoute):
            base = routing.APIRoute if is_operation else routing.APIWebSocketRoute
        if base is None or overrides(route, base, "matches", "handle"):
            if is_operation:
                self.left.append((_label(serving), "a custom route class"))
            yield opaque(), AskedOfThem(*where)
            return
        if base in (starlette_routing.Mount, starlette_routing.Host):
            yield (mount if base is starlette_routing.Mount else host)(serving), Theirs(*where)
            return
        is_websocket = base in (starlette_routing.WebSocketRoute, routing.APIWebSocketRoute)
        if is_websocket != (self.kind == "websocket"):
            return  # never matches such a request
        if is_websocket:
            yield websocket(serving), Theirs(*where)
            return
        if not has_known_convertors(serving):
            if is_operation:
                self.left.append((_label(serving), "a convertor of its own"))
            yield opaque(serving.path), Theirs(*where)
            return
        target = None
        if is_operation:
            try:
                target = self._compile(*where)
            except CannotTranslate as reason:
                self.left.append((_label(serving), str(reason)))
        if target is None:
            place = Theirs(*where)
            limited = not is_operation and place.body_limit is not None
            yield operation(serving, None, {}, limited=limited), place
        elif target.is_wrapped:
            if not target.is_known:
                self.left.append((_label(serving), "a wrapped handler, round the plan"))
            yield operation(serving, None, {}), target
        else:
            items = {"endpoint": serving.endpoint, "route": route}
            yield operation(serving, target.plan, items), target

    def _compile(
        self, route: Any, effective: Any | None, included: Any | None, limits: Any
    ) -> Target:
        routing = _theirs.module("fastapi.routing")
        serving = effective if effective is not None else route
        if not _inherits(route, routing.APIRoute, "get_route_handler") or (
            "get_route_handler" in vars(route)
        ):
            raise CannotTranslate("a custom route class")
        if getattr(serving, "max_body_size", None) is not None:
            raise CannotTranslate("a limit of the body's size")
        if (limits or _theirs.form_limits(route)) and serving.body_field is not None:
            raise CannotTranslate("limits of forms")
        handler = _theirs.handler_of(route, effective)
        wrapper = None
        if not _is_original(serving, handler):
            wrapper = _wrapper_of(serving, handler)
            if wrapper is None:
                raise CannotTranslate("a replaced handler")
        # FastAPI 0.137 to 0.142.0 makes it anew whenever it is asked for.
        is_kept = wrapper is not None or "app" in vars(serving)
        made_of = (route, effective, included, handler if is_kept else None, serving.path)
        known = self._before.get((id(route), id(effective)))
        if known is not None and known.is_of(made_of, limits):
            return known
        hooks = BridgeHooks.of(serving, self._translator, effective)
        try:
            return Target(route, effective, included, limits, hooks, wrapper, made_of)
        except CannotTranslate:
            raise
        except Exception as error:
            # It shall fail, if it does, for requests of this route and in FastAPI's words.
            raise CannotTranslate(f"{type(error).__name__}: {error}") from error


def _inherits(made: object, base: type, *names: str) -> bool:
    kind = type(made)
    return all(getattr_static(kind, name, None) is getattr_static(base, name) for name in names)


def _label(serving: Any) -> str:
    return f"{','.join(sorted(serving.methods or ()))} {serving.path}"


_APP, _HANDLER = "request_response.<locals>.app", "get_request_handler.<locals>.app"


def _is_original(serving: Any, app: Any) -> bool:
    """Return whether FastAPI made the route's ASGI application of just these attributes."""
    return _is_handler(serving, _closed_over(app, _APP, "f"))


def _is_handler(serving: Any, handler: Any) -> bool:
    return all(
        _closed_over(handler, _HANDLER, name) is value
        for name, value in (
            ("dependant", serving.dependant),
            ("body_field", serving.body_field),
            ("response_field", serving.response_field),
            ("response_class", serving.response_class),
            ("dependency_overrides_provider", serving.dependency_overrides_provider),
        )
    )


def _wrapper_of(serving: Any, app: Any) -> tuple[FunctionType, int] | None:
    """Return the function round the route's handler, and which of its closed-over variables that
    handler is.

    This is what instrumentation makes that replaces `get_request_handler`, as Sentry's does.
    """
    wrapper = _closed_over(app, _APP, "f")
    if type(wrapper) is not FunctionType or not iscoroutinefunction(wrapper):
        return None
    cells = wrapper.__closure__ or ()
    found = [
        i
        for i, cell in enumerate(cells)
        if cell != CellType() and _is_handler(serving, cell.cell_contents)
    ]
    return (wrapper, found[0]) if len(found) == 1 else None


def _closed_over(function: Any, qualname: str, name: str) -> Any:
    """Return a variable of the function that FastAPI defined there; a new object if it is not that
    one.
    """
    code = getattr(function, "__code__", None)
    if (
        code is None
        or code.co_qualname != qualname
        or code.co_filename != _theirs.module("fastapi.routing").__file__
        or name not in code.co_freevars
    ):
        return object()
    return function.__closure__[code.co_freevars.index(name)].cell_contents
