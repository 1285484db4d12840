"""Handlers that ask another server on sockets of asyncio: what a client library costs on a loop.

`UPSTREAM` in the environment tells where that server is: the path of redis's or an echo server's
socket, a DSN of PostgreSQL, or a URL.
"""

import asyncio
import os
from typing import Any

from turboapi import FastAPI

app = FastAPI(openapi_url=None)
upstream = os.environ.get("UPSTREAM", "")
GET = b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n"


class Redis(asyncio.Protocol):
    """A connection to redis without a library: one command at a time."""

    transport: asyncio.Transport
    waiter: "asyncio.Future[bytes]"

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self.waiter.set_result(data)

    def command(self, command: bytes) -> "asyncio.Future[bytes]":
        self.waiter = self.loop.create_future()
        self.transport.write(command)
        return self.waiter


connections: list[Redis] = []
streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
clients: dict[str, Any] = {}


@app.get("/none")
async def none() -> Any:
    """Answer without any upstream."""
    return {"value": "value"}


@app.get("/redis/protocol")
async def redis_protocol() -> Any:
    """Ask redis over a bare Protocol."""
    if connections:
        connection = connections.pop()
    else:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_unix_connection(Redis, upstream)
    reply = await connection.command(GET)
    connections.append(connection)
    return {"value": reply[4:-2].decode()}


@app.get("/redis/streams")
async def redis_streams() -> Any:
    """Ask redis over asyncio's streams."""
    pair = streams.pop() if streams else await asyncio.open_unix_connection(upstream)
    reader, writer = pair
    writer.write(GET)
    await writer.drain()
    size = int((await reader.readline())[1:])
    value = (await reader.readexactly(size + 2))[:-2]
    streams.append(pair)
    return {"value": value.decode()}


@app.get("/redis/redis-py")
async def redis_py() -> Any:
    """Ask redis by redis-py."""
    if "redis" not in clients:
        import redis.asyncio

        clients["redis"] = redis.asyncio.Redis(unix_socket_path=upstream)
    value = await clients["redis"].get("key")
    return {"value": value.decode()}


@app.get("/echo/streams")
async def echo() -> Any:
    """Send a line to an echo server and read it back, over asyncio's streams."""
    pair = streams.pop() if streams else await asyncio.open_unix_connection(upstream)
    reader, writer = pair
    writer.write(b"a line of text\n")
    await writer.drain()
    line = await reader.readline()
    streams.append(pair)
    return {"value": line.decode()}


@app.get("/asyncpg")
async def asyncpg() -> Any:
    """Select a row of PostgreSQL by its id."""
    if "asyncpg" not in clients:
        import asyncpg

        clients["asyncpg"] = asyncio.ensure_future(
            asyncpg.create_pool(upstream, min_size=32, max_size=32).__aenter__()
        )
    pool = await asyncio.shield(clients["asyncpg"])
    row = await pool.fetchrow("SELECT id, name FROM items WHERE id = $1", 7)
    return {"id": row["id"], "name": row["name"]}


@app.get("/httpx")
async def httpx() -> Any:
    """Get a small JSON document of another HTTP server by httpx."""
    if "httpx" not in clients:
        import httpx

        # Under callgrind the first requests take longer than the five seconds of the default.
        clients["httpx"] = httpx.AsyncClient(timeout=120)
    response = await clients["httpx"].get(upstream)
    return response.json()
