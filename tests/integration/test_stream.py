"""StreamingResponse by C (src/py/server/streaming_response.c): what Starlette's would do, over a socket."""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import gc
import gzip
import io
import queue
import sysconfig
import threading
import time
from typing import Annotated

import anyio.from_thread
import pytest
from server_kit import both_protocols, read_all, read_until, running, wait_for

from turboapi import BackgroundTasks, Depends, FastAPI, Request, Response, routing
from turboapi.middleware.gzip import GZipMiddleware
from turboapi.responses import StreamingResponse
from turboapi.sse import EventSourceResponse, ServerSentEvent

var = contextvars.ContextVar("var", default="unset")


def serving(app, **settings):
    return running(app, interface="turboapi", **settings)


def streaming(make, response=StreamingResponse, **given):
    """An application that streams what `make()` gives."""
    app = FastAPI()

    @app.get("/")
    async def index():
        return response(make(), **given)

    @app.get("/other")
    async def other():
        return "other"

    return app


GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


class Pieces:
    """An asynchronous iterator that is no generator."""

    def __init__(self, *pieces):
        self.pieces = list(pieces)

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.pieces:
            raise StopAsyncIteration
        await asyncio.sleep(0)
        return self.pieces.pop(0)


def test_pieces_of_every_kind():
    def make():
        return Pieces(b"bytes,", "text \xe9,", memoryview(b"-view-")[1:-1], b"", bytes(3))

    with serving(streaming(make, media_type="text/plain", headers={"x-a": "b"})) as server:
        status, headers, body = server.get("/")
        assert (status, headers["x-a"]) == (200, "b")
        assert headers["content-type"] == "text/plain; charset=utf-8"
        assert headers["transfer-encoding"] == "chunked"
        assert body == "bytes,text \xe9,view".encode() + bytes(3)


@both_protocols
def test_text_is_encoded_with_the_charset():
    class Latin(StreamingResponse):
        charset = "latin-1"

    with serving(streaming(lambda: Pieces("\xe9"), Latin, media_type="text/plain")) as server:
        _, headers, body = server.get("/")
        assert (headers["content-type"], body) == ("text/plain; charset=latin-1", b"\xe9")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pieces(b"a", bytearray(b"b")), "'bytearray' object has no attribute 'encode'"),
        (lambda: Pieces(b"a", "\ud800"), "surrogates not allowed"),
        (lambda: Pieces(b"a", None), "'NoneType' object has no attribute 'encode'"),
    ],
)
def test_pieces_that_are_none(make, message, caplog):
    with serving(streaming(make)) as server:
        data = server.exchange(LAST)
        assert data.endswith(b"1\r\na\r\n"), data  # cut off: no last chunk
    assert message in caplog.text


@pytest.mark.parametrize(
    ("iterator", "message"),
    [
        ([b"a"], "'async for' requires an object with __aiter__ method, got list"),
        (
            type("Half", (), {"__aiter__": lambda self: object()})(),
            "'async for' received an object from __aiter__ that does not implement __anext__",
        ),
    ],
)
def test_what_cannot_be_iterated(iterator, message, caplog):
    def response(content):
        made = StreamingResponse(Pieces())
        made.body_iterator = content
        return made

    with serving(streaming(lambda: iterator, response)) as server:
        assert server.exchange(LAST).startswith(b"HTTP/1.1 200 ")
    assert message in caplog.text


def test_errors_after_some_pieces(caplog):
    async def make():
        yield b"some"
        await asyncio.sleep(0)
        raise ValueError("and no more")

    with serving(streaming(make)) as server:
        data = server.exchange(GET)
        assert data.endswith(b"4\r\nsome\r\n"), data
    assert "ValueError: and no more" in caplog.text


@pytest.mark.parametrize("length", [3, 5])
def test_the_length_that_was_told_is_kept(length, caplog):
    app = streaming(lambda: Pieces(b"ab", b"cd"), headers={"content-length": str(length)})
    with serving(app) as server:
        data = server.exchange(GET)
        assert data.endswith(b"\r\n\r\nab" if length == 3 else b"\r\n\r\nabcd"), data
    assert f"Response content {'longer' if length == 3 else 'shorter'}" in caplog.text


@both_protocols
def test_methods_of_its_own():
    class Shouting(StreamingResponse):
        async def stream_response(self, send):
            self.body_iterator = Pieces(*[piece.upper() for piece in self.body_iterator.pieces])
            await super().stream_response(send)

    with serving(streaming(lambda: Pieces("a", "b"), Shouting)) as server:
        assert server.get("/")[2] == b"AB"

    def patched(content):
        response = StreamingResponse(content)
        original = response.stream_response

        async def stream_response(send):
            response.headers["x-patched"] = "yes"
            await original(send)

        response.stream_response = stream_response
        return response

    with serving(streaming(lambda: Pieces("a"), patched)) as server:
        assert server.get("/")[1]["x-patched"] == "yes"


@both_protocols
def test_the_background_runs_at_last():
    app = FastAPI()
    events = []
    release = threading.Event()

    @app.get("/")
    async def index(tasks: BackgroundTasks):
        async def pieces():
            yield b"piece"
            events.append("pieces")

        async def later():
            events.append("background")
            while not release.is_set():
                await asyncio.sleep(0.001)

        tasks.add_task(later)
        return StreamingResponse(pieces())

    with serving(app) as server:
        assert server.get("/")[2] == b"piece"  # its end does not wait for the background
        wait_for(lambda: len(events) == 2)
        release.set()
    assert events == ["pieces", "background"]


@both_protocols
def test_the_context_is_the_handlers():
    app = FastAPI()

    @app.get("/")
    async def index():
        var.set("handler")

        async def pieces():
            yield var.get()
            await asyncio.sleep(0)
            async with asyncio.timeout(5):
                yield asyncio.current_task().get_coro().__name__ and var.get()

        return StreamingResponse(pieces())

    with serving(app) as server:
        assert server.get("/")[2] == b"handlerhandler"
        assert server.call(var.get) == "unset"


@both_protocols
def test_def_handlers_stream_in_a_task():
    app = FastAPI()

    class Asking(Pieces):
        def __anext__(self):
            assert asyncio.current_task() is not None
            return super().__anext__()

    @app.get("/")
    def index():
        return StreamingResponse(Asking(b"a", b"b"))

    with serving(app) as server, server.client() as conn:
        for _ in range(200):  # by then promoted: run without a Task
            conn.request("GET", "/")
            assert conn.getresponse().read() == b"ab"


# -- clients that go -----------------------------------------------------------------------------


def test_the_iterator_is_cancelled_once_and_the_background_runs(caplog):
    events = []
    app = FastAPI()

    @app.get("/")
    async def index(tasks: BackgroundTasks):
        async def pieces():
            try:
                yield b"piece"
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                events.append("cancelled")
                raise
            finally:
                await asyncio.sleep(0.001)
                events.append("cleaned up")

        async def later():
            await asyncio.sleep(0.001)
            events.append(("background", asyncio.current_task().cancelling()))

        tasks.add_task(later)
        return StreamingResponse(pieces())

    with serving(app) as server:
        for _ in range(3):
            events.clear()
            with server.raw(GET) as sock:
                read_until(sock, b"piece")
            wait_for(lambda: len(events) == 3)
            assert events == ["cancelled", "cleaned up", ("background", 0)]
            wait_for(lambda: server.server.tasks == 0)
    assert not caplog.records


def test_an_iterator_that_does_not_heed_its_cancellation(caplog):
    events = []

    async def make():
        try:
            yield b"piece"
            while True:
                try:
                    await asyncio.sleep(10)
                except asyncio.CancelledError:
                    events.append("cancelled")
                yield b"more"
        finally:
            events.append("closed")

    with serving(streaming(make)) as server:
        with server.raw(GET) as sock:
            read_until(sock, b"piece")
        wait_for(lambda: events == ["cancelled", "closed"])
        wait_for(lambda: server.server.tasks == 0)
    assert not caplog.records


def test_an_iterator_that_fails_when_cancelled(caplog):
    async def make():
        yield b"piece"
        try:
            await asyncio.sleep(10)
        finally:
            raise ValueError("in the end")

    with serving(streaming(make)) as server:
        with server.raw(GET) as sock:
            read_until(sock, b"piece")
        wait_for(lambda: "in the end" in caplog.text)
        wait_for(lambda: server.server.tasks == 0)
        assert server.get("/other")[2] == b'"other"'


def test_an_iterator_that_ends_when_cancelled(caplog):
    ended = threading.Event()

    async def make():
        yield b"piece"
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            ended.set()

    with serving(streaming(make)) as server:
        with server.raw(GET) as sock:
            read_until(sock, b"piece")
        assert ended.wait(5)
        wait_for(lambda: server.server.tasks == 0)
        assert server.get("/other")[2] == b'"other"'
    assert not caplog.records


def test_an_endless_iterator_that_never_waits():
    """It waits when the client does not read, and ends when the client has gone."""
    made = []
    closed = threading.Event()

    async def make():
        try:
            while True:
                made.append(1)
                yield bytes(65536)
        finally:
            closed.set()

    with serving(streaming(make)) as server:
        with server.raw(GET) as sock:
            read_until(sock, bytes(1000))
            wait_for(lambda: server.get("/other")[2] == b'"other"')
            before = len(made)
            assert server.get("/other")[2] == b'"other"'
            assert len(made) <= before + 1 < 1000
        assert closed.wait(5)
        wait_for(lambda: server.server.tasks == 0)


def test_a_body_that_nobody_has_read():
    """Starlette's own code, which takes the body in to see the client go."""
    app = FastAPI()

    @app.post("/")
    async def index(request: Request):
        return StreamingResponse(Pieces(b"a", b"b"))

    with serving(app) as server, server.raw() as sock:
        sock.sendall(
            b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 5\r\n\r\n"
        )
        data = read_until(sock, b"a")
        sock.sendall(b"12345")
        assert b"b" in data + read_all(sock)


@both_protocols
def test_nothing_is_left_behind():
    async def make():
        for _ in range(3):
            yield b"piece"
            await asyncio.sleep(0)

    with serving(streaming(make)) as server, server.client() as conn:

        def ask(times):
            for _ in range(times):
                conn.request("GET", "/")
                assert conn.getresponse().read() == b"piece" * 3
            gc.collect()
            return len(gc.get_objects())

        ask(100)
        before = ask(1)
        assert ask(300) < before + 100


# -- iterators that are not asynchronous: a thread makes pieces ahead ----------------------------


def left(events):
    """A dependency that tells when it is left."""

    async def resource():
        try:
            yield
        finally:
            events.append("dependency left")

    return resource


@both_protocols
def test_pieces_of_a_thread():
    threads = set()

    def make():
        for n in range(1000):
            threads.add(threading.current_thread())
            yield b"%d," % n

    with serving(streaming(make)) as server:
        expected = b"".join(b"%d," % n for n in range(1000))
        for _ in range(20):
            assert server.get("/")[2] == expected
    assert all(thread.name == "turboapi worker thread" for thread in threads)


@both_protocols
@pytest.mark.parametrize("content", [[], [b"a"], ["a", memoryview(b"b"), b""], io.BytesIO(b"a\nb")])
def test_iterables(content):
    if isinstance(content, io.BytesIO):
        content = io.BytesIO(content.getvalue())
    pieces = content.getvalue().splitlines(True) if isinstance(content, io.BytesIO) else content
    expected = b"".join(p.encode() if isinstance(p, str) else bytes(p) for p in pieces)
    with serving(streaming(lambda: content)) as server:
        assert server.get("/")[2] == expected


def test_what_is_no_iterable(caplog):
    with serving(streaming(lambda: 5)) as server:
        assert server.exchange(GET).startswith(b"HTTP/1.1 200 ")
    assert "'int' object is not iterable" in caplog.text


def test_a_piece_does_not_wait_for_the_next():
    """However many came quickly before."""
    live = queue.Queue()

    def make():
        for n in range(500):
            yield b"<%d>" % n
        while piece := live.get():
            yield piece

    with serving(streaming(make)) as server, server.raw(LAST) as sock:
        read_until(sock, b"<499>")
        for piece in (b"one", b"two"):
            live.put(piece)
            read_until(sock, piece)
        live.put(b"")
        assert read_all(sock).endswith(b"0\r\n\r\n")


def test_pieces_come_before_the_error_behind_them(caplog):
    def make():
        yield b"first"
        yield b"second"
        raise ValueError("the end")

    with serving(streaming(make)) as server:
        data = server.exchange(GET)
        assert data.endswith(b"5\r\nfirst\r\n6\r\nsecond\r\n"), data
    assert "ValueError: the end" in caplog.text


def test_an_endless_iterator_of_a_thread():
    made = []
    closed = threading.Event()

    def make():
        try:
            while True:
                made.append(1)
                yield bytes(1000)
        finally:
            closed.set()

    with serving(streaming(make)) as server:
        with server.raw(GET) as sock:
            read_until(sock, bytes(1000))
            before = 0
            while before != len(made):
                before = len(made)
                time.sleep(0.1)
                assert server.get("/other")[2] == b'"other"'
            assert before < 50_000
        assert closed.wait(5)
        wait_for(lambda: server.server.tasks == 0)


def test_nothing_is_taken_from_an_iterator_whose_thread_is_in_it():
    """Dependencies are left, and the background runs, when the thread is out of the iterator."""
    app = FastAPI()
    events = []
    inside, leave = threading.Event(), threading.Event()

    @app.get("/", dependencies=[Depends(left(events))])
    async def index(tasks: BackgroundTasks):
        def pieces():
            try:
                yield b"piece"
                inside.set()
                leave.wait(5)
                events.append("waited")
                yield b"more"
            finally:
                events.append("closed")

        tasks.add_task(events.append, "background")
        return StreamingResponse(pieces())

    with serving(app) as server:
        with server.raw(GET) as sock:
            read_until(sock, b"piece")
            assert inside.wait(5)
        time.sleep(0.05)
        assert events == []
        leave.set()
        wait_for(lambda: server.server.tasks == 0)
    assert events == ["waited", "closed", "background", "dependency left"]


@pytest.mark.parametrize("leaves", [False, True])
def test_an_error_leaves_when_the_thread_is_out(caplog, leaves):
    """Of sending, while the thread is in the iterator already; the client may go meanwhile."""
    app = FastAPI()
    events = []
    inside, leave = threading.Event(), threading.Event()

    @app.get("/", dependencies=[Depends(left(events))])
    async def index():
        def pieces():
            yield b"abc"
            inside.set()
            leave.wait(5)
            events.append("out")
            yield b"d"

        return StreamingResponse(pieces(), headers={"content-length": "2"})

    with serving(app) as server:
        with server.raw(GET) as sock:
            assert inside.wait(5)
            if not leaves:
                time.sleep(0.05)
                assert events == []
                leave.set()
                read_all(sock)
        time.sleep(0.05)
        leave.set()
        wait_for(lambda: server.server.tasks == 0)
    assert events == ["out", "dependency left"]
    assert "Response content longer than Content-Length" in caplog.text


@both_protocols
def test_a_thread_may_call_the_loop():
    async def answer():
        return b"from the loop"

    def make():
        yield anyio.from_thread.run(answer)

    with serving(streaming(make)) as server:
        assert server.get("/")[2] == b"from the loop"


@pytest.mark.parametrize("loop", ["turboapi", "asyncio", "uvloop"])
def test_streams_leave_threads_for_others(loop):
    """More streams than threads, each of which blocks for every piece: as fair as a hop a piece."""
    pytest.importorskip(loop)
    app = FastAPI()
    over = threading.Event()

    @app.get("/")
    def index():
        def pieces():
            while not over.is_set():
                yield b"piece\n"
                over.wait(0.02)

        return StreamingResponse(pieces())

    @app.get("/thread", run="thread")
    def thread():
        return 1

    with serving(app, thread_pool=2, loop=loop) as server, contextlib.ExitStack() as stack:
        stack.callback(over.set)
        socks = [stack.enter_context(server.raw(GET)) for _ in range(6)]
        for _ in range(2):
            for sock in socks:
                assert b"piece" in read_until(sock, b"piece")
            assert server.get("/thread")[0] == 200


def test_quick_streams_leave_threads_for_others():
    """Streams that never block, and clients that take all they get."""
    app = FastAPI()
    over = threading.Event()

    @app.get("/")
    async def index():
        def pieces():
            while not over.is_set():
                yield bytes(100)

        return StreamingResponse(pieces())

    @app.get("/thread", run="thread")
    def thread():
        return 1

    def drain(sock):
        return sum(len(data) for data in iter(lambda: sock.recv(1 << 16), b""))

    with serving(app, thread_pool=1) as server, contextlib.ExitStack() as stack:
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(3))
        stack.callback(over.set)
        read = [pool.submit(drain, stack.enter_context(server.raw(LAST))) for _ in range(3)]
        for _ in range(20):
            assert server.get("/thread")[0] == 200
        over.set()
        assert all(each.result(60) > 0 for each in read)


class Resource:
    """An iterator with something to do when it is let go."""

    def __init__(self, events, piece=b"x", pieces=1 << 30):
        self.events, self.piece, self.pieces = events, piece, pieces

    def __iter__(self):
        return self

    def __next__(self):
        if self.pieces == 0:
            raise StopIteration
        self.pieces -= 1
        return self.piece

    def __del__(self):
        self.events.append("begins to go")
        time.sleep(0.1)
        self.events.append(threading.current_thread().name)


class Source:
    """Nobody but the response has what it makes."""

    def __init__(self, *args):
        self.args = args

    def __iter__(self):
        return Resource(*self.args)


def went(events):
    """It went in a thread: without the GIL, an object goes in the thread that made it (PEP 703)."""
    where = {"turboapi worker thread"}
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        where.add("server")
    return events[0] == "begins to go" and events[1] in where


@both_protocols
def test_the_background_runs_when_the_iterator_has_gone():
    """Though the loop learns of its last piece before."""
    events = []
    app = FastAPI()

    @app.get("/")
    async def index():
        background = BackgroundTasks()
        background.add_task(events.append, "background")
        return StreamingResponse(Source(events, b"x", 20), background=background)

    with serving(app) as server:
        for _ in range(3):
            events.clear()
            assert server.get("/")[2] == b"x" * 20
            wait_for(lambda: "background" in events)
            assert went(events)
            assert events[2:] == ["background"]


def test_an_iterator_that_is_left_goes_in_a_thread():
    """The ring is full, so that no thread is in it."""
    events = []
    app = FastAPI()

    @app.get("/")
    async def index():
        return StreamingResponse(Source(events, bytes(1 << 16)))

    with serving(app) as server:
        with server.raw(GET) as sock:
            read_until(sock, b"\r\n\r\n")
            time.sleep(0.1)
            assert not events
        wait_for(lambda: len(events) == 2)
        assert went(events)


def test_an_iterator_that_is_left_needs_no_thread_of_others():
    """All threads are in iterators that wait for ever, and it waits for its turn behind them."""
    events, over, wait = [], threading.Event(), threading.Event()
    entered = threading.Event()
    app = FastAPI()

    @app.get("/waits")
    async def waits():
        def pieces():
            wait.wait()
            entered.set()
            over.wait()
            yield b"over"

        return StreamingResponse(pieces())

    @app.get("/left")
    async def left():
        def pieces():
            try:
                while True:
                    yield b"piece"
                    time.sleep(0.01)
            finally:
                events.append(threading.current_thread().name)

        return StreamingResponse(pieces())

    with serving(app, thread_pool=1) as server:
        try:
            with server.raw(b"GET /left HTTP/1.1\r\nhost: x\r\n\r\n") as sock:
                assert b"piece" in read_until(sock, b"piece")
                with server.raw(b"GET /waits HTTP/1.1\r\nhost: x\r\n\r\n") as other:
                    wait.set()
                    assert entered.wait(60)
                    sock.close()
                    wait_for(lambda: events, 60)
                    assert events == ["turboapi worker thread"]
                    over.set()
                    assert b"over" in read_until(other, b"over")
        finally:
            over.set()


@both_protocols
def test_many_streams_of_threads_at_once():
    def make():
        for n in range(300):
            yield b"%d," % n

    expected = b"".join(b"%d," % n for n in range(300))
    with (
        serving(streaming(make)) as server,
        concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):
        answers = pool.map(lambda _: server.get("/")[2], range(200))
        assert all(answer == expected for answer in answers)


@both_protocols
def test_endpoints_that_yield_in_a_thread():
    app = FastAPI()

    @app.get("/lines")
    def lines():
        for n in range(100):
            yield {"n": n}

    @app.get("/events", response_class=EventSourceResponse)
    def events():
        yield from range(100)

    with serving(app) as server:
        assert server.get("/lines")[2] == b"".join(b'{"n": %d}\n' % n for n in range(100))
        assert server.get("/events")[2] == b"".join(b"data: %d\n\n" % n for n in range(100))


# -- endpoints that yield -------------------------------------------------------------------------


@both_protocols
def test_events_and_their_pings(monkeypatch):
    monkeypatch.setattr(routing, "_PING_INTERVAL", 0.3)
    app = FastAPI()

    @app.get("/", response_class=EventSourceResponse)
    async def events():
        yield {"n": 1}
        for _ in range(4):
            await asyncio.sleep(0.1)
            yield "soon enough"
        await asyncio.sleep(1)
        yield ServerSentEvent(data="late", event="x")

    with serving(app) as server:
        _, headers, body = server.get("/")
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-cache", "no")
    before, after = body.split(b": ping\n\n", 1)
    assert before == b'data: {"n": 1}\n\n' + b'data: "soon enough"\n\n' * 4
    assert 1 <= after.count(b": ping\n\n") <= 3
    assert after.endswith(b': ping\n\nevent: x\ndata: "late"\n\n')


@both_protocols
@pytest.mark.parametrize("thread_minimum", [0, 1000])
def test_pings_through_gzip(monkeypatch, thread_minimum):
    """Of a stream that GZip packs, in a thread or not."""
    monkeypatch.setattr(routing, "_PING_INTERVAL", 0.02)
    app = FastAPI()
    app.add_middleware(
        GZipMiddleware, minimum_size=0, thread_minimum_size=thread_minimum, exclude_content_types=()
    )

    @app.get("/", response_class=EventSourceResponse)
    async def events():
        yield 1
        await asyncio.sleep(0.1)
        yield 2

    with serving(app) as server:
        _, headers, body = server.get("/", **{"accept-encoding": "gzip"})
    assert headers["content-encoding"] == "gzip"
    text = gzip.decompress(body)
    assert text.startswith(b"data: 1\n\n: ping\n\n")
    assert text.endswith(b"data: 2\n\n")


def test_an_error_of_an_endpoint_of_events(caplog):
    app = FastAPI()

    @app.get("/", response_class=EventSourceResponse)
    async def events():
        yield 1
        await asyncio.sleep(0)
        raise LookupError("no more")

    with serving(app) as server:
        assert server.exchange(GET).endswith(b"\r\ndata: 1\n\n\r\n")
    assert "LookupError: no more" in caplog.text
    assert "unhandled errors in a TaskGroup (1 sub-exception)" in caplog.text


def test_dependencies_of_an_endpoint_that_yields(caplog):
    app = FastAPI()
    events = []

    async def resource():
        events.append("open")
        try:
            yield "value"
        finally:
            events.append("closed")

    @app.get("/")
    async def lines(value: Annotated[str, Depends(resource)], response: Response):
        response.headers["x-late"] = "no"
        for n in range(2):
            events.append(n)
            yield {"value": value}
            await asyncio.sleep(0)

    @app.get("/bad")
    async def bad(n: int):
        yield n

    @app.get("/failing")
    async def failing():
        yield 1
        await asyncio.sleep(0)
        raise KeyError("gone")

    @app.exception_handler(KeyError)
    async def on_key_error(request, exc):
        raise AssertionError("the response has begun")

    with serving(app) as server:
        status, headers, body = server.get("/")
        assert (status, headers["content-type"]) == (200, "application/jsonl")
        assert body == b'{"value": "value"}\n' * 2
        wait_for(lambda: events == ["open", 0, 1, "closed"])
        assert server.get("/bad?n=x")[0] == 422
        assert server.exchange(GET.replace(b"/ ", b"/failing ")).endswith(b"2\r\n1\n\r\n")
    assert "Caught handled exception, but response already started." in caplog.text


def test_an_endpoint_of_events_is_left():
    app = FastAPI()
    ended = []

    @app.get("/", response_class=EventSourceResponse)
    async def events():
        try:
            while True:
                yield "event"
                await asyncio.sleep(0.001)
        finally:
            ended.append(True)

    with serving(app) as server:
        with server.raw(GET) as sock:
            read_until(sock, b"event")
        wait_for(lambda: ended)
        wait_for(lambda: server.server.tasks == 0)
