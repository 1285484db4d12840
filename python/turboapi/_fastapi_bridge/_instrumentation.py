"""What instrumentation puts in the place of functions of FastAPI: which of it is known.

Sentry, Logfire and Datadog replace functions that a plan stands in for. Each of their functions is
known by its module and qualified name, and by what it keeps: FastAPI's own function, which it
calls. `_wrapped.py` calls it with a plan in that function's place. OpenTelemetry's works with
middleware only, which the server calls anyway. What is not known is called by FastAPI, through
ASGI (_theirs.py).
"""

from dataclasses import dataclass
from types import FunctionType
from typing import Any


@dataclass(frozen=True)
class Known:
    """A function of an instrumentation.

    Attributes:
        product: what it belongs to.
        module, qualname: where it is defined.
        original: the variable in which it keeps what it stands for; None: wrapt keeps it.
    """

    product: str
    module: str
    qualname: str
    original: str | None


_LOGFIRE = "logfire._internal.integrations.fastapi"
_TRACED_HANDLER = Known(
    "Datadog", "ddtrace.contrib.internal.starlette.patch", "traced_handler", None
)
# By what was replaced, as _theirs.py names it.
KNOWN: dict[str, Known] = {
    "fastapi.routing.solve_dependencies": Known(
        "Logfire",
        _LOGFIRE,
        "patch_fastapi.<locals>.patched_solve_dependencies",
        "original_solve_dependencies",
    ),
    "fastapi.routing.run_endpoint_function": Known(
        "Logfire",
        _LOGFIRE,
        "patch_fastapi.<locals>.patched_run_endpoint_function",
        "original_run_endpoint_function",
    ),
    "fastapi.routing.serialize_response": Known(
        "Datadog", "ddtrace.contrib.internal.fastapi.patch", "traced_serialize_response", None
    ),
    "APIRoute.handle": _TRACED_HANDLER,
    "starlette.routing.Route.handle": _TRACED_HANDLER,
    "starlette.routing.Mount.handle": _TRACED_HANDLER,
}
# What Sentry's function in the place of `get_request_handler` makes.
HANDLER = Known(
    "Sentry",
    "sentry_sdk.integrations.fastapi",
    "patch_get_request_handler.<locals>._sentry_get_request_handler.<locals>._sentry_app",
    "old_app",
)
_MISSING: Any = object()


def original_of(name: str, there: Any) -> Any:
    """Return what stood there before a known instrumentation; `there` itself if it is not one."""
    known = KNOWN.get(name)
    found = _MISSING if known is None else _original(known, there)
    return there if found is _MISSING else found


def is_handler(function: Any) -> bool:
    """Return whether a known instrumentation made it of a handler that FastAPI made."""
    return _original(HANDLER, function) is not _MISSING


def _original(known: Known, there: Any) -> Any:
    function = there
    if known.original is None:
        # An ordinary attribute of wrapt's objects, whatever they pretend to be otherwise.
        function = getattr(there, "_self_wrapper", None)
        if type(there).__module__.partition(".")[0] not in ("wrapt", "_wrappers", "ddtrace"):
            return _MISSING
    if (
        type(function) is not FunctionType
        or function.__globals__.get("__name__") != known.module
        or function.__code__.co_qualname != known.qualname
    ):
        return _MISSING
    if known.original is None:
        return getattr(there, "__wrapped__", _MISSING)
    if known.original not in function.__code__.co_freevars or function.__closure__ is None:
        return _MISSING
    return function.__closure__[function.__code__.co_freevars.index(known.original)].cell_contents
