"""Unchanged FastAPI applications: compiled or through ASGI, the answers are the same.

Each application is made twice; one is served by its ASGI callable (`--interface asgi`), the other
as `turboapi run` does it. Both get the same requests.
"""

# ruff: noqa: E402, F811 (without FastAPI the module is skipped)
import http.client
import io
import json
import logging
import uuid
from collections.abc import AsyncIterable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any

import patience
import pytest

fastapi = pytest.importorskip("fastapi")

import fastapi.encoders
import fastapi.routing
from fastapi import (
    APIRouter,
    BackgroundTasks,
    Body,
    Cookie,
    Depends,
    FastAPI,
    File,
    Form,
    Header,
    HTTPException,
    Path,
    Query,
    Request,
    Response,
    Security,
    UploadFile,
)
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, StreamingResponse
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer, OAuth2PasswordBearer, SecurityScopes
from pydantic import BaseModel, Field
from server_kit import running, wait_for
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route

from turboapi._fastapi_bridge import _bridge, _theirs
from turboapi._fastapi_bridge._fingerprints import version_key

JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


def since(release):
    return version_key(fastapi.__version__) >= version_key(release)


def ask(server, method, path, headers=None, body=None):
    # What a request leaves behind is done before the next one.
    wait_for(lambda: server.call(lambda: server.server.active + server.server.tasks) == 0)
    conn = http.client.HTTPConnection(*server.address, timeout=patience.seconds(10))
    try:
        conn.request(method, path, body=body, headers={"host": "example.org", **(headers or {})})
        response = conn.getresponse()
        given = [(n.lower(), v) for n, v in response.getheaders() if n.lower() != "date"]
        return response.status, given, response.read()
    finally:
        conn.close()


def bridge_of(app) -> Any:
    return _bridge.Bridge.of(app)


def compare(make, requests, *, compiled=None, left=0, direct=True):
    """Both doors, one after the other; gives the answers."""
    answers = []
    for interface in ("asgi", "fastapi"):
        # FastAPI keeps what it knows of a function under its id, when that is gone, too.
        fastapi.routing._endpoint_context_cache.clear()
        app = make()
        with running(app, interface=interface) as server:
            answers.append([ask(server, *each) for each in requests])
    for request, expected, got in zip(requests, *answers, strict=True):
        assert got == expected, request
    table = bridge_of(app).table()
    if compiled is not None:
        assert (table.compiled, len(table.left)) == (compiled, left), table.left
    assert _theirs.stack_is_plain(app) or not direct
    return answers[1]


# -- parameters and bodies -------------------------------------------------------------------------


class Color(str, Enum):  # noqa: UP042
    red = "red"


class Item(BaseModel):
    name: str = Field(min_length=2)
    price: Decimal = Decimal("1.5")
    tags: list[str] = []
    when: datetime | None = None


class Filter(BaseModel):
    model_config = {"extra": "forbid"}
    limit: int = Field(10, gt=0, le=100)
    order: list[str] = []


class Login(BaseModel):
    user: str
    words: list[str] = []


def params_app():
    app = FastAPI()

    @app.get("/path/{number}/{text}")
    async def path(number: int, text: Annotated[str, Path(max_length=3)], color: Color = Color.red):
        return {"number": number, "text": text, "color": color}

    @app.get("/conv/{number:int}/{rest:path}")
    def conv(number: int, rest: str):
        return [number, rest]

    @app.get("/query")
    async def query(
        q: str,
        n: int | None = None,
        many: Annotated[list[int], Query()] = [],
        alias: Annotated[float, Query(alias="al-ias", ge=0)] = 0.5,
        flag: bool = False,
        which: uuid.UUID | None = None,
    ):
        return {"q": q, "n": n, "many": many, "alias": alias, "flag": flag, "which": which}

    @app.get("/model")
    async def model(filter_: Annotated[Filter, Query()]):
        return filter_

    @app.get("/headers")
    async def headers(
        user_agent: Annotated[str | None, Header()] = None,
        x_many: Annotated[list[str] | None, Header()] = None,
        ses: Annotated[str | None, Cookie()] = None,
        strange_name: Annotated[str, Header(convert_underscores=False)] = "none",
    ):
        return [user_agent, x_many, ses, strange_name]

    @app.post("/item")
    async def item(item: Item):
        return item

    @app.post("/two/{key}")
    async def two(key: int, a: Item, b: Annotated[int, Body(gt=2)], q: str = "x"):
        return {"key": key, "a": a, "b": b, "q": q}

    @app.post("/embed")
    def embed(a: Annotated[Item, Body(embed=True)]):
        return a.name

    @app.post("/any")
    async def anything(value: Annotated[Any, Body()] = None):
        return {"value": value}

    @app.post("/form")
    async def form(a: Annotated[str, Form()], b: Annotated[int, Form()] = 3):
        return [a, b]

    @app.post("/form-model")
    async def form_model(data: Annotated[Login, Form()]):
        return data

    @app.post("/files")
    async def files(one: UploadFile, raw: Annotated[bytes, File()], note: Annotated[str, Form()]):
        own = type(one).__module__
        return [one.filename, (await one.read()).decode(), raw.decode(), note, own]

    return app


def multipart(*parts):
    out = io.BytesIO()
    for name, filename, value in parts:
        more = f'; filename="{filename}"' if filename else ""
        out.write(f'--X\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode())
        out.write(value + b"\r\n")
    out.write(b"--X--\r\n")
    return {"content-type": "multipart/form-data; boundary=X"}, out.getvalue()


FILES, FILES_BODY = multipart(("one", "a.txt", b"A"), ("raw", "b", b"B"), ("note", None, b"n"))
ITEM = b'{"name": "ab", "price": "2.50", "when": "2024-01-01T00:00:00Z"}'

PARAMS = [
    ("GET", "/path/3/abc"),
    ("GET", "/path/3/abc?color=red"),
    ("GET", "/path/x/abcd?color=blue"),
    ("GET", "/path/3/a%2Fb"),
    ("GET", "/conv/5/a/b/c"),
    ("GET", "/conv/x/a"),
    ("GET", "/query"),
    ("GET", "/query?q=%C3%A9&n=&many=1&many=2&al-ias=1e3&flag=yes"),
    ("GET", "/query?q=a&n=x&many=1&many=z&al-ias=-1&flag=maybe&which=1"),
    ("GET", "/query?q=a&which=12345678-1234-5678-1234-567812345678"),
    ("GET", "/model"),
    ("GET", "/model?limit=5&order=a&order=b"),
    ("GET", "/model?limit=0&more=1"),
    ("GET", "/headers"),
    ("GET", "/headers", {"user-agent": "me", "x-many": "1", "cookie": "ses=abc; x=y"}),
    ("POST", "/item", JSON, ITEM),
    ("POST", "/item", JSON, b'{"name": "a", "price": "x"}'),
    ("POST", "/item", JSON, b'{"name": '),
    ("POST", "/item", JSON, b"[]"),
    ("POST", "/item", JSON, b""),
    ("POST", "/item", {"content-type": "text/plain"}, ITEM),
    ("POST", "/item", {}, ITEM),
    ("POST", "/item", {"content-type": "application/x+json"}, ITEM),
    ("POST", "/two/1?q=z", JSON, b'{"a": ' + ITEM + b', "b": 3}'),
    ("POST", "/two/x", JSON, b'{"a": 1, "b": 1}'),
    ("POST", "/two/1", JSON, b"[]"),
    ("POST", "/embed", JSON, b'{"a": ' + ITEM + b"}"),
    ("POST", "/embed", JSON, ITEM),
    ("POST", "/any", JSON, b"null"),
    ("POST", "/any", JSON, b'{"x": [1, 2.5, "\\u00e9"]}'),
    ("POST", "/any", JSON, b'"\xff"'),
    ("POST", "/form", FORM, b"a=x+y&b=4"),
    ("POST", "/form", FORM, b"b=z"),
    ("POST", "/form", JSON, b"{}"),
    ("POST", "/form-model", FORM, b"user=u&words=a&words=b"),
    ("POST", "/form-model", FORM, b"words=a"),
    ("POST", "/files", FILES, FILES_BODY),
    ("POST", "/files", FILES, FILES_BODY[:40]),
    ("POST", "/files", FORM, b"note=x"),
    ("DELETE", "/item"),
    ("OPTIONS", "/item"),
    ("HEAD", "/headers"),
    ("GET", "/item/"),
    ("POST", "/item/", JSON, ITEM),
    ("GET", "/nowhere"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
]


def test_parameters():
    answers = compare(params_app, PARAMS, compiled=12)
    assert {status for status, _, _ in answers} >= {200, 307, 400, 404, 405, 422}


# -- dependencies and security ---------------------------------------------------------------------


def dependencies_app():
    log = []
    bearer = OAuth2PasswordBearer("token", scopes={"me": "", "items": ""})
    optional = HTTPBearer(auto_error=False)
    calls = {"count": 0}

    def counted():
        calls["count"] += 1
        return calls["count"]

    async def again(n: Annotated[int, Depends(counted)]):
        return n

    async def resource(response: Response):
        log.append("open")
        response.headers["x-resource"] = "yes"
        try:
            yield "resource"
        except HTTPException as error:
            log.append(f"saw {error.status_code}")
            raise
        finally:
            log.append("closed")

    def sync_resource():
        yield "sync"
        log.append("sync closed")

    def swallows():
        with suppress(KeyError):
            yield

    def needs(scopes: SecurityScopes, token: Annotated[str, Depends(bearer)]):
        assert type(scopes) is SecurityScopes
        return {"scopes": scopes.scopes, "text": scopes.scope_str, "token": token}

    class Common:
        def __init__(self, q: str = "", skip: int = 0):
            self.q, self.skip = q, skip

    class Callable_:
        async def __call__(self, limit: int = 5):
            return limit

    def checks(x_key: Annotated[str, Header()]):
        if x_key != "k":
            raise HTTPException(403, "wrong key", {"x-why": "key"})

    app = FastAPI(dependencies=[Depends(counted)])

    @app.get("/cached")
    async def cached(
        a: Annotated[int, Depends(counted)],
        b: Annotated[int, Depends(again)],
        c: Annotated[int, Depends(counted, use_cache=False)],
    ):
        return {"same": a == b, "fresh": c - a}

    @app.get("/generator")
    async def generator(
        r: Annotated[str, Depends(resource)], s: Annotated[str, Depends(sync_resource)]
    ):
        log.append("endpoint")
        return [r, s]

    @app.get("/generator-fails")
    async def generator_fails(r: Annotated[str, Depends(resource, scope="function")]):
        raise HTTPException(409, "no")

    @app.get("/swallows")
    async def swallowed(r: Annotated[None, Depends(swallows)]):
        raise KeyError("x")

    @app.get("/log")
    async def show_log():
        return log

    @app.get("/scopes")
    async def scopes(got: Annotated[dict, Security(needs, scopes=["me", "items"])]):
        return got

    @app.get("/bearer")
    async def credentials(c: Annotated[Any, Depends(optional)]):
        return c

    @app.get("/common")
    def common(common: Annotated[Common, Depends()], limit: Annotated[int, Depends(Callable_())]):
        return [common.q, common.skip, limit]

    @app.get("/checked", dependencies=[Depends(checks)])
    def checked():
        return "ok"

    @app.get("/overridden")
    async def overridden(a: Annotated[dict, Security(needs, scopes=["me"])]):
        return a

    return app


DEPENDENCIES = [
    ("GET", "/cached"),
    ("GET", "/generator"),
    ("GET", "/log"),
    ("GET", "/generator-fails"),
    ("GET", "/log"),
    ("GET", "/swallows"),
    ("GET", "/scopes"),
    ("GET", "/scopes", {"authorization": "Bearer abc"}),
    ("GET", "/bearer"),
    ("GET", "/bearer", {"authorization": "Bearer abc"}),
    ("GET", "/common?q=a&skip=3&limit=9"),
    ("GET", "/common?skip=x&limit=y"),
    ("GET", "/checked"),
    ("GET", "/checked", {"x-key": "j"}),
    ("GET", "/checked", {"x-key": "k"}),
]


def test_dependencies():
    compare(dependencies_app, DEPENDENCIES, compiled=10)


STACKS = ("fastapi_middleware_astack", "fastapi_inner_astack", "fastapi_function_astack")


def stacks_app():
    """Libraries (cadwyn, for one) put exits of their own on FastAPI's stacks in the scope."""
    app = FastAPI()
    log: list[Any] = []

    async def resource():
        yield log.append("opened")
        log.append("closed")

    def put(request: Request, *, fail: bool = False):
        async def leave(name, kind):
            log.append((name, kind))
            if fail and name == STACKS[1]:
                raise HTTPException(418, "the exit failed")

        for name in STACKS:
            stack = request.scope.get(name)

            async def leave_it(kind, error, traceback, name=name):
                # What is on its way is not told to the outermost of a plan's stacks.
                return await leave(name, kind.__name__ if kind and name != STACKS[0] else None)

            stack.push_async_exit(leave_it)

    def task():
        log.append("task")

    @app.get("/async", dependencies=[Depends(resource)])
    async def in_async(request: Request, background: BackgroundTasks, error: str = "") -> str:
        put(request)
        background.add_task(task)
        if error:
            raise {"http": HTTPException(409), "value": ValueError()}[error]
        return "done"

    @app.get("/sync")
    def in_sync(request: Request) -> str:
        put(request)
        return "done"

    @app.get("/response")
    async def response(request: Request):
        put(request)
        return PlainTextResponse("done", background=BackgroundTasks())

    model = {} if since("0.134.0") else {"response_model": None}

    @app.get("/stream", dependencies=[Depends(resource)], **model)
    async def stream(request: Request) -> AsyncIterable[str]:
        put(request)
        yield "a"
        log.append("streamed")

    @app.get("/fails")
    async def fails(request: Request):
        put(request, fail=True)

    @app.get("/empty")
    async def empty(request: Request) -> str:
        return request.method

    @app.post("/form")
    async def form(request: Request, upload: Annotated[UploadFile, File()]) -> str:
        put(request)
        return upload.filename or ""

    @app.get("/log")
    async def told() -> list[Any]:
        taken, log[:] = log[:], []
        return taken

    return app


@pytest.mark.parametrize("middleware", [False, True])
def test_exit_stacks_in_the_scope(middleware):
    def make():
        app = stacks_app()
        if middleware:
            app.add_middleware(BaseHTTPMiddleware, dispatch=lambda request, go: go(request))
        return app

    paths = ["/async", "/async?error=http", "/async?error=value", "/sync", "/response", "/stream"]
    headers, body = multipart(("upload", "a", b"x"))
    asks = [("GET", path) for path in (*paths, "/empty", "/fails")]
    asks.append(("POST", "/form", headers, body))
    log = ("GET", "/log")
    answers = compare(make, [each for ask in asks for each in (ask, log)], direct=not middleware)
    assert json.loads(answers[1][2]) == [
        "opened",
        [STACKS[2], None],
        "task",
        [STACKS[1], None],
        "closed",
        [STACKS[0], None],
    ]


def test_overrides():
    def needs():
        return "unused"

    async def instead(q: int, r: Request):
        yield {"q": q, "url": r.url.path}

    def make():
        app = FastAPI()

        def inner(value: Annotated[Any, Depends(needs)]):
            return value

        @app.get("/direct")
        async def direct(value: Annotated[Any, Depends(needs)]):
            return value

        @app.get("/below")
        def below(value: Annotated[Any, Depends(inner)]):
            return value

        app.dependency_overrides[needs] = instead
        return app

    asked = [("GET", "/direct"), ("GET", "/direct?q=3"), ("GET", "/below?q=4")]
    answers = compare(make, asked, compiled=2)
    assert [status for status, _, _ in answers] == [422, 200, 200]


# -- responses -------------------------------------------------------------------------------------


class Out(BaseModel):
    id: int
    secret: str | None = None
    nested: Item | None = None


def responses_app():
    app = FastAPI()
    done = []

    @app.get("/model", response_model=Out, response_model_exclude_none=True)
    async def model():
        return {"id": 1, "hidden": 2, "nested": Item(name="ab")}

    @app.get("/annotated", response_model_exclude={"secret"})
    def annotated() -> list[Out]:
        return [Out(id=2, secret="x")]

    @app.get("/broken", response_model=Out)
    async def broken():
        return {"id": "no"}

    @app.get("/created", status_code=201)
    def created(response: Response):
        response.headers["x-a"] = "1"
        response.set_cookie("c", "d")
        return {"ok": True}

    @app.get("/changed", status_code=201)
    async def changed(response: Response):
        response.status_code = 202

    @app.delete("/empty", status_code=204)
    async def empty():
        return {"never": "seen"}

    @app.get("/html", response_class=HTMLResponse)
    async def html():
        return "<p>x</p>"

    @app.get("/plain")
    def plain():
        return PlainTextResponse("text", headers={"x-b": "2"})

    @app.get("/stream")
    async def stream():
        async def chunks():
            for n in range(3):
                yield f"{n}\n"

        return StreamingResponse(chunks(), media_type="text/plain")

    @app.get("/lines")
    async def lines():
        yield {"a": 1}
        yield {"a": 2}

    @app.get("/types")
    async def types():
        return {
            "when": datetime(2024, 1, 2, 3, 4, 5),
            "n": Decimal("1.50"),
            "id": uuid.UUID(int=5),
            "set": {1},
            1: Color.red,
            "f": 1.0,
            "text": 'é"\u2028',
        }

    @app.get("/nan")
    async def nan():
        return float("nan")

    @app.get("/background")
    async def background(tasks: BackgroundTasks):
        assert type(tasks) is BackgroundTasks
        tasks.add_task(done.append, "done")

    @app.get("/done")
    async def is_done():
        return done

    @app.get("/request")
    async def request(request: Request):
        route = request.scope["route"]
        return [type(route).__module__, route.path, str(request.url_for("request")), request.method]

    @app.api_route("/many", methods=["GET", "PUT"], name="many")
    def many(request: Request):
        return request.method

    return app


RESPONSES = [
    *(("GET", path) for path in (
        "/model", "/annotated", "/broken", "/created", "/changed", "/html", "/plain", "/stream",
        "/lines", "/types", "/nan", "/background", "/request", "/many",
    )),
    ("DELETE", "/empty"),
    ("PUT", "/many"),
    ("POST", "/many"),
    ("HEAD", "/many"),
]  # fmt: skip


def test_responses():
    compare(responses_app, RESPONSES, compiled=15, left=1)


def test_background_tasks():
    with running(responses_app(), interface="fastapi") as server:
        assert server.get("/background")[0] == 200
        wait_for(lambda: server.get("/done")[2] == b'["done"]')


def test_encoders_of_the_application(monkeypatch):
    encoders = fastapi.encoders.ENCODERS_BY_TYPE
    monkeypatch.setitem(encoders, datetime, lambda value: value.year)
    answers = compare(responses_app, [("GET", "/types")], compiled=15, left=1)
    assert json.loads(answers[0][2])["when"] == 2024


# -- errors ----------------------------------------------------------------------------------------


class Own(Exception):
    pass


def errors_app(**options):
    app = FastAPI(**options)

    @app.exception_handler(RequestValidationError)
    async def on_validation(request: Request, error: RequestValidationError):
        assert type(error) is RequestValidationError
        where = (error.endpoint_function, error.endpoint_path)
        body = error.body if not isinstance(error.body, bytes) else "bytes"
        return JSONResponse([error.errors()[0]["loc"], body, where], 499)

    @app.exception_handler(ResponseValidationError)
    async def on_response(request: Request, error: ResponseValidationError):
        return JSONResponse({"loc": error.errors()[0]["loc"], "body": error.body}, 598)

    @app.exception_handler(Own)
    def on_own(request: Request, error: Own):
        return PlainTextResponse(f"own {request.url.path}", 418)

    @app.exception_handler(404)
    async def on_404(request: Request, error: HTTPException):
        return PlainTextResponse(f"missing {error.detail}", 404)

    @app.exception_handler(Exception)
    async def on_any(request: Request, error: Exception):
        return PlainTextResponse(f"any {type(error).__name__}", 500)

    @app.get("/own")
    async def own():
        raise Own

    @app.get("/http/{status}")
    def http(status: int):
        raise HTTPException(status, {"code": status}, {"x-c": "3"})

    @app.get("/other")
    async def other():
        raise ZeroDivisionError

    @app.post("/item")
    async def item(item: Item, q: int = 0):
        return item

    @app.get("/broken", response_model=Out)
    def broken():
        return {"id": "no"}

    return app


ERRORS = [
    ("GET", "/own"),
    ("GET", "/http/404"),
    ("GET", "/http/418"),
    ("GET", "/http/x"),
    ("GET", "/other"),
    ("POST", "/item?q=z", JSON, b'{"name": 1}'),
    ("POST", "/item", JSON, b"{"),
    ("POST", "/item"),
    ("GET", "/broken"),
    ("GET", "/nowhere"),
]


def test_errors():
    compare(errors_app, ERRORS, compiled=5)


def test_an_error_without_handlers():
    def make():
        app = FastAPI()

        @app.get("/")
        async def fails():
            raise ValueError("x")

        return app

    assert compare(make, [("GET", "/")], compiled=1)[0][0] == 500


def test_a_response_is_validated_once():
    def make():
        app = FastAPI()

        @app.get("/iterator", response_model=list[int])
        async def iterator(value: str):
            return iter(["1", value])

        @app.get("/generator", response_model=list[int])
        def generator(value: str):
            return (each for each in ["1", value])

        return app

    requests = [
        ("GET", f"/{path}?value={value}") for path in ("iterator", "generator") for value in "2x"
    ]
    answers = compare(make, requests, compiled=2)
    assert [answer[0] for answer in answers] == [200, 500] * 2


# -- routers, middleware, and what is not compiled -------------------------------------------------


def routers_app():
    inner = APIRouter(prefix="/inner", tags=["in"], dependencies=[Depends(lambda: None)])

    @inner.get("/{x}")
    async def read(x: int, request: Request):
        return [x, request.scope["route"].path, request.scope["path_params"]]

    @inner.get("/{x}/name", name="named")
    async def name(x: int, request: Request):
        return str(request.url_for("named", x=x))

    outer = APIRouter()
    outer.include_router(inner, prefix="/deep", default_response_class=PlainTextResponse)
    app = FastAPI(root_path_in_servers=False)
    app.include_router(outer, prefix="/a")
    app.include_router(inner, prefix="/b")
    sub = FastAPI()

    @sub.get("/x/{y}")
    async def in_sub(y: int, request: Request):
        return [y, request.scope["root_path"]]

    app.mount("/sub", sub)

    @app.get("/sub2")
    async def sub2():
        return 2

    return app


ROUTERS = [
    ("GET", "/a/deep/inner/3"),
    ("GET", "/b/inner/3"),
    ("GET", "/b/inner/x"),
    ("GET", "/b/inner/3/name"),
    ("POST", "/b/inner/3"),
    ("GET", "/sub/x/3"),
    ("GET", "/sub/x/y"),
    ("GET", "/sub"),
    ("GET", "/sub2"),
    ("GET", "/openapi.json"),
]


def test_routers():
    compare(routers_app, ROUTERS, compiled=5)


class Timed(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        response = await call_next(request)
        if "path_params" in request.scope:
            response.headers["x-timed"] = str(request.scope["path_params"])
        return response


def test_middleware():
    def make():
        app = params_app()
        app.add_middleware(Timed)
        app.add_middleware(CORSMiddleware, allow_origins=["https://a.example"])

        @app.middleware("http")
        async def tag(request: Request, call_next):
            response = await call_next(request)
            response.headers["x-tag"] = "1"
            return response

        return app

    asked = [each for each in PARAMS if each[1][:5] in ("/path", "/item", "/quer", "/form")]
    asked = [(m, p, {**dict(*h[:1]), "origin": "https://a.example"}, *h[1:]) for m, p, *h in asked]
    asked = [each for each in asked if not each[1].endswith("/")]
    answers = compare(make, asked, compiled=12, direct=False)
    assert all(("x-tag", "1") in headers for _, headers, _ in answers)


def test_middleware_runs_plans():
    app = errors_app()
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    with running(app, interface="fastapi") as server:
        assert server.get("/own")[0] == 418
    assert app.router.middleware_stack == bridge_of(app).serve


class Upper(APIRoute):
    def get_route_handler(self):
        original = super().get_route_handler()

        async def handler(request: Request) -> Response:
            response = await original(request)
            response.headers["x-upper"] = "YES"
            return response

        return handler


def odd_app():
    app = FastAPI()
    custom = APIRouter(route_class=Upper)

    @custom.get("/custom")
    async def in_custom():
        return 1

    @app.get("/wrapped")
    async def wrapped():
        return 2

    size = {"max_body_size": 5} if since("0.164.0") else {}

    @app.get("/limited", **size)
    async def limited():
        return 3

    @app.post("/limited", **size)
    async def limited_post(a: Annotated[Any, Body()]):
        return a

    form_limits = {"form_limits": {"max_fields": 1}} if since("0.165.0") else {}

    @app.post("/limited-form", **form_limits)
    async def limited_form(a: Annotated[str, Form()]):
        return a

    @app.get("/plain")
    async def plain():
        return 4

    app.include_router(custom)
    route = next(each for each in app.router.routes if getattr(each, "path", "") == "/wrapped")
    inner = route.app

    async def around(scope, receive, send):
        async def more(message):
            if message["type"] == "http.response.start":
                message["headers"].append((b"x-around", b"1"))
            await send(message)

        await inner(scope, receive, more)

    route.app = around
    app.router.routes.append(Route("/late", lambda request: PlainTextResponse("late")))
    return app


ODD = [
    ("GET", "/custom"),
    ("GET", "/wrapped"),
    ("GET", "/limited"),
    ("POST", "/limited", JSON, b"12"),
    ("POST", "/limited", JSON, b"1234567"),
    ("POST", "/limited-form", FORM, b"a=1"),
    ("POST", "/limited-form", FORM, b"a=1&b=2"),
    ("GET", "/plain"),
    ("GET", "/late"),
]


def test_what_is_not_compiled():
    left = 2 + 2 * since("0.164.0") + since("0.165.0")
    answers = compare(odd_app, ODD, compiled=6 - left, left=left)
    assert ("x-upper", "YES") in answers[0][1]
    assert ("x-around", "1") in answers[1][1]


def test_the_log_tells(caplog):
    with caplog.at_level(logging.INFO, "turboapi.server"):
        with running(odd_app(), interface="fastapi"):
            pass
    (line,) = [
        each.getMessage() for each in caplog.records if "path operations" in each.msg % each.args
    ]
    assert " of 6 path operations run natively" in line
    assert "1 for a custom route class (GET /custom)" in line
    if since("0.164.0"):
        assert "2 for a limit of the body's size (GET /limited, ...)" in line


@pytest.mark.parametrize("name", ["solve_dependencies", "run_endpoint_function"])
def test_instrumentation_is_called(monkeypatch, name):
    seen = []
    original = getattr(fastapi.routing, name)

    def patched(*args, **kwargs):
        seen.append(name)
        return original(*args, **kwargs)

    monkeypatch.setattr(fastapi.routing, name, patched)
    app = errors_app()
    seen.clear()
    with running(app, interface="fastapi") as server:
        assert server.get("/own")[0] == 418
    assert seen
    assert app.router.middleware_stack == app.router.app


# -- handlers with something round them ------------------------------------------------------------


@pytest.fixture
def wrapped_handlers(monkeypatch):
    """What Sentry does: whatever makes a handler gives one of its own, which calls FastAPI's."""
    seen: list[Any] = []
    make = fastapi.routing.get_request_handler

    def get_request_handler(*args, **kwargs):
        inner = make(*args, **kwargs)
        calls = 0

        async def around(*args, **kwargs):
            nonlocal calls
            calls += 1
            (request,) = args
            seen.append((calls, request.method, request.scope["path"], request.path_params))
            assert request.scope["route"].path and request.scope["endpoint"]
            try:
                response = await inner(*args, **kwargs)
            except Exception as error:
                seen.append(type(error).__name__)
                raise
            response.headers["x-around"] = f"{type(response).__name__} {len(response.body)}"
            seen.append((response.status_code, bytes(response.body)))
            return response

        return around

    monkeypatch.setattr(fastapi.routing, "get_request_handler", get_request_handler)
    return seen


def wrapped_app():
    app = FastAPI()
    log: list[str] = []

    async def opened(request: Request):
        log.append("open")
        try:
            yield "value"
        except ValueError:
            log.append("ValueError")
            raise
        finally:
            log.append("closed")

    Opened = Annotated[str, Depends(opened)]
    router = APIRouter(prefix="/below")

    @app.get("/x/{i}")
    async def by_number(i: int, q: str = "q"):
        return {"i": i, "q": q, "text": "äöü", "none": None, "f": 1.5}

    @app.get("/def/{i}")
    def in_thread(i: int):
        return [i]

    @app.get("/created", status_code=201)
    async def created(response: Response, background: BackgroundTasks):
        response.headers["x-own"] = "1"
        background.add_task(log.append, "task")
        return {"created": True}

    @app.get("/nothing", status_code=204)
    async def nothing():
        return None

    @app.get("/nan")
    async def nan():
        return {"a": float("nan")}

    @app.get("/yield")
    async def yielded(value: Opened, fail: bool = False):
        if fail:
            raise ValueError("fails")
        return value

    @app.get("/refused")
    async def refused(value: Opened):
        raise HTTPException(418, "no", {"x-a": "b"})

    @app.exception_handler(ValueError)
    async def on_value_error(request, error):
        return JSONResponse({"error": str(error)}, 409)

    @app.get("/html", response_class=HTMLResponse)
    async def html():
        return "<p>"

    @app.get("/own")
    async def own():
        return PlainTextResponse("own", 202)

    @app.post("/item")
    async def item(item: Item) -> Item:
        return item

    @router.get("/{name}")
    async def below(name: str) -> str:
        return name

    @app.get("/log")
    async def told():
        taken, log[:] = log[:], []
        return taken

    app.include_router(router)
    return app


WRAPPED = [
    ("GET", "/x/3"),
    ("GET", "/x/4?q=other"),
    ("GET", "/x/word"),
    ("GET", "/def/5"),
    ("GET", "/created"),
    ("GET", "/nothing"),
    ("GET", "/nan"),
    ("GET", "/log"),
    ("GET", "/yield"),
    ("GET", "/log"),
    ("GET", "/yield?fail=1"),
    ("GET", "/log"),
    ("GET", "/refused"),
    ("GET", "/log"),
    ("GET", "/html"),
    ("GET", "/own"),
    ("POST", "/item", JSON, b'{"name": "abc"}'),
    ("POST", "/item", JSON, b'{"name": "a"}'),
    ("POST", "/item", JSON, b"{"),
    ("GET", "/below/here"),
    ("GET", "/below"),
]


def test_wrapped_handlers_are_called(wrapped_handlers):
    seen = wrapped_handlers
    taken = []

    def make():
        taken.append(seen[:])
        seen.clear()
        return wrapped_app()

    compare(make, WRAPPED, compiled=0, left=12)
    assert taken[1] == seen
    assert (2, "GET", "/x/4", {"i": "4"}) in seen
    assert "ValueError" in seen and "RequestValidationError" in seen


def test_plans_run_inside_of_wrapped_handlers(wrapped_handlers, monkeypatch, caplog):
    app = wrapped_app()

    def not_called(*args, **kwargs):
        raise AssertionError("FastAPI's own handler was called")

    with caplog.at_level(logging.INFO, "turboapi.server"):
        with running(app, interface="fastapi") as server:
            monkeypatch.setattr(fastapi.routing, "solve_dependencies", not_called)
            assert server.get("/x/3")[0] == 200
            assert ask(server, "GET", "/below/here")[2] == b'"here"'
    assert wrapped_handlers[0][:3] == (1, "GET", "/x/3")
    assert "12 for a wrapped handler, round the plan" in caplog.text


def test_routes_added_while_serving():
    app = errors_app()
    router = APIRouter()
    app.include_router(router, prefix="/r")
    with running(app, interface="fastapi") as server:
        assert server.get("/new")[0] == 404
        assert server.get("/r/new")[0] == 404

        @app.get("/new")
        async def new():
            return "new"

        @router.get("/new")
        async def new_below():
            return "below"

        assert server.get("/new")[2] == b'"new"'
        if since("0.137.0"):  # before, they were copied
            assert server.get("/r/new")[2] == b'"below"'
        app.router.routes[:] = []
        assert server.get("/new")[0] == 404
    assert bridge_of(app).table().compiled == 0


def test_lifespan_and_state():
    def make():
        @asynccontextmanager
        async def lifespan(app):
            app.state.started = 1
            yield {"own": "state"}

        app = FastAPI(lifespan=lifespan)

        @app.get("/")
        async def read(request: Request):
            same = request.app is app
            return [same, request.app.state.started, request.state.own]

        return app

    assert compare(make, [("GET", "/")], compiled=1)[0][2] == b'[true,1,"state"]'


def test_websockets_and_root_path():
    def make():
        app = FastAPI()
        app.root_path = "/api"

        @app.get("/a")
        async def read(request: Request):
            return str(request.url_for("read"))

        @app.websocket("/a")
        async def talk(websocket: fastapi.WebSocket):
            await websocket.accept()
            await websocket.close()

        return app

    compare(make, [("GET", "/a"), ("GET", "/api/a"), ("POST", "/a")], compiled=1)
