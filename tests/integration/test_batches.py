"""What a batch starts runs in one step of a Task: nobody may notice (docs/loop.md)."""

import asyncio
import contextlib
import contextvars
import logging
import threading
import time

import anyio
import patience
import pytest
from server_kit import TIMEOUT, read_until, running, wait_for

from turboapi import FastAPI, HTTPException

var = contextvars.ContextVar("var", default="unset")


@pytest.fixture(params=["turboapi", "asyncio", "uvloop"])
def serving(request):
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    return lambda app: running(app, interface="turboapi", loop=request.param)


def get(path):
    return f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()


@contextlib.contextmanager
def held(server):
    """The loop stands still within: what is sent meanwhile is one batch."""
    standing, go_on = threading.Event(), threading.Event()

    def stand():
        standing.set()
        go_on.wait(TIMEOUT)

    server.loop_thread._loop.call_soon_threadsafe(stand)
    assert standing.wait(TIMEOUT)
    try:
        yield
        time.sleep(0.05)  # all of it has come
    finally:
        go_on.set()


class Batch:
    """One connection a request, or several requests on each."""

    def __init__(self, server, *requests):
        self.stack = contextlib.ExitStack()
        self.socks = [self.stack.enter_context(server.connect()) for _ in requests]
        server.call(lambda: None)  # the connections were accepted
        with held(server):
            for sock, data in zip(self.socks, requests, strict=True):
                sock.sendall(data)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.stack.close()

    def answers(self, each=1):
        """(status, body) of each connection's responses."""
        found = []
        for sock in self.socks:
            for _ in range(each):
                head = read_until_head(sock)
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                found.append((int(head.split()[1]), read_exactly(sock, length).decode()))
        return found


def read_exactly(sock, count):
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        assert piece
        data += piece
    return data


def read_until_head(sock):
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        data += read_exactly(sock, 1)
    return data


def test_each_has_its_own_context_and_answer(serving):
    app, tasks = FastAPI(), []

    @app.get("/{n}")
    async def index(n: int):
        seen = var.get()
        var.set(n)
        tasks.append(asyncio.current_task().get_name())
        return f"{n} {seen}"

    with serving(app) as server:
        with Batch(server, *(get(f"/{n}") for n in range(20))) as batch:
            assert batch.answers() == [(200, f'"{n} unset"') for n in range(20)]
        requests = [b"".join(get(f"/{n}") for n in range(m, m + 10)) for m in range(0, 50, 10)]
        with Batch(server, *requests) as batch:
            assert batch.answers(each=10) == [(200, f'"{n} unset"') for n in range(50)]
    assert len(tasks) == 70
    assert len(set(tasks)) < 10


def test_those_that_wait_fail_or_cancel_themselves_leave_the_others_alone(serving):
    app, waiting = FastAPI(), set()

    @app.get("/waits")
    async def waits():
        task = asyncio.current_task()
        assert task not in waiting
        waiting.add(task)
        await asyncio.sleep(0.05)
        assert asyncio.current_task() is task
        waiting.remove(task)
        return "waited"

    @app.get("/quick")
    async def quick():
        task = asyncio.current_task()
        assert task not in waiting
        assert not task.cancelling()
        return "quick"

    @app.get("/refuses")
    async def refuses():
        raise HTTPException(418)

    @app.get("/fails")
    async def fails():
        raise ValueError

    @app.get("/marks")
    async def marks():
        task = asyncio.current_task()
        assert not hasattr(task, "mine")
        task.mine = True
        return "marked"

    @app.get("/cancels")
    async def cancels():
        asyncio.current_task().cancel()
        return "cancelled"

    @app.get("/def", run="inline")
    def inline():
        return "def"

    expected = {
        "/waits": (200, '"waited"'),
        "/quick": (200, '"quick"'),
        "/refuses": (418, '{"detail":"I\'m a Teapot"}'),
        "/fails": (500, "Internal Server Error"),
        "/marks": (200, '"marked"'),
        "/cancels": (200, '"cancelled"'),
        "/def": (200, '"def"'),
    }
    paths = [*expected, *reversed(expected), "/cancels", "/waits", "/marks", "/quick"] * 2
    with serving(app) as server, Batch(server, *map(get, paths)) as batch:
        assert batch.answers() == [expected[path] for path in paths]


@pytest.mark.parametrize("debug", [False, True])
def test_scopes_begin_at_the_first_line_and_after_a_wait(serving, debug):
    app = FastAPI()

    async def child(n):
        await asyncio.sleep(0.001)
        assert var.get() == n
        return n

    async def group(n):
        async with asyncio.TaskGroup() as tasks:
            made = tasks.create_task(child(n))
        assert made.result() == n
        failed = False
        try:
            async with asyncio.TaskGroup() as tasks:
                forever = tasks.create_task(asyncio.sleep(patience.seconds(60)))
                raise ValueError(n)
        except* ValueError:
            failed = True
        assert failed
        assert forever.cancelled()

    async def late(n):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.sleep(patience.seconds(60))

    async def scopes(n):
        with anyio.move_on_after(0.001) as scope:
            await anyio.sleep(patience.seconds(60))
        assert scope.cancelled_caught
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep, patience.seconds(60))
            tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0)

    async def cancels(n):
        asyncio.current_task().cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(patience.seconds(60))
        asyncio.current_task().uncancel()

    ways = {"group": group, "late": late, "scopes": scopes, "cancels": cancels}

    @app.get("/{way}/{n}")
    async def index(way: str, n: int, wait: bool = False):
        seen = var.get()
        var.set(n)
        if wait:
            await asyncio.sleep(0)
        task = asyncio.current_task()
        await ways[way](n)
        assert asyncio.current_task() is task
        assert task.cancelling() == 0
        assert var.get() == n
        return f"{n} {seen}"

    paths = [f"/{way}/{{n}}{wait}" for way in ways for wait in ("", "?wait=1")]
    wanted = [get(paths[n % len(paths)].format(n=n)) for n in range(4 * len(paths))]
    answers = [(200, f'"{n} unset"') for n in range(len(wanted))]
    with serving(app) as server:
        server.call(lambda: server.loop_thread._loop.set_debug(debug))
        for _ in range(200 if debug else 0):  # the server looks at it now and then
            server.get("/nowhere")
        with Batch(server, *wanted) as batch:  # a connection each
            assert batch.answers() == answers
        with Batch(server, *(b"".join(wanted[n : n + 8]) for n in range(0, 32, 8))) as batch:
            assert batch.answers(each=8) == answers


def test_what_was_not_begun_can_be_cancelled(serving):
    app, begun, servers = FastAPI(), [], []

    @app.get("/cancel", run="inline")
    def cancel():
        servers[0].cancel("all of them")
        return "done"

    @app.get("/{n}")
    async def index(n: int):
        begun.append(n)
        return n

    with serving(app) as server:
        servers.append(server.server)
        # Which descriptor of a batch comes first is the system's choice.
        for _ in range(20):
            begun.clear()
            with Batch(server, get("/1"), get("/cancel"), get("/2")) as batch:
                first, done, second = batch.answers()
            assert done == (200, '"done"')
            for n, answer in ((1, first), (2, second)):
                assert answer == ((200, str(n)) if n in begun else (500, "Internal Server Error"))
            if len(begun) < 2:
                break
        assert len(begun) < 2
        assert server.get("/3")[2] == b"3"


def test_a_client_that_left_before_the_start(serving):
    app, begun = FastAPI(), []

    @app.get("/{n}")
    async def index(n: int):
        begun.append(n)
        return n

    with serving(app) as server:
        with server.connect() as leaves, server.connect() as stays:
            server.call(lambda: None)
            with held(server):
                leaves.sendall(get("/1"))
                leaves.close()
                stays.sendall(get("/2"))
            assert read_until(stays, b"\r\n\r\n2").startswith(b"HTTP/1.1 200")
        wait_for(lambda: sorted(begun) == [1, 2])


@contextlib.contextmanager
def debugged(server):
    """asyncio's debug mode within."""
    server.call(lambda: server.loop_thread._loop.set_debug(True))
    for _ in range(200):  # the server looks at it now and then
        server.get("/nowhere")
    yield
    server.call(lambda: server.loop_thread._loop.set_debug(False))


def reports(caplog):
    """What was said of slow steps."""
    return [r.getMessage() for r in caplog.records if r.msg.startswith("Executing")]


def test_slow_ones_of_a_batch_are_told_apart(serving, caplog):
    app = FastAPI()

    @app.get("/first")
    async def first():
        time.sleep(0.15)

    @app.get("/second")
    async def second():
        time.sleep(0.15)

    caplog.set_level(logging.WARNING, "asyncio")
    with (
        serving(app) as server,
        debugged(server),
        Batch(server, get("/first"), get("/second")) as batch,
    ):
        assert [status for status, _ in batch.answers()] == [200, 200]
    told = reports(caplog)
    for name in ("first", "second"):
        assert len([text for text in told if f"{name}()" in text]) == 1, told


@pytest.mark.parametrize("pipelined", [False, True])
@pytest.mark.parametrize("wait", [0, 0.001])
def test_slow_steps_after_a_wait_are_told_apart(serving, caplog, wait, pipelined):
    app = FastAPI()

    @app.get("/first")
    async def first():
        await asyncio.sleep(wait)
        time.sleep(0.06)

    @app.get("/second")
    async def second():
        await asyncio.sleep(wait)
        time.sleep(0.06)
        await asyncio.sleep(wait)
        time.sleep(0.06)

    @app.get("/quick")
    async def quick():
        await asyncio.sleep(wait)

    caplog.set_level(logging.WARNING, "asyncio")
    paths = ["/quick", "/first", "/quick", "/second", "/quick"]
    with serving(app) as server:
        server.call(lambda: setattr(server.loop_thread._loop, "slow_callback_duration", 0.05))
        wanted = [b"".join(map(get, paths))] if pipelined else map(get, paths)
        with debugged(server), Batch(server, *wanted) as batch:
            answers = batch.answers(each=len(paths) if pipelined else 1)
            assert answers == [(200, "null")] * len(paths)
    told = reports(caplog)
    for name, count in (("first", 1), ("second", 2)):
        assert len([text for text in told if f"{name}()" in text]) == count, told


def test_a_batch_leaves_the_loop_its_turn(serving):
    app, order = FastAPI(), []

    @app.get("/{n}")
    async def index(n: int):
        if not order:
            asyncio.get_running_loop().call_soon(order.append, "loop")
        end = time.monotonic() + 0.003
        while time.monotonic() < end:
            pass
        order.append(n)
        return n

    with serving(app) as server, Batch(server, *(get(f"/{n}") for n in range(30))) as batch:
        assert len(batch.answers()) == 30
    assert order.index("loop") < 20


def test_cancelled_by_the_end_of_the_server(serving):
    """SIGTERM with a batch that waits: all of it ends."""
    app, ended = FastAPI(), []

    @app.get("/{n}")
    async def index(n: int):
        try:
            await asyncio.sleep(patience.seconds(60))
        finally:
            ended.append(n)

    with running(app, interface="turboapi", timeout_graceful_shutdown=0.1) as server:
        with Batch(server, *(get(f"/{n}") for n in range(5))):
            wait_for(
                lambda: server.call(lambda: len(asyncio.all_tasks(server.loop_thread._loop))) >= 5
            )
            server.loop_thread.stop()
            wait_for(lambda: sorted(ended) == list(range(5)))
