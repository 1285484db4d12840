"""The cases in Django-Bolt, with its own JWT, CORS, and a middleware for the rest.

Its lifespan runs on another event loop than its handlers: these open the clients.
"""

import asyncio
import time
import uuid
from typing import Any

import work
from django_bolt import BoltAPI, WebSocket
from django_bolt.auth import IsAuthenticated, JWTAuthentication
from django_bolt.middleware import BaseMiddleware, cors
from django_bolt.responses import HTML
from django_bolt.websocket import WebSocketDisconnect
from msgspec import Struct
from prometheus_client import Counter, Histogram

COUNT = Counter("requests", "Requests", ["method", "path", "status"])
SECONDS = Histogram("request_seconds", "Time of a request", ["method", "path", "status"])

api = BoltAPI(enable_logging=False, compression=False)
lifespan = work.opened()
opening: list[asyncio.Task[None]] = []


async def ready() -> None:
    """Wait until the clients are open."""
    if not opening:
        opening.append(asyncio.ensure_future(lifespan.__aenter__()))
    if not opening[0].done():
        await asyncio.shield(opening[0])


class Item(Struct):
    id: int
    name: str
    price: str
    stock: int
    made: str


@api.get("/row/{number}")
async def row(number: int) -> dict[str, Any]:
    await ready()
    return await work.row(number)


@api.get("/queries")
async def queries(count: int = 1) -> list[dict[str, Any]]:
    await ready()
    return await work.queries(count)


@api.get("/fortunes")
async def fortunes():
    await ready()
    return HTML(await work.fortunes())


@api.get("/items")
async def items() -> list[Item]:
    await ready()
    async with work.clients.sessions() as session:
        return [Item(**work.as_dict(each)) for each in await work.twenty(session)]


@api.get("/items-sync")
def items_sync() -> list[Item]:
    with work.sync_sessions() as session:
        return [Item(**work.as_dict(each)) for each in work.twenty_sync(session)]


@api.get("/redis")
async def redis_get() -> dict[str, Any]:
    await ready()
    return await work.redis_get()


@api.post("/redis", status_code=200)
async def redis_set() -> dict[str, Any]:
    await ready()
    return await work.redis_set()


@api.get("/proxy")
async def proxy() -> dict[str, Any]:
    await ready()
    return await work.upstream()


room = work.Room(WebSocket.send_text)


@api.websocket("/chat")
async def chat(websocket: WebSocket):
    await ready()
    await websocket.accept()
    await room.join(websocket)
    try:
        while True:
            await room.say(await websocket.receive_text())
    except WebSocketDisconnect:
        pass
    finally:
        await room.leave(websocket)


class Measured(BaseMiddleware):
    async def process_request(self, request):
        start = time.perf_counter()
        response = await self.get_response(request)
        labels = (request.method, request.path, str(response.status_code))
        COUNT.labels(*labels).inc()
        SECONDS.labels(*labels).observe(time.perf_counter() - start)
        response.headers["X-Request-ID"] = uuid.uuid4().hex
        return response


guarded = BoltAPI(enable_logging=False, compression=False, middleware=[Measured])


@guarded.get("/me", auth=[JWTAuthentication(secret=work.SECRET)], guards=[IsAuthenticated()])
@cors(origins=["https://example.org"], credentials=True)
async def me(request) -> dict[str, Any]:
    await ready()
    return await work.user(int(request.context["user_id"]))
