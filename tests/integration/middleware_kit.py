"""An application of many kinds of responses, and clients that compare what two servers answer."""

import gzip
import http.client
import zlib
from typing import Annotated

import brotli
import pytest
from pydantic import BaseModel, PlainSerializer
from server_kit import TIMEOUT

from turboapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, Response
from turboapi.responses import (
    FileResponse,
    HTMLResponse,
    PlainTextResponse,
    RedirectResponse,
    StreamingResponse,
)

X = "https://x.example"
Y = "https://y.example"
TEXT = "some text, and more of it; " * 40  # 1,080 bytes
HUGE = "".join(str(n) for n in range(40_000))  # over 128 KiB


class Item(BaseModel):
    name: str
    text: str = TEXT


class Checked(BaseModel):
    """One that pydantic dumps, into bytes of its own."""

    text: Annotated[str, PlainSerializer(str.upper)]


class Handled(Exception):
    pass


def make_app(middleware, path):
    app = FastAPI(middleware=middleware)
    file = path / "file.txt"
    file.write_text(HUGE)

    @app.exception_handler(Handled)
    async def handled(request, exc):
        return PlainTextResponse(TEXT, 418, headers={"vary": "X-Handled"})

    @app.get("/small")
    async def small():
        return {"a": 1}

    @app.get("/sync")
    def sync():
        return {"a": TEXT}

    @app.head("/big")
    @app.get("/big")
    async def big():
        return {"a": TEXT}

    @app.get("/huge")
    async def huge():
        return {"a": HUGE}

    @app.get("/model")
    async def model() -> Item:
        return Item(name="a")

    @app.post("/items", status_code=201)
    async def create(item: Item):
        return item.name

    @app.options("/big")
    async def options():
        return {"options": TEXT}

    @app.get("/injected")
    async def injected(response: Response):
        response.headers["Vary"] = "Cookie"
        response.headers["access-control-allow-origin"] = "https://own.example"
        response.set_cookie("a", "b")
        return {"a": TEXT}

    @app.get("/response")
    async def own():
        response = PlainTextResponse(TEXT, 202, headers={"Vary": "Cookie"})
        response.headers.append("Vary", "Accept")
        response.headers.append("Access-Control-Expose-Headers", "own")
        response.set_cookie("a", "b")
        response.set_cookie("c", "d")
        return response

    @app.get("/html")
    def html():
        return HTMLResponse("ä" * 300)

    @app.get("/redirect")
    async def redirect():
        return RedirectResponse("/small")

    @app.get("/empty", status_code=204)
    async def empty():
        return None

    @app.get("/emptied", status_code=204)
    async def emptied():
        return {"a": TEXT}  # dropped

    @app.get("/emptied/set")
    async def emptied_by_hand(response: Response) -> Checked:
        response.status_code = 204
        return Checked(text=TEXT)

    @app.get("/notmodified")
    async def not_modified():
        return Response(status_code=304, headers={"etag": '"a"'})

    @app.get("/partial")
    async def partial():
        return PlainTextResponse(TEXT, 206)

    @app.get("/encoded")
    async def encoded():
        return Response(gzip.compress(TEXT.encode(), mtime=0), headers={"content-encoding": "gzip"})

    @app.get("/type")
    async def typed(request: Request):
        return Response(TEXT, headers={"content-type": request.query_params["t"]})

    @app.get("/edge/{n}")
    async def edge(n: int):
        return Response(b"x" * n)

    @app.get("/httpexception")
    async def http_exception():
        raise HTTPException(404, TEXT, headers={"vary": "X-Why"})

    @app.get("/handled")
    async def raise_handled():
        raise Handled

    @app.get("/invalid")
    async def invalid(n: int):
        return n

    @app.get("/broken")
    async def broken():
        raise ValueError("broken")

    @app.get("/stream")
    async def stream():
        async def chunks():
            for n in range(5):
                yield f"{n} {TEXT}"

        return StreamingResponse(chunks(), media_type="text/plain")

    @app.get("/stream/bytes")
    def stream_bytes():
        return StreamingResponse(iter([b"", b"a", HUGE.encode(), b"", b"b" * 1000]))

    @app.get("/stream/empty")
    async def stream_empty():
        return StreamingResponse(iter([]), headers={"content-length": "0"})

    @app.get("/stream/events")
    async def stream_events():
        return StreamingResponse(iter(["data: 1\n\n"] * 3), media_type="text/event-stream")

    @app.get("/stream/broken")
    async def stream_broken():
        async def chunks():
            yield TEXT
            raise ValueError("broken")

        return StreamingResponse(chunks())

    @app.get("/stream/never")
    async def stream_never():
        async def chunks():
            raise ValueError("broken")
            yield

        return StreamingResponse(chunks())

    @app.get("/stream/handled")
    async def stream_handled():
        async def chunks():
            raise Handled
            yield

        return StreamingResponse(chunks())

    @app.get("/file")
    async def a_file():
        return FileResponse(file, filename="a.txt")

    @app.get("/asgi")
    async def asgi(request: Request):
        class Own(Response):
            async def __call__(self, scope, receive, send):
                headers = [(b"content-type", b"text/plain"), (b"vary", b"A"), (b"vary", b"B")]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send({"type": "http.response.body", "body": TEXT.encode()})

        return Own()

    @app.get("/asgi/silent")
    async def asgi_silent(request: Request):
        class Own(Response):
            async def __call__(self, scope, receive, send):
                await send({"type": "http.response.start", "status": 200, "headers": []})

        return Own()

    @app.get("/background")
    async def background(tasks: BackgroundTasks):
        tasks.add_task(app.done.append, 1)
        return {"a": TEXT}

    async def resource():
        yield TEXT

    @app.get("/dependency")
    async def dependency(text: str = Depends(resource)):
        return {"text": text}

    @app.get("/url")
    async def url(request: Request):
        host = ":".join(map(str, request.scope["server"]))
        return {"url": str(request.url).replace(host, "server"), "params": request.path_params}

    app.done = []
    return app


class Client:
    def __init__(self, server):
        self.server = server
        self.stored = False  # gzip of level 0
        self.conn = http.client.HTTPConnection(*server.address, timeout=TIMEOUT)

    def close(self):
        self.conn.close()

    def ask(self, method, path, fields=(), body=b""):
        """(status, sorted fields, body, unpacked body)"""
        conn = self.conn
        conn.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in {"Host": "a.example", **dict(fields)}.items():
            conn.putheader(name, value)
        if body:
            conn.putheader("Content-Length", str(len(body)))
            conn.putheader("Content-Type", "application/json")
        conn.endheaders(body or None)
        try:
            response = conn.getresponse()
        except (http.client.HTTPException, OSError) as error:
            conn.close()
            return repr(type(error))
        headers = sorted((name.lower(), value) for name, value in response.getheaders())
        headers = [pair for pair in headers if pair[0] not in ("date", "last-modified", "etag")]
        try:
            content = response.read()
        except (http.client.HTTPException, OSError) as error:
            conn.close()
            response.close()  # it owns the socket of a connection that was to be closed
            return response.status, headers, repr(type(error)), unpack(headers, error.partial)
        return response.status, headers, content, unpack(headers, content)


def unpack(headers, content):
    coding = dict(headers).get("content-encoding")
    if coding == "gzip":
        return zlib.decompressobj(31).decompress(content)
    if coding == "br":
        return brotli.Decompressor().process(content)
    if coding == "zstd":
        zstandard = pytest.importorskip("zstandard")  # no wheel for the newest Pythons
        return zstandard.ZstdDecompressor().decompressobj().decompress(content)
    return content


def same(clients, *request, **more):
    native, called = (client.ask(*request, **more) for client in clients)
    if clients[0].stored:
        # Stored blocks are as long as the room that zlib was given at a time: not the bytes of both
        # are equal, but what they unpack to.
        assert without_packing(native) == without_packing(called), request
    else:
        assert native == called, request
    return native


def without_packing(answer):
    if isinstance(answer, str) or ("content-encoding", "gzip") not in answer[1]:
        return answer
    status, headers, content, unpacked = answer
    right = isinstance(content, str) or dict(headers).get("content-length") in (
        None,
        str(len(content)),
    )
    return status, [each for each in headers if each[0] != "content-length"], right, unpacked


GET_PATHS = [
    "/small",
    "/sync",
    "/big",
    "/huge",
    "/model",
    "/injected",
    "/response",
    "/html",
    "/redirect",
    "/empty",
    "/emptied",
    "/emptied/set",
    "/notmodified",
    "/partial",
    "/encoded",
    "/httpexception",
    "/handled",
    "/invalid",
    "/broken",
    "/stream",
    "/stream/bytes",
    "/stream/empty",
    "/stream/events",
    "/stream/broken",
    "/stream/never",
    "/stream/handled",
    "/file",
    "/asgi",
    "/asgi/silent",
    "/background",
    "/dependency",
    "/nowhere",
    "/small/",
    "/items",
]
