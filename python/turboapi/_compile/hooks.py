"""What Python does for a request: the hooks of a plan, for one place where a route is reachable."""

import email.message
import json
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Any

from anyio import CancelScope
from pydantic import ValidationError
from starlette._exception_handler import _lookup_exception_handler
from starlette._utils import is_async_callable
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from turboapi import _core, _response_classes, params
from turboapi._body_limit import get_body_limit_error
from turboapi._compat import ModelField, lenient_issubclass
from turboapi._compat.v2 import _regenerate_error_with_loc
from turboapi._compile import known_calls
from turboapi._compile.defaults import OURS, is_plain_class
from turboapi._compile.plan import compile_spec, dump_shape
from turboapi._compile.slots import Slot, body_slot, param_slots
from turboapi._form_limits import _FormLimits
from turboapi._request import EngineRequest
from turboapi._response import new_response
from turboapi.background import BackgroundTasks
from turboapi.dependencies._analysis import get_dependant
from turboapi.dependencies._forms import parse_whole_form, read_form
from turboapi.dependencies._generators import _solve_generator, open_generator
from turboapi.dependencies.models import (
    Dependant,
    _get_cache_key,
    _is_async_gen_callable,
    _is_coroutine_callable,
    _is_gen_callable,
)
from turboapi.encoders import jsonable_encoder
from turboapi.exceptions import (
    EndpointContext,
    FastAPIError,
    RequestValidationError,
    ResponseValidationError,
    WebSocketRequestValidationError,
)
from turboapi.routing import _scope
from turboapi.routing._stream import stream_response
from turboapi.security._scopes import SecurityScopes
from turboapi.sse import EventSourceResponse
from turboapi.telemetry._api import (
    _operation,
    _validation_failed,
    get_telemetry_data,
)
from turboapi.utils import is_body_allowed_for_status_code

if TYPE_CHECKING:
    from turboapi.routing._options import RunMode


SWALLOWED = (
    "Response not awaited. There's a high chance that the "
    "application code is raising an exception and a dependency with yield "
    "has a block with a bare except, or a block with except Exception, "
    "and is not raising the exception again. Read more about it in the "
    "docs: https://fastapi.tiangolo.com/tutorial/dependencies/dependencies-with-yield/"
    "#dependencies-with-yield-and-except"
)


def _is_ours(error: Exception) -> bool:
    """Return whether the server failed to take a body: a full disk, no memory, too many open files.

    It is no fault of the client, so neither 400 nor silence is right.
    """
    if isinstance(error, (ConnectionError, TimeoutError)):
        return False
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and bool(error.errno))


class _Plans:
    """What was compiled of one `RequestHooks`, which itself does not change."""

    __slots__ = ("context", "lock", "overridden", "plan", "traced", "with_limits")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.plan: Any = None
        self.traced: Any = None
        # What the last overrides were, and the plan with them: of whole requests, and of rests.
        self.overridden: dict[bool, tuple[tuple[Any, ...], Any]] = {}
        # The same hooks where routers round the route have limits for forms.
        self.with_limits: dict[tuple[Any, ...], RequestHooks] = {}
        self.context: EndpointContext | None = None


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RequestHooks:
    """A route's settings, its plans, and the hooks that the plans call (docs/engine.md).

    Attributes:
        dumps_json: a response model is dumped to JSON bytes at once, as the class is the default.
        overrides: what has `dependency_overrides`: the application.
        effective: what matching in Python puts into the scope, at a place where the router of the
            route is included.
        new_response, new_background, security_scopes, jsonable: what makes the objects that
            parameters get, and plain data of a result.
        inherited_limits: those that the routers round the route have for forms.
    """

    dependant: Dependant
    body_field: ModelField | None = None
    status_code: int | None = None
    response_class: type[Response] = JSONResponse
    dumps_json: bool = False
    response_field: ModelField | None = None
    dump_options: Mapping[str, Any] = field(default_factory=lambda: {"by_alias": True})
    overrides: Any | None = None
    embed_body_fields: bool = False
    strict_content_type: bool = True
    stream_item_field: ModelField | None = None
    is_json_stream: bool = False
    form_limits: _FormLimits | None = None
    is_websocket: bool = False
    max_body_size: int | None = None
    run_mode: "RunMode | None" = None
    param_convertors: Mapping[str, Any] = field(default_factory=dict[str, Any])
    effective: Any | None = None
    inherited_limits: _FormLimits | None = None
    new_response: Callable[[], Response] = new_response
    new_background: Callable[[], Any] = BackgroundTasks
    security_scopes: Callable[..., Any] = SecurityScopes
    jsonable: Callable[[Any], Any] = jsonable_encoder
    _plans: _Plans = field(default_factory=_Plans, init=False, repr=False)

    def __post_init__(self) -> None:
        assert self.dependant.call is not None, "dependant.call must be a function"

    @cached_property
    def call(self) -> Callable[..., Any]:
        """The endpoint."""
        assert self.dependant.call is not None
        return self.dependant.call

    @cached_property
    def is_form(self) -> bool:
        """Whether the body is a form, not JSON."""
        return self.body_field is not None and isinstance(self.body_field.field_info, params.Form)

    @cached_property
    def plain_json(self) -> bool:
        """Whether C may encode what the endpoint returned."""
        return self.response_class in (JSONResponse, _response_classes.JSONResponse)

    @cached_property
    def streams(self) -> bool:
        """Whether the endpoint yields its response."""
        return _is_gen_callable(self.call) or _is_async_gen_callable(self.call)

    @cached_property
    def is_sse(self) -> bool:
        """Whether it yields events."""
        return lenient_issubclass(self.response_class, EventSourceResponse)

    def inheriting(self, limits: _FormLimits) -> "RequestHooks":
        """Return the same hooks where the routers round the route have these limits for forms."""
        if limits == (self.inherited_limits or {}):
            return self
        return self._plans.with_limits.setdefault(
            tuple(sorted(limits.items())), replace(self, inherited_limits=limits)
        )

    # -- plans --------------------------------------------------------------------------------

    @property
    def plan(self) -> Any:
        """The plan, compiled when first asked for."""
        plans = self._plans
        if plans.plan is None:
            with plans.lock:
                if plans.plan is None:
                    plans.plan = _Bound(self).make()
        return plans.plan

    @property
    def traced_plan(self) -> Any:
        """The plan that makes OpenTelemetry spans."""
        plans = self._plans
        if plans.traced is None:
            with plans.lock:
                if plans.traced is None:
                    plans.traced = _Traced(self).make()
        return plans.traced

    @cached_property
    def stream_item_shape(self) -> Any:
        """What C makes of an item of a stream without pydantic, or None."""
        item = self.stream_item_field
        return None if item is None else dump_shape(item, self.dump_options)

    # What the compiler asks; another framework's routes answer otherwise (_fastapi_bridge).
    analyse = staticmethod(get_dependant)

    def param_slots(self, dependant: Dependant, positions: Mapping[str, int]) -> list[Slot]:
        """Return the ``params`` of a node."""
        return param_slots(dependant, positions)

    def body_slot(self, dependant: Dependant) -> Slot | None:
        """Return the ``body`` of a node."""
        return body_slot(dependant.body_params, self.embed_body_fields, is_form=self.is_form)

    @staticmethod
    def cache_key(dependant: Dependant, scopes_cache: dict[int, tuple[Any, bool]]) -> Any:
        """Dependencies with equal keys have the same value within a request."""
        return _get_cache_key(dependant=dependant, uses_scopes_cache=scopes_cache)

    # -- reading the body ---------------------------------------------------------------------

    @staticmethod
    def load_json(raw: bytes) -> Any:
        return json.loads(raw)

    @staticmethod
    def is_json(content_type: str) -> bool:
        return _is_json(content_type)

    def read_form(self, request: Request) -> Awaitable[Any]:
        return self._read_form(request)

    async def _read_form(self, request: Request) -> Any:
        form = await read_form(request, **_scope.form_limits(request.scope, self.form_limits))
        stack = request.scope.get("fastapi_middleware_astack")
        if isinstance(stack, AsyncExitStack):
            stack.push_async_callback(form.close)
        return form

    @cached_property
    def parse_form(self) -> Any:
        """Parse a form that is all there, when no Request has it: `(body, content type)`."""
        limits: dict[str, Any] = {**(self.inherited_limits or {}), **(self.form_limits or {})}
        return partial(parse_whole_form, **limits) if limits else parse_whole_form

    def json_invalid(self, error: json.JSONDecodeError, request: Any) -> Exception:
        return _reported(
            RequestValidationError(
                [
                    {
                        "type": "json_invalid",
                        "loc": ("body", error.pos),
                        "msg": "JSON decode error",
                        "input": {},
                        "ctx": {"error": error.msg},
                    }
                ],
                body=error.doc,
                endpoint_ctx=self.endpoint_context(request),
            )
        )

    @staticmethod
    def body_error(error: Exception) -> Exception:
        if _is_ours(error):
            return error
        return get_body_limit_error(error) or HTTPException(
            status_code=400, detail="There was an error parsing the body"
        )

    # -- dependencies -------------------------------------------------------------------------

    def validation_error(self, errors: list[Any], body: Any, request: Any) -> Exception:
        context = self.endpoint_context(request)
        if self.is_websocket:
            return _reported(WebSocketRequestValidationError(errors, endpoint_ctx=context))
        return _reported(RequestValidationError(errors, body=body, endpoint_ctx=context))

    @staticmethod
    def run_sync(call: Callable[..., Any], values: dict[str, Any]) -> Awaitable[Any]:
        return run_in_threadpool(call, **values)

    def new_request(self, scope: Scope, receive: Receive, send: Send) -> Request:
        """Return the request of a run that was not matched in Python, or of one that was."""
        if self.effective is not None or self.inherited_limits:
            own = _scope.own_scope(scope)
            if self.effective is not None:
                own.setdefault(_scope.EFFECTIVE_ROUTE, self.effective)
            if self.inherited_limits:
                own.setdefault(_scope.FORM_LIMITS, self.inherited_limits)
        return EngineRequest(scope, receive, send)

    @staticmethod
    def swallowed() -> Exception:
        """Return the error of a dependency that swallowed the exception of the route."""
        return FastAPIError(SWALLOWED)

    cleanup_scope = CancelScope

    def _override(
        self, overrides: Mapping[Any, Any], kind: "type[_Bound]", begun: list[Dependant]
    ) -> Any:
        """Return the plan with these overrides; the last one is kept."""
        key = (kind, tuple(overrides.items()), [id(each) for each in begun])
        kept = self._plans.overridden.get(bool(begun))
        if kept is not None and kept[0] == key:
            return kept[1]
        plan = kind(self).make(overrides, begun)
        self._plans.overridden[bool(begun)] = key, plan
        return plan

    # -- the response -------------------------------------------------------------------------

    @staticmethod
    def encode_json(value: Any) -> bytes:
        return JSONResponse(jsonable_encoder(value)).body  # type: ignore[return-value]

    def is_plain_response(self) -> bool:
        """Return whether `response_class` does what Starlette's Response does, as it was."""
        return is_plain_class(self.response_class)

    def make_response(
        self,
        value: Any,
        status_code: int | None,
        background: Any | None,
        request: Any,
        is_coroutine: bool,
    ) -> Any:
        """`response_class` of the serialized value: a Response, or an awaitable of one."""
        field = self.response_field
        if field is None or is_coroutine:
            checked = value if field is None else self._checked(field, value, request)
            return self._respond(checked, status_code, background)
        return self._respond_threaded(value, status_code, background, request)

    async def _respond_threaded(
        self, value: Any, status_code: int | None, background: Any | None, request: Any
    ) -> Response:
        # A `def` endpoint may return something that blocks when its attributes are read.
        checked = await run_in_threadpool(self._checked, self.response_field, value, request)
        return self._respond(checked, status_code, background)

    def _respond(self, value: Any, status_code: int | None, background: Any | None) -> Response:
        field = self.response_field
        if field is None and self.plain_json and (body := _core.encode_json(value)) is not None:
            return self._json_response(body, status_code, background)
        given: dict[str, Any] = {"background": background}
        if status_code is not None:
            given["status_code"] = status_code
        if field is not None and self.dumps_json:
            content: Any = field.serialize_json(value, **self.dump_options)
            response = Response(content=content, media_type="application/json", **given)
        else:
            plain = field is None
            content = self.jsonable(value) if plain else self._serialize(value)
            response = self.response_class(content, **given)
        if not is_body_allowed_for_status_code(response.status_code):
            response.body = b""
        return response

    def _json_response(
        self, body: bytes, status_code: int | None, background: Any | None
    ) -> Response:
        """Return what `response_class` would make of the data with that JSON."""
        kind = self.response_class
        response = kind.__new__(kind)
        response.status_code = 200 if status_code is None else status_code
        response.background = background
        response.body = body
        response.init_headers()
        if not is_body_allowed_for_status_code(response.status_code):
            response.body = b""
        return response

    def _serialize(self, value: Any) -> Any:
        assert self.response_field is not None
        return self.response_field.serialize(value, **self.dump_options)

    def serialize_field(self, value: Any, request: Any) -> Any:
        field = self.response_field
        assert field is not None
        return field.serialize_json(self._checked(field, value, request), **self.dump_options)

    def _checked(self, field: Any, value: Any, request: Any = None) -> Any:
        checked, errors = field.validate(value, {}, loc=("response",))
        if errors:
            raise self._invalid_response(errors, value, request)
        return checked

    def response_error(self, error: ValidationError, value: Any, request: Any) -> Exception:
        errors = _regenerate_error_with_loc(
            errors=error.errors(include_url=False), loc_prefix=("response",)
        )
        return self._invalid_response(errors, value, request)

    def _invalid_response(self, errors: Any, value: Any, request: Any) -> Exception:
        return ResponseValidationError(
            errors=errors, body=value, endpoint_ctx=self.endpoint_context(request)
        )

    def endpoint_response(self, request: Request, solved: Any) -> Awaitable[Response]:
        return stream_response(self, request, solved)

    # -- errors -------------------------------------------------------------------------------

    is_default_handler = staticmethod(OURS.is_default_handler)
    answers_invalid = staticmethod(OURS.answers_invalid)
    task_call = known_calls.TASK and staticmethod(known_calls.TASK)
    tasks_call = known_calls.TASKS and staticmethod(known_calls.TASKS)
    background_call = known_calls.OWN_TASKS and staticmethod(known_calls.OWN_TASKS)

    @staticmethod
    def handle_error(request: Any, exc: Exception, started: bool) -> Any:
        """Return the answer of the application's handler for `exc`, or None without a handler."""
        try:
            by_class, by_status = request.scope["starlette.exception_handlers"]
        except KeyError:
            return None
        handler = by_status.get(exc.status_code) if isinstance(exc, HTTPException) else None
        handler = handler or _lookup_exception_handler(by_class, exc)
        if handler is None:
            return None
        if started:
            raise RuntimeError("Caught handled exception, but response already started.") from exc
        return _handled(handler, request, exc)

    def endpoint_context(self, connection: Any = None) -> EndpointContext:
        """Return where the endpoint is, for the text of a validation error."""
        if self._plans.context is None:
            # lazy: only errors tell it
            from turboapi.routing._context import extract_endpoint_context

            self._plans.context = extract_endpoint_context(self.call)
        context = self._plans.context.copy()
        if self.dependant.path and connection is not None:
            scope = connection.scope
            method = "WS" if scope["type"] == "websocket" else scope["method"]
            mounted = scope.get("root_path", "").rstrip("/")
            context["path"] = f"{method} {mounted}{self.dependant.path}"
        return context


async def _handled(handler: Callable[..., Any], request: Any, exc: Exception) -> Any:
    if is_async_callable(handler):
        response: Any = await handler(request, exc)
    else:
        response = await run_in_threadpool(handler, request, exc)
    # An exception object that is raised again and again would keep every traceback.
    exc.__traceback__ = None
    return response


class _Bound:
    """The hooks of one plan: those of the route, and what depends on the plan's nodes."""

    operation: Any = None
    observe: Any = None

    def __init__(self, route: RequestHooks) -> None:
        self._route = route
        self._dependants: list[Dependant] = []
        self._turns: list[Dependant] = []
        self._parents: list[int] = []
        self._items: tuple[Any, ...] = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._route, name)

    def make(
        self, overrides: Mapping[Any, Any] | None = None, begun: Sequence[Dependant] = ()
    ) -> Any:
        spec, self._dependants, self._turns = compile_spec(self._route, overrides, begun)
        self._parents = [node["parent"] for node in spec["nodes"]]
        self._items = tuple((overrides or {}).items())
        self.adapt(spec)
        return _core.Plan(**{**spec, "hooks": self})

    def adapt(self, spec: dict[str, Any]) -> None:
        """Change the spec before the plan is made."""

    def override_plan(self, overrides: Mapping[Any, Any], done: int) -> Any:
        """Return the plan to go on with when `done` nodes are; None: this one."""
        if self._items == tuple(overrides.items()):
            return None
        turns = done
        node = self._parents[done - 1] if done else -1
        while node >= 0 and self._parents[node] >= 0:  # above what was done last: they have begun
            turns += 1
            node = self._parents[node]
        return self._route._override(overrides, type(self), self._turns[:turns])

    def solve_generator(self, index: int, values: dict[str, Any], request: Any) -> Awaitable[Any]:
        dependant = self._dependants[index]
        inner = "fastapi_function_astack" if dependant.scope == "function" else None
        stack = request.scope[inner or "fastapi_inner_astack"]
        return _solve_generator(
            dependant=dependant, stack=stack, sub_values=values, request=request
        )

    def open_generator(self, index: int, values: dict[str, Any], scope: Any) -> Any:
        return open_generator(self._dependants[index], values, scope)

    async def solve_limited(self, index: int, values: dict[str, Any]) -> Any:
        dependant = self._dependants[index]
        assert dependant.concurrency is not None
        assert dependant.call is not None
        async with dependant.concurrency.get_semaphore():
            if _is_coroutine_callable(dependant.call):
                return await dependant.call(**values)
            return await run_in_threadpool(dependant.call, **values)


class _Traced(_Bound):
    """As `_Bound`, and tells OpenTelemetry what happens (turboapi.telemetry)."""

    def adapt(self, spec: dict[str, Any]) -> None:
        # The span of a `def` endpoint is that of its thread.
        endpoint = spec["nodes"][-1]
        if endpoint["kind"] == "sync":
            endpoint["call"] = partial(_run_traced, endpoint["call"])

    @staticmethod
    def operation(name: str, call: Callable[..., Any] | None) -> AbstractContextManager[None]:
        return _operation(name=name, function=call)

    def observe(self, what: str, value: Any) -> None:
        data = get_telemetry_data()
        if data is None:
            return
        if what == "request":
            data.request = value
        elif what == "body":
            data.body = value
        elif what == "solved":
            data.values = value.values
            data.errors = value.errors


def _run_traced(call: Callable[..., Any], /, **values: Any) -> Any:
    with _operation(name="endpoint", function=call):
        return call(**values)


def _reported(error: Any) -> Exception:
    _validation_failed(error)
    return error  # type: ignore[no-any-return]


@lru_cache(maxsize=256)
def _is_json(content_type: str) -> bool:
    message = email.message.Message()
    message["content-type"] = content_type
    subtype = message.get_content_subtype()
    is_json = subtype == "json" or subtype.endswith("+json")
    return is_json and message.get_content_maintype() == "application"
