"""`turboapi doctor`: what of an application runs natively, and what stands in the way."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, cast

from rich.console import Group
from rich.table import Table
from rich.text import Text
from starlette.routing import Host, Mount, WebSocketRoute

from turboapi import _core
from turboapi._compile.native_app import within
from turboapi._compile.route_table import has_known_convertors, overrides
from turboapi._fastapi_bridge import is_fastapi
from turboapi._own import is_own
from turboapi._serving import importer
from turboapi.cli._options import option_name
from turboapi.config import Config, settings
from turboapi.middleware._filters import outer_filters_of, put_inner_filters
from turboapi.middleware._http import FastHTTPMiddleware
from turboapi.routing import _files, _handler
from turboapi.routing._instrumented import is_instrumented
from turboapi.routing._route import APIRoute

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console, RenderableType

    from turboapi.routing._places import Place

# What a middleware costs (docs/cli.md).
IN_C, CALLED_BY_C, PYTHON = "C", "C round a Python function", "Python"


@dataclasses.dataclass(frozen=True)
class Route:
    """A line of the table.

    Attributes:
        kind: "operation", "route" of Starlette's, "websocket" or "mount".
        native: whether it runs in C; None where that is not to be expected.
        why: it does not.
    """

    kind: str
    methods: Sequence[str]
    path: str
    native: bool | None
    why: str | None = None


@dataclasses.dataclass(frozen=True)
class Report:
    """What `turboapi doctor` tells, and with --json as it is."""

    application: str
    framework: str
    why_not: str | None
    routes: list[Route]
    middleware: list[dict[str, str]]
    settings: dict[str, Any]
    versions: dict[str, str]

    @property
    def is_native(self) -> bool:
        """Return whether nothing that could run natively does not."""
        return self.why_not is None and all(route.native is not False for route in self.routes)


def examine(
    app: Any, name: str, config: Config, defaults: Mapping[str, Any], versions: dict[str, str]
) -> Report:
    """Return the report on an application as it is now.

    Args:
        app: the application.
        name: what the user calls it.
        config: settings that it would be served with.
        defaults: those that differ from these are reported.
        versions: of packages, by name.
    """
    interface = config.interface
    if interface == "auto":
        interface = importer.detect_interface(app)
    framework, why = {"asgi": "ASGI", "wsgi": "WSGI"}.get(interface, "TurboAPI"), None
    if is_fastapi(app):
        version = versions["fastapi"] = _fastapi_version()
        framework, why = f"FastAPI {version}", _why_not(app)
        if config.interface == "asgi":
            why = "--interface asgi asks for it"
    elif is_own(app):
        why = _why_not(app)
    else:
        why = "only applications of TurboAPI and FastAPI have native routes"
    known = is_own(app) or is_fastapi(app)
    return Report(
        application=name,
        framework=framework,
        why_not=why,
        routes=[*_routes(app, "", why)] if known else [],
        middleware=[*_middleware(app)] if known else [],
        settings=changed(config, defaults),
        versions=versions,
    )


# -- the routes ------------------------------------------------------------------------------------


def _fastapi_version() -> str:
    from turboapi._fastapi_bridge import _theirs  # lazy: only for these

    return _theirs.version()


def _bridge(app: Any) -> Any:
    from turboapi._fastapi_bridge._bridge import Bridge  # lazy: only for these

    return Bridge.of(app)


def _why_not(app: Any) -> str | None:
    """Why no plan of the application is used, or None."""
    if not is_own(app):
        found: str | None = _bridge(app).why_not()
        return found
    return "functions of turboapi.routing were replaced" if is_instrumented() else None


def _routes(app: Any, prefix: str, why: str | None) -> Iterator[Route]:
    """Yield the routes of an application and of those that are mounted in it."""
    table, left = _table(app, "http", why)
    for place in table:
        route: Any = place.route
        if isinstance(route, Mount | Host):
            yield from _mounted(app, place, prefix, why)
            continue
        state: Any = place.state
        methods = sorted(getattr(state, "methods", None) or ())
        path = getattr(state, "path", None) or "/"
        reason: str | None
        include = getattr(state, "include_context", None)
        if include is not None:  # a whole router
            path = include.prefix + state.original_router.prefix or "/"
            native, reason = False, why or "a custom router class"
        elif not isinstance(route, place.operation):
            yield Route("route", methods, prefix + path, None)
            continue
        else:
            label = f"{','.join(methods)} {path}"
            reason = why or (_why_own(place) if left is None else left.get(label))
            native = reason is None
        yield Route("operation", methods, prefix + path, native, reason)
    for place in _table(app, "websocket", why)[0]:
        state = place.state
        if isinstance(place.route, WebSocketRoute):
            yield Route("websocket", [], prefix + state.path, None)


def _table(app: Any, kind: Any, why: str | None) -> tuple[list[Place], dict[str, str] | None]:
    """Return the places of an application's table, and why FastAPI serves some of them."""
    if is_own(app):
        router = app.router
        own = router._table_of_websockets() if kind == "websocket" else router._route_table()
        return own.targets, None
    try:
        table = _bridge(app).table(kind)
    except Exception:
        if why is None:
            raise
        return [], {}  # FastAPI is not as we know it
    return table.targets, dict(table.left)


def _mounted(app: Any, place: Place, prefix: str, why: str | None) -> Iterator[Route]:
    state: Any = place.state
    below: Any = getattr(place.route, "app", None)
    path = prefix + (state.path if isinstance(place.route, Mount) else state.host)
    if is_own(below):
        yield from _routes(below, path, _why_not(below))
    elif is_fastapi(below):
        if is_own(app):
            why = "FastAPI's application is mounted in one of TurboAPI"
        yield from _routes(below, path, why or _why_not(below))
    else:
        files = why is None and place.included is None and not place.form_limits
        native = files and _files.native_static(place.route) is not None
        yield Route("mount", [], path, True if native else None)


def _why_own(place: Any) -> str | None:
    """Why a path operation of ours has no plan, or None."""
    route = place.route
    if place.asked_only:
        custom = overrides(route, APIRoute, "matches", "handle")
        return "a custom route class" if custom else "functions of APIRoute were replaced"
    if place.plan is not None:
        return None
    if not has_known_convertors(place.state):
        return "a convertor of its own"
    hooks = _handler.hooks_of(place.state.app)
    if hooks is None:
        if getattr(place.state, "max_body_size", None) is not None:
            return "a limit of the body's size"
        kind = cast("Any", type(route))
        custom = kind.get_route_handler is not APIRoute.get_route_handler
        return "a custom route class" if custom else "a replaced handler"
    try:
        _ = hooks.inheriting(place.form_limits).plan
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "it has no plan"


# -- middleware and settings -----------------------------------------------------------------------


def _middleware(app: Any) -> Iterator[dict[str, str]]:
    """Yield name and cost of the user's middleware, the outermost first."""
    if app.middleware_stack is None:
        app.middleware_stack = app.build_middleware_stack()
    if not is_own(app):
        _bridge(app).install()  # as before it is served
    level = within(app.middleware_stack, _layers(app))
    _, called = outer_filters_of(level) if level is not None else ((), None)
    if getattr(app, "max_body_size", None) is not None:
        called = level
    put_inner_filters(called)
    in_c = level is not None
    for each in app.user_middleware:
        in_c = in_c and level is not called
        cost = CALLED_BY_C if isinstance(level, FastHTTPMiddleware) else PYTHON
        filtered = in_c or isinstance(level, _core.InnerFilter)
        yield {"name": _name_of(each), "cost": IN_C if filtered else cost}
        level = getattr(level, "app", None)


def _layers(app: Any) -> tuple[Any, ...]:
    if is_own(app):
        from turboapi._body_limit import AppBodyLimitMiddleware  # lazy: only for these
        from turboapi.telemetry._asgi import ExceptionTelemetryMiddleware  # lazy: only for these

        return ExceptionTelemetryMiddleware, AppBodyLimitMiddleware
    from turboapi._fastapi_bridge import _theirs  # lazy: only for these

    return _theirs.outer_layers()


def _name_of(middleware: Any) -> str:
    name = getattr(middleware.cls, "__name__", type(middleware.cls).__name__)
    function = middleware.kwargs.get("dispatch")
    return f"{name} ({function.__name__})" if hasattr(function, "__name__") else name


def changed(config: Config, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that differ from the defaults by the names of their options."""
    usual = Config.load({}, {}, defaults=defaults)
    found: dict[str, Any] = {}
    for name, one in settings().items():
        value = getattr(config, name)
        if one.command_line and value != getattr(usual, name):
            found[option_name(name)] = "(hidden)" if one.secret else value
    return found


# -- showing it ------------------------------------------------------------------------------------


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as plain data."""
    return {**dataclasses.asdict(report), "native": report.is_native}


def show(console: Console, report: Report) -> None:
    """Print the report as tables."""
    console.print(Group(*_rendered(report)))


def _rendered(report: Report) -> Iterator[RenderableType]:
    operations = [route for route in report.routes if route.kind == "operation"]
    native = sum(route.native is True for route in operations)
    yield Text.assemble(
        (report.application, "bold"),
        f"  {report.framework}  ",
        (
            f"{native} of {len(operations)} path operations run natively",
            "bold green" if report.is_native else "bold yellow",
        ),
    )
    if report.why_not is not None:
        yield Text(f"All goes through ASGI: {report.why_not}", "yellow")
    lines: list[tuple[str | Text, ...]] = []
    for route in report.routes:
        word, style = _WORDS[route.native]
        kind = ",".join(route.methods) if route.methods else route.kind
        lines.append((Text(word, style), kind, Text(route.path), Text(route.why or "")))
    yield from _table_of("Routes", ("", "methods", "path", "why not"), lines)
    lines = []
    for each in report.middleware:
        style = "" if each["cost"] == IN_C else "yellow"
        lines.append((Text(each["cost"], style), Text(each["name"])))
    yield from _table_of("Middleware, the outermost first", ("cost", "name"), lines)
    lines = [(name, Text(shown(value))) for name, value in report.settings.items()]
    yield from _table_of("Settings that differ from the defaults", ("option", "value"), lines)
    yield from _table_of("Versions", ("package", "version"), [*report.versions.items()])


_WORDS = {True: ("native", "green"), False: ("ASGI", "bold yellow"), None: ("-", "dim")}


def shown(value: Any) -> str:
    """Return the value of a setting as text."""
    if not isinstance(value, tuple):
        return str(value)
    return ", ".join(map(str, value))  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]


def _table_of(
    title: str, columns: tuple[str, ...], lines: Sequence[tuple[str | Text, ...]]
) -> Iterator[RenderableType]:
    if not lines:
        return
    yield Text(f"\n{title}", "italic")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    for line in lines:
        table.add_row(*line)
    yield table
