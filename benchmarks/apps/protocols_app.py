"""Two answers for benchmarks/protocols.py: of a few bytes, and of 50 KB of JSON.

BENCH_FRAMEWORK says who makes them: "turboapi", or "asgi" for the peers, which need no framework.
BENCH_PACK ("gzip", "br") puts middleware that packs the large one round the ASGI application.
"""

from __future__ import annotations

import json
import os
from typing import Any

SMALL = {"message": "Hello, World!"}
LARGE = [
    {
        "id": n,
        "name": f"Row {n}",
        "price": n * 1.25,
        "tags": ["a", f"tag {n % 7}"],
        "ok": n % 3 == 0,
    }
    for n in range(650)
]


def turboapi_app() -> Any:
    """Return the project's application; the server packs."""
    from turboapi import FastAPI  # lazy: only where it is what is measured

    made = FastAPI()

    @made.get("/")
    async def small() -> dict[str, str]:
        return SMALL

    @made.get("/large")
    async def large() -> list[dict[str, Any]]:
        return LARGE

    return made


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    """Answer as the project's application does."""
    if scope["type"] != "http":
        return
    body = json.dumps(LARGE if scope["path"] == "/large" else SMALL, separators=(",", ":")).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def packed(inner: Any) -> Any:
    """Return the application with the middleware that was asked for."""
    pack = os.environ.get("BENCH_PACK")
    if pack == "gzip":
        from starlette.middleware.gzip import GZipMiddleware  # lazy: a peer's

        return GZipMiddleware(inner, compresslevel=int(os.environ.get("BENCH_GZIP_LEVEL", "5")))
    if pack == "br":
        from brotli_asgi import BrotliMiddleware  # lazy: a peer's

        return BrotliMiddleware(inner, quality=int(os.environ.get("BENCH_BR_LEVEL", "4")))
    return inner


app = turboapi_app() if os.environ.get("BENCH_FRAMEWORK") == "turboapi" else packed(asgi_app)
