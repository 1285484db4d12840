"""The installed FastAPI: its modules, and whether they do what the released ones do.

Our engine has the semantics of one minor version; and who replaces a function of FastAPI, as
instrumentation does, wants it to be called.
"""

import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from operator import is_
from types import CellType, FunctionType, ModuleType
from typing import Any, cast

from starlette import _exception_handler, concurrency
from starlette import applications as starlette_applications
from starlette import routing as starlette_routing
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Router

from turboapi._compile.defaults import Defaults
from turboapi._fastapi_bridge import _fingerprints, _instrumentation
from turboapi._untouched import is_from
from turboapi.encoders import ENCODERS_BY_TYPE

# Functions that take part in a request, by module; those of the classes are below. Releases lack
# some of them. The table looks at what `get_request_handler` made for each route.
_FUNCTIONS = {
    "fastapi.routing": ("request_response",),
    "fastapi.dependencies.utils": (
        "solve_dependencies",
        "_solve_generator",
        "request_params_to_args",
        "request_body_to_args",
        "get_dependant",
    ),
    "fastapi.dependencies.models": ("_get_cache_key",),
    "fastapi.encoders": ("jsonable_encoder",),
}
# Names that modules of FastAPI import and look up at each request.
_IMPORTED = {
    "solve_dependencies": "fastapi.dependencies.utils",
    "jsonable_encoder": "fastapi.encoders",
}
_OWN = ("run_endpoint_function", "serialize_response")
_STARLETTE = {
    "Request": Request,
    "Response": Response,
    "run_in_threadpool": concurrency.run_in_threadpool,
    "wrap_app_handling_exceptions": _exception_handler.wrap_app_handling_exceptions,
}


def module(name: str) -> ModuleType:
    """Return a module of FastAPI; an application has imported all that this package asks for."""
    return sys.modules[name]


@cache
def defaults() -> Defaults:
    """Return FastAPI's handlers of exceptions, as they were when this was first asked for."""
    encoder = module("fastapi.encoders").jsonable_encoder
    return Defaults(module("fastapi.exception_handlers"), module("fastapi.exceptions"), encoder)


def version() -> str:
    """Return the version of the FastAPI that is installed."""
    return str(getattr(module("fastapi"), "__version__", "unknown"))


def _is_from(function: Any, name: str) -> bool:
    return is_from(function, module(name))


def why_not() -> str | None:
    """Why nothing may be compiled, or None."""
    unknown = [name for name in _NEEDED if name in _fingerprints.installed().unknown]
    if unknown:
        return f"no known release has its {_PARTS[unknown[0]]}"
    try:
        replaced = next(_replaced(), None)
    except (AttributeError, KeyError) as error:
        return f"it lacks {error}"
    if replaced is None:
        return None
    name, there = replaced
    return f"{name} was replaced{_by_whom(there)}"


# Who replaces functions of FastAPI, by the package that their function is in.
_INSTRUMENTATION = {
    "sentry_sdk": "Sentry",
    "logfire": "Logfire",
    "ddtrace": "Datadog",
    "wrapt": "Datadog or another that uses wrapt",
    "opentelemetry": "OpenTelemetry",
    "newrelic": "New Relic",
    "elasticapm": "Elastic APM",
    "scout_apm": "Scout APM",
}


def _by_whom(there: Any) -> str:
    # A wrapper of `functools.wraps` says it is of the module that it wraps; its code knows better.
    code = getattr(there, "__code__", None)
    own = getattr(there, "__globals__", {}).get("__name__") if code is not None else None
    module_name = str(own or type(there).__module__)
    package = module_name.partition(".")[0]
    who = _INSTRUMENTATION.get(package)
    return f" by {who} ({module_name})" if who else f" by {module_name}"


# Without these groups of functions (_fingerprints.py) nothing can be said of a route.
_NEEDED = ("handler", "solve", "tree")
_PARTS = {
    "handler": "way to call an endpoint",
    "solve": "way to solve dependencies",
    "tree": "tree of routes",
}


def _replaced() -> Iterator[tuple[str, Any]]:
    """Yield the name of each function that is not FastAPI's own, or Starlette's, and what is.

    What known instrumentation put there, and what it calls, is looked through.
    """
    for name, there, is_original in _watched():
        if not is_original(_instrumentation.original_of(name, there)):
            yield name, there


def _watched() -> Iterator[tuple[str, Any, Callable[[Any], bool]]]:
    """Yield names of functions, what is there, and what tells whether that is their own."""
    for name, functions in _FUNCTIONS.items():
        for function in functions:
            found = getattr(module(name), function, None)
            if found is not None:
                yield f"{name}.{function}", found, partial(_is_from, name=name)
    routing = module("fastapi.routing")
    for name, origin in _IMPORTED.items():
        found = getattr(routing, name)
        yield f"fastapi.routing.{name}", found, partial(is_, getattr(module(origin), name))
    for name in _OWN:
        found = getattr(routing, name)
        yield f"fastapi.routing.{name}", found, partial(_is_from, name="fastapi.routing")
    for name, value in _STARLETTE.items():
        found = getattr(routing, name)
        yield f"fastapi.routing.{name}", found, partial(is_, value)
    for cls in (starlette_routing.Route, starlette_routing.Mount, starlette_routing.Router):
        for name in ("matches", "handle", "app", "__call__"):
            found = vars(cls).get(name)
            if found is not None:
                is_own = partial(is_from, module=starlette_routing)
                yield f"starlette.routing.{cls.__name__}.{name}", found, is_own
    for cls in (routing.APIRoute, routing.APIRouter, *included_router()):
        for name in ("matches", "handle", "get_route_handler", "app"):
            own: dict[str, Any] = cls.__dict__
            found = own.get(name)
            if found is not None:
                yield f"{cls.__name__}.{name}", found, _is_method


def _is_method(function: Any) -> bool:
    # What wraps a method that the class inherits from Starlette's stands in FastAPI's class.
    inherited = _instrumentation.original_of("starlette.routing.Route.handle", function)
    return _is_from(function, "fastapi.routing") or is_from(inherited, starlette_routing)


def included_router() -> tuple[Any, ...]:
    """Return the class of an included router, for `isinstance`; before 0.137 there is none."""
    return _if_there("fastapi.routing", "_IncludedRouter")


def outer_layers() -> tuple[Any, ...]:
    """Return what an application puts between ServerErrorMiddleware and the user's middleware."""
    names = "ExceptionTelemetryMiddleware", "AppBodyLimitMiddleware"  # since 0.142, and 0.164
    return _if_there("fastapi.applications", *names)


def _if_there(name: str, *attributes: str) -> tuple[Any, ...]:
    found = vars(module(name))
    return tuple(found[attribute] for attribute in attributes if attribute in found)


def form_limits(what: Any) -> Any:
    """Return the limits for forms that a router, a route or an inclusion has; since 0.165."""
    return getattr(what, "form_limits", None) or {}


def handler_of(route: Any, effective: Any | None) -> Any:
    """Return the ASGI application of a route, at the place where its router is included."""
    app = (route if effective is None else effective).__dict__.get("app")
    if app is not None or effective is None:
        return app
    # From 0.137 to 0.142.0 it is made at each request.
    routing = module("fastapi.routing")
    token = routing._effective_route_context_var.set(effective)
    try:
        return routing.request_response(route.get_route_handler())
    finally:
        routing._effective_route_context_var.reset(token)


def wrapped_app(wrapper: tuple[FunctionType, int], plan: Any) -> Any:
    """Return a route's ASGI application with the plan in the place of the handler that a function
    closes over: in that place of its variables.
    """
    function, place = wrapper

    async def handler(request: Request) -> Response:
        response: Response = await plan.respond(request)
        return response

    cells = list(function.__closure__ or ())
    cells[place] = CellType(handler)
    made = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        tuple(cells),
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return module("fastapi.routing").request_response(made)


def encoders_are_default() -> bool:
    """Return whether `ENCODERS_BY_TYPE` is as it was: applications put theirs there."""
    return all(
        getattr(encode, "__module__", None) == "fastapi.encoders"
        or encode is ENCODERS_BY_TYPE.get(kind)
        for kind, encode in module("fastapi.encoders").ENCODERS_BY_TYPE.items()
    )


def serves_itself(app: Any) -> bool:
    """Return whether nobody has put their own in the place of what serves a request there."""
    kind = cast("Any", type(app))
    theirs = module("fastapi.applications").FastAPI
    own: dict[str, Any] = app.__dict__
    return (
        is_from(starlette_applications.Starlette.__call__, starlette_applications)
        and all(getattr(kind, name) is getattr(theirs, name) for name in _APP_METHODS)
        and all(_is_from(getattr(theirs, name), "fastapi.applications") for name in _APP_METHODS)
        and not own.keys() & set(_APP_METHODS)
    )


def telemetry_is_on(app: Any) -> bool:
    """Return whether FastAPI's own telemetry looks at requests; OpenTelemetry's package may."""
    telemetry = getattr(app, "_native_telemetry", None)  # since 0.142
    if telemetry is None or not telemetry.enabled():
        return False
    if app.middleware_stack is None:
        app.middleware_stack = app.build_middleware_stack()
    others = getattr(module("fastapi.applications"), "_legacy_otel", None)
    return others is None or not others(app.middleware_stack)


def stack_is_plain(app: Any) -> bool:
    """Return whether nothing but FastAPI's own stands between the server and the router.

    `app.middleware_stack` must have been made.
    """
    if not serves_itself(app):
        return False
    applications = module("fastapi.applications")
    own: dict[str, Any] = app.__dict__
    routers: dict[str, Any] = app.router.__dict__
    if "app" in own or routers.keys() & {"app", "__call__"}:
        return False
    if type(app.router).__call__ is not Router.__call__:
        return False
    telemetry = getattr(app, "_native_telemetry", None)
    if getattr(app, "max_body_size", None) is not None or (telemetry and telemetry.enabled()):
        return False
    stack = app.middleware_stack
    for cls in (
        ServerErrorMiddleware,
        *outer_layers(),
        ExceptionMiddleware,
        applications.AsyncExitStackMiddleware,
    ):
        if type(stack) is not cls or not has_own_call(cls):
            return False
        stack = stack.app
    return stack is app.router


def has_own_call(cls: type) -> bool:
    """Return whether the `__call__` of a class is the one that its module defines."""
    for each in cls.__mro__:
        call = vars(each).get("__call__")
        if call is not None:
            return is_from(call, sys.modules.get(each.__module__))
    return False


_APP_METHODS = ("__call__", "build_middleware_stack")
