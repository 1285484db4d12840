"""The shop's application: `turboapi run examples.store.app:app`, or `make run`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from turboapi import FastAPI, Request, Response
from turboapi.responses import FileResponse
from turboapi.staticfiles import StaticFiles

from . import orders, products, users
from .db import ADMIN, Pool
from .deps import passwords
from .settings import DEMO_PASSWORD, Settings, load

STATIC = Path(__file__).resolve().parent / "static"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the database, seed an empty one, close it at the end."""
    settings = app.state.settings
    app.state.pool = Pool(settings.database)
    await app.state.pool.open()
    try:
        await app.state.pool.seed(passwords.hash(settings.admin_password))
        if settings.admin_password == DEMO_PASSWORD:
            print(f"Demo login: {ADMIN}, password {DEMO_PASSWORD}", flush=True)
        yield
    finally:
        await app.state.pool.close()


async def add_timing(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    """Tell the browser how long the server took (shown in its network panel)."""
    start = time.perf_counter()
    response = await call_next(request)
    response.headers["Server-Timing"] = f"app;dur={(time.perf_counter() - start) * 1000:.2f}"
    return response


async def health() -> dict[str, str]:
    """For load balancers."""
    return {"status": "ok"}


async def page() -> FileResponse:
    """Return the shop window."""
    return FileResponse(STATIC / "index.html")


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the shop over the given settings (default: those of the environment)."""
    settings = settings or load()
    app = FastAPI(
        title="Turbo Store",
        version="1.0.0",
        summary="A small shop on TurboAPI: SQLite, OAuth2, uploads, background mail.",
        lifespan=lifespan,
    )
    app.state.settings = settings
    app.middleware("http")(add_timing)
    app.include_router(users.router)
    app.include_router(products.router)
    app.include_router(orders.router)
    app.get("/health", tags=["service"])(health)
    app.get("/", include_in_schema=False)(page)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.mount("/images", StaticFiles(directory=settings.images), name="images")
    return app


app = create_app()
