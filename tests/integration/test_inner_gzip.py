"""GZip inside of other middleware: C against Starlette's own, message by message and over a socket."""

import asyncio
import gzip
import os
import threading
import zlib
from http import HTTPStatus

import pytest
from doors_kit import DOORS, Outer
from starlette.middleware.gzip import GZipMiddleware

from turboapi import FastAPI, Response
from turboapi._core import InnerFilter
from turboapi.middleware import _filters
from turboapi.responses import FileResponse, StreamingResponse

LONG = b"0123456789" * 100
NOISE = os.urandom(5000)
BIG = (b"a long text, in which not much changes, " * 8000) + NOISE


def start(*headers, status=200, **more):
    return {"type": "http.response.start", "status": status, "headers": list(headers), **more}


def body(*data, **more):
    return {"type": "http.response.body", **({"body": data[0]} if data else {}), **more}


TEXT = (b"content-type", b"text/plain; charset=utf-8")
LENGTH = (b"content-length", b"1000")
PATH = {"type": "http.response.pathsend", "path": "/etc/hostname"}
HINT = {"type": "http.response.early_hint", "links": [b"</a>"]}
TRAILERS = {"type": "http.response.trailers", "headers": [(b"a", b"b")], "more_trailers": False}
DEBUG = {"type": "http.response.debug", "info": {}}

SEQUENCES = {
    "whole": [start(TEXT, LENGTH), body(LONG)],
    "small": [start(TEXT, LENGTH), body(LONG[:499])],
    "edge": [start(TEXT), body(LONG[:500])],
    "empty": [start(TEXT), body(b"")],
    "absent": [start(), body()],
    "absent-more": [start(), body(more_body=True), body(LONG)],
    "streamed": [
        start(TEXT, LENGTH),
        body(b"a", more_body=True),
        body(LONG, more_body=True),
        body(b"", more_body=True),
        body(more_body=True),
        body(NOISE, more_body=True),
        body(),
    ],
    "streamed-empty": [start(TEXT), body(b"", more_body=True), body(b"")],
    "last-long": [start(), body(b"a", more_body=1), body(LONG, more_body=0)],
    "big": [start(TEXT), body(BIG)],
    "big-streamed": [start(TEXT), body(BIG, more_body=True), body(b"x"), TRAILERS],
    "big-later": [start(TEXT), body(b"x", more_body=True), body(BIG, more_body=True), body(BIG)],
    "no-headers": [{"type": "http.response.start", "status": 200}, body(LONG)],
    "tuple": [{**start(), "headers": (TEXT,)}, body(LONG)],
    "lists": [{**start(), "headers": [list(TEXT), list(LENGTH)]}, body(LONG), body(LONG)],
    "lists-small": [{**start(), "headers": [list(TEXT), list(LENGTH)]}, body(b"x")],
    "lists-last": [start(TEXT, (b"x", b"1"), [b"a", b"b"]), body(LONG, more_body=True), body(LONG)],
    "iterator": [{**start(), "headers": iter([TEXT])}, body(LONG)],
    "none": [{**start(), "headers": None}, body(LONG)],
    "texts": [{**start(), "headers": [("a", "b")]}, body(LONG)],
    "no-status": [{"type": "http.response.start", "headers": []}, body(LONG)],
    "status": [start(TEXT, status=HTTPStatus.CREATED), body(LONG)],
    "odd-status": [start(TEXT, status="200"), body(LONG)],
    "huge-status": [start(TEXT, status=1 << 70), body(LONG)],
    "partial": [start(TEXT, status=206), body(LONG, more_body=True), body(LONG)],
    "partial-path": [start(TEXT, status=HTTPStatus.PARTIAL_CONTENT), PATH],
    "encoded": [start(TEXT, (b"content-encoding", b"br")), HINT, body(LONG), TRAILERS],
    "vary": [start((b"vary", b"Accept"), TEXT, (b"vary", b"Cookie"), (b"Vary", b"x")), body(LONG)],
    "lengths": [start(LENGTH, TEXT, LENGTH), body(LONG)],
    "lengths-streamed": [start(LENGTH, TEXT, LENGTH), body(LONG, more_body=True), body(LONG)],
    "trailers": [start(LENGTH, TEXT, trailers=True), body(LONG), TRAILERS],
    "untold-trailers": [start(LENGTH, trailers=0), body(LONG), TRAILERS],
    "path": [start(TEXT), PATH, body(LONG)],
    "hint": [HINT, start(TEXT), HINT, body(LONG)],
    "debug": [DEBUG, start(TEXT), DEBUG, body(LONG)],
    "bytearray": [start(TEXT), body(bytearray(LONG)), body(b"x")],
    "view-later": [start(TEXT), body(LONG, more_body=True), body(memoryview(NOISE)), body(b"x")],
    "view-on": [
        start(TEXT),
        body(LONG, more_body=True),
        body(memoryview(NOISE), more_body=True),
        body(BIG, more_body=True),
        body(LONG),
    ],
    "text": [start(TEXT), body("x" * 1000)],
    "text-later": [start(TEXT), body(LONG, more_body=True), body("x")],
    "body-first": [body(LONG), start(TEXT), body(LONG)],
    "path-first": [PATH],
    "again": [start(TEXT), start((b"x", b"1")), body(LONG)],
    "again-later": [start(TEXT), body(LONG, more_body=True), start(TEXT, status=206), body(LONG)],
    "again-odd": [
        start(TEXT),
        body(LONG, more_body=True),
        {**start(), "headers": ()},
        body(NOISE, more_body=True),
        body(LONG),
    ],
    "after-end": [start(TEXT), body(LONG), body(LONG)],
    "after-end-odd": [start(TEXT), body(LONG), body(bytearray(LONG))],
    "no-type": [{"status": 200}, start(TEXT), body(LONG)],
    "no-dict": [None, start(TEXT), body(LONG)],
    "keyword": [start(TEXT), "keyword", body(LONG)],
    "nothing": [],
}
TYPES = [
    *(b"image/png", b"IMAGE/PNG ; q=1", b" audio/x", b"application/grpc", b"application/grpc+a"),
    *(
        b"application/grpcx",
        b"text/event-stream",
        b"",
        b"/",
        b"x",
        b"\xa0image/gif\x85",
        b"\xc0/\xe0",
    ),
    *(b"\x1cimage/gif\x0b", b"video", b"video/", b"font/woff2;x", b"text/css", b";image/png"),
]
SEQUENCES |= {f"type-{each!r}": [start((b"content-type", each)), body(LONG)] for each in TYPES}
OPTIONS = {
    "default": {},
    "small": {"minimum_size": 0, "compresslevel": 1},
    "threads": {"minimum_size": 2, "thread_minimum_size": 0},
    "types": {"exclude_content_types": ("text/*", "", "/*", "X/y; z")},
}


def copied(message):
    if not isinstance(message, dict):
        return message
    headers = message.get("headers")
    return {**message, **({"headers": list(headers)} if type(headers) is list else {})}


def messages(kind, fields, sent, options, fail_at=None):
    """What `send` gets for messages that the inside sends, and what becomes of those."""
    out = []
    sent = [copied(each) for each in sent]

    async def inside(scope, receive, send):
        for each in sent:
            try:
                if each == "keyword":
                    out.append(await send(message=body(b"k", more_body=True)))
                else:
                    out.append(await send(each))
            except Exception as error:  # noqa: BLE001
                out.append((type(error), str(error)))

    async def send(message):
        out.append((copied(message), id(message) in {id(each) for each in sent}))
        if fail_at == len(out):
            raise OSError("gone")
        await asyncio.sleep(0)

    made = GZipMiddleware(inside, **options)
    if kind == "c":
        made = _filters._InnerGZip(made)
    scope = {"type": "http", "method": "GET", "headers": fields}
    asyncio.run(made(scope, None, send))
    return out, sent


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("sent", SEQUENCES.values(), ids=SEQUENCES)
def test_messages_as_starlettes(sent, options):
    for fields in ([], [(b"accept-encoding", b"br, gzip")], [(b"accept-encoding", b"deflate")]):
        expected = messages("starlette", fields, sent, options)
        assert messages("c", fields, sent, options) == expected


@pytest.mark.parametrize("fail_at", range(1, 9))
@pytest.mark.parametrize("name", ["whole", "streamed", "big-streamed", "small", "view-on"])
def test_failures_as_starlettes(name, fail_at):
    """A send that raises leaves the same state."""
    fields = [(b"accept-encoding", b"gzip")]
    both = [messages(each, fields, SEQUENCES[name], {}, fail_at) for each in ("starlette", "c")]
    assert both[1] == both[0]


@pytest.mark.parametrize(
    "scope",
    [
        {"type": "websocket", "headers": []},
        {"type": "http", "headers": ((b"accept-encoding", b"gzip"),)},
        {"type": "http", "headers": [[b"accept-encoding", b"gzip"]]},
        {
            "type": "http",
            "headers": [(b"a", b"b"), (b"accept-encoding", b"x"), (b"accept-encoding", b"gzip")],
        },
        {"type": "http", "headers": [(b"accept-encoding", b"xgzipx")]},
        {"type": "http"},
    ],
)
def test_scopes_as_starlettes(scope):
    def run(kind):
        out = []

        async def inside(scope, receive, send):
            await send(start(TEXT))
            await send(body(LONG))

        async def send(message):
            out.append(message)

        made = GZipMiddleware(inside)
        if kind == "c":
            made = _filters._InnerGZip(made)
        try:
            asyncio.run(made(dict(scope), None, send))
        except Exception as error:  # noqa: BLE001
            out.append((type(error), str(error)))
        return out

    assert run("c") == run("starlette")


def application(file, options):
    app = FastAPI()
    app.add_middleware(GZipMiddleware, **options)
    app.add_middleware(Outer)

    @app.get("/long")
    async def long():
        return {"text": LONG.decode()}

    @app.get("/short")
    async def short(response: Response):
        response.headers["vary"] = "Cookie"
        return {"a": 1}

    @app.get("/stream")
    def stream():
        return StreamingResponse((LONG for _ in range(5)), media_type="text/plain")

    @app.get("/events")
    def events():
        return StreamingResponse((LONG for _ in range(5)), media_type="text/event-stream")

    @app.get("/big")
    async def big():
        return Response(BIG, media_type="text/plain")

    @app.get("/image")
    async def image():
        return Response(LONG, media_type="image/png")

    @app.get("/file")
    async def sent_file():
        return FileResponse(file)

    @app.get("/nothing")
    async def nothing():
        return Response(status_code=204)

    return app


PATHS = ["/long", "/short", "/stream", "/events", "/big", "/image", "/file", "/nothing", "/none"]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_answers_as_starlettes(tmp_path, options):
    answers = []
    file = tmp_path / "file.txt"
    file.write_bytes(LONG)
    for door in ("asgi", "native"):
        app = application(file, options)
        with DOORS[door](app) as client:
            found = []
            for path in PATHS:
                for accepted in ("gzip", "identity"):
                    for extra in ({}, {"range": "bytes=10-700"}):
                        headers = {"accept-encoding": accepted, **extra}
                        response = client.get(path, headers=headers)
                        fields = [
                            each
                            for each in response.headers.raw
                            if each[0] not in (b"date", b"server", b"transfer-encoding")
                            # A 204 has no length, whatever the application says.
                            and (response.status_code, each[0]) != (204, b"content-length")
                        ]
                        found.append(
                            (path, headers, response.status_code, fields, response.content)
                        )
            answers.append(found)
        level, kinds = app.middleware_stack, []
        while hasattr(level, "app"):
            kinds.append(isinstance(level, InnerFilter))
            level = level.app
        assert any(kinds) == (door == "native")
    assert answers[1] == answers[0]


def inner(inside, **options):
    return _filters._InnerGZip(GZipMiddleware(inside, **options))


GZIP = {"type": "http", "headers": [(b"accept-encoding", b"gzip")]}


def test_the_stream_is_used_again():
    """Also one that a response gave up in its middle."""
    out = []

    async def inside(scope, receive, send):
        await send(start(TEXT))
        await send(body(LONG, more_body=True))
        if scope.get("whole"):
            await send(body(NOISE))

    async def send(message):
        out.append(message.get("body", b""))

    app = inner(inside)
    for whole in (False, True, False, True):
        out.clear()
        asyncio.run(app({**GZIP, "whole": whole}, None, send))
        if whole:
            assert gzip.decompress(b"".join(out)) == LONG + NOISE
        else:
            packed = zlib.decompressobj(31)
            assert packed.decompress(b"".join(out)) == LONG


def test_two_threads_use_one_middleware():
    async def inside(scope, receive, send):
        await send(start(TEXT))
        for _ in range(3):
            await send(body(BIG[:9000], more_body=True))
        await send(body(NOISE))

    app = inner(inside)
    wrong = []

    def run():
        for _ in range(50):
            out = []

            async def send(message, out=out):
                out.append(message.get("body", b""))
                await asyncio.sleep(0)

            asyncio.run(app(dict(GZIP), None, send))
            if gzip.decompress(b"".join(out)) != BIG[:9000] * 3 + NOISE:
                wrong.append(out)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong


def test_cancelled_in_the_thread():
    """The response can't go on: what the thread has packed is lost."""
    entered, go_on = threading.Event(), threading.Event()
    errors = []

    async def offload(function):
        def run():
            entered.set()
            go_on.wait(30)
            function()

        await asyncio.get_running_loop().run_in_executor(None, run)

    async def inside(scope, receive, send):
        await send(start(TEXT))
        task = asyncio.ensure_future(send(body(BIG, more_body=True)))
        while not entered.is_set():
            await asyncio.sleep(0.001)
        with pytest.raises(RuntimeError):
            await send(body(LONG, more_body=True))  # while the other is packed
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        try:
            await send(body(LONG))
        except RuntimeError as error:
            errors.append(str(error))

    async def send(message):
        raise AssertionError

    made = inner(inside)
    other = _filters._InnerGZip.__new__(_filters._InnerGZip)
    vars(other).update(vars(made))
    kind, minimum, level, _, excluded, _ = _filters._gzip(made)[0]
    other._prepare(((kind, minimum, level, 0, excluded, offload),))
    asyncio.run(other(dict(GZIP), None, send))
    assert errors == ["A piece of the response is still being compressed."]


def test_changed_classes_are_called(monkeypatch):
    """A responder that somebody has changed, and a class of their own."""
    from starlette.middleware import gzip as module

    class Own(GZipMiddleware):
        pass

    def stands_in(kind):
        app = FastAPI()
        app.add_middleware(kind)
        app.add_middleware(Outer)
        app.get("/")(lambda: {"text": LONG.decode()})
        with DOORS["native"](app) as client:
            assert client.get("/").json() == {"text": LONG.decode()}
        level = app.middleware_stack
        while not isinstance(level, GZipMiddleware):
            level = level.app
        return isinstance(level, InnerFilter)

    assert stands_in(GZipMiddleware)
    assert not stands_in(Own)
    own = module.GZipResponder.apply_compression

    async def changed(self, body, *, more_body):
        return await own(self, body, more_body=more_body)

    monkeypatch.setattr(module.GZipResponder, "apply_compression", changed)
    assert not stands_in(GZipMiddleware)
