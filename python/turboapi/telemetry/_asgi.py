"""Spans, metrics and exception records of requests and WebSocket connections.

Names and attributes follow the semantic conventions:
https://opentelemetry.io/docs/specs/semconv/http/
"""

import os
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter, time_ns
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from opentelemetry import _logs, metrics, propagate, trace
from opentelemetry import context as otel_context
from opentelemetry._logs import Logger, SeverityNumber
from opentelemetry.metrics import Histogram, UpDownCounter
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from turboapi._version import __version__
from turboapi.telemetry._api import (
    _HTTP_METHODS,
    _REQUEST_TELEMETRY_KEY,
    SCOPE_KEY,
    CompleteConfig,
    _exception_type,
    _normal_websocket_disconnect,
    _RequestTelemetry,
    _unconfigured,
)

_SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
_INSTRUMENTATION: Final = "fastapi"
# The buckets, in seconds, that the conventions advise.
_DURATION_BUCKETS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
# Signatures of presigned URLs, which the conventions want hidden.
_SENSITIVE_QUERY_PARAMETERS: Final = frozenset(
    {
        "X-Amz-Credential",
        "X-Amz-Security-Token",
        "X-Amz-Signature",
        "X-Goog-Signature",
        "sig",
    }
)
# The API's functions that tell the global providers: their module, their name, and the global
# variable of theirs that is None until a provider is set.
_PROVIDER_CELLS: Final[tuple[tuple[Any, str, str], ...]] = (
    (trace, "get_tracer_provider", "_TRACER_PROVIDER"),
    (metrics, "get_meter_provider", "_METER_PROVIDER"),
    (_logs, "get_logger_provider", "_LOGGER_PROVIDER"),
)
# Where those functions are defined; one that is from elsewhere is somebody's own.
_PROVIDER_MODULES: Final = (
    "opentelemetry.trace",
    "opentelemetry.metrics._internal",
    "opentelemetry._logs._internal",
)
_PROVIDER_VARIABLES: Final = (
    "OTEL_PYTHON_TRACER_PROVIDER",
    "OTEL_PYTHON_METER_PROVIDER",
    "OTEL_PYTHON_LOGGER_PROVIDER",
)
_MISSING: Final = object()
_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class _HeadersGetter(Getter[Headers]):
    def get(self, carrier: Headers, key: str) -> list[str] | None:
        values = carrier.getlist(key)
        if key.lower() == "baggage" and values:
            # Its propagator looks at one value only.
            return [",".join(values)]
        return values or None

    def keys(self, carrier: Headers) -> list[str]:
        return carrier.keys()


_HEADERS_GETTER: Final = _HeadersGetter()


def _legacy_otel(stack: Any) -> bool:
    """Return whether OpenTelemetry's own ASGI middleware is in the stack: it reports already."""
    seen: set[int] = set()
    while stack is not None and id(stack) not in seen:
        seen.add(id(stack))
        kind = type(stack)  # pyright: ignore[reportUnknownVariableType]
        if (kind.__module__, kind.__name__) == (
            "opentelemetry.instrumentation.asgi",
            "OpenTelemetryMiddleware",
        ):
            return True
        stack = getattr(stack, "app", None)
    return False


def _exception(*, scope: Scope, exc: BaseException) -> None:
    """Note an exception that nobody handled, once, and log it."""
    websocket = scope["type"] == "websocket"
    telemetry = scope.get(SCOPE_KEY)
    if not isinstance(telemetry, _RequestTelemetry):
        return
    if websocket and _normal_websocket_disconnect(exc):
        return
    if any(known is exc for known in telemetry._exceptions):
        return
    telemetry._exceptions.append(exc)
    if telemetry.logger is None or not isinstance(exc, Exception):
        return
    name = "fastapi.websocket.exception" if websocket else "http.server.request.exception"
    where = "WebSocket connection" if websocket else "request"
    telemetry.logger.emit(
        exception=exc,
        event_name=name,
        timestamp=time_ns(),
        severity_number=SeverityNumber.ERROR,
        severity_text="ERROR",
        body=f"Unhandled exception in FastAPI {where}",
        attributes={"http.route": telemetry.route} if telemetry.route else None,
    )


def _server_attributes(scope: Scope) -> dict[str, Any]:
    """Name and port of the server as the client named it; nothing for a malformed Host."""
    host = Headers(scope=scope).get("host")
    if host is None:
        address, port = scope.get("server") or (None, None)
    else:
        try:
            url = urlsplit(f"//{host}")
            address, port = url.hostname, url.port
        except ValueError:
            return {}
        if url.username is not None or url.path or url.query or url.fragment:
            return {}
        if port is None:
            port = _DEFAULT_PORTS.get(scope.get("scheme", "http"))
    if address is None:
        return {}
    attributes: dict[str, Any] = {"server.address": address}
    if port is not None:
        attributes["server.port"] = port
    return attributes


def _redacted_query(query: bytes) -> str:
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    hidden = _SENSITIVE_QUERY_PARAMETERS
    return urlencode([(key, "REDACTED" if key in hidden else value) for key, value in pairs])


class ExceptionTelemetryMiddleware:
    """Record exceptions before the error page for them is sent, which ends the request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except Exception as exc:
            _exception(scope=scope, exc=exc)
            raise


class NativeTelemetry:
    """The telemetry of one application; does nothing until a provider is configured."""

    def __init__(self, config: CompleteConfig) -> None:
        self.config = config
        known = os.getenv("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "")
        names = frozenset(name for part in known.split(",") if (name := part.strip()))
        self._known_methods = names or _HTTP_METHODS
        # Whether the environment names providers (None: not yet looked), or the application.
        self._named_in_environment: bool | None = None
        self._given = False
        # The last provider of each kind, and what was made of it.
        self._tracer: tuple[trace.TracerProvider, trace.Tracer] | None = None
        self._meters: tuple[metrics.MeterProvider, Histogram, UpDownCounter] | None = None

    def enabled(self) -> bool:
        """Return whether any kind of telemetry has somewhere to go. Asked for every request."""
        quick = self._quick_look()
        if quick is not None:
            return quick
        config = self.config
        return any(
            wanted and (provider is not None or not _unconfigured(current()))
            for wanted, provider, current in (
                (config["tracing"], config["tracer_provider"], trace.get_tracer_provider),
                (config["metrics"], config["meter_provider"], metrics.get_meter_provider),
                (config["logs"], config["logger_provider"], _logs.get_logger_provider),
            )
        )

    def _quick_look(self) -> bool | None:
        """Return False when no provider is set anywhere, and None when that has to be found out.

        The API's own functions look into the environment each time they are asked without a
        provider; here that is done once.
        """
        if self._named_in_environment is None:
            self._named_in_environment = any(name in os.environ for name in _PROVIDER_VARIABLES)
            config = self.config
            given = (
                config["tracer_provider"],
                config["meter_provider"],
                config["logger_provider"],
            )
            self._given = any(provider is not None for provider in given)
        if self._given or self._named_in_environment:
            return None
        for module, function, cell in _PROVIDER_CELLS:
            found = getattr(getattr(module, function), "__globals__", {})
            if found.get(cell, _MISSING) is not None:
                return None
            if found.get("__name__") not in _PROVIDER_MODULES:
                return None
        return False

    def watched(self) -> tuple[tuple[dict[str, Any], str, Any], ...] | None:
        """Return where a provider would turn up: while none does, `enabled` is False.

        The items are a namespace, a name in it, and what is there as long as there is none. None:
        that can't be told.
        """
        if self._quick_look() is not False:
            return None
        return tuple(
            (getattr(module, function).__globals__, cell, None)
            for module, function, cell in _PROVIDER_CELLS
        )

    async def __call__(
        self,
        *,
        app: ASGIApp,
        scope: Scope,
        receive: Receive,
        send: Send,
        legacy_otel: bool = False,
    ) -> None:
        """Run `app` for one request or connection, observed as far as that is wanted."""
        exclude = self.config["exclude"]
        if exclude is not None and exclude(scope):
            await _run_unobserved(app, scope, receive, send)
            return
        tracer = None if legacy_otel else self._find_tracer()
        logger = None if legacy_otel else self._find_logger()
        meters = None
        if not legacy_otel and scope["type"] == "http":
            meters = self._find_meters()
        if tracer is None and logger is None and meters is None:
            await app(scope, receive, send)
            return
        observed = _Observed(self, scope, tracer=tracer, logger=logger, meters=meters)
        await observed.run(app, receive, send)

    def _find_tracer(self) -> trace.Tracer | None:
        if not self.config["tracing"]:
            return None
        given = self.config["tracer_provider"]
        provider = given or trace.get_tracer_provider()
        if given is None and _unconfigured(provider):
            return None
        if isinstance(provider, trace.NoOpTracerProvider):
            return None
        kept = self._tracer
        if kept is None or kept[0] is not provider:
            tracer = provider.get_tracer(_INSTRUMENTATION, __version__, schema_url=_SCHEMA_URL)
            kept = self._tracer = provider, tracer
        return kept[1]

    def _find_logger(self) -> Logger | None:
        if not self.config["logs"]:
            return None
        given = self.config["logger_provider"]
        provider = given or _logs.get_logger_provider()
        if given is None and _unconfigured(provider):
            return None
        if isinstance(provider, _logs.NoOpLoggerProvider):
            return None
        return _logs.get_logger(_INSTRUMENTATION, __version__, given, schema_url=_SCHEMA_URL)

    def _find_meters(self) -> tuple[Histogram, UpDownCounter] | None:
        if not self.config["metrics"]:
            return None
        given = self.config["meter_provider"]
        provider = given or metrics.get_meter_provider()
        if given is None and _unconfigured(provider):
            return None
        if isinstance(provider, metrics.NoOpMeterProvider):
            return None
        kept = self._meters
        if kept is None or kept[0] is not provider:
            meter = provider.get_meter(_INSTRUMENTATION, __version__, schema_url=_SCHEMA_URL)
            duration = meter.create_histogram(
                "http.server.request.duration",
                unit="s",
                description="Duration of HTTP server requests.",
                explicit_bucket_boundaries_advisory=_DURATION_BUCKETS,
            )
            active = meter.create_up_down_counter(
                "http.server.active_requests",
                unit="{request}",
                description="Number of active HTTP server requests.",
            )
            kept = self._meters = provider, duration, active
        return kept[1:]


async def _run_unobserved(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run `app` so that neither applications below it nor an outer request observe it."""
    scope[SCOPE_KEY] = None
    token = otel_context.attach(otel_context.set_value(_REQUEST_TELEMETRY_KEY, None))
    try:
        await app(scope, receive, send)
    finally:
        otel_context.detach(token)
        scope.pop(SCOPE_KEY, None)


class _Observed:
    """One request or connection while it is observed."""

    def __init__(
        self,
        native: NativeTelemetry,
        scope: Scope,
        *,
        tracer: trace.Tracer | None,
        logger: Logger | None,
        meters: tuple[Histogram, UpDownCounter] | None,
    ) -> None:
        self.scope = scope
        self.is_websocket = scope["type"] == "websocket"
        self.tracer = tracer
        self.meters = meters
        self.operation_spans = native.config["operation_spans"]
        self.original_method: str = scope.get("method", "")
        known = self.original_method in native._known_methods
        self.method = self.original_method if known else "_OTHER"
        self.attributes = self._common_attributes()
        self.active_attributes = {
            key: value
            for key, value in self.attributes.items()
            if key != "network.protocol.version"
        }
        span_method = "WS" if self.is_websocket else self.method if known else "HTTP"
        mounted = scope.get("app_root_path", scope.get("root_path", ""))
        self.state = _RequestTelemetry(
            span=None,
            span_method=span_method,
            tracer=tracer if self.operation_spans else None,
            logger=logger,
            _mount_prefix=mounted.rstrip("/"),
        )
        self.started = 0.0
        self.finished = False
        self.trailers = False
        self.disconnected = False

    def _common_attributes(self) -> dict[str, Any]:
        default = "ws" if self.is_websocket else "http"
        attributes = {"url.scheme": self.scope.get("scheme", default)}
        if self.is_websocket:
            attributes["network.protocol.name"] = "websocket"
            return attributes
        attributes["http.request.method"] = self.method
        if version := self.scope.get("http_version"):
            attributes["network.protocol.version"] = version
        return attributes

    def _span_attributes(self) -> dict[str, Any]:
        attributes = {**self.attributes, **_server_attributes(self.scope)}
        if self.is_websocket:
            return attributes
        attributes["url.path"] = self.scope["path"]
        if query := self.scope.get("query_string"):
            attributes["url.query"] = _redacted_query(query)
        if self.original_method != self.method:
            attributes["http.request.method_original"] = self.original_method
        return attributes

    async def run(self, app: ASGIApp, receive: Receive, send: Send) -> None:
        if self.meters is not None:
            self.meters[1].add(1, self.active_attributes)
        self.started = perf_counter()
        current: AbstractContextManager[Any] = nullcontext()
        parent_token = None
        if self.tracer is not None:
            parent = propagate.extract(Headers(scope=self.scope), getter=_HEADERS_GETTER)
            parent_token = otel_context.attach(parent)
            span = self.state.span = self.tracer.start_span(
                self.state.span_method,
                context=parent,
                kind=SpanKind.SERVER,
                attributes=self._span_attributes(),
            )
            current = trace.use_span(
                span, end_on_exit=False, record_exception=False, set_status_on_exception=False
            )
        self.scope[SCOPE_KEY] = self.state
        token = otel_context.attach(otel_context.set_value(_REQUEST_TELEMETRY_KEY, self.state))
        try:
            with current:
                await self._run_app(app, receive, send)
        finally:
            self.state.data = None
            self.state._exceptions.clear()
            otel_context.detach(token)
            self.scope.pop(SCOPE_KEY, None)
            if parent_token is not None:
                otel_context.detach(parent_token)

    async def _run_app(self, app: ASGIApp, receive: Receive, send: Send) -> None:
        async def watch_receive() -> Message:
            message = await receive()
            self.disconnected = self.disconnected or message["type"] == "http.disconnect"
            return message

        async def watch_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.state.status_code = message["status"]
                self.trailers = message.get("trailers", False)
            await send(message)
            if self._is_last(message):
                self.finish()

        try:
            if self.is_websocket:
                await app(self.scope, receive, send)
            else:
                await app(self.scope, watch_receive, watch_send)
        except BaseException as exc:
            _exception(scope=self.scope, exc=exc)
            goodbye = self.is_websocket and _normal_websocket_disconnect(exc)
            self.finish(None if goodbye else exc)
            raise
        if self.is_websocket:
            self.finish()
        elif self.disconnected:
            self.finish(ConnectionError("Client disconnected"))
        else:
            self.finish(RuntimeError("Incomplete ASGI response"))

    def _is_last(self, message: Message) -> bool:
        kind = message["type"]
        if kind == "http.response.body":
            return not message.get("more_body", False) and not self.trailers
        if kind == "http.response.trailers":
            return not message.get("more_trailers", False)
        return bool(kind == "http.response.pathsend")

    def finish(self, error: BaseException | None = None) -> None:
        """End the span and record the metrics; only the first call counts."""
        if self.finished:
            return
        self.finished = True
        state, attributes = self.state, self.attributes
        status = state.status_code
        if state.route is not None:
            attributes["http.route"] = state.route
        if status is not None:
            attributes["http.response.status_code"] = status
        failed = error is not None or (not self.is_websocket and (status is None or status >= 500))
        if failed:
            cause = error or next(reversed(state._exceptions), None)
            attributes["error.type"] = (
                str(status or "incomplete_response") if cause is None else _exception_type(cause)
            )
        span = state.span
        if span is not None:
            span.set_attributes(attributes)
            if failed:
                span.set_status(StatusCode.ERROR)
        if self.meters is not None:
            # While the span is current, so that exemplars can name it.
            duration, active = self.meters
            duration.record(max(0, perf_counter() - self.started), attributes)
            active.add(-1, self.active_attributes)
        if span is not None:
            span.end()
