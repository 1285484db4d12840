"""The one definition of a route's options: signatures, defaults, errors."""

import dataclasses
import inspect

import pytest

from turboapi import APIRouter, FastAPI, Form
from turboapi.routing import APIRoute, _options
from turboapi.testclient import TestClient


def endpoint():
    return 1


METHODS = ["get", "put", "post", "delete", "options", "head", "patch", "trace"]


@pytest.mark.parametrize("owner", [FastAPI, APIRouter])
@pytest.mark.parametrize("method", METHODS)
def test_all_methods_have_one_signature(owner, method):
    first = inspect.signature(FastAPI.get)
    this = inspect.signature(getattr(owner, method))
    assert list(this.parameters.values()) == list(first.parameters.values())
    assert "options" not in this.parameters
    assert getattr(owner, method).__doc__


@pytest.mark.parametrize(
    "call",
    [
        lambda app: app.get("/", no_such=1),
        lambda app: app.api_route("/", no_such=1),
        lambda app: app.add_api_route("/", endpoint, no_such=1),
        lambda app: app.include_router(APIRouter(), no_such=1),
        lambda app: app.router.get("/", no_such=1),
        lambda app: APIRoute("/", endpoint, no_such=1),
    ],
)
def test_an_unknown_keyword_is_an_error_at_the_call(call):
    with pytest.raises(TypeError, match="unexpected keyword argument 'no_such'"):
        call(FastAPI())


@pytest.mark.parametrize(
    ("names", "seen_by_type_checkers"),
    [
        (_options.ROUTE, _options.RouteOptions),
        (_options.API_ROUTE, _options.MethodsOptions),
        (_options.ADD_API_ROUTE, _options.AddRouteOptions),
        (_options.APP_API_ROUTE, _options.AppMethodsOptions),
        (_options.APP_ADD_ROUTE, _options.AppAddRouteOptions),
        (_options.ROUTE_INIT, _options.RouteInitOptions),
        (_options.INCLUDE, _options.IncludeOptions),
        (_options.APP_INCLUDE, _options.IncludeOptions),
    ],
)
def test_type_checkers_see_the_keywords_that_there_are(names, seen_by_type_checkers):
    assert sorted(names) == sorted(seen_by_type_checkers.__annotations__)


def test_options_are_keywords_only():
    with pytest.raises(TypeError):
        FastAPI().get("/", None, 201)


def test_an_overridden_method_gets_every_option():
    seen = {}

    class Router(APIRouter):
        def add_api_route(self, path, endpoint, **options):
            seen.update(options)
            super().add_api_route(path, endpoint, **options)

    Router().get("/x", tags=["t"])(endpoint)
    expected = inspect.signature(APIRouter.api_route).parameters.keys() - {"self", "path"}
    assert seen.keys() == expected
    assert (seen["tags"], seen["methods"]) == (["t"], ["GET"])


def test_a_route_class_with_fixed_parameters_gets_no_new_ones():
    class Fixed(APIRoute):
        def __init__(self, path, endpoint, **options):
            assert "run" not in options
            assert "form_limits" not in options
            super().__init__(path, endpoint, **options)

    router = APIRouter(route_class=Fixed)
    router.get("/x")(endpoint)


@pytest.mark.parametrize(
    ("app_mode", "router_mode", "route_mode", "expected"),
    [
        (None, None, None, None),
        ("inline", None, None, "inline"),
        ("inline", "thread", None, "thread"),
        ("inline", "thread", "inline", "inline"),
        (None, "inline", None, "inline"),
    ],
)
def test_where_def_endpoints_run(app_mode, router_mode, route_mode, expected):
    app = FastAPI(openapi_url=None, run=app_mode)
    router = APIRouter(run=router_mode)
    router.get("/x", run=route_mode)(endpoint)
    app.include_router(router)
    (target,) = app.router._route_table().targets
    assert target.hooks.run_mode == expected
    assert target.plan.spec["nodes"][-1]["run"] == expected
    assert TestClient(app).get("/x").json() == 1


def test_hooks_do_not_change_once_they_are_made():
    app = FastAPI(openapi_url=None)
    limits: dict[str, int] = {"max_fields": 3}
    router = APIRouter(form_limits=limits)
    router.post("/x", run="inline")(lambda field=Form(): field)
    app.include_router(router)
    (target,) = app.router._route_table().targets
    assert target.hooks.run_mode == "inline"
    assert target.hooks.inherited_limits == limits
    assert target.hooks.effective is target.effective
    with pytest.raises(dataclasses.FrozenInstanceError):
        target.hooks.run_mode = "thread"
    # A table that is made anew finds the hooks, and so the plan, of the last one.
    app.get("/y")(endpoint)
    again = app.router._route_table().targets[0]
    assert again is not target
    assert again.hooks is target.hooks
    assert again.plan is target.plan


def test_a_wrapped_handler_is_not_taken_for_the_plan():
    import functools

    from turboapi.routing._handler import hooks_of

    calls = []

    class Timed(APIRoute):
        def get_route_handler(self):
            original = super().get_route_handler()
            assert hooks_of(original) is not None

            @functools.wraps(original)
            async def timed(request):
                calls.append(request.url.path)
                return await original(request)

            assert hooks_of(timed) is None
            return timed

    app = FastAPI(openapi_url=None)
    app.router.route_class = Timed
    app.get("/x")(endpoint)
    (target,) = app.router._route_table().targets
    assert target.plan is None
    assert TestClient(app).get("/x").json() == 1
    assert calls == ["/x"]


@pytest.mark.parametrize("limit", [-1, True, "1", 1.5])
def test_body_limits_are_checked_when_declared(limit):
    for declare in (
        lambda: FastAPI(max_body_size=limit),
        lambda: APIRouter(max_body_size=limit),
        lambda: FastAPI().get("/", max_body_size=limit)(endpoint),
        lambda: FastAPI().include_router(APIRouter(), max_body_size=limit),
    ):
        with pytest.raises(ValueError, match="max_body_size"):
            declare()
