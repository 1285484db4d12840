"""The cases in Litestar, with its own middleware and serialization."""

import datetime
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Annotated, Any

import work
from asgi_correlation_id import CorrelationIdMiddleware
from litestar import Litestar, MediaType, WebSocket, get, post, websocket
from litestar.config.cors import CORSConfig
from litestar.di import Provide
from litestar.exceptions import NotAuthorizedException, WebSocketDisconnect
from litestar.params import Parameter
from litestar.plugins.prometheus import PrometheusConfig
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session


class Item(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    price: Decimal
    stock: int
    made: datetime.datetime


@get("/row/{number:int}")
async def row(number: int) -> dict[str, Any]:
    return await work.row(number)


@get("/queries")
async def queries(count: int = 1) -> list[dict[str, Any]]:
    return await work.queries(count)


@get("/fortunes", media_type=MediaType.HTML)
async def fortunes() -> str:
    return await work.fortunes()


async def async_session() -> AsyncIterator[AsyncSession]:
    async with work.clients.sessions() as session:
        yield session


def sync_session() -> Iterator[Session]:
    with work.sync_sessions() as session:
        yield session


@get("/items", dependencies={"session": Provide(async_session)})
async def items(session: AsyncSession) -> list[Item]:
    return [Item.model_validate(each) for each in await work.twenty(session)]


@get("/items-sync", dependencies={"session": Provide(sync_session)}, sync_to_thread=True)
def items_sync(session: Session) -> list[Item]:
    return [Item.model_validate(each) for each in work.twenty_sync(session)]


@get("/redis")
async def redis_get() -> dict[str, Any]:
    return await work.redis_get()


@post("/redis", status_code=200)
async def redis_set() -> dict[str, Any]:
    return await work.redis_set()


@get("/proxy")
async def proxy() -> dict[str, Any]:
    return await work.upstream()


room = work.Room(WebSocket.send_text)


@websocket("/chat")
async def chat(socket: WebSocket) -> None:
    await socket.accept()
    await room.join(socket)
    try:
        while True:
            await room.say(await socket.receive_text())
    except WebSocketDisconnect:
        pass
    finally:
        await room.leave(socket)


plain = Litestar(
    [row, queries, fortunes, items, items_sync, redis_get, redis_set, proxy, chat],
    lifespan=[work.opened],
    openapi_config=None,
)


async def current_user(
    authorization: Annotated[str, Parameter(header="Authorization", default="")],
) -> int:
    number = work.user_of_header(authorization)
    if number is None:
        raise NotAuthorizedException
    return number


@get("/me", dependencies={"number": Provide(current_user)})
async def me(number: int) -> dict[str, Any]:
    return await work.user(number)


guarded = CorrelationIdMiddleware(
    Litestar(
        [me],
        lifespan=[work.opened],
        openapi_config=None,
        cors_config=CORSConfig(allow_origins=["https://example.org"], allow_credentials=True),
        middleware=[PrometheusConfig(group_path=True).middleware],
    )
)
