"""The cases in FastAPI or TurboAPI: BENCH_FRAMEWORK tells which."""

import datetime
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Annotated, Any

import chosen  # first: it decides what `fastapi` is

# isort: split
import work
from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import Depends, FastAPI, HTTPException, WebSocket, WebSocketDisconnect
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from starlette_exporter import PrometheusMiddleware

FRAMEWORK = chosen.FRAMEWORK
plain = FastAPI(lifespan=work.opened)


class Item(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    price: Decimal
    stock: int
    made: datetime.datetime


async def async_session() -> AsyncIterator[AsyncSession]:
    async with work.clients.sessions() as session:
        yield session


def sync_session() -> Iterator[Session]:
    with work.sync_sessions() as session:
        yield session


@plain.get("/row/{number}")
async def row(number: int) -> dict[str, Any]:
    return await work.row(number)


@plain.get("/queries")
async def queries(count: int = 1) -> list[dict[str, Any]]:
    return await work.queries(count)


@plain.get("/fortunes", response_class=HTMLResponse)
async def fortunes() -> str:
    return await work.fortunes()


@plain.get("/items", response_model=list[Item])
async def items(session: Annotated[AsyncSession, Depends(async_session)]) -> Any:
    return await work.twenty(session)


@plain.get("/items-sync", response_model=list[Item])
def items_sync(session: Annotated[Session, Depends(sync_session)]) -> Any:
    return work.twenty_sync(session)


@plain.get("/redis")
async def redis_get() -> dict[str, Any]:
    return await work.redis_get()


@plain.post("/redis")
async def redis_set() -> dict[str, Any]:
    return await work.redis_set()


@plain.get("/proxy")
async def proxy() -> dict[str, Any]:
    return await work.upstream()


room = work.Room(WebSocket.send_text)


@plain.websocket("/chat")
async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    await room.join(websocket)
    try:
        while True:
            await room.say(await websocket.receive_text())
    except WebSocketDisconnect:
        pass
    finally:
        await room.leave(websocket)


bearer = HTTPBearer()


async def current_user(
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)],
) -> int:
    number = work.user_of(credentials.credentials)
    if number is None:
        raise HTTPException(401, "Invalid token", {"WWW-Authenticate": "Bearer"})
    return number


guarded = FastAPI(lifespan=work.opened)
guarded.add_middleware(PrometheusMiddleware, group_paths=True)
guarded.add_middleware(
    CORSMiddleware, allow_origins=["https://example.org"], allow_credentials=True
)
guarded.add_middleware(CorrelationIdMiddleware)


@guarded.get("/me")
async def me(number: Annotated[int, Depends(current_user)]) -> dict[str, Any]:
    return await work.user(number)
