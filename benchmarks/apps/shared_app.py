"""The application of the benchmark, the same source for FastAPI and TurboAPI.

BENCH_FRAMEWORK names the package (turboapi, the default, or fastapi); the applications are `plain`,
`middleware` (one `@app.middleware("http")`) and `cors` (CORSMiddleware).
"""

import asyncio
import importlib
import os
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from bench_data import CHUNK, CHUNKS, PIECE, ROWS
from pydantic import BaseModel

NAME = os.environ.get("BENCH_FRAMEWORK", "turboapi")
framework = importlib.import_module(NAME)
responses = importlib.import_module(f"{NAME}.responses")
sse = importlib.import_module(f"{NAME}.sse")
cors_module = importlib.import_module(f"{NAME}.middleware.cors")
Depends = framework.Depends
Request = framework.Request
WebSocket = framework.WebSocket


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


async def settings() -> dict[str, int]:
    return {"limit": 10}


async def session(
    conf: Annotated[dict[str, int], Depends(settings)],
) -> AsyncIterator[dict[str, int]]:
    yield {"open": 1, **conf}


async def repository(db: Annotated[dict[str, int], Depends(session)]) -> dict[str, int]:
    return db


async def user(repo: Annotated[dict[str, int], Depends(repository)], token: str = "t") -> str:
    return f"user-{token}-{repo['limit']}"


async def permission(who: Annotated[str, Depends(user)]) -> str:
    return who


def build() -> Any:
    app = framework.FastAPI()

    @app.get("/sync")
    def sync_constant():
        return {"message": "Hello, World!"}

    @app.get("/async")
    async def async_constant():
        return {"message": "Hello, World!"}

    @app.get("/users/{user_id}")
    async def path_and_query(user_id: int, q: str | None = None, limit: int = 10):
        return {"user_id": user_id, "q": q, "limit": limit}

    @app.post("/items")
    async def post_model(item: Item):
        return item

    @app.post("/form")
    async def form(
        name: Annotated[str, framework.Form()],
        price: Annotated[float, framework.Form()],
        tags: Annotated[list[str], framework.Form()],
    ):
        return {"name": name, "price": price, "tags": tags}

    @app.get("/rows", response_model=list[Row])
    async def rows():
        return ROWS

    @app.get("/deps")
    async def dependencies(who: Annotated[str, Depends(permission)]):
        return {"user": who}

    @app.get("/sleep")
    async def sleep():
        await asyncio.sleep(0.001)
        return {"ok": True}

    @app.get("/sleep100")
    async def sleep_long():
        await asyncio.sleep(0.1)
        return {"ok": True}

    @app.post("/upload")
    async def upload(request: Request):
        return {"size": len(await request.body())}

    @app.get("/download")
    async def download():
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(CHUNKS):
                yield CHUNK

        return responses.StreamingResponse(chunks(), media_type="application/octet-stream")

    @app.get("/stream")
    async def stream():
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(200):
                yield PIECE

        return responses.StreamingResponse(pieces())

    @app.get("/stream_def")
    def stream_def():
        def pieces() -> Iterator[bytes]:
            for _ in range(200):
                yield PIECE

        return responses.StreamingResponse(pieces())

    @app.get("/lines")
    async def lines():
        for n in range(200):
            yield {"n": n, "text": "token"}

    @app.get("/events", response_class=sse.EventSourceResponse)
    async def events():
        for n in range(200):
            yield {"n": n, "text": "token"}

    @app.websocket("/ws")
    async def echo(websocket: WebSocket):
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(text)

    return app


plain = build()

middleware = build()


@middleware.middleware("http")
async def add_header(request: Request, call_next: Any) -> Any:
    response = await call_next(request)
    response.headers["x-bench"] = "1"
    return response


cors = build()
cors.add_middleware(
    cors_module.CORSMiddleware,
    allow_origins=["https://example.org"],
    allow_credentials=True,
    allow_methods=["*"],
)
