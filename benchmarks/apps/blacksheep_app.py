"""The cases in BlackSheep."""

import asyncio

from bench_data import CHUNK, CHUNKS, PIECE, ROWS
from blacksheep import (
    Application,
    FromJSON,
    Request,
    Response,
    StreamedContent,
    WebSocket,
    get,
    json,
    post,
    ws,
)
from pydantic import BaseModel

app = Application()


class Item(BaseModel):
    name: str
    price: float
    tags: list[str] = []


@get("/async")
async def async_constant():
    return json({"message": "Hello, World!"})


@get("/sync")
def sync_constant():
    return json({"message": "Hello, World!"})


@get("/users/{user_id}")
async def path_and_query(user_id: int, q: str | None = None, limit: int = 10):
    return json({"user_id": user_id, "q": q, "limit": limit})


@post("/items")
async def post_model(data: FromJSON[Item]):
    return json(data.value)


@get("/rows")
async def rows():
    return json(ROWS)


@get("/sleep")
async def sleep():
    await asyncio.sleep(0.001)
    return json({"ok": True})


@get("/sleep100")
async def sleep_long():
    await asyncio.sleep(0.1)
    return json({"ok": True})


@post("/upload")
async def upload(request: Request):
    return json({"size": len(await request.read() or b"")})


def streamed(piece: bytes, count: int) -> Response:
    async def pieces():
        for _ in range(count):
            yield piece

    return Response(200, content=StreamedContent(b"application/octet-stream", pieces))


@get("/download")
async def download():
    return streamed(CHUNK, CHUNKS)


@get("/stream")
async def stream():
    return streamed(PIECE, 200)


@ws("/ws")
async def echo(websocket: WebSocket):
    await websocket.accept()
    while True:
        await websocket.send_text(await websocket.receive_text())
