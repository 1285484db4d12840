"""Routers: their making, subclassing, route classes and the lists of routes."""

from collections.abc import Callable, Coroutine
from typing import Any, assert_type

from starlette.routing import BaseRoute

from turboapi import APIRouter, Depends, FastAPI, Request, Response
from turboapi.routing import APIRoute, APIWebSocketRoute, RouteContext, iter_route_contexts


def check() -> None: ...


class TimedRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        original = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await original(request)

        return handler


class Versioned(APIRouter):
    def __init__(self, version: int, **options: Any) -> None:
        super().__init__(prefix=f"/v{version}", **options)

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().add_api_route(path, endpoint, **options)

    def include_router(self, router: APIRouter, **options: Any) -> None:
        super().include_router(router, **options)


class Shop(FastAPI):
    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        assert_type(document, dict[str, Any])
        return document


def unique_id(route: APIRoute) -> str:
    assert_type(route.path, str)
    assert_type(route.name, str)
    assert_type(route.methods, set[str] | None)
    assert_type(route.endpoint, Callable[..., Any])
    return route.name


router = APIRouter(
    prefix="/items",
    tags=["items"],
    dependencies=[Depends(check)],
    responses={404: {"description": "none"}, "4XX": {"model": None}},
    route_class=TimedRoute,
    redirect_slashes=False,
    generate_unique_id_function=unique_id,
    include_in_schema=True,
)
app = Shop(generate_unique_id_function=unique_id)
app.include_router(router, dependencies=[Depends(check)], generate_unique_id_function=unique_id)
app.include_router(Versioned(2, tags=["new"]))

assert_type(app.routes, list[BaseRoute])
assert_type(router.routes, list[BaseRoute])
assert_type(app.router, APIRouter)
for route in router.routes:
    if isinstance(route, APIRoute):
        assert_type(route.response_model, Any)
        assert_type(route.status_code, int | None)
        assert_type(route.include_in_schema, bool)
        assert_type(route.operation_id, str | None)
        assert_type(route.summary, str | None)
        # What a route has may be given to another, defaults that nobody set among it.
        router.add_api_route(
            route.path,
            route.endpoint,
            methods=route.methods,
            response_class=route.response_class,
            generate_unique_id_function=route.generate_unique_id_function,
            strict_content_type=route.strict_content_type,
        )
        TimedRoute(route.path, route.endpoint, response_class=route.response_class)
        app.add_api_route(route.path, route.endpoint, response_class=route.response_class)
    elif isinstance(route, APIWebSocketRoute):
        assert_type(route.path, str)
for context in iter_route_contexts(app.routes):
    assert_type(context, RouteContext)
    assert_type(context.path, str | None)


def wrong() -> None:
    APIRouter("/items")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    APIRouter(tag="items")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    APIRouter(route_class=TimedRoute("/", check))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    APIRouter(generate_unique_id_function=check)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    router.include_router(app)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    router.add_api_route("/")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    router.add_api_route("/", 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
