"""Applications of ours on the native server: what happens between the socket and the handler."""

import asyncio
import concurrent.futures
import contextvars
import gc
import gzip
import json
import threading
import time
import weakref
from contextlib import asynccontextmanager
from typing import Annotated

import anyio
import anyio.from_thread
import patience
import pytest
import starlette.responses
from pydantic import BaseModel
from server_kit import both_protocols, read_all, read_until, running, wait_for
from starlette import routing
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware

from turboapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException, Request
from turboapi.middleware.cors import CORSMiddleware
from turboapi.middleware.gzip import GZipMiddleware
from turboapi.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from turboapi.staticfiles import StaticFiles

var = contextvars.ContextVar("var", default="unset")


def serving(app, **settings):
    return running(app, interface="turboapi", **settings)


def get_json(server, path, **headers):
    status, _, body = server.get(path, **headers)
    assert status == 200, body
    return json.loads(body)


def hammer(server, path, n, connections=4):
    """n requests over a few connections at once; the answers."""

    def work(count):
        answers = []
        with server.client() as conn:
            for _ in range(count):
                conn.request("GET", path)
                response = conn.getresponse()
                answers.append((response.status, response.read()))
        return answers

    with concurrent.futures.ThreadPoolExecutor(connections) as pool:
        shares = [n // connections] * connections
        return [answer for part in pool.map(work, shares) for answer in part]


# -- the plain cases ------------------------------------------------------------------------------


class Item(BaseModel):
    name: str
    price: float = 1.5


def make_app():
    app = FastAPI(version="7")

    @app.get("/")
    def index():
        return {"hello": "world"}

    @app.get("/items/{item_id}")
    async def item(item_id: int, q: str | None = None):
        return {"item_id": item_id, "q": q}

    @app.post("/items", status_code=201)
    async def create(item: Item) -> Item:
        return item

    @app.get("/missing")
    async def missing():
        raise HTTPException(404, "not here", headers={"x-a": "1"})

    @app.get("/broken")
    async def broken():
        raise ValueError("broken")

    @app.get("/url")
    async def url(request: Request):
        return {
            "url": str(request.url),
            "for": str(request.url_for("item", item_id=3)),
            "app": request.app is app,
            "params": request.path_params,
            "client": request.client.host,
        }

    return app


@both_protocols
def test_plans_over_the_socket():
    with serving(make_app()) as server:
        assert get_json(server, "/") == {"hello": "world"}
        assert get_json(server, "/items/5?q=%C3%A4") == {"item_id": 5, "q": "ä"}
        status, headers, body = server.request(
            "POST", "/items", b'{"name": "a"}', {"content-type": "application/json"}
        )
        assert (status, json.loads(body)) == (201, {"name": "a", "price": 1.5})
        assert headers["content-type"] == "application/json"
        status, _, body = server.get("/items/x")
        assert status == 422
        assert json.loads(body)["detail"][0]["loc"] == ["path", "item_id"]
        status, headers, body = server.get("/missing")
        assert (status, headers["x-a"], json.loads(body)) == (404, "1", {"detail": "not here"})
        assert server.get("/nowhere")[0] == 404
        assert server.request("DELETE", "/items/5")[0] == 405
        assert get_json(server, "/openapi.json")["info"]["version"] == "7"
        host = "{}:{}".format(*server.address)
        assert get_json(server, "/url?a=1") == {
            "url": f"http://{host}/url?a=1",
            "for": f"http://{host}/items/3",
            "app": True,
            "params": {},
            "client": "127.0.0.1",
        }


@both_protocols
def test_exception_of_a_handler_is_500_and_logged(caplog):
    with serving(make_app()) as server:
        status, _, body = server.get("/broken")
        assert (status, body) == (500, b"Internal Server Error")
        assert get_json(server, "/") == {"hello": "world"}
    assert caplog.text.count("ValueError: broken") == 1


@both_protocols
def test_exception_handlers_see_the_request():
    app = FastAPI()

    @app.exception_handler(KeyError)
    async def on_key_error(request: Request, exc: KeyError):
        from turboapi.responses import JSONResponse

        await asyncio.sleep(0.001)
        body = (await request.body()).decode()
        task = asyncio.current_task()
        return JSONResponse(
            {"error": str(exc), "path": request.url.path, "body": body, "task": task is not None},
            status_code=418,
        )

    @app.post("/{kind}")
    async def fails(kind: str, item: dict):
        if kind == "late":
            await asyncio.sleep(0.001)
        raise KeyError(kind)

    with serving(app) as server:
        for kind in ("now", "late"):
            status, _, body = server.request(
                "POST", f"/{kind}", b'{"a": 1}', {"content-type": "application/json"}
            )
            assert status == 418
            assert json.loads(body) == {
                "error": f"'{kind}'", "path": f"/{kind}", "body": '{"a": 1}', "task": True,
            }  # fmt: skip


@pytest.mark.filterwarnings("ignore:The .root_path. parameter")
def test_root_paths():
    for own, outer in (("/api", ""), ("", "/api")):
        app = FastAPI(root_path=own)

        @app.get("/items/{n}")
        async def item(n: int, request: Request):
            return [n, request.scope["root_path"], request.scope["path"]]

        with serving(app, root_path=outer) as server:
            expected = "/api/items/3" if outer else "/items/3"
            assert get_json(server, "/items/3") == [3, "/api", expected]
            if own:
                assert get_json(server, "/api/items/3") == [3, "/api", "/api/items/3"]


@both_protocols
def test_routes_added_while_it_serves():
    app = FastAPI()

    @app.get("/old")
    async def old():
        return "old"

    with serving(app) as server:
        assert get_json(server, "/old") == "old"
        assert server.get("/new")[0] == 404

        def add():
            @app.get("/new")
            async def new():
                return "new"

        server.call(add)
        assert get_json(server, "/new") == "new"
        assert get_json(server, "/old") == "old"


@both_protocols
def test_with_middleware_of_the_user():
    app = make_app()

    @app.middleware("http")
    async def add_header(request, call_next):
        response = await call_next(request)
        response.headers["x-path"] = request.url.path
        return response

    with serving(app) as server:
        for _ in range(3):
            status, headers, body = server.get("/items/4")
            assert (status, json.loads(body)) == (200, {"item_id": 4, "q": None})
            assert headers["x-path"] == "/items/4"
        assert server.get("/broken")[0] == 500


def test_lifespan_state_and_overrides():
    @asynccontextmanager
    async def lifespan(app):
        yield {"db": "open"}

    app = FastAPI(lifespan=lifespan)

    def get_user():
        return "real"

    @app.get("/")
    async def index(request: Request, user: Annotated[str, Depends(get_user)]):
        return [request.state.db, user]

    with serving(app) as server:
        assert get_json(server, "/") == ["open", "real"]
        app.dependency_overrides[get_user] = lambda: "fake"
        assert get_json(server, "/") == ["open", "fake"]
        app.dependency_overrides.clear()
        assert get_json(server, "/") == ["open", "real"]


# -- bodies ---------------------------------------------------------------------------------------


def test_body_that_comes_in_pieces():
    app = FastAPI()

    @app.post("/")
    async def take(items: list[int]):
        return sum(items)

    with serving(app) as server:
        body = json.dumps(list(range(20_000))).encode()
        head = (
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        )
        with server.raw(head) as sock:
            for at in range(0, len(body), 10_000):
                sock.sendall(body[at : at + 10_000])
                time.sleep(0.001)
            assert read_all(sock).endswith(b"\r\n\r\n199990000")


@pytest.mark.parametrize("chunked", [False, True])
def test_max_body_size_of_a_route(chunked):
    app = FastAPI()

    @app.post("/", max_body_size=1000)
    async def take(request: Request):
        return len(await request.body())

    with serving(app) as server:
        for size, status in ((1000, 200), (1001, 413)):
            body = b"x" * size
            with server.client() as conn:
                conn.request("POST", "/", iter([body]) if chunked else body, encode_chunked=chunked)
                assert conn.getresponse().status == status


def test_client_that_goes_while_its_body_is_awaited():
    app = FastAPI()
    called = []

    @app.post("/")
    async def take(item: dict):
        called.append(item)

    with serving(app) as server:
        with server.raw(
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: 100\r\n\r\n{"
        ):
            wait_for(lambda: server.server.tasks == 1)
        wait_for(lambda: server.server.tasks == 0)
        assert called == []


# -- asyncio and anyio inside handlers and dependencies -------------------------------------------


def test_async_things_in_handlers_and_dependencies():
    app = FastAPI()

    async def dependency(request: Request):
        task = asyncio.current_task()
        assert task is not None
        request.state.task = task
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        with anyio.move_on_after(0.001) as scope:
            await anyio.sleep(1)
        assert scope.cancelled_caught
        return task

    @app.get("/{wait}")
    async def handler(wait: bool, request: Request, task: Annotated[object, Depends(dependency)]):
        assert asyncio.current_task() is task
        if wait:
            await asyncio.sleep(0.001)
        async with asyncio.TaskGroup() as tg:
            tasks = [tg.create_task(asyncio.sleep(0.001, n)) for n in range(3)]
        try:
            async with asyncio.timeout(0.001):
                await asyncio.sleep(1)
        except TimeoutError:
            late = True
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 10)
            group.cancel_scope.cancel()
        number = await anyio.to_thread.run_sync(lambda: 7)
        assert asyncio.current_task() is task
        return [[t.result() for t in tasks], late, number]

    with serving(app) as server:
        for answer in hammer(server, "/1", 20) + hammer(server, "/0", 20):
            assert answer == (200, b"[[0,1,2],true,7]")


def test_first_step_without_a_wait_has_a_task_too():
    app = FastAPI()

    @app.get("/")
    async def handler():
        task = asyncio.current_task()
        return [task is not None, task in asyncio.all_tasks() or task.get_name()[:8]]

    with serving(app) as server:
        assert get_json(server, "/") == [True, "turboapi"]


def test_contextvars_of_requests_are_apart():
    app = FastAPI()

    async def dependency(n: int):
        seen = var.get()
        var.set(n)
        return seen

    @app.get("/")
    async def handler(n: int, seen: Annotated[str, Depends(dependency)]):
        inside = var.get()
        await asyncio.sleep(0.001)
        assert var.get() == inside
        var.set("changed")
        return [seen, inside]

    @app.get("/sync")
    def sync(n: int):
        seen = var.get()
        var.set(n)
        return seen

    with serving(app) as server:
        assert {a for _, a in hammer(server, "/?n=3", 40)} == {b'["unset",3]'}
        assert {a for _, a in hammer(server, "/sync?n=3", 400)} == {b'"unset"'}


def test_a_thousand_wait_at_once():
    app = FastAPI()

    @app.get("/")
    async def handler():
        await asyncio.sleep(0.1)
        return "ok"

    n = 300
    with serving(app) as server:
        socks = [server.connect() for _ in range(n)]
        began = time.monotonic()
        for sock in socks:
            sock.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        for sock in socks:
            assert read_all(sock).endswith(b'"ok"')
            sock.close()
        assert time.monotonic() - began < n * 0.1 / 3  # not one after the other


# -- `def` handlers -------------------------------------------------------------------------------


def test_a_def_handler_starts_in_a_worker_thread():
    app = FastAPI()

    @app.get("/")
    def handler():
        return threading.current_thread().name

    with serving(app) as server:
        assert get_json(server, "/") == "turboapi worker thread"


def test_quick_def_handlers_are_promoted():
    app = FastAPI()

    @app.get("/")
    def handler():
        return threading.current_thread().name

    with serving(app) as server:
        deadline = time.monotonic() + patience.seconds(10)
        while get_json(server, "/") != "server":
            assert time.monotonic() < deadline


@pytest.mark.parametrize("how", ["sleep", "lock", "from_thread", "compute"])
def test_def_handlers_that_block_stay_in_their_threads(how):
    app = FastAPI()

    @app.get("/")
    def handler():
        if how == "sleep":
            time.sleep(0.0001)
        elif how == "lock":
            threading.Event().wait(0.0001)
        elif how == "from_thread":
            anyio.from_thread.run_sync(lambda: None)
        else:
            began = time.thread_time()
            while time.thread_time() - began < 0.0002:
                pass
        return threading.current_thread().name

    with serving(app) as server:
        answers = hammer(server, "/", 400)
    assert {body for _, body in answers} == {b'"turboapi worker thread"'}


def test_a_promoted_handler_that_stalls_is_demoted():
    app = FastAPI()
    slow = threading.Event()

    @app.get("/")
    def handler():
        if slow.is_set():
            time.sleep(0.01)
        return threading.current_thread().name

    with serving(app) as server:
        deadline = time.monotonic() + patience.seconds(10)
        while get_json(server, "/") != "server":
            assert time.monotonic() < deadline
        slow.set()
        assert get_json(server, "/") == "server"
        assert get_json(server, "/") == "turboapi worker thread"
        slow.clear()
        while get_json(server, "/") != "server":  # once more it may prove quick
            assert time.monotonic() < deadline
        slow.set()
        assert get_json(server, "/") == "server"
        slow.clear()
        assert {body for _, body in hammer(server, "/", 400)} == {b'"turboapi worker thread"'}


def test_handlers_that_wait_for_other_requests_do_not_hang():
    app = FastAPI()
    event = threading.Event()

    @app.get("/wait")
    def wait():
        return event.wait(10)

    @app.get("/set")
    def set_():
        event.set()
        return "set"

    with serving(app) as server:
        hammer(server, "/set", 400)
        event.clear()
        with concurrent.futures.ThreadPoolExecutor(30) as pool:
            waiting = [pool.submit(get_json, server, "/wait") for _ in range(30)]
            wait_for(lambda: server.server.tasks == 30)
            assert get_json(server, "/set") == "set"
            assert [each.result(10) for each in waiting] == [True] * 30


def test_thread_limit():
    app = FastAPI()
    now = most = 0
    lock = threading.Lock()

    @app.get("/")
    def handler():
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1

    with serving(app, thread_pool=3) as server:
        assert {status for status, _ in hammer(server, "/", 24, connections=12)} == {200}
    assert most == 3


def test_thread_limit_of_anyio_counts():
    now = most = 0
    lock = threading.Lock()

    @asynccontextmanager
    async def lifespan(app):
        anyio.to_thread.current_default_thread_limiter().total_tokens = 2
        yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    def handler():
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1

    with serving(app) as server:
        hammer(server, "/", 16, connections=8)
    assert most == 2


def test_from_thread():
    app = FastAPI()

    async def double(n):
        await asyncio.sleep(0.001)
        assert asyncio.current_task() is not None
        return 2 * n

    @app.get("/anyio")
    def use_anyio():
        anyio.from_thread.check_cancelled()
        return [
            anyio.from_thread.run(double, 4),
            anyio.from_thread.run_sync(threading.get_ident) != threading.get_ident(),
        ]

    @app.get("/asyncio")
    def use_asyncio():
        return asyncio.run_coroutine_threadsafe(double(5), loops[0]).result(5)

    loops = []

    @app.get("/loop")
    async def loop():
        loops.append(asyncio.get_running_loop())

    with serving(app) as server:
        get_json(server, "/loop")
        for _ in range(3):
            assert get_json(server, "/anyio") == [8, True]
            assert get_json(server, "/asyncio") == 10
        assert {body for _, body in hammer(server, "/anyio", 100)} == {b"[8,true]"}


def test_def_dependencies_exceptions_and_contexts():
    app = FastAPI()

    def dependency():
        var.set("dependency")  # as in a thread: stays there
        return var.get()

    def fails():
        raise HTTPException(403, "no")

    def stops():
        raise StopIteration(5)

    @app.get("/")
    async def handler(value: Annotated[str, Depends(dependency)]):
        return [value, var.get()]

    @app.get("/fails", dependencies=[Depends(fails)])
    async def never():
        raise AssertionError

    @app.get("/stops")
    def stopping():
        stops()

    with serving(app) as server:
        assert {b for _, b in hammer(server, "/", 400)} == {b'["dependency","unset"]'}
        assert {s for s, _ in hammer(server, "/fails", 400)} == {403}
        assert {s for s, _ in hammer(server, "/stops", 8)} == {500}


def test_a_cancelled_request_leaves_its_thread_alone():
    app = FastAPI()
    gate = threading.Event()
    events = []

    @app.get("/")
    async def handler():
        def work():
            gate.wait(5)
            events.append("worked")

        return await anyio.to_thread.run_sync(work)

    @app.get("/plain")
    def plain():
        gate.wait(5)
        events.append("worked")

    with serving(app, timeout_graceful_shutdown=0.1) as server:
        with server.raw(b"GET /plain HTTP/1.1\r\nhost: x\r\n\r\n") as sock:
            wait_for(lambda: server.server.tasks == 1)
            server.loop_thread.stop()
            assert b" 500 " in read_all(sock)
            gate.set()
    wait_for(lambda: events == ["worked"])


def test_anyio_scopes_round_def_dependencies():
    """Within a cancel scope anyio's own rules hold: the thread is waited for."""
    app = FastAPI()
    events = []

    @app.middleware("http")
    async def limit(request, call_next):
        with anyio.move_on_after(patience.seconds(2)) as scope:
            response = await call_next(request)
        events.append(scope.cancelled_caught)
        return response

    @app.get("/")
    def handler():
        return "fine"

    with serving(app) as server:
        assert {b for _, b in hammer(server, "/", 100)} == {b'"fine"'}
    assert set(events) == {False}


# -- after the response; streams ------------------------------------------------------------------


@both_protocols
def test_background_tasks_run_after_the_response():
    app = FastAPI()
    gate = threading.Event()
    done = []

    async def later(request, n):
        while not gate.is_set():
            await asyncio.sleep(0.002)
        done.append((n, request.url.path, request.headers["x-n"]))

    @app.get("/work")
    async def handler(request: Request, tasks: BackgroundTasks, n: int):
        tasks.add_task(later, request, n)
        tasks.add_task(done.append, "sync")
        return n

    with serving(app) as server:
        with server.client() as conn:
            for n in range(3):  # the connection is free for the next request meanwhile
                conn.request("GET", f"/work?n={n}", headers={"x-n": str(n)})
                assert conn.getresponse().read() == b"%d" % n
        assert done == []
        gate.set()
        wait_for(lambda: len(done) == 6)
    assert sorted(d for d in done if d != "sync") == [(n, "/work", str(n)) for n in range(3)]


@both_protocols
def test_exception_in_a_background_task(caplog):
    app = FastAPI()

    async def fails():
        raise ValueError("later")

    @app.get("/")
    async def handler(tasks: BackgroundTasks):
        tasks.add_task(fails)
        return "sent"

    with serving(app) as server, server.client() as conn:
        conn.request("GET", "/")
        assert conn.getresponse().read() == b'"sent"'
        wait_for(lambda: server.server.tasks == 0)
        assert server.get("/")[2] == b'"sent"'
    assert "ValueError: later" in caplog.text


def test_streams_and_their_cleanup():
    app = FastAPI()
    closed = threading.Event()

    @app.get("/short")
    async def short():
        async def numbers():
            for n in range(5):
                yield b"%d" % n
                await asyncio.sleep(0)

        return StreamingResponse(numbers())

    @app.get("/endless")
    async def endless():
        async def ticks():
            try:
                while True:
                    yield b"tick"
                    await asyncio.sleep(0.001)
            finally:
                closed.set()

        return StreamingResponse(ticks())

    @app.get("/silent")
    async def silent():
        async def nothing():
            try:
                yield b"first"
                await asyncio.Event().wait()
            finally:
                closed.set()

        return StreamingResponse(nothing())

    with serving(app) as server:
        assert server.get("/short")[2] == b"01234"
        for path, mark in ((b"/endless", b"tick"), (b"/silent", b"first")):
            closed.clear()
            with server.raw(b"GET %s HTTP/1.1\r\nhost: x\r\n\r\n" % path) as sock:
                read_until(sock, mark)
            assert closed.wait(5), path
            wait_for(lambda: server.server.tasks == 0)


def test_yield_dependencies_are_left_after_the_response():
    app = FastAPI()
    events = []

    async def resource():
        events.append("open")
        try:
            yield "r"
        finally:
            await asyncio.sleep(0.001)
            events.append("close")

    def sync_resource():
        events.append("open")
        yield "s"
        events.append("close")

    @app.get("/")
    async def handler(
        a: Annotated[str, Depends(resource)], b: Annotated[str, Depends(sync_resource)]
    ):
        events.append("use")
        return a + b

    with serving(app) as server:
        for _ in range(3):
            assert get_json(server, "/") == "rs"
            wait_for(lambda: server.server.tasks == 0)
    assert events == ["open", "open", "use", "close", "close"] * 3


# -- nothing is left behind -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async", "wait", "fail", "request", "body", "asgi"])
def test_memory_is_flat(kind):
    app = FastAPI()
    alive = weakref.WeakSet()

    class Thing:
        pass

    def make():
        thing = Thing()
        alive.add(thing)
        return thing

    @app.get("/sync")
    def sync(thing: Annotated[object, Depends(make)]):
        return 1

    @app.get("/async")
    async def async_(thing: Annotated[object, Depends(make)]):
        return 1

    @app.get("/wait")
    async def wait(thing: Annotated[object, Depends(make)]):
        await asyncio.sleep(0)
        await asyncio.sleep(0.0001)
        return 1

    @app.get("/fail")
    async def fail(thing: Annotated[object, Depends(make)]):
        raise HTTPException(200, "fine")

    @app.get("/request")
    async def request(request: Request, thing: Annotated[object, Depends(make)]):
        request.state.thing = thing
        return len(request.headers)

    @app.get("/body")
    async def body(request: Request, thing: Annotated[object, Depends(make)]):
        return len(await request.body())

    app.mount("/asgi", FastAPI())

    with serving(app) as server:
        for _ in range(3):
            hammer(server, f"/{kind}", 400)
        wait_for(lambda: server.server.tasks == 0 and server.server.connections == 0)
        server.call(gc.collect)
        before = server.call(lambda: len(gc.get_objects()))
        hammer(server, f"/{kind}", 2000)
        wait_for(lambda: server.server.tasks == 0 and server.server.connections == 0)
        server.call(gc.collect)
        assert len(alive) == 0
        assert server.call(lambda: len(gc.get_objects())) - before < 200


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("path", ["/exit", "/background", "/stream"])
def test_an_error_after_the_response_is_told_to_the_handler(caplog, path, filtered):
    asked = []
    app = FastAPI()
    if filtered:
        app.add_middleware(GZipMiddleware, minimum_size=1)
        app.add_middleware(CORSMiddleware, allow_origins=["*"])

    @app.exception_handler(Exception)
    async def on_error(request, error):
        asked.append((request.url.path, str(error)))
        return PlainTextResponse("nobody sees this", 500)

    def broken():
        yield 1
        raise ValueError("too late")

    def fail():
        raise ValueError("too late")

    @app.get("/exit")
    async def leave(value: Annotated[int, Depends(broken)]):
        return value

    @app.get("/background")
    async def later(tasks: BackgroundTasks):
        tasks.add_task(fail)
        return 1

    @app.get("/stream")
    async def stream():
        async def parts():
            yield b"1"
            fail()

        return StreamingResponse(parts())

    with serving(app) as server:
        request = f"GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        answer = server.exchange(request.encode())
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.count(b"HTTP/1.1") == 1
        assert b"nobody" not in answer
        wait_for(lambda: asked and "ValueError: too late" in caplog.text)
    assert asked == [(path, "too late")]
    assert "RuntimeError" not in caplog.text


@both_protocols
def test_a_handled_error_after_the_response(caplog):
    asked = []
    app = FastAPI()

    @app.exception_handler(ValueError)
    async def on_value_error(request, error):
        raise AssertionError("must not be called")

    @app.exception_handler(Exception)
    async def on_error(request, error):
        asked.append(error)

    @app.get("/")
    async def later(tasks: BackgroundTasks):
        tasks.add_task(int, "x")
        return 1

    with serving(app) as server:
        assert server.get("/")[2] == b"1"
        wait_for(lambda: asked)
    (error,) = asked
    assert str(error) == "Caught handled exception, but response already started."
    assert isinstance(error.__cause__, ValueError)


@both_protocols
def test_files_are_paths_only_where_nobody_else_sees_them(tmp_path, monkeypatch):
    """The extension http.response.pathsend: middleware of the user gets the file's bytes."""
    file = tmp_path / "file.txt"
    file.write_bytes(b"0123456789" * 20_000)
    seen = []

    class Watched:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            async def watching(message):
                seen.append(message["type"])
                await send(message)

            await self.app(scope, receive, watching)

    opened = []
    original = starlette.responses.FileResponse._open_file  # ours derives from it
    monkeypatch.setattr(
        starlette.responses.FileResponse,
        "_open_file",
        lambda self: opened.append(1) or original(self),
    )

    def make(*middleware):
        app = FastAPI(middleware=[Middleware(each) for each in middleware])
        app.get("/plan")(lambda: FileResponse(file))
        app.mount("/static", StaticFiles(directory=tmp_path))
        app.mount("/watched", Watched(StaticFiles(directory=tmp_path)))
        app.mount(
            "/mount",
            routing.Router(
                [
                    routing.Mount(
                        "/", StaticFiles(directory=tmp_path), middleware=[Middleware(Watched)]
                    )
                ]
            ),
        )
        app.router.routes.append(
            routing.Route(
                "/route", lambda request: FileResponse(file), middleware=[Middleware(Watched)]
            )
        )

        @app.middleware("http") if middleware else lambda function: function
        async def whole(request, call_next):
            response = await call_next(request)
            parts = [part async for part in response.body_iterator]
            return Response(b"".join(parts))

        return app

    for app, by_path in ((make(), {"/plan", "/static/file.txt"}), (make(Watched), set())):
        with serving(app) as server:
            for path in (
                "/plan",
                "/static/file.txt",
                "/watched/file.txt",
                "/mount/file.txt",
                "/route",
            ):
                opened.clear()
                status, _, body = server.get(path)
                assert (status, body) == (200, file.read_bytes()), path
                assert bool(opened) is (path not in by_path), path
    assert "http.response.pathsend" not in seen
    assert "http.response.body" in seen


class Upper:
    """Middleware, or a wrapper, that changes the bytes of a response."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def change(message):
            if message["type"] == "http.response.body":
                message = {**message, "body": message["body"].upper()}
            await send(message)

        await self.app(scope, receive, change)


async def upper_by_function(request, call_next):
    response = await call_next(request)
    body = b"".join([piece async for piece in response.body_iterator])
    return Response(body.upper())


class UpperFile(FileResponse):
    async def __call__(self, scope, receive, send):
        await Upper(super().__call__)(scope, receive, send)


class UpperFiles(StaticFiles):
    def file_response(self, full_path, stat_result, scope, status_code=200):
        return UpperFile(full_path, status_code)


class UpperMount(routing.Mount):
    async def handle(self, scope, receive, send):
        await Upper(super().handle)(scope, receive, send)


@both_protocols
def test_middleware_of_what_is_mounted_sees_the_bytes_of_files(tmp_path, monkeypatch):
    """Whatever stands between a file and the server gets its bytes, at any depth."""
    content = b"x = 1;" * 20_000
    (tmp_path / "a.js").write_bytes(content)
    opened = []
    original = starlette.responses.FileResponse._open_file  # ours derives from it
    monkeypatch.setattr(
        starlette.responses.FileResponse,
        "_open_file",
        lambda self: opened.append(1) or original(self),
    )

    def files():
        return StaticFiles(directory=tmp_path)

    def mounted(*middleware, below=None):
        sub = FastAPI(middleware=list(middleware))
        sub.mount("/static", below or files())
        return sub

    app = FastAPI(middleware=[Middleware(CORSMiddleware, allow_origins=["*"])])
    app.mount("/gzip", mounted(Middleware(GZipMiddleware)))
    app.mount("/pure", mounted(Middleware(Upper)))
    function = mounted()
    function.middleware("http")(upper_by_function)
    app.mount("/function", function)
    app.mount("/base", mounted(Middleware(BaseHTTPMiddleware, dispatch=upper_by_function)))
    app.mount("/wrapped", Upper(mounted()))
    app.mount("/deep", mounted(Middleware(Upper), below=mounted(below=files())))
    app.mount("/mount", routing.Router([
        routing.Mount("/static", mounted(below=files()), middleware=[Middleware(Upper)])
    ]))  # fmt: skip
    app.mount("/custom", mounted(below=UpperFiles(directory=tmp_path)))
    own = mounted()
    own.router.routes.insert(0, UpperMount("/static", files()))
    app.mount("/own", own)
    included = APIRouter()
    included.mount("/static", Upper(files()))
    app.include_router(included, prefix="/included")

    @app.get("/endpoint/static/{name}")
    async def endpoint(request: Request, name: str):
        class Sent(Response):
            async def __call__(self, scope, receive, send):
                await Upper(FileResponse(tmp_path / name))(request.scope, receive, send)

        return Sent()

    app.get("/plan/static/{name}")(lambda name: UpperFile(tmp_path / name))
    app.mount("/none", mounted(below=mounted(below=files())))
    with serving(app) as server:
        changed = (
            "pure", "function", "base", "wrapped", "deep/static", "mount/static", "custom", "own",
            "included", "endpoint", "plan",
        )  # fmt: skip
        for name in changed:
            status, _, body = server.get(f"/{name}/static/a.js")
            assert status == 200 and body == content.upper(), name
        _, headers, body = server.get("/gzip/static/a.js", **{"accept-encoding": "gzip"})
        assert headers["content-encoding"] == "gzip" and gzip.decompress(body) == content
        opened.clear()
        _, headers, body = server.get("/none/static/static/a.js", origin="http://x")
        assert body == content and headers["access-control-allow-origin"] == "*"
        assert not opened  # sent by its path: nobody is between who wants its bytes
