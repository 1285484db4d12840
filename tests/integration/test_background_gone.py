"""Background tasks of requests whose client has left: they run, as with FastAPI under uvicorn."""

import asyncio
import contextlib
import importlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from frameworks_kit import names_of
from patience import until
from server_kit import running
from starlette.background import BackgroundTask

KINDS = ("json", "text", "file", "thread", "yield", "big", "early")


def make(f: Any, log: list[str], go_on: threading.Event, folder: Any) -> Any:
    """Routes that wait until their client has left, then answer; each has tasks for afterwards."""
    app = f.FastAPI()
    (folder / "file").write_bytes(b"x" * 3_000_000)

    async def wait() -> None:
        log.append("called")
        while not go_on.is_set():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)

    async def async_task() -> None:
        await asyncio.sleep(0)
        log.append("async task")

    def sync_task(text: str) -> None:
        log.append(text)

    async def dependency() -> Any:
        yield
        log.append("dependency left")

    @app.get("/json")
    async def as_json(tasks: f.BackgroundTasks) -> Any:
        tasks.add_task(async_task)
        tasks.add_task(sync_task, "task")
        await wait()
        return {"a": 1}

    @app.get("/text")
    async def text() -> Any:
        await wait()
        return f.PlainTextResponse("text", background=BackgroundTask(sync_task, "task"))

    @app.get("/file")
    async def file() -> Any:
        await wait()
        return f.FileResponse(folder / "file", background=BackgroundTask(sync_task, "task"))

    @app.get("/thread")
    def thread(tasks: f.BackgroundTasks) -> Any:
        log.append("called")
        go_on.wait(10)
        time.sleep(0.1)
        tasks.add_task(async_task)
        return "text"

    @app.get("/yield")
    async def yields(tasks: f.BackgroundTasks, d: Any = f.Depends(dependency)) -> Any:
        tasks.add_task(sync_task, "task")
        await wait()
        return {"a": 1}

    @app.get("/big")
    async def big(tasks: f.BackgroundTasks) -> Any:
        tasks.add_task(sync_task, "task")
        await wait()
        return f.Response(b"x" * 10_000_000)

    @app.get("/early")
    async def early(tasks: f.BackgroundTasks) -> Any:
        """The client takes the answer and leaves while the first task runs."""
        tasks.add_task(wait)
        tasks.add_task(async_task)
        return {"a": 1}

    return app


@contextlib.contextmanager
def by_uvicorn(app: Any) -> Iterator[Any]:
    uvicorn = pytest.importorskip("uvicorn")
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        until(lambda: server.started)
        yield SimpleNamespace(connect=lambda: socket.create_connection(listener.getsockname(), 10))
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def told(f: Any, serve: Any, kind: str, reset: bool, folder: Any) -> list[str]:
    """What the application logs when the client of a request leaves."""
    log: list[str] = []
    go_on = threading.Event()
    with serve(make(f, log, go_on, folder)) as server:
        with server.connect() as client:
            client.sendall(f"GET /{kind} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            if kind == "early":
                assert client.recv(100).startswith(b"HTTP/1.1 200")
            until(lambda: log)
            if reset:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        go_on.set()
        last = "dependency left" if kind == "yield" else "task"
        until(lambda: log[-1].endswith(last))
        time.sleep(0.05)  # nothing more is to come
    return log


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize("kind", KINDS)
def test_tasks_run_when_the_client_has_left(kind: str, reset: bool, tmp_path: Any) -> None:
    ours = told(names_of("turboapi"), running, kind, reset, tmp_path)
    assert ours[0] == "called"
    assert any("task" in each for each in ours)
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("fastapi")
        assert ours == told(names_of("fastapi"), by_uvicorn, kind, reset, tmp_path)
