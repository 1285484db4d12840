"""Response classes, server-sent events, static files and templates."""

from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, assert_type

from turboapi import FastAPI, Request, Response
from turboapi.encoders import jsonable_encoder
from turboapi.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    StreamingResponse,
)
from turboapi.sse import EventSourceResponse, ServerSentEvent
from turboapi.staticfiles import StaticFiles
from turboapi.templating import Jinja2Templates

app = FastAPI(default_response_class=HTMLResponse)
app.mount("/static", StaticFiles(directory="static", check_dir=False, html=True), name="static")
templates = Jinja2Templates(directory="templates")


def chunks() -> Iterator[bytes]:
    yield b"a"


@app.get("/page", response_class=HTMLResponse)
def page(request: Request) -> Response:
    return templates.TemplateResponse(request, "page.html", {"a": 1})


@app.get("/events", response_class=EventSourceResponse)
async def events() -> AsyncIterator[ServerSentEvent]:
    yield ServerSentEvent(data={"a": 1}, event="new", id="1", retry=10)


class Upper(JSONResponse):
    media_type = "application/upper+json"

    def render(self, content: Any) -> bytes:
        return super().render(content).upper()


@app.get("/upper", response_class=Upper)
def upper() -> dict[str, int]:
    return {"a": 1}


made: list[Response] = [
    Response(content=b"a", status_code=200, headers={"A": "b"}, media_type="text/plain"),
    JSONResponse({"a": 1}, status_code=201),
    HTMLResponse("<a>"),
    PlainTextResponse("a"),
    RedirectResponse("/a", status_code=303),
    StreamingResponse(chunks(), media_type="text/plain"),
    Upper({"a": 1}),
]


def a_file() -> FileResponse:
    return FileResponse(Path("a"), filename="b", media_type="text/plain")


assert_type(JSONResponse({"a": 1}).status_code, int)
assert_type(PlainTextResponse("a").render("a"), bytes | memoryview)
assert_type(jsonable_encoder({"a": 1}, exclude_none=True, by_alias=False), Any)
headers: Mapping[str, str] = Response().headers


def wrong() -> None:
    Response(status_code="200")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    JSONResponse()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    RedirectResponse("/a", code=303)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    FastAPI(default_response_class=JSONResponse({}))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.get("/", response_class="json")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ServerSentEvent(retry="soon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    StaticFiles(folder="static")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    jsonable_encoder({}, unset=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
