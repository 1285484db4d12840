"""pytest plugin (`-p conformance_starlette`): what Starlette's tests import from `starlette` is, for
them alone, what $CONFORMANCE_STARLETTE offers in its place. Starlette's modules stay as they are,
since that package is built upon them.

$CONFORMANCE_STARLETTE is `turboapi`, `fastapi` (to compare with) or `starlette` (nothing is put in
place). $CONFORMANCE_ROUTES says what becomes of a `Route`: `plain` leaves it Starlette's, with
`operations` it is a path operation of the package where it can be one.
"""

import builtins
import functools
import importlib
import inspect
import os
import types
import typing

PACKAGE = os.environ.get("CONFORMANCE_STARLETTE", "turboapi")
ROUTES = os.environ.get("CONFORMANCE_ROUTES", "plain")
TESTS = "tests"  # the package of the tests

# Modules of the package that offer Starlette's classes, or their own in place of them. (Not its
# UploadFile: what is in a form that a request parsed is Starlette's, with FastAPI as well.)
SAME_NAME = (
    "background", "concurrency", "datastructures", "middleware", "middleware.cors",
    "middleware.gzip", "middleware.httpsredirect", "middleware.trustedhost", "middleware.wsgi",
    "requests", "responses", "staticfiles", "templating", "testclient", "websockets",
)


def _application(package):
    base = importlib.import_module(package).FastAPI

    class Starlette(base):
        """`FastAPI` by Starlette's parameters, without what FastAPI does by default and Starlette
        does not: the pages of documentation, and errors as JSON."""

        def __init__(self, debug=False, routes=None, middleware=None, exception_handlers=None,
                     lifespan=None, *, max_body_size=None):
            super().__init__(debug=debug, routes=routes, middleware=middleware, lifespan=lifespan,
                             max_body_size=max_body_size, openapi_url=None,
                             telemetry={"tracing": False, "metrics": False, "logs": False})
            self.exception_handlers = dict(exception_handlers or {})

    return Starlette


def _router(package):
    base = importlib.import_module(package + ".routing").APIRouter

    class Router(base):
        """`APIRouter` by Starlette's parameters."""

        def __init__(self, routes=None, redirect_slashes=True, default=None, lifespan=None, *,
                     middleware=None, max_body_size=None):
            super().__init__(routes=routes, redirect_slashes=redirect_slashes, default=default,
                             lifespan=lifespan, max_body_size=max_body_size)
            for cls, args, kwargs in reversed(middleware or ()):
                self.middleware_stack = cls(self.middleware_stack, *args, **kwargs)

    return Router


def _takes_request(endpoint):
    """Whether FastAPI would call it as Starlette does."""
    from starlette.requests import Request

    if not inspect.isfunction(endpoint) and not inspect.ismethod(endpoint):
        return False
    parameters = list(inspect.signature(endpoint).parameters.values())
    try:
        hints = typing.get_type_hints(endpoint)
    except NameError:
        return False
    return len(parameters) == 1 and hints.get(parameters[0].name) is Request


class _RouteOrOperation:
    """Stands for the class `Route`: makes a path operation where that can do what the route does."""

    def __init__(self, package):
        from starlette.routing import Route

        self.plain = Route
        base = importlib.import_module(package + ".routing").APIRoute
        self.operation = type("Route", (base,), {})

    def __call__(self, path, endpoint, *, methods=None, name=None, include_in_schema=True,
                 **others):
        plain = self.plain(path, endpoint, methods=methods, name=name,
                           include_in_schema=include_in_schema, **others)
        if others or not _takes_request(endpoint):
            return plain
        return self.operation(path, endpoint, methods=plain.methods, name=plain.name,
                              include_in_schema=include_in_schema, response_model=None)

    def __mro_entries__(self, bases):
        return (self.plain,)

    def __instancecheck__(self, instance):
        return isinstance(instance, self.plain)


def stand_ins(package, routes):
    """{module of starlette: {name: what the tests get}}"""
    if package == "starlette":
        return {}
    found = {
        "applications": {"Starlette": _application(package)},
        "routing": {"Router": _router(package)},
    }
    if routes == "operations":
        found["routing"]["Route"] = _RouteOrOperation(package)
    for name in SAME_NAME:
        ours = importlib.import_module(f"{package}.{name}")
        theirs = importlib.import_module(f"starlette.{name}")
        found[name] = {each: getattr(ours, each) for each in vars(theirs)
                       if not each.startswith("_") and each != "UploadFile"
                       and inspect.isclass(getattr(ours, each, None))}
    return {f"starlette.{module}": names for module, names in found.items()}


def _facade(name, names):
    module = types.ModuleType(name)
    vars(module).update(vars(importlib.import_module(name)))
    vars(module).update(names)
    return module


def install(package=PACKAGE, routes=ROUTES):
    modules = {name: _facade(name, names) for name, names in stand_ins(package, routes).items()}
    real = builtins.__import__

    @functools.wraps(real)
    def for_tests(name, globals=None, locals=None, fromlist=(), level=0):
        if level == 0 and fromlist and name in modules and globals is not None:
            if (globals.get("__name__") or "").partition(".")[0] == TESTS:
                return modules[name]
        return real(name, globals, locals, fromlist, level)

    if modules:
        builtins.__import__ = for_tests


def pytest_collection_modifyitems(config, items):
    """Leaves out what $CONFORMANCE_SKIP lists; and trio's tests where the client is native, since
    they would go through ASGI there: the native server runs in asyncio."""
    with open(os.environ["CONFORMANCE_SKIP"], encoding="utf-8") as file:
        skip = file.read().split("\n")[:-1]
    native = os.environ.get("TURBOAPI_TESTCLIENT") == "native"
    out = [item for item in items if (native and _is_trio(item)) or _is_listed(item, skip)]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]


def _is_listed(item, skip):
    return any(item.nodeid == each or item.nodeid.startswith((each + "[", each + "::"))
               for each in skip)


def _is_trio(item):
    backend = item.callspec.params.get("anyio_backend") if hasattr(item, "callspec") else None
    return (backend[0] if isinstance(backend, tuple) else backend) == "trio"


install()
