"""What TurboAPI has and FastAPI has not."""

from typing import assert_type

import turboapi
from turboapi import APIRouter, FastAPI, TurboAPI

app = TurboAPI(run="thread", docs_assets="cdn")
router = APIRouter(run="inline")
same: FastAPI = app
assert_type(turboapi.__version__, str)
as_fastapi = turboapi.as_fastapi


@app.get("/", run="inline")
def read(key: int) -> str:
    return str(key)


@router.post("/", run="thread")
def post() -> None: ...


assert_type(read(1), str)
router.add_api_route("/added", post, run=None)


def wrong() -> None:
    TurboAPI(run="process")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    TurboAPI(docs_assets="remote")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.get("/", run=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.websocket("/", run="inline")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
