"""What serves a request for which the table (turboapi/_compile/route_table.py) has found a place.

A place is a route at one position in the tree: with the prefix and the settings of the routers
through which it is included. The code here does what the routers of the tree would do on the way to
that route, without asking the others.
"""

from typing import Any

from starlette import routing as starlette_routing
from starlette.responses import FileResponse
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from turboapi import _core
from turboapi._body_limit import wrap_app_with_body_limit
from turboapi._form_limits import _FormLimits
from turboapi.routing import _files, _scope
from turboapi.routing._included import _EffectiveRouteContext, _IncludedRouter
from turboapi.routing._route import APIRoute
from turboapi.telemetry._api import _route_selected


class Place:
    """A route at one place.

    Attributes:
        state: what has the path and settings that hold there.
        asked_only: we can only ask whether it matches, and don't know how it is served.
    """

    __slots__ = ("_files", "effective", "form_limits", "included", "route", "state")
    asked_only = False
    # FastAPI's own for its applications (_fastapi_bridge).
    operation: type = APIRoute
    limit_body = staticmethod(wrap_app_with_body_limit)

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
        self._files: tuple[Any, _core.StaticFiles | None] | None = None  # see native_files
        state: Any = route
        if effective is not None:
            state = effective.starlette_route or effective
        self.state = state

    def ask(self, scope: Scope) -> tuple[Match, Scope]:
        """Return what the route itself says of a request."""
        if self.included is None:
            return self.route.matches(scope)
        with _scope.key_set(scope, _scope.INCLUDED_ROUTER, self.included):
            if self.effective is None:
                return self.route.matches(scope)
            if not isinstance(self.route, self.operation):
                return self.effective.matches(scope)
            # The route is asked itself, as its class may override it.
            with _scope.key_set(scope, _scope.EFFECTIVE_ROUTE, self.effective):
                return self.route.matches(scope)

    @property
    def body_limit(self) -> int | None:
        """The limit of the routers round a route that has none of its own."""
        return self.included.include_context.max_body_size if self.included is not None else None

    def own_items(self) -> dict[str, Any] | None:
        """Return what a request below an included router has in our part of the scope."""
        if self.effective is None:
            return None
        return {_scope.INCLUDED_ROUTER: self.included, _scope.EFFECTIVE_ROUTE: self.effective}

    def native_files(self) -> _core.StaticFiles | None:
        """Return a `_core.StaticFiles` for the application that is mounted here now, or None."""
        mount: Any = self.route
        app = getattr(mount, "app", None)
        if self._files is None or self._files[0] is not app:
            self._files = app, _files.native_static(mount)
        return self._files[1]

    async def _send_file(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Send what a `StaticFiles` answers through middleware, if C can tell at once."""
        files = self.native_files()
        answer = None if files is None else files.read(scope, receive, send)
        if answer is None:
            return False
        status, headers, body = answer
        await send({"type": "http.response.start", "status": status, "headers": headers})
        at, more = 0, True
        while more:  # the pieces that a FileResponse sends
            chunk = body[at : at + FileResponse.chunk_size]
            at += len(chunk)
            more = at < len(body) if status == 206 else len(chunk) == FileResponse.chunk_size
            await send({"type": "http.response.body", "body": chunk, "more_body": more})
        return True

    async def serve(self, child: Scope, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request that matches; `child` is what the match adds to the scope."""
        _scope.merge_child(scope, child)
        if self.included is not None:
            _scope.add_form_limits(scope, self.form_limits)
            _scope.own_scope(scope)[_scope.INCLUDED_ROUTER] = self.included
        _route_selected(
            scope=scope,
            path=getattr(self.state, "path_format", None),
            mount=isinstance(self.route, starlette_routing.Mount),
        )
        if isinstance(self.route, self.operation):
            scope["route"] = self.route
        if self.effective is None:
            if _files.is_static(self.route):
                offered = _files.with_pathsend(scope, send)
                if offered is scope and await self._send_file(scope, receive, send):
                    return
                scope = offered
            await self.route.handle(scope, receive, send)
            return
        _scope.own_scope(scope)[_scope.EFFECTIVE_ROUTE] = self.effective
        if isinstance(self.route, self.operation):
            await self.route.handle(scope, receive, send)
        else:
            handle = self.limit_body(self.state.handle, self.body_limit)
            await handle(scope, receive, send)


class AskedPlace(Place):
    """Where a class decides that is not ours: the routers go their own way if it matches."""

    __slots__ = ()
    asked_only = True


class RoutePlace(Place):
    """A path operation, or a route of Starlette's.

    Attributes:
        plan: when running it is all that the route does; with its hooks.
    """

    __slots__ = ("hooks", "limited", "plan")

    def __init__(
        self,
        route: BaseRoute,
        effective: _EffectiveRouteContext | None,
        included: _IncludedRouter | None,
        form_limits: _FormLimits,
    ) -> None:
        super().__init__(route, effective, included, form_limits)
        self.limited: ASGIApp | None = None
        self.plan: Any | None = None
        self.hooks: Any | None = None
        # A Starlette route has no limit of its own; that of the routers round it holds.
        limit = self.body_limit
        if limit is not None and not isinstance(route, APIRoute):
            self.limited = wrap_app_with_body_limit(self.state.app, limit)

    def scope_items(self) -> dict[str, Any]:
        """Return what every request of this entry has in its scope."""
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
        if (own := self.own_items()) is not None:
            _scope.own_scope(scope).update(own)
            _scope.add_form_limits(scope, self.form_limits)
        if "fastapi.telemetry" in scope:
            _route_selected(scope=scope, path=self.state.path_format)

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request that has entered."""
        # `app` is looked up at each request: instrumentation may have replaced it.
        await (self.limited or self.state.app)(scope, receive, send)
