"""The cases in BlackSheep, with its own CORS and a middleware that counts for Prometheus."""

import asyncio
import time
from typing import Any

import work
from asgi_correlation_id import CorrelationIdMiddleware
from blacksheep import Application, Request, WebSocket, WebSocketDisconnectError, html, json
from blacksheep import Response as BlackSheepResponse
from prometheus_client import Counter, Histogram

COUNT = Counter("requests", "Requests", ["method", "path", "status"])
SECONDS = Histogram("request_seconds", "Time of a request", ["method", "path", "status"])


def new_application() -> Application:
    app = Application()
    lifespan = work.opened()

    @app.on_start
    async def start(_app: Application) -> None:
        await lifespan.__aenter__()

    @app.on_stop
    async def stop(_app: Application) -> None:
        await lifespan.__aexit__(None, None, None)

    return app


plain = new_application()


@plain.router.get("/row/{number}")
async def row(number: int):
    return json(await work.row(number))


@plain.router.get("/queries")
async def queries(count: int = 1):
    return json(await work.queries(count))


@plain.router.get("/fortunes")
async def fortunes():
    return html(await work.fortunes())


@plain.router.get("/items")
async def items():
    async with work.clients.sessions() as session:
        return json([work.as_dict(each) for each in await work.twenty(session)])


def load_items() -> list[dict[str, Any]]:
    with work.sync_sessions() as session:
        return [work.as_dict(each) for each in work.twenty_sync(session)]


@plain.router.get("/items-sync")
async def items_sync():
    return json(await asyncio.to_thread(load_items))


@plain.router.get("/redis")
async def redis_get():
    return json(await work.redis_get())


@plain.router.post("/redis")
async def redis_set():
    return json(await work.redis_set())


@plain.router.get("/proxy")
async def proxy():
    return json(await work.upstream())


room = work.Room(WebSocket.send_text)


@plain.router.ws("/chat")
async def chat(websocket: WebSocket):
    await websocket.accept()
    await room.join(websocket)
    try:
        while True:
            await room.say(await websocket.receive_text())
    except WebSocketDisconnectError:
        pass
    finally:
        await room.leave(websocket)


inner = new_application()
inner.use_cors(allow_origins="https://example.org", allow_methods="GET", allow_credentials=True)


async def measured(request: Request, handler: Any) -> BlackSheepResponse:
    start = time.perf_counter()
    response = await handler(request)
    labels = (request.method, request.url.path.decode(), str(response.status))
    COUNT.labels(*labels).inc()
    SECONDS.labels(*labels).observe(time.perf_counter() - start)
    return response


inner.middlewares.append(measured)


@inner.router.get("/me")
async def me(request: Request):
    number = work.user_of_header((request.get_first_header(b"authorization") or b"").decode())
    if number is None:
        return BlackSheepResponse(401)
    return json(await work.user(number))


guarded = CorrelationIdMiddleware(inner)
