"""`APIRoute` and `APIWebSocketRoute`: one path operation, as its router declared it."""

from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from starlette import routing
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Match, compile_path, get_name
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import Unpack

from turboapi import params
from turboapi._body_limit import wrap_app_with_body_limit
from turboapi._form_limits import _FormLimits, _validate_form_limits
from turboapi.routing import _handler, _replaceable, _scope
from turboapi.routing._options import ROUTE_INIT, RouteInitOptions, takes_options
from turboapi.routing._state import OperationState, dependant_for

if TYPE_CHECKING:
    from turboapi.routing._included import _EffectiveRouteContext

# The effective route whose handler is being made: get_route_handler() takes its settings from it.
effective_route: ContextVar["_EffectiveRouteContext | None"] = ContextVar(
    "fastapi_effective_route_context", default=None
)


class APIRoute(OperationState, routing.Route):
    """A path operation. https://fastapi.tiangolo.com/reference/apirouter/

    Subclasses may override `get_route_handler` (https://fastapi.tiangolo.com/how-to/custom-request-and-route/),
    `matches` and `handle`; routers given such a class as `route_class` honour them.

    Raises:
        AssertionError, FastAPIError: when it is made, for declarations that can't work.
    """

    endpoint: Callable[..., Any]  # pyright: ignore[reportIncompatibleVariableOverride]
    methods: set[str] | None
    form_limits: _FormLimits

    @takes_options(ROUTE_INIT)
    def __init__(
        self, path: str, endpoint: Callable[..., Any], **options: Unpack[RouteInitOptions]
    ) -> None:
        given: dict[str, Any] = {**options}
        self.form_limits = _validate_form_limits(given["form_limits"])
        self._configure(path, endpoint, given)
        self.app = operation_app(self, self)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the function that answers a request; meant to be overridden."""
        state: OperationState = effective_route.get() or self
        if getattr(state, "original_route", self) is not self:
            state = self
        return _replaceable.routing.get_request_handler(  # type: ignore[no-any-return]
            dependant=state.dependant,
            body_field=state.body_field,
            status_code=state.status_code,
            response_class=state.response_class,
            response_field=state.response_field,
            response_model_include=state.response_model_include,
            response_model_exclude=state.response_model_exclude,
            response_model_by_alias=state.response_model_by_alias,
            response_model_exclude_unset=state.response_model_exclude_unset,
            response_model_exclude_defaults=state.response_model_exclude_defaults,
            response_model_exclude_none=state.response_model_exclude_none,
            dependency_overrides_provider=state.dependency_overrides_provider,
            embed_body_fields=state._embed_body_fields,
            strict_content_type=state.strict_content_type,
            stream_item_field=state.stream_item_field,
            is_json_stream=state.is_json_stream,
            form_limits=self.form_limits,
        )

    def _effective_route(self, scope: Scope) -> "_EffectiveRouteContext | None":
        """Return the effective route in the scope, when it is one of this route."""
        found = _scope.peek(scope, _scope.EFFECTIVE_ROUTE)
        return found if found is not None and found.original_route is self else None

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As Starlette's, for the path under which the router is included."""
        effective = self._effective_route(scope)
        match, child = super().matches(scope) if effective is None else effective.matches(scope)
        if match is not Match.NONE:
            child["route"] = self
        return match, child

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application of the route, or say 405 with the methods that are allowed."""
        effective = self._effective_route(scope)
        if effective is None:
            await super().handle(scope, receive, send)
        elif not effective.methods or scope["method"] in effective.methods:
            assert effective.app is not None
            await effective.app(scope, receive, send)
        else:
            allow = {"Allow": ", ".join(effective.methods)}
            if "app" in scope:
                raise HTTPException(status_code=405, headers=allow)
            response = PlainTextResponse("Method Not Allowed", status_code=405, headers=allow)
            await response(scope, receive, send)


def operation_app(route: APIRoute, state: OperationState) -> ASGIApp:
    """Return the ASGI application of `route` with the settings of `state`."""
    function = route.get_route_handler()
    hooks = _handler.hooks_of(function)
    if hooks is not None:
        # get_request_handler() has FastAPI's parameters, and does not know these.
        whole = replace(
            hooks,
            max_body_size=state.max_body_size,
            run_mode=state.run_mode,
            param_convertors=state.param_convertors,
            effective=None if state is route else state,
        )
        function = _handler.handler_of(whole)
    return wrap_app_with_body_limit(_handler.route_app(function), state.max_body_size)


class APIWebSocketRoute(routing.WebSocketRoute):
    """A WebSocket endpoint with dependencies. https://fastapi.tiangolo.com/advanced/websockets/"""

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        name: str | None = None,
        dependencies: Sequence[params.Depends] | None = None,
        dependency_overrides_provider: Any | None = None,
    ) -> None:
        self.path = path
        self.endpoint = endpoint
        self.name = get_name(endpoint) if name is None else name
        self.dependencies = list(dependencies or [])
        self.path_regex, self.path_format, self.param_convertors = compile_path(path)
        self.dependant, _, self._embed_body_fields = dependant_for(
            path=self.path_format, call=endpoint, dependencies=self.dependencies
        )
        ours = _replaceable.routing
        function = ours.get_websocket_app(
            dependant=self.dependant,
            dependency_overrides_provider=dependency_overrides_provider,
            embed_body_fields=self._embed_body_fields,
        )
        self.app = ours.websocket_session(function)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As Starlette's; the scope gets the route."""
        match, child = super().matches(scope)
        if match is not Match.NONE:
            child["route"] = self
        return match, child
