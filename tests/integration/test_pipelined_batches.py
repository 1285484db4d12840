"""Pipelined requests of a connection run in one step of a Task: nobody may notice (docs/loop.md)."""

import asyncio
import contextvars
import itertools

import pytest
from server_kit import read_until, wait_for
from test_batches import Batch, get, held, serving  # noqa: F401

from turboapi import Body, Depends, FastAPI, HTTPException, Request

var = contextvars.ContextVar("var", default="unset")


def post(path, body):
    return f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()


def mixed_app():
    """An application with all kinds of ways to an answer, and what its functions saw."""
    app, seen = FastAPI(), []
    note = seen.append

    async def opened():
        var.set("opened")
        yield var.get()
        note("closed")

    @app.get("/async/{n}")
    async def plain(n: int):
        before = var.get()
        var.set(n)
        note(asyncio.current_task() is not None)
        return f"{n} {before}"

    @app.get("/def/{n}", run="inline")
    def inline(n: int):
        note(asyncio.current_task())
        return f"{n} {var.get()}"

    @app.get("/thread/{n}", run="thread")
    def thread(n: int):
        return f"{n} {var.get()}"

    @app.get("/wait/{n}")
    async def wait(n: int):
        var.set(n)
        await asyncio.sleep(0)
        return var.get()

    @app.get("/fail")
    async def fail():
        raise HTTPException(418, "no")

    @app.get("/broken")
    async def broken():
        raise KeyError("broken")

    @app.get("/cancel")
    async def cancel():
        asyncio.current_task().cancel()
        return "cancels itself"

    @app.get("/named")
    async def named():
        asyncio.current_task().set_name("mine")
        return "named"

    @app.get("/dep")
    async def dep(value: str = Depends(opened)):
        return value

    @app.post("/body")
    async def body(value: dict = Body()):
        return value

    @app.get("/request")
    async def request(request: Request):
        return dict(request.headers)

    @app.exception_handler(KeyError)
    async def on_key_error(request, exc):
        from turboapi.responses import PlainTextResponse

        return PlainTextResponse("handled", 500)

    inner = FastAPI()

    @inner.get("/{n}")
    async def mounted(n: int):
        return f"inner {n} {var.get()}"

    app.mount("/inner", inner)
    return app, seen


REQUESTS = [
    get("/async/1"),
    get("/async/2"),
    get("/def/3"),
    get("/async/4"),
    get("/wait/5"),
    get("/async/6"),
    get("/async/x"),
    get("/fail"),
    get("/broken"),
    get("/none"),
    get("/async/7"),
    post("/async/8", ""),
    post("/body", '{"a": 1}'),
    post("/body", "{"),
    get("/dep"),
    get("/dep"),
    get("/named"),
    get("/async/9"),
    get("/cancel"),
    get("/async/10"),
    get("/thread/11"),
    get("/inner/12"),
    get("/inner/none"),
    get("/async/13/"),
    get("/request"),
    get("/async/14"),
]


def one_by_one(server, requests):
    answers = []
    for each in requests:
        with Batch(server, each) as batch:
            answers += batch.answers()
    return answers


def test_answers_are_those_of_single_requests(serving):  # noqa: F811
    app, seen = mixed_app()
    with serving(app) as server:
        expected = one_by_one(server, REQUESTS)
        alone = sorted(map(str, seen))
        assert None in seen  # a `def` function has no Task
        seen.clear()
        with Batch(server, b"".join(REQUESTS)) as batch:
            assert batch.answers(each=len(REQUESTS)) == expected
        assert sorted(map(str, seen)) == alone
        turned = [REQUESTS[n:] + REQUESTS[:n] for n in range(0, len(REQUESTS), 3)]
        with Batch(server, *map(b"".join, turned)) as batch:
            got = batch.answers(each=len(REQUESTS))
        assert got == list(
            itertools.chain(
                *(expected[n:] + expected[:n] for n in range(0, len(REQUESTS), 3)),
            )
        )


def test_many_on_one_connection(serving):  # noqa: F811
    app, _ = mixed_app()
    with (
        serving(app) as server,
        Batch(server, b"".join(get(f"/async/{n}") for n in range(2000))) as batch,
    ):
        assert batch.answers(each=2000) == [(200, f'"{n} unset"') for n in range(2000)]


def test_all_of_a_connection_run_before_the_loop_has_its_turn(serving):  # noqa: F811
    app, seen = FastAPI(), []

    @app.get("/{n}")
    async def index(n: int):
        asyncio.get_running_loop().call_soon(seen.append, "turn")
        seen.append(n)
        return n

    with serving(app) as server:
        with Batch(server, b"".join(get(f"/{n}") for n in range(8))) as batch:
            batch.answers(each=8)
        wait_for(lambda: len(seen) == 16)
    # A slow machine may end the batch's time, but not after each request.
    assert seen[0] == 0
    assert sum(a == "turn" and b != "turn" for a, b in itertools.pairwise(seen)) < 7


def test_what_a_request_leaves_behind_cannot_cancel_the_next(serving):  # noqa: F811
    app, cancelled = FastAPI(), []

    class Evil:
        def __del__(self):
            try:
                task = asyncio.current_task()
            except RuntimeError:
                return
            if task is not None:
                task.cancel()
                cancelled.append(task)

    @app.get("/evil")
    async def evil(request: Request):
        request.state.evil = Evil()
        return "evil"

    @app.get("/good")
    async def good():
        await asyncio.sleep(0)
        return "good"

    with serving(app) as server, Batch(server, (get("/evil") + get("/good")) * 10) as batch:
        assert batch.answers(each=20) == [(200, '"evil"'), (200, '"good"')] * 10


@pytest.mark.parametrize("path", ["/async/1", "/wait/1", "/dep"])
def test_a_client_that_leaves_amid_its_requests(serving, path):  # noqa: F811
    app, _ = mixed_app()
    with serving(app) as server:
        with Batch(server, *[get(path) * 50] * 3):
            pass
        with server.connect() as sock, held(server):
            sock.sendall(get(path) * 50 + b"GET / HTTP/9\r\n\r\n")
        with Batch(server, get("/async/1") * 2) as batch:
            assert batch.answers(each=2) == [(200, '"1 unset"')] * 2
        wait_for(lambda: not any(server.call(server.server.pending)))


def test_the_last_of_a_connection_ends_it(serving):  # noqa: F811
    app, _ = mixed_app()
    close = b"GET /async/2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    with serving(app) as server:
        answer = server.exchange(get("/async/1") * 5 + close + get("/async/3"))
        assert answer.count(b"HTTP/1.1 200 OK") == 6
        with server.connect() as sock:
            sock.sendall(get("/async/1") * 3 + get("/async/4"))
            read_until(sock, b'"4 unset"')
