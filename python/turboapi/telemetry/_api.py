"""What the rest of the framework tells OpenTelemetry, and what processors can ask for.

Needs only the API package, and imports it when there is something to tell: most applications have
no telemetry, and it takes long. The state of a request is an object in the OpenTelemetry context,
so that tasks and threads started by the endpoint find it too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from time import time_ns
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from starlette.exceptions import HTTPException, WebSocketException
from starlette.requests import Request
from starlette.websockets import WebSocket, WebSocketDisconnect
from typing_extensions import TypedDict

from turboapi.exceptions import RequestValidationError, WebSocketRequestValidationError

if TYPE_CHECKING:
    from opentelemetry._logs import Logger, LoggerProvider
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, Tracer, TracerProvider

SCOPE_KEY: Final = "fastapi.telemetry"

_HTTP_METHODS: Final = frozenset(
    ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"]
)
# Answers to the client rather than failures of the application.
_EXPECTED: Final = (
    HTTPException,
    RequestValidationError,
    WebSocketException,
    WebSocketRequestValidationError,
)


class TelemetryConfig(TypedDict, total=False):
    """Settings of `FastAPI(telemetry={...})`; what is left out keeps its default.

    Attributes:
        tracer_provider, meter_provider, logger_provider: used instead of the global ones; never
            shut down by the framework.
        tracing: spans of requests and WebSocket connections (default True).
        metrics: duration and number of HTTP requests (default True).
        logs: records of failed validation and unhandled exceptions, with text and stack trace
            (default True).
        operation_spans: spans of dependencies, endpoint, serialization and background tasks
            (default True).
        auto_configure: add OTLP exporters as the environment says; default False, or True when
            the variable FASTAPI_OTEL_AUTO_CONFIGURE is "true".
        exclude: gets the ASGI scope; True leaves that request out.
    """

    tracer_provider: TracerProvider | None
    meter_provider: MeterProvider | None
    logger_provider: LoggerProvider | None
    tracing: bool
    metrics: bool
    logs: bool
    operation_spans: bool
    auto_configure: bool
    exclude: Callable[[MutableMapping[str, Any]], bool] | None


class CompleteConfig(TypedDict):
    """`TelemetryConfig` with every setting in it."""

    tracer_provider: TracerProvider | None
    meter_provider: MeterProvider | None
    logger_provider: LoggerProvider | None
    tracing: bool
    metrics: bool
    logs: bool
    operation_spans: bool
    auto_configure: bool
    exclude: Callable[[MutableMapping[str, Any]], bool] | None


@dataclass(kw_only=True)
class TelemetryData:
    """What is known of the request now, for span and log processors of the same process.

    Nothing of it is exported by the framework. Read it while the request is handled.

    Attributes:
        request, websocket: the connection, once its route's handler has started.
        body: the body before validation.
        values: the arguments, once the dependencies are solved.
        errors: validation errors, with the input.
    """

    request: Request | None = None
    websocket: WebSocket | None = None
    body: Any = None
    values: dict[str, Any] | None = None
    errors: Sequence[Any] | None = None


@dataclass(kw_only=True)
class _RequestTelemetry:
    """The state of one request; `data` is None once it is over."""

    span: Span | None
    span_method: str
    tracer: Tracer | None = None
    logger: Logger | None = None
    route: str | None = None
    status_code: int | None = None
    data: TelemetryData | None = field(default_factory=TelemetryData)
    _mount_prefix: str = ""
    _exceptions: list[BaseException] = field(default_factory=list, repr=False)  # pyright: ignore[reportUnknownVariableType]


_REQUEST_TELEMETRY_KEY: Final = f"fastapi.request-{uuid4()}"  # as opentelemetry's create_key()
_NO_OPERATION: Final = nullcontext()


def _get_request_telemetry(context: Context | None = None) -> _RequestTelemetry | None:
    # As long as nobody has imported it, no request has a state. (Or is importing it, elsewhere.)
    get_value = getattr(sys.modules.get("opentelemetry.context"), "get_value", None)
    found = get_value and get_value(_REQUEST_TELEMETRY_KEY, context)
    return found if isinstance(found, _RequestTelemetry) else None


def get_telemetry_data(context: Context | None = None) -> TelemetryData | None:
    """Return the data of the request of an OpenTelemetry context; default: the current one.

    None outside of a request, and after it, also for a context that was kept.
    """
    telemetry = _get_request_telemetry(context)
    return None if telemetry is None else telemetry.data


def _validation_failed(exc: RequestValidationError | WebSocketRequestValidationError) -> None:
    """Note a failed validation: in the data, and as a log record."""
    telemetry = _get_request_telemetry()
    if telemetry is None:
        return
    errors = exc.errors()
    if telemetry.data is not None:
        telemetry.data.errors = errors
        if isinstance(exc, RequestValidationError):
            telemetry.data.body = exc.body
    if telemetry.logger is None:
        return
    from opentelemetry._logs import SeverityNumber  # lazy: see above

    attributes: dict[str, Any] = {"fastapi.validation.error_count": len(errors)}
    if telemetry.route is not None:
        attributes["http.route"] = telemetry.route
    telemetry.logger.emit(
        event_name="fastapi.validation.failed",
        timestamp=time_ns(),
        severity_number=SeverityNumber.WARN,
        severity_text="WARN",
        body="Request validation failed",
        attributes=attributes,
    )


def _exception_type(exc: BaseException) -> str:
    kind = type(exc)
    prefix = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return prefix + kind.__qualname__


def _normal_websocket_disconnect(exc: BaseException) -> bool:
    """Return whether the client said goodbye (1000) or left the page (1001)."""
    return isinstance(exc, WebSocketDisconnect) and exc.code in (1000, 1001)


def _operation(
    *, name: str, function: Callable[..., Any] | None = None
) -> AbstractContextManager[None]:
    """Return a span of one step of a request; nothing when there is no tracer."""
    telemetry = _get_request_telemetry()
    if telemetry is None or telemetry.tracer is None:
        return _NO_OPERATION
    return _span(telemetry.tracer, name, function)


@contextmanager
def _span(tracer: Tracer, name: str, function: Callable[..., Any] | None) -> Generator[None]:
    from opentelemetry.trace import StatusCode  # lazy: see above

    attributes: dict[str, str] = {}
    if function is not None:
        kind = type(function)
        module = getattr(function, "__module__", kind.__module__)
        qualname = getattr(function, "__qualname__", kind.__qualname__)
        attributes["code.function.name"] = f"{module}.{qualname}"
    with tracer.start_as_current_span(
        f"fastapi.{name}",
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        except Exception as exc:
            expected = isinstance(exc, _EXPECTED) or _normal_websocket_disconnect(exc)
            # A background task has no client to answer: there everything is a failure.
            if name == "background_task" or not expected:
                span.set_attribute("error.type", _exception_type(exc))
                span.set_status(StatusCode.ERROR)
            raise


def _run_sync_endpoint(*, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Call a `def` endpoint; in its thread, so that its own spans are below this one."""
    with _operation(name="endpoint", function=function):
        return function(**arguments)


def _route_selected(
    *, scope: MutableMapping[str, Any], path: str | None, mount: bool = False
) -> None:
    """Name the request after its route; mounts put their path before that of what they mount."""
    telemetry = scope.get(SCOPE_KEY)
    if not isinstance(telemetry, _RequestTelemetry) or path is None:
        return
    if mount:
        telemetry._mount_prefix += path.removesuffix("/{path}")
        path = "/{path}"
    telemetry.route = telemetry._mount_prefix + path
    if telemetry.span is not None:
        telemetry.span.set_attribute("http.route", telemetry.route)
        telemetry.span.update_name(f"{telemetry.span_method} {telemetry.route}")


# The API has no question "is an SDK set up?". These are its own placeholders until one is.
_PLACEHOLDERS: Final = frozenset(
    {
        ("opentelemetry.trace", "ProxyTracerProvider"),
        ("opentelemetry.metrics._internal", "_ProxyMeterProvider"),
        ("opentelemetry._logs._internal", "ProxyLoggerProvider"),
    }
)


def _unconfigured(provider: object) -> bool:
    kind = type(provider)
    return (kind.__module__, kind.__name__) in _PLACEHOLDERS
