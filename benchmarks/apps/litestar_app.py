"""The cases in Litestar."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from bench_data import CHUNK, CHUNKS, PIECE, ROWS
from litestar import Litestar, Request, get, post, websocket_listener
from litestar.config.cors import CORSConfig
from litestar.di import Provide
from litestar.response import Stream
from pydantic import BaseModel


class Item(BaseModel):
    name: str
    price: float
    tags: list[str] = []


class Row(BaseModel):
    id: int
    name: str
    price: float
    in_stock: bool
    tags: list[str]


@get("/async")
async def async_constant() -> dict[str, str]:
    return {"message": "Hello, World!"}


@get("/sync", sync_to_thread=False)
def sync_constant() -> dict[str, str]:
    return {"message": "Hello, World!"}


@get("/users/{user_id:int}")
async def path_and_query(user_id: int, q: str | None = None, limit: int = 10) -> dict[str, Any]:
    return {"user_id": user_id, "q": q, "limit": limit}


@post("/items", status_code=200)
async def post_model(data: Item) -> Item:
    return data


@get("/rows")
async def rows() -> list[Row]:
    return [Row.model_validate(row) for row in ROWS]


async def settings() -> dict[str, int]:
    return {"limit": 10}


async def session(settings: dict[str, int]) -> AsyncIterator[dict[str, int]]:
    yield {"open": 1, **settings}


async def repository(session: dict[str, int]) -> dict[str, int]:
    return session


async def user(repository: dict[str, int], token: str = "t") -> str:
    return f"user-{token}-{repository['limit']}"


async def permission(user: str) -> str:
    return user


@get("/deps")
async def dependencies(permission: str) -> dict[str, str]:
    return {"user": permission}


@get("/sleep")
async def sleep() -> dict[str, bool]:
    await asyncio.sleep(0.001)
    return {"ok": True}


@get("/sleep100")
async def sleep_long() -> dict[str, bool]:
    await asyncio.sleep(0.1)
    return {"ok": True}


@post("/upload", status_code=200, request_max_body_size=None)
async def upload(request: Request) -> dict[str, int]:
    return {"size": len(await request.body())}


def streamed(piece: bytes, count: int) -> Stream:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield piece

    return Stream(pieces(), media_type="application/octet-stream")


@get("/download")
async def download() -> Stream:
    return streamed(CHUNK, CHUNKS)


@get("/stream")
async def stream() -> Stream:
    return streamed(PIECE, 200)


@websocket_listener("/ws")
async def echo(data: str) -> str:
    return data


HANDLERS = [
    async_constant,
    sync_constant,
    path_and_query,
    post_model,
    rows,
    dependencies,
    sleep,
    sleep_long,
    upload,
    download,
    stream,
    echo,
]
PROVIDED = {
    each.__name__: Provide(each) for each in (settings, session, repository, user, permission)
}

plain = Litestar(HANDLERS, dependencies=PROVIDED, openapi_config=None)
cors = Litestar(
    HANDLERS,
    dependencies=PROVIDED,
    openapi_config=None,
    cors_config=CORSConfig(allow_origins=["https://example.org"], allow_credentials=True),
)
