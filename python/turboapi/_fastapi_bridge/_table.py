"""FastAPI's tree of routes as a table for `_core.Router`: as _engine.py, over its classes."""

from collections.abc import Iterator
from typing import Any, cast

from starlette import routing as starlette_routing
from starlette.types import Receive, Scope, Send

from turboapi import _core
from turboapi._engine import CONVERTORS, OPAQUE, Entry
from turboapi._fastapi_bridge import _theirs
from turboapi._fastapi_bridge._hooks import BridgeHooks
from turboapi._fastapi_bridge._translate import CannotTranslate, Translator
from turboapi.routing import _scope


class Target:
    """A compiled path operation."""

    __slots__ = ("effective", "endpoint", "hooks", "included", "plan", "route")

    def __init__(self, route: Any, effective: Any | None, included: Any | None, hooks: Any) -> None:
        self.route = route
        self.effective = effective
        self.included = included
        self.endpoint = (effective or route).endpoint
        self.hooks = hooks
        self.plan = hooks.plan

    async def serve(
        self, path_params: dict[str, Any], scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Run the plan for a request that came through the middleware."""
        inherited = scope.get("path_params")
        scope["path_params"] = {**inherited, **path_params} if inherited else path_params
        scope["endpoint"] = self.endpoint
        scope["route"] = self.route
        if self.effective is not None:
            own = _scope.own_scope(scope)
            own[_scope.INCLUDED_ROUTER] = self.included
            own[_scope.EFFECTIVE_ROUTE] = self.effective
        await self.plan.asgi(scope, receive, send)


class Table:
    """The routes of an application as they are now; does not change."""

    def __init__(self, app: Any) -> None:
        self.entries: list[Entry] = []
        self.targets: list[Target | None] = []
        # The routers of the tree, whose changes make another table necessary.
        self.routers: list[Any] = []
        # (methods and path, why) of the path operations that FastAPI serves.
        self.left: list[tuple[str, str]] = []
        self._translator = Translator()
        for entry, target in self._walk(app.router):
            self.entries.append(entry)
            self.targets.append(target)
        self.compiled = sum(each is not None for each in self.targets)
        self.router = _core.Router(self.entries)

    def _walk(self, router: Any) -> Iterator[tuple[Entry, Target | None]]:
        self.routers.append(router)
        limited = bool(router.form_limits)
        for route in list(router.routes):
            if isinstance(route, _theirs.module("fastapi.routing")._IncludedRouter):
                yield from self._walk_included(route, limited)
            else:
                yield from self._entries(route, None, None, limited)

    def _walk_included(self, included: Any, limited: bool) -> Iterator[tuple[Entry, Target | None]]:
        routing = _theirs.module("fastapi.routing")
        router = included.original_router
        self.routers.append(router)
        if not _inherits(router, routing.APIRouter, "matches", "handle"):
            self.left.append((included.include_context.prefix or "/", "a custom router class"))
            yield OPAQUE, None
            return
        limited = limited or bool(included.include_context.form_limits)
        for candidate in included.effective_candidates():
            if isinstance(candidate, routing._IncludedRouter):
                yield from self._walk_included(candidate, limited)
            else:
                yield from self._entries(candidate.original_route, candidate, included, limited)

    def _entries(
        self, route: Any, effective: Any | None, included: Any | None, limited: bool
    ) -> Iterator[tuple[Entry, Target | None]]:
        routing = _theirs.module("fastapi.routing")
        kind = cast("Any", type(route))
        serving = (effective.starlette_route or effective) if effective is not None else route
        if isinstance(route, starlette_routing.WebSocketRoute) and kind.matches in (
            starlette_routing.WebSocketRoute.matches,
            routing.APIWebSocketRoute.matches,
        ):
            return  # never matches an HTTP request
        if kind is starlette_routing.Mount:
            yield ("mount", serving.path, None, None, {}), None
            return
        is_operation = isinstance(route, routing.APIRoute)
        base = routing.APIRoute if is_operation else starlette_routing.Route
        why = None
        if (
            not isinstance(route, base)
            or not _inherits(route, base, "matches", "handle")
            or vars(route).keys() & {"matches", "handle"}
        ):
            why = "a custom route class"
        elif any(type(each) not in CONVERTORS for each in serving.param_convertors.values()):
            why = "a convertor of its own"
        if why is not None:
            if is_operation:
                self.left.append((_label(serving), why))
            yield OPAQUE, None
            return
        target = None
        if is_operation:
            try:
                target = self._compile(route, effective, included, limited)
            except CannotTranslate as reason:
                self.left.append((_label(serving), str(reason)))
        methods = frozenset(serving.methods) if serving.methods else None
        if target is None:
            yield ("route", serving.path, methods, None, {}), None
            return
        items = {"endpoint": serving.endpoint, "route": route}
        yield ("route", serving.path, methods, target.plan, items), target

    def _compile(
        self, route: Any, effective: Any | None, included: Any | None, limited: bool
    ) -> Target:
        routing = _theirs.module("fastapi.routing")
        serving = effective if effective is not None else route
        if not _inherits(route, routing.APIRoute, "get_route_handler") or (
            "get_route_handler" in vars(route)
        ):
            raise CannotTranslate("a custom route class")
        if serving.max_body_size is not None:
            raise CannotTranslate("a limit of the body's size")
        if (limited or route.form_limits) and serving.body_field is not None:
            raise CannotTranslate("limits of forms")
        if not _is_original(serving):
            raise CannotTranslate("a replaced handler")
        hooks = BridgeHooks(serving, self._translator)
        hooks.effective = effective
        try:
            return Target(route, effective, included, hooks)
        except Exception as error:
            # It shall fail, if it does, for requests of this route and in FastAPI's words.
            raise CannotTranslate(f"{type(error).__name__}: {error}") from error


def _inherits(made: object, base: type, *names: str) -> bool:
    return all(getattr(type(made), name) is getattr(base, name) for name in names)


def _label(serving: Any) -> str:
    return f"{','.join(sorted(serving.methods or ()))} {serving.path}"


def _is_original(serving: Any) -> bool:
    """Whether the route's ASGI application is what FastAPI makes of these very attributes."""
    handler = _closed_over(serving.app, "request_response.<locals>.app", "f")
    made_of = "get_request_handler.<locals>.app"
    return all(
        _closed_over(handler, made_of, name) is value
        for name, value in (
            ("dependant", serving.dependant),
            ("body_field", serving.body_field),
            ("response_field", serving.response_field),
            ("response_class", serving.response_class),
            ("dependency_overrides_provider", serving.dependency_overrides_provider),
        )
    )


def _closed_over(function: Any, qualname: str, name: str) -> Any:
    """A variable of the function that FastAPI defined there; a new object if it is not that one."""
    code = getattr(function, "__code__", None)
    if (
        code is None
        or code.co_qualname != qualname
        or code.co_filename != _theirs.module("fastapi.routing").__file__
        or name not in code.co_freevars
    ):
        return object()
    return function.__closure__[code.co_freevars.index(name)].cell_contents
