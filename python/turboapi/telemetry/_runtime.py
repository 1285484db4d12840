"""Exporters from the environment (`auto_configure`), and their end with the application."""

import atexit
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from anyio.to_thread import run_sync
from opentelemetry import _logs, metrics, trace
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from turboapi.exceptions import FastAPIError
from turboapi.logger import logger
from turboapi.telemetry._api import CompleteConfig, _unconfigured

_lock = threading.RLock()
# What was made here, and must be flushed and shut down here.
_owned: list[Any] = []
# (signal, provider) that have an exporter of ours.
_configured: list[tuple[str, Any]] = []

_EXPLICITLY = "pass telemetry={'auto_configure': False} to FastAPI()."
_ENDED = frozenset(
    {"lifespan.shutdown.complete", "lifespan.shutdown.failed", "lifespan.startup.failed"}
)


def _each(components: tuple[Any, ...], method: str) -> None:
    for component in components:
        try:
            getattr(component, method)()
        except Exception:
            logger.exception("FastAPI telemetry cleanup failed")


def _flush() -> None:
    _each(tuple(_owned), "force_flush")


def _shutdown() -> None:
    with _lock:
        components = tuple(_owned)
        _owned.clear()
    _each(components, "shutdown")


atexit.register(_shutdown)


def _export_endpoint(signal: str) -> str | None:
    """Return where the environment wants a signal sent; None: nowhere.

    Raises:
        FastAPIError: for what is not OTLP over HTTP with protobuf.
    """
    exporter = (os.getenv(f"OTEL_{signal}_EXPORTER") or "otlp").strip().lower()
    endpoint = os.getenv(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT") or None
    if endpoint is None and (base := os.getenv("OTEL_EXPORTER_OTLP_ENDPOINT")):
        endpoint = f"{base.removesuffix('/')}/v1/{signal.lower()}"
    if endpoint is None or exporter == "none":
        return None
    if exporter != "otlp":
        raise FastAPIError(
            f"FastAPI automatic telemetry supports OTEL_{signal}_EXPORTER=otlp or none. "
            f"Configure other exporters explicitly and {_EXPLICITLY}"
        )
    names = (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    protocols = [value for name in names if (value := os.getenv(name))]
    if protocols and protocols[0] != "http/protobuf":
        raise FastAPIError(
            "FastAPI automatic telemetry requires the OTLP http/protobuf protocol. "
            f"Configure other transports explicitly and {_EXPLICITLY}"
        )
    url = urlsplit(endpoint)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise FastAPIError(
            f"Invalid OTLP {signal.lower()} endpoint. Use an absolute HTTP or HTTPS URL."
        )
    return endpoint


def _registration_provider(provider: Any) -> Any:
    """Return the provider that takes readers: older Logfire wraps it without passing that on."""
    kind = type(cast("object", provider))
    wraps = (kind.__module__, kind.__name__) == (
        "logfire._internal.metrics",
        "ProxyMeterProvider",
    )
    return provider.provider if wraps and not hasattr(provider, "add_metric_reader") else provider


@dataclass(frozen=True)
class _Signal:
    """How one kind of telemetry is exported."""

    name: str
    current: Callable[[], Any]
    install: Callable[[Any], None]
    register: str
    make_component: Callable[[str], Any]
    make_provider: Callable[[Any], Any]


def _signals() -> dict[str, _Signal]:
    """Return the three kinds, with the SDK; raise ImportError without it."""
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    def tracer_provider(component: Any) -> Any:
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(component)
        return provider

    def logger_provider(component: Any) -> Any:
        provider = LoggerProvider(shutdown_on_exit=False)
        provider.add_log_record_processor(component)
        return provider

    return {
        "TRACES": _Signal(
            "tracer",
            trace.get_tracer_provider,
            trace.set_tracer_provider,
            "add_span_processor",
            lambda endpoint: BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)),
            tracer_provider,
        ),
        "METRICS": _Signal(
            "meter",
            metrics.get_meter_provider,
            metrics.set_meter_provider,
            "add_metric_reader",
            lambda endpoint: PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=endpoint)),
            lambda component: MeterProvider(metric_readers=[component], shutdown_on_exit=False),
        ),
        "LOGS": _Signal(
            "logger",
            _logs.get_logger_provider,
            _logs.set_logger_provider,
            "add_log_record_processor",
            lambda endpoint: BatchLogRecordProcessor(OTLPLogExporter(endpoint=endpoint)),
            logger_provider,
        ),
    }


def _configure_from_environment(config: CompleteConfig) -> None:
    """Add an OTLP exporter for each signal that the environment names, once per provider.

    Providers that exist, and their exporters, stay as they are.

    Raises:
        FastAPIError: for settings that can't be followed, or without the SDK.
    """
    disabled = os.getenv("OTEL_SDK_DISABLED", "").lower() == "true"
    if disabled or not config["auto_configure"]:
        return
    with _lock:
        wanted = [
            ("TRACES", config["tracing"], config["tracer_provider"]),
            ("METRICS", config["metrics"], config["meter_provider"]),
            ("LOGS", config["logs"], config["logger_provider"]),
        ]
        requested = [
            (key, provider, endpoint)
            for key, enabled, provider in wanted
            if enabled and (endpoint := _export_endpoint(key)) is not None
        ]
        if not requested:
            return
        try:
            signals = _signals()
        except ImportError as exc:
            raise FastAPIError(
                "Automatic OpenTelemetry export requires fastapi[opentelemetry] or "
                "fastapi[standard]. Install the extra, configure providers yourself, "
                f"or {_EXPLICITLY}"
            ) from exc
        for key, provider, endpoint in requested:
            _add_exporter(key, signals[key], provider, endpoint)


def _add_exporter(key: str, signal: _Signal, explicit: Any, endpoint: str) -> None:
    provider = _registration_provider(signal.current() if explicit is None else explicit)
    if any(known == (key, provider) for known in _configured if known[1] is provider):
        return
    if explicit is None and _unconfigured(provider):
        made = signal.make_provider(signal.make_component(endpoint))
        signal.install(made)
        current = signal.current()
        if current is made:
            _configured.append((key, made))
            _owned.append(made)
            return
        # Somebody else was quicker: theirs gets the exporter.
        made.shutdown()
        provider = _registration_provider(current)
    register = getattr(provider, signal.register, None)
    if not callable(register):
        raise FastAPIError(
            f"The configured OpenTelemetry {signal.name} provider does not support "
            "adding an OTLP exporter. Configure environment export through "
            f"that provider and {_EXPLICITLY}"
        )
    component = signal.make_component(endpoint)
    try:
        register(component)
    except Exception:
        component.shutdown()
        raise
    _configured.append((key, provider))
    _owned.append(component)


async def lifespan(
    *, config: CompleteConfig, app: ASGIApp, scope: Scope, receive: Receive, send: Send
) -> None:
    """Run the lifespan of `app` with exporters set up before it and flushed after it."""

    async def configure_first() -> Message:
        message = await receive()
        if message["type"] == "lifespan.startup":
            try:
                _configure_from_environment(config)
            except Exception as exc:
                # The application must start without its telemetry.
                logger.warning("FastAPI automatic telemetry configuration failed: %s", exc)
        return message

    async def flush_first(message: Message) -> None:
        if message["type"] in _ENDED and _owned:
            await run_sync(_flush)
        await send(message)

    await app(scope, configure_first, flush_first)
