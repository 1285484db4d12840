"""Routers as a tree: what the table knows, when it is made anew, what stays with Python."""

import gc
import threading
import weakref

import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Match, Mount, Route, WebSocketRoute

from turboapi import APIRouter, Depends, FastAPI, Request
from turboapi.routing import APIRoute, iter_route_contexts
from turboapi.testclient import TestClient


def endpoint():
    return {"ok": True}


def plain(request):
    return PlainTextResponse("plain")


def table_of(router):
    return router._route_table()


def kinds(router):
    return [entry[0] for entry in table_of(router).entries]


# -- the table is made anew when the tree changes ----------------------------------------------


def bare(**options):
    return FastAPI(openapi_url=None, **options)


CHANGES = {
    "append": lambda routes, route: routes.append(route),
    "extend": lambda routes, route: routes.extend([route]),
    "insert": lambda routes, route: routes.insert(0, route),
    "iadd": lambda routes, route: routes.__iadd__([route]),
    "setitem": lambda routes, route: routes.__setitem__(0, route),
    "slice": lambda routes, route: routes.__setitem__(slice(0, 0), [route]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_routes_added_to_the_list_are_served(change):
    app = bare()
    app.add_api_route("/first", endpoint)
    client = TestClient(app)
    assert client.get("/second").status_code == 404
    change(app.router.routes, APIRoute("/second", endpoint))
    assert client.get("/second").json() == {"ok": True}


REMOVALS = {
    "remove": lambda routes: routes.remove(routes[0]),
    "pop": lambda routes: routes.pop(),
    "del": lambda routes: routes.__delitem__(0),
    "clear": lambda routes: routes.clear(),
    "imul": lambda routes: routes.__imul__(0),
    "slice": lambda routes: routes.__setitem__(slice(None), []),
}


@pytest.mark.parametrize("change", REMOVALS.values(), ids=REMOVALS)
def test_routes_removed_from_the_list_are_gone(change):
    app = bare()
    app.add_api_route("/first", endpoint)
    client = TestClient(app)
    assert client.get("/first").status_code == 200
    change(app.router.routes)
    assert app.routes == []
    assert client.get("/first").status_code == 404


@pytest.mark.parametrize("order", ["reverse", "sort"])
def test_a_new_order_counts(order):
    app = bare()
    app.add_api_route("/{name}", lambda name: "parameter")
    app.add_api_route("/fixed", lambda: "fixed")
    client = TestClient(app)
    assert client.get("/fixed").json() == "parameter"
    if order == "reverse":
        app.routes.reverse()
    else:
        app.routes.sort(key=lambda route: route.path, reverse=False)
        app.routes.reverse()
        app.routes.sort(key=lambda route: "{" in route.path)
    assert client.get("/fixed").json() == "fixed"


def test_another_list_of_routes():
    app = bare()
    client = TestClient(app)
    assert client.get("/x").status_code == 404
    app.router.routes = [APIRoute("/x", endpoint)]
    assert client.get("/x").status_code == 200


def test_no_change_no_new_table():
    app = bare()
    app.add_api_route("/x", endpoint)
    client = TestClient(app)
    client.get("/x")
    table = app.router._table
    assert table is not None
    client.get("/x")
    client.get("/missing")
    assert app.router._table is table


def test_a_change_deep_in_the_tree_reaches_the_top():
    leaf, middle, app = APIRouter(), APIRouter(prefix="/m"), bare()
    middle.include_router(leaf, prefix="/l")
    app.include_router(middle)
    client = TestClient(app)
    assert client.get("/m/l/late").status_code == 404
    leaf.add_api_route("/late", endpoint)
    assert app.router._table is None
    assert client.get("/m/l/late").status_code == 200


def test_a_router_in_two_places_changes_in_both():
    shared, one, two = APIRouter(), bare(), bare()
    one.include_router(shared, prefix="/one")
    two.include_router(shared, prefix="/two")
    table_of(one.router), table_of(two.router)
    shared.add_api_route("/x", endpoint)
    assert TestClient(one).get("/one/x").status_code == 200
    assert TestClient(two).get("/two/x").status_code == 200


def test_included_routers_do_not_keep_the_including_one():
    shared = APIRouter()
    app = bare()
    app.include_router(shared)
    reference = weakref.ref(app)
    del app
    gc.collect()
    assert reference() is None
    shared.add_api_route("/x", endpoint)
    assert shared._including == []


def test_the_table_is_built_once_by_many_threads():
    app = bare()
    for number in range(50):
        app.add_api_route(f"/{number}", endpoint)
    barrier, found = threading.Barrier(8), []

    def build():
        barrier.wait(10)
        found.append(table_of(app.router))

    threads = [threading.Thread(target=build) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(found) == 8
    assert len({id(table) for table in found}) == 1


# -- what the table decides, and what it leaves to Python ----------------------------------------


def test_entries_of_each_kind_of_route():
    router = APIRouter(
        routes=[
            Route("/plain", plain),
            WebSocketRoute("/ws", plain),
            Mount("/mounted", app=plain),
            Host("example.org", app=plain),
        ]
    )
    router.add_api_route("/api", endpoint)
    # A WebSocket route can't match a request, so it has no entry.
    assert kinds(router) == ["route", "mount", "host", "route"]


class CustomMatch(APIRoute):
    def matches(self, scope):
        return Match.NONE, {}


class CustomHandle(APIRoute):
    async def handle(self, scope, receive, send):
        await PlainTextResponse("mine")(scope, receive, send)


class CustomRouter(APIRouter):
    async def handle(self, scope, receive, send):
        scope["seen"] = True
        await super().handle(scope, receive, send)


@pytest.mark.parametrize("route_class", [CustomMatch, CustomHandle])
def test_custom_classes_are_opaque(route_class):
    router = APIRouter(route_class=route_class)
    router.add_api_route("/x", endpoint)
    assert kinds(router) == ["any"]
    # What comes after it must not be preferred.
    app = bare()
    app.include_router(router)
    app.add_api_route("/x", lambda: "second")
    response = TestClient(app).get("/x")
    assert response.text == ("mine" if route_class is CustomHandle else '"second"')


def test_a_custom_router_is_asked():
    router = CustomRouter()

    @router.get("/x")
    def read(request: Request):
        return request.scope["seen"]

    app = bare()
    app.include_router(router)
    assert TestClient(app).get("/x").json() is True


def test_the_first_full_match_wins_over_an_earlier_partial_one():
    app = bare()
    app.add_api_route("/x", lambda: "get")
    app.add_api_route("/x", lambda: "post", methods=["POST"])
    client = TestClient(app)
    assert client.post("/x").json() == "post"
    refused = client.put("/x")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET")


def test_parameters_of_a_mount_reach_the_routes_below():
    sub = bare()

    @sub.get("/{item}")
    def read(request: Request, item: int):
        return request.path_params

    app = bare()
    app.mount("/{tenant}/sub", sub)
    assert TestClient(app).get("/acme/sub/5").json() == {"tenant": "acme", "item": "5"}


def test_scope_of_a_matched_route():
    app = bare()
    router = APIRouter(prefix="/r")

    @router.get("/{name}")
    def read(request: Request, name: str):
        scope = request.scope
        return [
            scope["endpoint"] is read,
            scope["route"] is router.routes[0],
            scope["router"] is app.router,
            scope["fastapi"]["effective_route_context"].path,
            scope["path_params"],
        ]

    app.include_router(router, prefix="/p")
    found = TestClient(app).get("/p/r/x").json()
    assert found == [True, True, True, "/p/r/{name}", {"name": "x"}]


def test_a_route_whose_plan_can_not_be_made_fails_alone():
    class Unhashable:
        __hash__ = None

        def __call__(self):
            return 1

    app = bare()
    app.add_api_route("/good", endpoint)
    app.add_api_route("/bad", endpoint, dependencies=[Depends(Unhashable())])
    client = TestClient(app, raise_server_exceptions=False)
    assert client.get("/good").status_code == 200
    assert client.get("/bad").status_code == 500


def test_an_application_put_in_the_place_of_a_routes_own():
    app = bare()
    app.add_api_route("/x", endpoint)
    inner = app.routes[0].app
    seen = []

    async def wrapper(scope, receive, send):
        seen.append(scope["path"])
        await inner(scope, receive, send)

    client = TestClient(app)
    client.get("/x")
    app.routes[0].app = wrapper
    assert client.get("/x").json() == {"ok": True}
    assert seen == ["/x"]


def test_contexts_are_live_and_pass_through():
    router, app = APIRouter(), bare()
    app.include_router(router, prefix="/p")
    assert list(iter_route_contexts(app.routes)) == []
    router.add_api_route("/x", endpoint, tags=["t"])
    (context,) = iter_route_contexts(app.routes)
    assert (context.path, context.tags) == ("/p/x", ["t"])
    assert list(iter_route_contexts([context])) == [context]
    with pytest.raises(AttributeError):
        context.no_such_name


def test_contexts_that_are_kept_follow_the_routes():
    def paths():
        return [context.path for context in iter_route_contexts(app.routes)]

    app = bare()
    app.add_api_route("/a", endpoint)
    assert paths() == ["/a"]
    (first,), (again,) = iter_route_contexts(app.routes), iter_route_contexts(app.routes)
    assert first is again
    assert first.starlette_route is None
    app.add_api_route("/b", endpoint)
    assert paths() == ["/a", "/b"]
    app.routes[0] = app.routes[1]
    assert paths() == ["/b", "/b"]
    del app.routes[0]
    router = APIRouter()
    app.include_router(router, prefix="/p")
    assert paths() == ["/b"]
    router.add_api_route("/x", endpoint)
    assert paths() == ["/b", "/p/x"]
    app.routes[:] = app.routes[:1]
    assert paths() == ["/b"]
    app.router.routes = []
    assert paths() == []
