"""All that a request may use, on several loops of one process at once."""

import asyncio
import contextvars
import dataclasses
import http.client
import json
import threading
import time
from typing import Annotated

import anyio.to_thread
import patience
import pytest
from pydantic import BaseModel
from test_server_threads import threaded

from turboapi import (
    BackgroundTasks,
    Cookie,
    Depends,
    FastAPI,
    File,
    Form,
    Header,
    HTTPException,
    Query,
    Request,
    Response,
    UploadFile,
    WebSocket,
)
from turboapi.responses import FileResponse, StreamingResponse
from turboapi.staticfiles import StaticFiles

PATIENCE = patience.seconds(20)
var = contextvars.ContextVar("var", default=0)


class Item(BaseModel):
    name: str
    price: float = 1.5
    tags: list[str] = []


class Filters(BaseModel):
    limit: int = 10
    words: list[str] = []


@dataclasses.dataclass
class Point:
    x: int
    y: int


def make_app(folder):
    app = FastAPI()
    folder.joinpath("file.txt").write_text("file" * 5000)
    app.mount("/static", StaticFiles(directory=folder))
    app.state.ended = []

    @app.middleware("http")
    async def marks(request, call_next):
        response = await call_next(request)
        response.headers["x-marked"] = request.url.path
        return response

    async def opened(n: int = 0):
        var.set(n)
        yield n
        assert var.get() == n

    def opened_in_thread(n: Annotated[int, Depends(opened)]):
        yield n

    @app.get("/depends")
    async def depends(
        one: Annotated[int, Depends(opened)], two: Annotated[int, Depends(opened_in_thread)]
    ):
        assert var.get() == one
        return {"n": one, "two": two}

    @app.post("/model", response_model=Item)
    async def model(item: Item, agent: Annotated[str, Header()] = ""):
        return item

    @app.get("/dataclass", run="inline")
    def dataclass(n: int) -> Point:
        return Point(n, n + 1)

    @app.get("/query")
    async def query(filters: Annotated[Filters, Query()], token: Annotated[str, Cookie()] = ""):
        return [filters.limit, filters.words, token]

    @app.post("/form")
    async def form(a: Annotated[str, Form()], file: Annotated[UploadFile, File()]):
        return [a, len(await file.read())]

    @app.get("/thread", run="thread")
    def thread(n: int, response: Response):
        response.set_cookie("n", str(n))
        return n

    @app.get("/to-thread")
    async def to_thread(n: int):
        loop = asyncio.get_running_loop()
        found = await asyncio.gather(
            asyncio.to_thread(abs, -n),
            anyio.to_thread.run_sync(abs, -n),
            loop.run_in_executor(None, abs, -n),
            asyncio.sleep(0.001, n),
        )
        assert found == [n] * 4
        return n

    @app.get("/background")
    async def background(n: int, tasks: BackgroundTasks):
        tasks.add_task(app.state.ended.append, n)
        return n

    @app.get("/stream")
    async def stream(n: int):
        async def pieces():
            for i in range(5):
                yield f"{n}-{i} "
                await asyncio.sleep(0)

        return StreamingResponse(pieces())

    @app.get("/stream-in-thread")
    async def stream_in_thread(n: int):
        return StreamingResponse(f"{n}-{i} " for i in range(5))

    @app.get("/file")
    async def file():
        return FileResponse(folder / "file.txt")

    @app.get("/refused")
    async def refused(n: int):
        raise HTTPException(418, detail=n)

    @app.get("/request")
    async def request(request: Request):
        return dict(request.query_params)

    @app.get("/timeout")
    async def timeout():
        try:
            async with asyncio.timeout(0.001):
                await asyncio.sleep(PATIENCE)
        except TimeoutError:
            return "late"

    @app.get("/group")
    async def group(n: int):
        queue = asyncio.Queue(1)
        async with asyncio.TaskGroup() as tasks:
            for i in range(3):
                tasks.create_task(queue.put(n + i))
            return [await queue.get() for _ in range(3)]

    @app.websocket("/socket")
    async def socket(socket: WebSocket):
        await socket.accept()
        while True:
            await socket.send_text(await socket.receive_text())

    return app


def form_of(n):
    lines = ["--B", 'Content-Disposition: form-data; name="a"', "", str(n), "--B"]
    lines += ['Content-Disposition: form-data; name="file"; filename="f"', "", "x" * n, "--B--", ""]
    return "\r\n".join(lines).encode(), {"content-type": "multipart/form-data; boundary=B"}


def ask(client, method, path, *more):
    client.request(method, path, *more)
    response = client.getresponse()
    return response.status, response.headers, response.read().decode()


def ask_all(address, n):
    """Make a request of each kind on one connection."""
    client = http.client.HTTPConnection(*address, timeout=PATIENCE)
    try:
        expected = {
            f"/depends?n={n}": (200, {"n": n, "two": n}),
            f"/dataclass?n={n}": (200, {"x": n, "y": n + 1}),
            f"/query?limit={n}&words=a&words=b": (200, [n, ["a", "b"], ""]),
            f"/thread?n={n}": (200, n),
            f"/to-thread?n={n}": (200, n),
            f"/background?n={n}": (200, n),
            f"/refused?n={n}": (418, {"detail": n}),
            f"/request?n={n}": (200, {"n": str(n)}),
            "/timeout": (200, "late"),
            f"/group?n={n}": (200, [n, n + 1, n + 2]),
            "/missing": (404, {"detail": "Not Found"}),
        }
        for path, (status, answer) in expected.items():
            got, headers, body = ask(client, "GET", path)
            assert (got, json.loads(body)) == (status, answer)
            assert headers["x-marked"] == path.partition("?")[0]
        status, _, body = ask(client, "GET", "/dataclass?n=x")
        assert status == 422
        assert json.loads(body)["detail"][0]["loc"] == ["query", "n"]
        item = {"name": str(n), "price": 2.5, "tags": ["a"]}
        headers = {"content-type": "application/json"}
        status, _, body = ask(client, "POST", "/model", json.dumps(item), headers)
        assert (status, json.loads(body)) == (200, item)
        status, _, body = ask(client, "POST", "/form", *form_of(n))
        assert (status, json.loads(body)) == (200, [str(n), n])
        pieces = "".join(f"{n}-{i} " for i in range(5))
        for path in (f"/stream?n={n}", f"/stream-in-thread?n={n}"):
            assert ask(client, "GET", path)[::2] == (200, pieces)
        for path in ("/file", "/static/file.txt"):
            assert ask(client, "GET", path)[::2] == (200, "file" * 5000)
        assert ask(client, "GET", "/openapi.json")[0] == 200
    finally:
        client.close()


def talk(address, n):
    """Talk over a WebSocket."""
    connect = pytest.importorskip("websockets.sync.client").connect
    with connect(f"ws://{address[0]}:{address[1]}/socket", open_timeout=PATIENCE) as socket:
        for i in range(10):
            socket.send(f"{n} {i}")
            assert socket.recv(PATIENCE) == f"{n} {i}"


def test_all_kinds_at_once(tmp_path):
    pytest.importorskip("websockets.sync.client")
    app, errors, rounds = make_app(tmp_path), [], 8

    def client(number):
        try:
            for n in range(number * rounds, (number + 1) * rounds):
                talk(address, n) if number % 4 == 3 else ask_all(address, n)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    # The watchdog looks at frames of the others as often as it can.
    with threaded(app, 3, timeout_loop_stall=0.01) as (address, _):
        clients = [threading.Thread(target=client, args=(number,)) for number in range(8)]
        for each in clients:
            each.start()
        for each in clients:
            each.join(10 * PATIENCE)
        assert not any(each.is_alive() for each in clients)
        assert errors == []
        asked = {n for number in (0, 1, 2, 4, 5, 6) for n in range(number * 8, number * 8 + 8)}
        patience.until(lambda: set(app.state.ended) == asked)


def test_loops_come_and_go_while_others_serve(tmp_path):
    """Threads of a process that start and stop loops share what the module keeps."""
    app, errors = make_app(tmp_path), []
    end = time.monotonic() + 2

    def serve():
        try:
            while time.monotonic() < end:
                with threaded(app, 1) as (address, _):
                    ask_all(address, 1)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=serve) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(10 * PATIENCE)
    assert not any(each.is_alive() for each in threads)
    assert errors == []
