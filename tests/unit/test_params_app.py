"""Parameters and bodies through a whole application: what C does is what Python would do."""

import importlib
import json
import logging
from contextlib import AsyncExitStack
from typing import Annotated, Any
from urllib.parse import unquote, unquote_plus

import pytest
from pydantic import BaseModel, Field, Json, field_validator

from turboapi import (
    BackgroundTasks,
    Body,
    Cookie,
    Depends,
    FastAPI,
    Header,
    Query,
    Request,
    Response,
)
from turboapi.dependencies.utils import get_dependant, request_params_to_args, solve_dependencies
from turboapi.logger import logger
from turboapi.testclient import TestClient


class Item(BaseModel):
    name: str
    price: float = 0
    parts: list["Item"] = []


app = FastAPI()


@app.get("/scalars/{i}/{f}/{b}/{s}")
async def scalars(
    i: int, f: float, b: bool, s: str, q: int | None = None, h: Annotated[float, Header()] = 1.5
) -> Any:
    return [i, repr(f), b, s, q, h]


@app.post("/item")
async def item(item: Item) -> Any:
    return {"name": item.name, "price": repr(item.price), "set": sorted(item.model_fields_set)}


client = TestClient(app, raise_server_exceptions=False)


# fmt: off
NUMBERS = [
    "0", "1", "-1", "+1", "007", "1_000", "1__0", "_1", " 1", "1 ", "1.0", "1.5", "1.", ".5", "1e3",
    "1E3", "-0", "-0.0", "9223372036854775807", "9223372036854775808", "1" * 30, "9" * 400,
    "true", "True", "TRUE", "on", "Yes", "nan", "inf", "-inf", "Infinity", "0x10", "١", "½", "a",
    "%00", "1%0A", "%20", "tru", "2", "-", "+", "--1", "1-", "0.1", "1e400", "3.4028235e39",
]
# fmt: on


@pytest.mark.parametrize("text", NUMBERS)
def test_coerced_as_pydantic_does(text: str) -> None:
    response = client.get(f"/scalars/1/1/1/{text}?q={text}")
    [field] = [f for f in get_dependant(path="/", call=scalars).query_params if f.name == "q"]
    values, errors = request_params_to_args([field], {"q": unquote_plus(text)})
    if errors:
        assert response.status_code == 422
        [error] = response.json()["detail"]
        assert {**error, "loc": tuple(error["loc"])} == errors[0]
    else:
        assert response.json()[3:5] == [unquote(text), values["q"]]


@pytest.mark.parametrize("text", [n for n in NUMBERS if "%00" not in n])
@pytest.mark.parametrize("kind", ["f", "b"])
def test_paths_are_coerced_as_pydantic_does(text: str, kind: str) -> None:
    path = f"/scalars/1/{text}/1/s" if kind == "f" else f"/scalars/1/1/{text}/s"
    response = client.get(path)
    dependant = get_dependant(path="/{i}/{f}/{b}/{s}", call=scalars)
    [field] = [each for each in dependant.path_params if each.name == kind]
    values, errors = request_params_to_args([field], {kind: unquote(text)})
    if errors:
        assert [e["msg"] for e in response.json()["detail"]] == [e["msg"] for e in errors]
    else:
        expected = repr(values[kind]) if kind == "f" else values[kind]
        assert response.json()["fb".index(kind) + 1] == expected


def post(body: str) -> Any:
    return client.post("/item", content=body, headers={"content-type": "application/json"})


def test_numbers_that_pydantic_reads_in_two_ways() -> None:
    for finite in ("9" * 308, "1" * 309):
        assert post('{"name": "a", "price": ' + finite + "}").json()["price"] == repr(float(finite))
    for digits in (309, 310, 617, 700, 4000):
        for padding in range(0, 400, 41):
            bad = post('{"name": "' + "x" * padding + '", "price": ' + "9" * digits + "}")
            assert bad.status_code == 422, (digits, padding)
            assert bad.json()["detail"][0]["type"] == "float_type"
    # As a text they are fine.
    assert post('{"name": "' + "1" * 400 + '"}').status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        '{"name": "a"}',
        '{"name": "a", "price": "1.5", "more": 1}',
        '{"name": "a", "name": "b"}',
        '{"name": "\\ud83d\\ude00", "price": 1e2}',
        '{"name": "a", "price": NaN}',
        '\ufeff{"name": "a"}',
        ' \n{"name":"a"}\t',
    ],
)
def test_bodies_are_read_as_json_loads_does(body: str) -> None:
    expected = Item.model_validate(json.loads(body.encode()))
    assert post(body).json() == {
        "name": expected.name,
        "price": repr(expected.price),
        "set": sorted(expected.model_fields_set),
    }


def test_body_of_an_error() -> None:
    bodies: list[Any] = []
    other = FastAPI()

    @other.post("/{n}")
    async def call(n: int, item: Item) -> None: ...

    from turboapi.exceptions import RequestValidationError

    @other.exception_handler(RequestValidationError)
    async def handle(request: Request, exc: RequestValidationError) -> Response:
        bodies.append(exc.body)
        return Response(status_code=422)

    for sent in ({"name": "a"}, {"name": 1}, [1]):
        assert TestClient(other).post("/x", json=sent).status_code == 422
    assert bodies == [{"name": "a"}, {"name": 1}, [1]]


calls: list[str] = []


class Counted(BaseModel):
    x: int = Field(default_factory=lambda: calls.append("factory") or 1)
    y: int

    @field_validator("y")
    @classmethod
    def check(cls, value: int) -> int:
        calls.append("validator")
        assert value > 0
        return value


@app.post("/counted")
async def counted(c: Counted) -> Any:
    return c.x


@pytest.mark.parametrize(("body", "status"), [({"y": 1}, 200), ({"y": 0}, 422), ({"y": "a"}, 422)])
def test_validators_run_once(body: Any, status: int) -> None:
    calls.clear()
    assert client.post("/counted", json=body).status_code == status
    assert calls.count("factory") == 1
    assert calls.count("validator") <= 1


def test_places_with_several_values() -> None:
    other = FastAPI()

    @other.get("/")
    async def call(
        q: Annotated[list[int], Query()],
        h: Annotated[list[str] | None, Header()] = None,
        j: Annotated[Json[list[int]], Query()] = None,  # type: ignore[assignment]
        c: Annotated[str, Cookie()] = "none",
        a: Annotated[int, Query(alias="a b")] = 0,
    ) -> Any:
        return [q, h, j, c, a]

    got = TestClient(other, cookies={"c": "k"}).get(
        "/?q=1&q=2&a+b=3&j=[4]", headers=[("h", "x"), ("h", "y")]
    )
    assert got.json() == [[1, 2], ["x", "y"], [4], "k", 3]
    got = TestClient(other).get("/?q=1&j=")
    assert got.json() == [[1], None, None, "none", 0]


def test_solve_dependencies_from_python() -> None:
    def sub(n: int = 1) -> int:
        return n + 1

    def call(
        request: Request,
        response: Response,
        tasks: BackgroundTasks,
        s: Annotated[int, Depends(sub)],
        item: Annotated[Item, Body()],
    ) -> None: ...

    solved: list[Any] = []
    other = FastAPI()

    @other.get("/")
    async def route(request: Request) -> None:
        stack = AsyncExitStack()
        request.scope["fastapi_inner_astack"] = stack
        request.scope["fastapi_function_astack"] = stack
        solved.append(
            await solve_dependencies(
                request=request,
                dependant=get_dependant(path="/", call=call),
                body={"name": "a"},
                async_exit_stack=stack,
                embed_body_fields=False,
            )
        )

    TestClient(other).get("/?n=3")
    [result] = solved
    assert not result.errors
    assert (result.values["s"], result.values["item"]) == (4, Item(name="a"))
    assert result.values["tasks"] is result.background_tasks
    assert result.values["response"] is result.response
    assert result.dependency_cache == {(sub, (), ""): 4}
    TestClient(other).get("/?n=x")
    assert [error["loc"] for error in solved[1].errors] == [("query", "n")]


def test_solve_dependencies_hands_on_the_objects_of_the_caller() -> None:
    def sub(tasks: BackgroundTasks, response: Response) -> None:
        tasks.add_task(print, "sub")
        response.headers["x-sub"] = "1"

    def call(tasks: BackgroundTasks, response: Response, _: Annotated[None, Depends(sub)]) -> None:
        pass

    solved: list[Any] = []
    given = Response(), BackgroundTasks()
    other = FastAPI()

    @other.get("/")
    async def route(request: Request) -> None:
        stack = AsyncExitStack()
        solved.append(
            await solve_dependencies(
                request=request,
                dependant=get_dependant(path="/", call=call),
                response=given[0],
                background_tasks=given[1],
                async_exit_stack=stack,
                embed_body_fields=False,
            )
        )

    TestClient(other).get("/")
    [result] = solved
    assert result.values["response"] is result.response is given[0]
    assert result.values["tasks"] is result.background_tasks is given[1]
    assert given[0].headers["x-sub"] == "1"
    assert len(given[1].tasks) == 1


def test_a_request_is_shown_as_starlettes() -> None:
    other = FastAPI()

    @other.get("/shown")
    async def shown(request: Request) -> str:
        assert isinstance(request, Request)
        return repr(request)

    assert TestClient(other).get("/shown").json().startswith("<starlette.requests.Request object")


def test_private_names_that_libraries_import() -> None:
    from turboapi import APIRouter, routing

    router = APIRouter()

    @router.get("/x")
    async def x(request: Request) -> Any:
        return routing._get_scope_effective_route_context(request.scope).path

    other = FastAPI(openapi_url=None)
    other.include_router(router, prefix="/p")
    other.add_route("/plain", lambda request: Response())
    found = list(routing._iter_routes_with_context(other.routes))
    assert [(route.path, at and at.path) for route, at in found] == [  # type: ignore[attr-defined]
        ("/x", "/p/x"),
        ("/plain", None),
    ]
    assert TestClient(other).get("/p/x").json() == "/p/x"


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("dependencies.utils", "lenient_issubclass ModelField create_model_field _get_cache_key"),
        ("openapi.utils", "get_definitions get_model_name_map deep_dict_update BaseRoute"),
        ("routing", "_get_body_field _get_flat_body_params _is_coroutine_callable"),
    ],
)
def test_names_that_libraries_import_where_fastapi_uses_them(module: str, names: str) -> None:
    found = vars(importlib.import_module(f"turboapi.{module}"))
    assert not [name for name in names.split() if name not in found]


def test_logging_configured_for_fastapi(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="fastapi"):
        logger.warning("seen")
    assert "seen" in caplog.text
    assert logger.name == "turboapi"


lists = FastAPI()


@lists.get("/")
async def many(
    q: Annotated[list[str], Query(alias="q é")] = ["d"],  # noqa: B006
    n: Annotated[set[int] | None, Query()] = None,
    h: Annotated[list[str] | None, Header()] = None,
    short: Annotated[list[int] | None, Query(max_length=2)] = None,
) -> Any:
    return [q, n and sorted(n), h, short]


class Asked(Request):
    """A request of the application's own: parameters come from its attributes."""

    @property
    def query_params(self) -> Any:
        from starlette.datastructures import QueryParams

        return QueryParams("n=7&n=8")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [["d"], None, None, None]),
        ("n=1&x=2&n=3&n=1", [["d"], [1, 3], None, None]),
        ("q%20%C3%A9=a&q+%C3%A9=&q%20%c3%a9", [["a", "", ""], None, None, None]),
        ("q%20%C3%A9=%E2%82%AC&q%20%C3%A9=a+b%2B", [["€", "a b+"], None, None, None]),
        ("&&n=5&", [["d"], [5], None, None]),
        ("short=1&short=2", [["d"], None, None, [1, 2]]),
    ],
)
def test_lists(query: str, expected: Any) -> None:
    assert TestClient(lists).get("/?" + query).json() == expected


def test_errors_in_lists() -> None:
    detail = TestClient(lists).get("/?n=1&n=a&short=1&short=2&short=3").json()["detail"]
    assert [(e["loc"], e["type"], e["input"]) for e in detail] == [
        (["query", "n", 1], "int_parsing", "a"),
        (["query", "short"], "too_long", ["1", "2", "3"]),
    ]


def test_lists_of_headers() -> None:
    got = TestClient(lists).get("/", headers=[("H", "a, b"), ("h", ""), ("x", "y"), ("h", "c")])
    assert got.json()[2] == ["a, b", "", "c"]


def test_lists_of_a_custom_request() -> None:
    from collections.abc import Callable

    from turboapi.routing import APIRoute

    class Route(APIRoute):
        def get_route_handler(self) -> Callable[..., Any]:
            handler = super().get_route_handler()

            async def handle(request: Request) -> Response:
                return await handler(Asked(request.scope, request.receive))

            return handle

    other = FastAPI()
    other.router.route_class = Route
    other.get("/")(many)
    assert TestClient(other).get("/?n=1").json()[1] == [7, 8]


def test_connections_of_the_other_kind_are_not_given() -> None:
    from turboapi import WebSocket

    other = FastAPI()

    @other.get("/")
    async def call(w: WebSocket) -> None: ...

    @other.get("/default")
    async def default(w: WebSocket = None) -> Any:  # type: ignore[assignment]
        return w

    with pytest.raises(TypeError, match="missing 1 required positional argument: 'w'"):
        TestClient(other).get("/")
    assert TestClient(other).get("/default").json() is None
