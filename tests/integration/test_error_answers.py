"""What is answered for exceptions: as FastAPI does, at both doors, called or made in C."""

import datetime as dt
import decimal
import enum
import functools
import inspect
import json
import threading
import uuid
from typing import Annotated, Any

import pytest
from doors_kit import DOORS
from frameworks_kit import assert_same, names_of
from pydantic import BaseModel, Field, field_validator
from starlette import responses as starlette_responses
from starlette.exceptions import HTTPException as StarletteHTTPException

DETAILS: list[Any] = [
    None,
    "no",
    "ünï \u2028 \U0001f600",
    "",
    {"a": [1, 2.5, True, None, {"b": "c"}]},
    {"_sa_x": 1, "y": 2},
    {"": 1},
    {1: 2},
    [float("inf")],
    dt.date(2026, 1, 2),
    ("a", 1),
    {"x": "\ud800"},
    10**400,
]
HEADERS: list[Any] = [
    None,
    {},
    {"X-A": "b", "WWW-Authenticate": "Bearer"},
    {"Content-Type": "application/problem+json"},
    {"content-length": "3"},
    {"X-Ü": "1"},
    {"x-a": "é"},
    {"x-a": "\u20ac"},
    {"x-a": "b\r\nx-evil: 1"},
    {"x-a": 5},
    [("x-a", "b")],
]


def test_http_exceptions() -> None:
    def make(f: Any) -> Any:
        app = f.FastAPI()

        @app.get("/detail/{i}")
        async def detail(i: int) -> None:
            raise f.HTTPException(404, DETAILS[i])

        @app.get("/headers/{i}")
        def headers(i: int) -> None:
            raise f.HTTPException(401, "x", HEADERS[i])

        @app.get("/status/{code}")
        async def status(code: int) -> None:
            raise f.HTTPException(code, "x", {"x-a": "b"})

        @app.get("/starlette")
        async def of_starlette() -> None:
            raise StarletteHTTPException(409)

        @app.get("/text")
        async def text() -> None:
            error = f.HTTPException(400)
            error.status_code = enum.IntEnum("Code", {"x": 418}).x
            raise error

        @app.api_route("/head", methods=["HEAD"])
        async def head() -> None:
            raise f.HTTPException(404, "long enough")

        return app

    assert_same(
        make,
        *[("GET", f"/detail/{i}") for i in range(len(DETAILS))],
        *[("GET", f"/headers/{i}") for i in range(len(HEADERS)) if i not in (4, 5, 6, 8)],
        *[("GET", f"/status/{code}") for code in (200, 204, 205, 304, 307, 400, 500, 599)],
        ("GET", "/starlette"),
        ("GET", "/text"),
        ("HEAD", "/head"),
    )


@pytest.mark.parametrize("door", DOORS)
def test_http_exceptions_that_cannot_be_sent(door: str) -> None:
    f = names_of("turboapi")
    app = f.FastAPI()

    @app.get("/{i}")
    async def split(i: int) -> None:
        raise f.HTTPException(400, "x", HEADERS[i])

    with DOORS[door](app, raise_server_exceptions=False) as client:
        if door == "native":
            assert client.get("/8").status_code == 500
        assert client.get("/2").json() == {"detail": "x"}


def test_handlers_of_the_application() -> None:
    def make(f: Any) -> Any:
        app, sub = f.FastAPI(), f.FastAPI()
        seen: list[Any] = []

        class Base(Exception):
            pass

        class Derived(Base):
            pass

        class Other(Exception):
            pass

        class Marked(Exception):
            pass

        class Nothing(Exception):
            pass

        @app.exception_handler(Base)
        async def on_base(request: Any, error: Any) -> Any:
            return f.JSONResponse(
                {"base": type(error).__name__, "path": request.url.path}, 418, {"x-b": "1"}
            )

        @app.exception_handler(Other)
        def on_other(request: Any, error: Any) -> Any:
            on_loop = threading.current_thread() is threading.main_thread()
            return f.PlainTextResponse(f"{error} {on_loop} {sorted(request.query_params)}", 409)

        @app.exception_handler(410)
        def on_status(request: Any, error: Any) -> Any:
            return f.HTMLResponse(f"<b>{error.detail}</b>", 410, error.headers)

        @app.exception_handler(Nothing)
        async def on_nothing(request: Any, error: Any) -> Any:
            seen.append(error.__traceback__ is not None)

        def marked(request: Any, error: Any) -> Any:
            async def answer() -> Any:
                return f.PlainTextResponse("marked")

            return answer()

        if hasattr(inspect, "markcoroutinefunction"):
            app.add_exception_handler(Marked, inspect.markcoroutinefunction(marked))

        async def partly(text: str, request: Any, error: Any) -> Any:
            return f.PlainTextResponse(text)

        app.add_exception_handler(KeyError, functools.partial(partly, "partial"))

        class Callable:
            async def __call__(self, request: Any, error: Any) -> Any:
                return f.PlainTextResponse("callable")

        app.add_exception_handler(IndexError, Callable())

        @sub.exception_handler(Base)
        async def on_base_of_sub(request: Any, error: Any) -> Any:
            return f.JSONResponse({"sub": request.scope["root_path"]}, 420)

        raises = {
            "base": Base, "derived": Derived, "other": Other, "key": KeyError,
            "index": IndexError, "value": ValueError, "nothing": Nothing,
        }  # fmt: skip
        if hasattr(inspect, "markcoroutinefunction"):
            raises["marked"] = Marked

        @app.get("/raise/{kind}")
        async def raise_it(kind: str) -> None:
            raise raises[kind](kind)

        @app.get("/sync/{kind}")
        def raise_in_thread(kind: str) -> None:
            raise raises[kind](kind)

        @app.get("/gone")
        async def gone() -> None:
            raise f.HTTPException(410, "away", {"x-why": "old"})

        @sub.get("/{kind}")
        async def in_sub(kind: str) -> None:
            raise raises[kind](kind)

        app.mount("/sub", sub)
        return app

    kinds = ["base", "derived", "key", "index", "value"]
    if hasattr(inspect, "markcoroutinefunction"):
        kinds.append("marked")
    assert_same(
        make,
        *[("GET", f"/{way}/{kind}") for kind in kinds for way in ("raise", "sync", "sub")],
        ("GET", "/gone"),
        ("GET", "/raise/other?b=1&a=2"),
    )


@pytest.mark.parametrize("door", DOORS)
def test_sync_handlers_leave_the_loop_until_they_prove_quick(door: str) -> None:
    f = names_of("turboapi")
    app = f.FastAPI()
    loop_threads: list[int] = []
    threads: list[int] = []

    class Custom(Exception):
        pass

    @app.exception_handler(Custom)
    def on_custom(request: Any, error: Any) -> Any:
        threads.append(threading.get_ident())
        return f.JSONResponse({"detail": request.url.path})

    @app.get("/x")
    async def x() -> None:
        loop_threads.append(threading.get_ident())
        raise Custom

    with DOORS[door](app) as client:
        for _ in range(5):
            assert client.get("/x").json() == {"detail": "/x"}
    assert not set(threads) & set(loop_threads)


@pytest.mark.parametrize("door", DOORS)
def test_exceptions_raised_by_handlers(door: str) -> None:
    f = names_of("turboapi")
    app = f.FastAPI()

    class Custom(Exception):
        pass

    @app.exception_handler(Custom)
    def on_custom(request: Any, error: Any) -> Any:
        raise f.HTTPException(404) if request.query_params else RuntimeError("handler")

    @app.get("/x")
    async def x() -> None:
        raise Custom

    with DOORS[door](app, raise_server_exceptions=False) as client:
        assert client.get("/x").status_code == 500
        assert client.get("/x?a=1").status_code == 404


class Color(enum.StrEnum):
    red = "red"
    blue = "blue"


class Item(BaseModel):
    id: uuid.UUID
    name: str = Field(min_length=2)
    price: decimal.Decimal = decimal.Decimal(1)
    color: Color = Color.red
    sub: dict[str, int] = {}

    @field_validator("name")
    @classmethod
    def no_x(cls, value: str) -> str:
        if "x" in value:
            raise ValueError("no x")
        assert "y" not in value, "no y"
        return value


BODIES = [
    b'{"id":1,"name":5}',
    b'{"id":"00000000-0000-0000-0000-000000000001","name":"axb"}',
    b'{"id":"00000000-0000-0000-0000-000000000001","name":"ayb"}',
    b'{"id":"00000000-0000-0000-0000-000000000001","name":"a","price":"nan","sub":{"_sa":"z"}}',
    b'{"id":"00000000-0000-0000-0000-000000000001","name":"ab","sub":{"_sa":{"_sa_q":1,"b":[2]}}}',
    b'{"id":"\\ud800","name":"ab"}',
    b'{"name":"ab","color":"green","price":1e400}',
    b"[1,2]", b"null", b"", b"{", b'"text"', b"1" * 400,
]  # fmt: skip


def test_validation_errors() -> None:
    def make(f: Any) -> Any:
        app = f.FastAPI()

        @app.get("/p/{a}/{b}/{c}")
        async def params(
            a: int,
            b: uuid.UUID,
            c: Color,
            q: Annotated[list[int], f.Query()] = [],  # noqa: B006
            when: dt.datetime | None = None,
            x_token: Annotated[int | None, f.Header()] = None,
            sid: Annotated[int, f.Cookie()] = 0,
            bounded: Annotated[int, f.Query(gt=3, alias="b-d")] = 4,
        ) -> Any:
            return {"a": a, "b": b, "c": c, "q": q, "when": when, "t": x_token, "sid": sid}

        @app.get("/required")
        def required(a: int, b: Annotated[str, f.Header()], c: Annotated[float, f.Cookie()]) -> Any:
            return [a, b, c]

        @app.post("/body")
        async def body(item: Item) -> Any:
            return item

        @app.post("/optional")
        async def optional(item: Item | None = None) -> Any:
            return item

        @app.post("/two")
        async def two(item: Item, n: Annotated[int, f.Body()]) -> Any:
            return {"item": item, "n": n}

        @app.post("/numbers")
        def numbers(values: list[float]) -> Any:
            return values

        def dependency(z: int) -> int:
            return z

        @app.get("/dependency")
        async def with_dependency(y: int, z: Annotated[int, f.Depends(dependency)]) -> Any:
            return y + z

        return app

    json_type = {"Content-Type": "application/json"}
    answers = assert_same(
        make,
        ("GET", "/p/x/y/z"),
        ("GET", "/p/1/y/red?q=1&q=b&when=never&b-d=3", {"headers": {"x-token": "n"}}),
        ("GET", "/p/1/y/red?q=%ff&when=%F0%9F%98%80", {"headers": {"cookie": "sid=q; a=1"}}),
        ("GET", "/p/%ED%A0%80/y/red"),
        ("GET", "/required"),
        ("GET", "/required?a=1.5", {"headers": {"b": "x", "cookie": 'c="1"'}}),
        ("GET", "/dependency?y=a&z=b"),
        ("GET", "/dependency"),
        *[
            ("POST", path, {"content": body, "headers": json_type})
            for body in BODIES
            for path in ("/body", "/optional", "/two", "/numbers")
        ],
        ("POST", "/body", {"content": BODIES[0]}),
        ("POST", "/body", {"content": BODIES[0], "headers": {"Content-Type": "text/plain"}}),
    )
    assert answers[0][0] == 422
    assert json.loads(answers[0][2])["detail"][0]["loc"] == ["path", "a"]


def test_validation_errors_with_dependencies_that_yield() -> None:
    def make(f: Any) -> Any:
        app = f.FastAPI()
        log: list[str] = []

        def resource() -> Any:
            try:
                yield 1
            except Exception as error:
                log.append(f"{type(error).__name__} {len(error.errors())}")
                raise
            finally:
                log.append("left")

        @app.get("/x")
        async def x(a: int, r: Annotated[int, f.Depends(resource)]) -> None:
            pass

        @app.get("/log")
        async def get_log() -> Any:
            return log

        return app

    answers = assert_same(make, ("GET", "/x?a=b"), ("GET", "/log"))
    assert json.loads(answers[1][2])[0] == "RequestValidationError 1"


def replaced_handler(f: Any, app: Any, patch: Any) -> None:
    @app.exception_handler(f.RequestValidationError)
    async def on_invalid(request: Any, error: Any) -> Any:
        return f.JSONResponse({"n": len(error.errors()), "body": error.body}, 400)

    @app.exception_handler(f.HTTPException)
    async def on_http(request: Any, error: Any) -> Any:
        return f.PlainTextResponse(str(error.detail), error.status_code)


def replaced_encoder(f: Any, app: Any, patch: Any) -> None:
    patch.setattr(f.handlers, "jsonable_encoder", lambda errors: [each["type"] for each in errors])


def replaced_response(f: Any, app: Any, patch: Any) -> None:
    class Mine(f.JSONResponse):
        media_type = "application/problem+json"

    patch.setattr(f.handlers, "JSONResponse", Mine)


def replaced_render(f: Any, app: Any, patch: Any) -> None:
    original = starlette_responses.JSONResponse.render
    patch.setattr(
        starlette_responses.JSONResponse,
        "render",
        lambda self, content: original(self, {"mine": content}),
    )


def replaced_headers(f: Any, app: Any, patch: Any) -> None:
    original = starlette_responses.Response.init_headers

    def init_headers(self: Any, headers: Any = None) -> None:
        original(self, {**(headers or {}), "x-mine": "1"})

    patch.setattr(starlette_responses.Response, "init_headers", init_headers)


def replaced_errors(f: Any, app: Any, patch: Any) -> None:
    patch.setattr(f.RequestValidationError, "errors", lambda self: ["hidden"])


def handler_by_base(f: Any, app: Any, patch: Any) -> None:
    @app.exception_handler(Exception)
    async def on_any(request: Any, error: Any) -> Any:
        return f.JSONResponse({"any": type(error).__name__}, 500)

    @app.exception_handler(422)
    async def on_422(request: Any, error: Any) -> Any:
        return f.JSONResponse({"by status": error.detail}, 422)


@pytest.mark.parametrize(
    "change",
    [
        replaced_handler, replaced_encoder, replaced_response, replaced_render, replaced_headers,
        replaced_errors, handler_by_base,
    ],
)  # fmt: skip
def test_whatever_is_replaced_is_called(change: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(f: Any) -> Any:
        app = f.FastAPI()
        monkeypatch.undo()
        change(f, app, monkeypatch)

        @app.get("/p")
        async def p(a: int) -> None:
            pass

        @app.post("/b")
        def b(item: Item) -> None:
            pass

        @app.get("/http/{code}")
        async def http(code: int) -> None:
            raise f.HTTPException(code, {"x": 1}, {"x-a": "b"})

        return app

    assert_same(
        make,
        ("GET", "/p?a=x"),
        ("POST", "/b", {"json": {"id": 1, "name": 5}}),
        ("GET", "/http/404"),
        ("GET", "/http/422"),
    )


@pytest.mark.parametrize("door", DOORS)
def test_a_reused_exception_keeps_no_traceback(door: str) -> None:
    f = names_of("turboapi")
    app = f.FastAPI()

    class Custom(Exception):
        pass

    reused = {"http": f.HTTPException(404), "custom": Custom()}

    @app.exception_handler(Custom)
    async def on_custom(request: Any, error: Any) -> Any:
        assert error.__traceback__ is not None
        return f.JSONResponse({})

    @app.get("/{kind}")
    async def get(kind: str) -> None:
        raise reused[kind]

    with DOORS[door](app) as client:
        for kind, error in reused.items():
            for _ in range(3):
                client.get(f"/{kind}")
            assert error.__traceback__ is None
