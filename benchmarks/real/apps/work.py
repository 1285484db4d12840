"""What the handlers of every framework do: each application calls this, so that they differ in
their framework only.

BENCH_POSTGRES is PostgreSQL's DSN for asyncpg, BENCH_SOCKETS the folder of its socket, BENCH_REDIS
the path of Redis's, and BENCH_UPSTREAM the URL of an HTTP server.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import jinja2
import jwt
import redis.asyncio
from sqlalchemy import Numeric, create_engine, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

POOL = 32
SECRET = "a key of thirty-two bytes or more"
ONE = "SELECT id, name, price FROM items WHERE id = $1"
FORTUNES = "SELECT id, message FROM fortunes"
USER = "SELECT id, name, email FROM users WHERE id = $1"
CHANNEL = "chat"

templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True
)


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    stock: Mapped[int]
    made: Mapped[datetime.datetime]


TWENTY = select(Item).order_by(Item.id).limit(20)


class Clients:
    """The client libraries' objects; they connect when they are used."""

    pool: asyncpg.Pool[Any]
    sessions: async_sessionmaker[AsyncSession]
    redis: redis.asyncio.Redis
    http: httpx.AsyncClient


clients = Clients()
_environ = os.environ.get


@asynccontextmanager
async def opened(*_app: object) -> AsyncIterator[None]:
    """Open what `clients` has, and close it: a lifespan."""
    sockets = _environ("BENCH_SOCKETS", "")
    engine = create_async_engine(
        f"postgresql+asyncpg://postgres@/postgres?host={sockets}", pool_size=POOL, max_overflow=0
    )
    clients.sessions = async_sessionmaker(engine, expire_on_commit=False)
    clients.redis = redis.asyncio.Redis(unix_socket_path=_environ("BENCH_REDIS", ""))
    limits = httpx.Limits(max_connections=POOL, max_keepalive_connections=POOL)
    async with (
        httpx.AsyncClient(limits=limits) as clients.http,
        asyncpg.create_pool(_environ("BENCH_POSTGRES"), min_size=0, max_size=POOL) as clients.pool,
    ):
        yield
        await clients.redis.aclose()
        await engine.dispose()


sync_sessions = sessionmaker(
    create_engine(
        f"postgresql+psycopg://postgres@/postgres?host={_environ('BENCH_SOCKETS', '')}",
        pool_size=POOL,
        max_overflow=0,
    ),
    expire_on_commit=False,
)


async def row(number: int) -> dict[str, Any]:
    """Select one row by its id."""
    found = await clients.pool.fetchrow(ONE, number)
    return {"id": found["id"], "name": found["name"], "price": float(found["price"])}


async def queries(count: int) -> list[dict[str, Any]]:
    """Select rows one by one, on one connection."""
    rows = []
    async with clients.pool.acquire() as connection:
        for number in range(1, count + 1):
            found = await connection.fetchrow(ONE, number)
            rows.append({"id": found["id"], "name": found["name"], "price": float(found["price"])})
    return rows


async def fortunes() -> str:
    """Select all rows of a table, add one, sort them, and fill a template."""
    found = [dict(each) for each in await clients.pool.fetch(FORTUNES)]
    found.append({"id": 0, "message": "Additional fortune added at request time."})
    found.sort(key=itemgetter("message"))
    return templates.get_template("fortunes.html").render(fortunes=found)


async def twenty(session: AsyncSession) -> list[Item]:
    """Select twenty objects by SQLAlchemy."""
    return list((await session.scalars(TWENTY)).all())


def twenty_sync(session: Session) -> list[Item]:
    """Select twenty objects by SQLAlchemy, blocking."""
    return list(session.scalars(TWENTY).all())


as_tuple = attrgetter("id", "name", "price", "stock", "made")


def as_dict(item: Item) -> dict[str, Any]:
    """Return what a response has of an item, for frameworks without a response model."""
    return {
        "id": item.id,
        "name": item.name,
        "price": str(item.price),
        "stock": item.stock,
        "made": item.made.isoformat(),
    }


def user_of(token: str) -> int | None:
    """Read the user's id from a token; None when it is no valid one."""
    try:
        return int(jwt.decode(token, SECRET, algorithms=["HS256"])["sub"])
    except (jwt.InvalidTokenError, KeyError, ValueError):
        return None


def user_of_header(authorization: str) -> int | None:
    """The same for the header, for frameworks that do not split it."""
    scheme, _, token = authorization.partition(" ")
    return user_of(token) if scheme.lower() == "bearer" else None


async def user(number: int) -> dict[str, Any]:
    """Select a user."""
    found = await clients.pool.fetchrow(USER, number)
    return {"id": found["id"], "name": found["name"], "email": found["email"]}


async def redis_get() -> dict[str, Any]:
    """Get a value."""
    value = await clients.redis.get("greeting")
    return {"value": value.decode()}


async def redis_set() -> dict[str, Any]:
    """Set a value."""
    return {"stored": bool(await clients.redis.set("written", "a value of some bytes"))}


async def upstream() -> dict[str, Any]:
    """Ask another HTTP server."""
    response = await clients.http.get(_environ("BENCH_UPSTREAM", ""))
    return {"upstream": response.json()}


class Room:
    """The members of a chat, and the task that hears Redis while there are any.

    A member is what `send` takes. Every process has a room; Redis tells each what members of all
    of them say.
    """

    def __init__(self, send: Callable[[Any, str], Any]) -> None:
        self.send = send
        self.members: set[Any] = set()
        self.task: asyncio.Task[None] | None = None

    async def join(self, member: Any) -> None:
        """Add a member."""
        self.members.add(member)
        if self.task is None:
            self.task = asyncio.create_task(self.listen())

    async def leave(self, member: Any) -> None:
        """Remove a member."""
        self.members.discard(member)
        if not self.members and self.task is not None:
            self.task.cancel()
            self.task = None

    async def say(self, text: str) -> None:
        """Tell Redis."""
        await clients.redis.publish(CHANNEL, text)

    async def listen(self) -> None:
        """Tell the members what Redis tells."""
        async with clients.redis.pubsub(ignore_subscribe_messages=True) as subscription:
            await subscription.subscribe(CHANNEL)
            async for message in subscription.listen():
                text = message["data"].decode()
                for member in list(self.members):
                    try:
                        await self.send(member, text)
                    except Exception:  # whichever a framework has for it
                        self.members.discard(member)


def encode(value: Any) -> bytes:
    """Encode for an application without a framework."""
    return json.dumps(value, separators=(",", ":")).encode()
