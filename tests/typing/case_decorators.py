"""Decorators of *path operations* give the function back as it was."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import assert_type

from pydantic import BaseModel

from turboapi import APIRouter, FastAPI, WebSocket
from turboapi.responses import JSONResponse


class Item(BaseModel):
    name: str


app = FastAPI(title="Shop", version="1.0", docs_url=None, openapi_tags=[{"name": "a"}])
router = APIRouter(prefix="/r", tags=["r"], responses={404: {"description": "none"}})


@app.get("/", response_model=list[Item], tags=["a"], status_code=200, summary="All")
def read_all(limit: int = 10) -> list[Item]:
    return []


@app.post("/", response_model=None, response_class=JSONResponse, name="make")
async def make(item: Item) -> Item:
    return item


@app.put("/", deprecated=True, include_in_schema=False)
def put(item: Item) -> None: ...


@app.patch("/", response_model_exclude_unset=True, response_model_include={"name"})
def patch(item: Item) -> Item:
    return item


@app.delete("/", status_code=204)
def delete() -> None: ...


@app.options("/")
def options() -> None: ...


@app.head("/")
def head() -> None: ...


@app.trace("/")
def trace() -> None: ...


@app.api_route("/both", methods=["GET", "POST"])
def both(q: str | None = None) -> str:
    return q or ""


@app.get("/lines")
async def lines() -> AsyncIterator[Item]:
    yield Item(name="a")


@router.get("/lines", openapi_extra={"x-a": 1}, operation_id="lines")
def router_lines() -> Iterator[Item]:
    yield Item(name="a")


@router.post("/", dependencies=[], callbacks=router.routes)
async def router_make(item: Item, *, dry: bool = False) -> Item:
    return item


@app.websocket("/ws")
async def socket(websocket: WebSocket, room: str) -> None: ...


@router.websocket("/ws", name="ws")
async def router_socket(websocket: WebSocket) -> None: ...


class Handlers:
    @staticmethod
    @app.get("/static")
    def of_class(key: int) -> str:
        return str(key)


# A call gives what the function gives, with its parameters checked.
assert_type(read_all(limit=3), list[Item])
assert_type(put(Item(name="a")), None)
assert_type(patch(Item(name="a")), Item)
assert_type(both("a"), str)
assert_type(lines(), AsyncIterator[Item])
assert_type(router_lines(), Iterator[Item])
assert_type(Handlers.of_class(1), str)

as_callable: Callable[[Item], Item] = patch


async def awaits(websocket: WebSocket) -> None:
    assert_type(await make(Item(name="a")), Item)
    assert_type(await router_make(Item(name="a"), dry=True), Item)
    assert_type(await socket(websocket, "a"), None)
    assert_type(await router_socket(websocket), None)


app.add_api_route("/added", read_all, methods=["GET"], response_model=list[Item])
app.add_api_websocket_route("/added", socket, name="added")
assert_type(app.include_router(router, prefix="/x", tags=["x"]), None)


def wrong() -> None:
    read_all(limit="many")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    both(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    put()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    app.get()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    app.get("/", status="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    app.get("/", status_code="200")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.post("/", tags="a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.put("/", methods=["GET"])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    app.api_route("/", methods="GET")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.api_route("/", callbacks=[])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    app.add_api_route("/", read_all, callbacks=[])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    app.patch(path=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.delete("/", response_class=dict)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    router.get("/", deprecated="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    router.get("/", dependencies=[read_all])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    app.websocket(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.include_router("/x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.include_router(router, prefix=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    FastAPI("Shop")  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
    FastAPI(titel="Shop")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    FastAPI(title=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    APIRouter(prefix=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.get("/")("not a function")  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
