"""One engine, two doors: the same requests through ASGI and over a socket, with equal results."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, BeforeValidator
from server_kit import Running, both_protocols, read_until, running, wait_for
from starlette.testclient import TestClient

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))

from test_plan_exits import BEHAVIOURS, KINDS, Log  # noqa: E402

from turboapi import (  # noqa: E402
    BackgroundTasks,
    Body,
    Cookie,
    Depends,
    FastAPI,
    File,
    Form,
    Header,
    HTTPException,
    Query,
    Request,
    Response,
    UploadFile,
)
from turboapi import (
    Path as PathParam,
)
from turboapi.exceptions import ResponseValidationError  # noqa: E402
from turboapi.responses import PlainTextResponse  # noqa: E402


class Both:
    """Asks both doors the same."""

    def __init__(self, server: Running, app: FastAPI) -> None:
        self.server = server
        self.asgi = TestClient(app, raise_server_exceptions=False, follow_redirects=False)

    def native(self, method: str, path: str, headers: Any, body: bytes) -> Any:
        with self.server.client() as conn:
            conn.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            conn.putheader("host", "testserver")
            for name, value in headers:
                conn.putheader(name, value)
            conn.putheader("content-length", str(len(body)))
            conn.endheaders(body)
            response = conn.getresponse()
            return response.status, response.getheaders(), response.read()

    def compare(
        self,
        path: str,
        method: str = "GET",
        headers: list[tuple[str, str]] | None = None,
        body: bytes = b"",
    ) -> Any:
        """Return the common answer of both: status, own headers, body."""
        given = headers or []
        status, sent, content = self.native(method, path, given, body)
        raw = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in given]
        asgi = self.asgi.request(method, path, headers=raw, content=body)
        assert (asgi.status_code, asgi.content) == (status, content)
        hidden = {"date", "server", "connection", "transfer-encoding"}
        own = sorted((k, v) for k, v in sent if k not in hidden)
        assert own == sorted(asgi.headers.multi_items())
        return status, sent, content


# -- dependencies with yield -------------------------------------------------------------------

logs: dict[str, Log] = {}

# All of them go through one door in tests/unit; these are enough for the other.
FEW = [each for each in BEHAVIOURS if each not in ("no yield", "replace from none", "two yields")]


def a_generator(kind: str, index: int) -> Any:
    make = dict(KINDS)[kind]

    def generator_of(run: str, behaviour: str) -> Any:
        return make(f"g{index}", behaviour, logs[run])()

    if kind == "asyncgen":

        async def asynchronous(
            run: Annotated[str, Header()], b: Annotated[str, Header(alias=f"b{index}")]
        ) -> AsyncIterator[str]:
            inner = generator_of(run, b)
            # as `yield from`, which asynchronous generators lack
            try:
                value = await anext(inner)
            except StopAsyncIteration:
                return
            while True:
                try:
                    yield value
                except BaseException as exc:
                    try:
                        value = await inner.athrow(exc)
                    except StopAsyncIteration:
                        return
                else:
                    try:
                        value = await anext(inner)
                    except StopAsyncIteration:
                        return

        return asynchronous

    def synchronous(
        run: Annotated[str, Header()], b: Annotated[str, Header(alias=f"b{index}")]
    ) -> Iterator[str]:
        yield from generator_of(run, b)

    return synchronous


def yielding_app() -> FastAPI:
    app = FastAPI()
    for kinds in itertools.product([kind for kind, _ in KINDS], repeat=2):
        for scopes in itertools.product(["function", "request"], repeat=2):
            first, second = (a_generator(kind, i) for i, kind in enumerate(kinds))

            async def endpoint(
                run: Annotated[str, Header()],
                fails: Annotated[str, Header()],
                tasks: BackgroundTasks,
                a: Any = Depends(first, scope=scopes[0]),
                b: Any = Depends(second, scope=scopes[1]),
            ) -> Any:
                log = logs[run]

                def background() -> None:
                    log.append("background")
                    if fails == "background":
                        raise KeyError("background")

                tasks.add_task(background)
                log.append("endpoint")
                if fails == "endpoint":
                    raise KeyError("endpoint")
                return [a, b]

            app.get("/" + "-".join([*kinds, *scopes]))(endpoint)

    @app.exception_handler(ArithmeticError)
    async def arithmetic(request: Request, exc: Exception) -> Response:
        logs[request.headers["run"]].append(f"handler {exc!r}")
        return PlainTextResponse(repr(exc), 418)

    @app.exception_handler(KeyError)
    def key(request: Request, exc: Exception) -> Response:
        logs[request.headers["run"]].append(f"handler {exc!r}")
        return PlainTextResponse(repr(exc), 419)

    return app


def asks(server: Running, headers: dict[str, str], path: str) -> Any:
    try:
        status, _, body = server.request("GET", path, headers=headers)
    except ConnectionError:
        return "closed"
    return status, body


@pytest.mark.parametrize(
    "kinds", ["-".join(each) for each in itertools.product(dict(KINDS), repeat=2)]
)
@pytest.mark.parametrize("fails", ["", "endpoint", "background"])
@both_protocols
def test_generators_through_both_doors(kinds: str, fails: str) -> None:
    app = yielding_app()
    with running(app, interface="turboapi") as server:
        asgi = TestClient(app, raise_server_exceptions=False)
        for behaviours in itertools.product(FEW, repeat=2):
            for scopes in [
                "function-function",
                "function-request",
                "request-function",
                "request-request",
            ]:
                path = f"/{kinds}-{scopes}"
                headers = {"b0": behaviours[0], "b1": behaviours[1], "fails": fails}
                logs["native"], logs["asgi"] = [], []
                native = asks(server, {**headers, "run": "native"}, path)
                response = asgi.get(path, headers={**headers, "run": "asgi"})
                case = (behaviours, scopes)
                assert native == (response.status_code, response.content), case
                # what comes after the response comes after it over a socket, too
                wait_for(lambda: len(logs["native"]) >= len(logs["asgi"]))
                assert logs["native"] == logs["asgi"], case


# -- parameters, bodies, responses ----------------------------------------------------------------


class Item(BaseModel):
    name: str
    price: float = 1.0
    tags: list[str] = []


class Filter(BaseModel):
    model_config = {"extra": "forbid"}
    limit: int = 10
    order: list[str] = []


def plain_app() -> FastAPI:
    app = FastAPI()

    @app.get("/path/{a}/{b:int}/{rest:path}")
    async def path(
        a: Annotated[int, PathParam(ge=0)],
        b: int,
        rest: str,
        q: Annotated[float, Query(lt=1e3)] = 0.5,
    ) -> Any:
        return [a, b, rest, q]

    @app.get("/query")
    def query(
        q: str,
        many: Annotated[list[int], Query()] = [],
        flag: bool = False,
        alias: Annotated[str | None, Query(alias="a l")] = None,
    ) -> Any:
        return [q, many, flag, alias]

    @app.get("/filter")
    async def filtered(f: Annotated[Filter, Query()]) -> Any:
        return f

    @app.get("/headers")
    async def headers(
        user_agent: Annotated[str | None, Header()] = None,
        x_many: Annotated[list[str] | None, Header()] = None,
        c: Annotated[str | None, Cookie()] = None,
    ) -> Any:
        return [user_agent, x_many, c]

    @app.post("/item", status_code=201)
    async def item(item: Item, q: int = 0) -> Item:
        item.price += q
        return item

    @app.post("/two")
    async def two(item: Item, n: Annotated[int, Body()]) -> Any:
        return {"item": item, "n": n}

    @app.post("/form")
    async def form(
        a: Annotated[str, Form()], f: Annotated[UploadFile | None, File()] = None
    ) -> Any:
        return [a, f.filename if f else None, (await f.read()).decode() if f else None]

    @app.get("/response")
    def injected(response: Response) -> Any:
        response.headers["x-one"] = "1"
        response.set_cookie("k", "v")
        response.status_code = 202
        return {"a": 1}

    @app.get("/empty", status_code=204)
    async def empty() -> None:
        return None

    @app.get("/teapot")
    async def teapot() -> None:
        raise HTTPException(418, {"a": 1}, {"x-tea": "yes"})

    @app.get("/error")
    async def error() -> None:
        raise RuntimeError("x")

    @app.get("/bad", response_model=Item)
    async def bad() -> Any:
        return {"price": "x"}

    @app.get("/odd")
    async def odd() -> Any:
        return {"set": {1}, "float": 1e22, "none": None, "nested": [{"é": "\u2028"}]}

    @app.get("/own")
    def own(request: Request) -> Response:
        return PlainTextResponse(str(request.url.path) + str(sorted(request.path_params)))

    return app


JSON = ("content-type", "application/json")
BOUNDARY = ("content-type", "multipart/form-data; boundary=x")

REQUESTS: list[tuple[Any, ...]] = [
    ("/path/1/2/a/b%20c?q=0.25",),
    ("/path/-1/2/x?q=1e9",),
    ("/path/x/2/x",),
    ("/path/01/2/x?q=",),
    ("/query?q=a&q=b+c%26&many=1&many=2&flag=on&a+l=x",),
    ("/query?many=x&flag=maybe",),
    ("/query",),
    ("/query?q=%ff%C3%A9",),
    ("/filter?limit=5&order=a&order=b",),
    ("/filter?limit=x&other=1",),
    (
        "/headers",
        "GET",
        [("user-agent", "me"), ("x-many", "1"), ("x-many", "2"), ("cookie", 'a=1; c="q\\"x"')],
    ),
    ("/headers", "GET", [("user-agent", ""), ("cookie", "c=1; c=2")]),
    ("/item?q=2", "POST", [JSON], b'{"name":"x","price":"2.5","tags":["a"]}'),
    ("/item", "POST", [JSON], b'{"price":[]}'),
    ("/item", "POST", [JSON], b"{"),
    ("/item?q=x", "POST", [JSON], b'{"name":1}'),
    ("/item", "POST", [("content-type", "text/plain")], b'{"name":"x"}'),
    ("/item", "POST", [], b'{"name":"x"}'),
    ("/item", "POST", [JSON], b""),
    ("/item", "POST", [JSON], b"\xff"),
    ("/item", "POST", [("content-type", "application/x+json")], b'{"name":"x","price":NaN}'),
    ("/two", "POST", [JSON], b'{"item":{"name":"x"},"n":"5"}'),
    ("/two", "POST", [JSON], b"[]"),
    ("/form", "POST", [("content-type", "application/x-www-form-urlencoded")], b"a=1+2"),
    ("/form", "POST", [("content-type", "application/x-www-form-urlencoded")], b"b=1"),
    (
        "/form",
        "POST",
        [BOUNDARY],
        b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\nv\r\n'
        b'--x\r\ncontent-disposition: form-data; name="f"; filename="n.txt"\r\n\r\nfile\r\n--x--\r\n',
    ),
    ("/form", "POST", [BOUNDARY], b"--x\r\nbroken"),
    ("/response",),
    ("/empty",),
    ("/teapot",),
    ("/error",),
    ("/bad",),
    ("/odd",),
    ("/own",),
    ("/own", "HEAD"),
    ("/own", "DELETE"),
    ("/nowhere",),
    ("/own/",),
    ("/openapi.json",),
]


@both_protocols
def test_requests_through_both_doors() -> None:
    app = plain_app()
    with running(app, interface="turboapi") as server:
        both = Both(server, app)
        for request in REQUESTS:
            both.compare(*request)


# -- what only a socket shows -----------------------------------------------------------------------


def test_a_generator_is_left_when_the_client_has_gone() -> None:
    app = FastAPI()
    log: Log = []

    async def dep() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.sleep(0)
            log.append("left")

    @app.get("/")
    async def root(d: None = Depends(dep)) -> str:
        await asyncio.sleep(0.05)
        log.append("done")
        return "x"

    with running(app, interface="turboapi") as server:
        with server.raw(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"):
            time.sleep(0.01)
        wait_for(lambda: log == ["done", "left"])


def test_the_response_is_sent_before_slow_exits_and_tasks() -> None:
    app = FastAPI()
    gate = threading.Event()

    def dep() -> Iterator[None]:
        yield
        gate.wait(5)

    def task() -> None:
        gate.wait(5)

    @app.get("/{what}")
    async def root(what: str, tasks: BackgroundTasks, d: None = Depends(dep)) -> str:
        if what == "task":
            tasks.add_task(task)
        return what

    with running(app, interface="turboapi") as server:
        for what in ("exit", "task"):
            gate.clear()
            with server.raw(f"GET /{what} HTTP/1.1\r\nhost: x\r\n\r\n".encode()) as sock:
                got = read_until(sock, f'"{what}"'.encode())
                assert got.startswith(b"HTTP/1.1 200")
                gate.set()


def test_a_response_is_validated_once() -> None:
    app = FastAPI()
    seen: list[str] = []

    def note(value: str) -> str:
        seen.append(value)
        return value

    @app.get("/iterator", response_model=list[int])
    async def iterator(value: str) -> Any:
        return iter(["1", value])

    @app.get("/generator", response_model=list[int])
    def generator(value: str) -> Any:
        return (each for each in ["1", value])

    @app.get("/noted", response_model=list[Annotated[int, BeforeValidator(note)]])
    async def noted(value: str) -> Any:
        return ["1", value]

    @app.exception_handler(ResponseValidationError)
    async def on_invalid(request: Request, error: ResponseValidationError) -> PlainTextResponse:
        return PlainTextResponse(f"{error.errors()} {error.endpoint_path}", 500)

    with running(app, interface="turboapi") as server:
        both = Both(server, app)
        for path in ("iterator", "generator", "noted"):
            assert both.compare(f"/{path}?value=2")[0::2] == (200, b"[1,2]")
            status, _, body = both.compare(f"/{path}?value=x")
            assert status == 500
            assert b"('response', 1)" in body
            assert body.endswith(f"GET /{path}".encode())
    assert seen == ["1", "2"] * 2 + ["1", "x"] * 2


def test_sync_and_async_answers_are_equal_bytes() -> None:
    app = FastAPI()

    @app.get("/a")
    async def a() -> Any:
        return {"hello": "world"}

    @app.get("/s")
    def s() -> Any:
        return {"hello": "world"}

    with running(app, interface="turboapi", date_header=False) as server:
        answers = set()
        for _ in range(120):  # until the `def` one runs in the loop's thread
            for path in (b"/a", b"/s"):
                with server.raw(b"GET " + path + b" HTTP/1.1\r\nhost: x\r\n\r\n") as sock:
                    answers.add(read_until(sock, b"}"))
    assert len(answers) == 1
    assert json.loads(answers.pop().split(b"\r\n\r\n")[1]) == {"hello": "world"}
