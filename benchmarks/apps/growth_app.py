"""What growth.py measures: one source for TurboAPI and FastAPI (BENCH_FRAMEWORK).

GROWTH_ROUTES is the number of routes besides the others (default 10).
"""

import importlib
import os
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel

framework = importlib.import_module(os.environ.get("BENCH_FRAMEWORK", "turboapi"))
Depends, Header, Request, UploadFile = (
    getattr(framework, name) for name in ("Depends", "Header", "Request", "UploadFile")
)

app = framework.FastAPI()
ROUTES = int(os.environ.get("GROWTH_ROUTES", "10"))
DEPENDENCIES = (0, 1, 5, 10, 25, 50)


class Item(BaseModel):
    """A row of a body."""

    id: int
    name: str
    price: float
    tags: list[str] = []


def add_resource(number: int) -> None:
    """Add the route of one resource."""

    @app.get(f"/api/v1/resource{number}/{{item_id}}")
    async def read(item_id: int, q: str | None = None) -> Any:
        return {"resource": number, "id": item_id, "q": q}


for each in range(ROUTES):
    add_resource(each)


@app.get("/constant")
async def constant() -> Any:
    return {"message": "Hello, World!"}


@app.get("/field")
async def field(x_last: Annotated[str | None, Header()] = None) -> Any:
    return {"last": x_last}


@app.post("/json")
async def items(rows: list[Item]) -> Any:
    return {"count": len(rows)}


@app.post("/raw")
async def raw(request: Request) -> Any:  # type: ignore[valid-type]
    return {"size": len(await request.body())}  # type: ignore[attr-defined]


@app.post("/file")
async def file(upload: UploadFile) -> Any:  # type: ignore[valid-type]
    return {"size": len(await upload.read())}  # type: ignore[attr-defined]


def chain(length: int, link: Callable[[Any], Any]) -> Any:
    """Return the last of so many dependencies, each of which needs the one before."""
    last: Any = None
    for _ in range(length):
        last = link(last)
    return last


def plain_link(before: Any) -> Any:
    """Return a dependency that returns."""
    if before is None:

        async def first() -> int:
            return 1

        return first

    async def link(value: Annotated[int, Depends(before)]) -> int:
        return value + 1

    return link


def yielding_link(before: Any) -> Any:
    """Return a dependency that yields."""
    if before is None:

        async def first() -> Any:
            yield 1

        return first

    async def link(value: Annotated[int, Depends(before)]) -> Any:
        yield value + 1

    return link


def add_chain(path: str, length: int, link: Callable[[Any], Any]) -> None:
    """Add a route that depends on so many functions."""
    last = chain(length, link)
    if last is None:

        @app.get(path)
        async def none() -> Any:
            return {"value": 0}

    else:

        @app.get(path)
        async def dependent(value: Annotated[int, Depends(last)]) -> Any:
            return {"value": value}


for each in DEPENDENCIES:
    add_chain(f"/plain/{each}", each, plain_link)
    add_chain(f"/yield/{each}", each, yielding_link)
