"""Middleware, the lifespan, events, state and mounted applications."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypedDict, assert_type

from starlette.types import ASGIApp, Receive, Scope, Send

from turboapi import APIRouter, FastAPI, Request, Response
from turboapi.datastructures import State
from turboapi.middleware import Middleware
from turboapi.middleware.cors import CORSMiddleware
from turboapi.middleware.gzip import GZipMiddleware
from turboapi.middleware.trustedhost import TrustedHostMiddleware


class Shared(TypedDict):
    pool: int


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    app.state.pool = 1
    yield


@asynccontextmanager
async def lifespan_with_state(app: FastAPI) -> AsyncGenerator[Shared]:
    yield {"pool": 1}


app = FastAPI(
    lifespan=lifespan,
    middleware=[Middleware(GZipMiddleware, minimum_size=10)],
)
other = FastAPI(lifespan=lifespan_with_state)
router = APIRouter(on_startup=[lambda: None], lifespan=lifespan)
assert_type(app.state, State)
assert_type(app.router, APIRouter)


class Timing:
    def __init__(self, app: ASGIApp, header: str, *, digits: int = 3) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


app.add_middleware(Timing, header="X-Time", digits=2)
app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_credentials=True)
app.add_middleware(TrustedHostMiddleware, allowed_hosts=["a"])


@app.middleware("http")
async def add_header(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    response = await call_next(request)
    response.headers["X-A"] = "a"
    return response


async def decorated_middleware_keeps_its_type(request: Request) -> None:
    async def call_next(request: Request) -> Response:
        return Response()

    assert_type(await add_header(request, call_next), Response)


app.mount("/other", other, name="other")
app.dependency_overrides[lifespan] = lifespan_with_state
as_asgi: ASGIApp = app
assert_type(app.openapi(), dict[str, Any])
assert_type(str(app.url_path_for("other", path="/")), str)
assert_type(app.dependency_overrides, dict[Callable[..., Any], Callable[..., Any]])


def not_a_lifespan(app: FastAPI) -> int:
    return 1


def wrong() -> None:
    app.add_middleware(Timing)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    app.add_middleware(Timing, header=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.add_middleware(Timing, header="a", size=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    app.add_middleware(CORSMiddleware, origins=["*"])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Middleware(GZipMiddleware, minimum_size="a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    FastAPI(lifespan=not_a_lifespan)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    FastAPI(middleware=[Timing])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    app.mount(1, other)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.openapi_url = 1  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
