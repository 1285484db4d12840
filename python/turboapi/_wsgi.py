"""A WSGI application (PEP 3333) as an ASGI application.

Each request runs in a thread. A body that arrived whole and a response of one piece cost no
further hand-over between threads; longer ones are passed on piece by piece, as slowly as the
slower side takes them.
"""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
import anyio.to_thread
from anyio import from_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from types import TracebackType

    from starlette.types import Message, Receive, Scope, Send

    _ExcInfo = tuple[type[BaseException], BaseException, TracebackType]
    _Headers = list[tuple[str, str]]

# What CGI calls without HTTP_ in front.
_UNPREFIXED = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}
_READ_BUFFER = 64 * 1024


class ClientGoneError(OSError):
    """The client closed the connection while the application was reading or writing."""


class WSGIAdapter:
    """Serves a WSGI application; give it to any ASGI server.

    Args:
        app: called with (environ, start_response).
        threads: how many requests run at once; more wait.
        multiprocess: told to the application, whether other processes serve it too.
    """

    def __init__(
        self, app: Callable[..., Iterable[bytes]], *, threads: int = 40, multiprocess: bool = False
    ) -> None:
        self.app = app
        self._threads = threads
        self._multiprocess = multiprocess
        self._limiter: anyio.CapacityLimiter | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers HTTP requests; WSGI knows neither lifespan nor WebSockets."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self._threads)
        first = await receive()
        if first["type"] == "http.disconnect":
            return
        environ = make_environ(scope, _input(first, receive), self._multiprocess)
        exchange = _Exchange(send, bodiless=scope["method"] == "HEAD")
        last = await anyio.to_thread.run_sync(
            exchange.run, self.app, environ, limiter=self._limiter
        )
        for message in last:
            await send(message)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


def make_environ(scope: Scope, body: io.BufferedIOBase, multiprocess: bool) -> dict[str, Any]:
    """Gives the environment of a request (PEP 3333, "environ Variables")."""
    root = scope.get("root_path", "")
    path = scope["path"].removeprefix(root) if root else scope["path"]
    server = scope.get("server") or ("localhost", None)
    client = scope.get("client")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": _native(root),
        "PATH_INFO": _native(path),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1] or 80),
        "SERVER_PROTOCOL": f"HTTP/{scope.get('http_version', '1.1')}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": body,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": multiprocess,
        "wsgi.run_once": False,
    }
    if client:
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = client[0], str(client[1])
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        # `X_Forwarded_For` would be taken for `X-Forwarded-For`, which proxies guard.
        if "_" in name:
            continue
        key = _UNPREFIXED.get(name) or "HTTP_" + name.upper().replace("-", "_")
        if key in environ:
            value = environ[key] + ("; " if name == "cookie" else ",") + value
        environ[key] = value
    return environ


def _native(text: str) -> str:
    """UTF-8 bytes as a string of latin-1 characters, which is how WSGI hands bytes over."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def _input(first: Message, receive: Receive) -> io.BufferedIOBase:
    body: bytes = first.get("body", b"")
    if not first.get("more_body", False):
        return io.BytesIO(body)
    return io.BufferedReader(_BodyReader(body, receive), _READ_BUFFER)


async def _awaited(call: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    return await call(*arguments)


class _BodyReader(io.RawIOBase):
    """The request body, read in the application's thread from the connection's loop."""

    def __init__(self, first: bytes, receive: Receive) -> None:
        self._rest = memoryview(first)
        self._receive = receive
        self._more = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills what it can without waiting twice; 0 at the end of the body."""
        while not self._rest and self._more:
            message = from_thread.run(_awaited, self._receive)
            if message["type"] == "http.disconnect":
                self._more = False
                raise ClientGoneError("the client has gone, its request is incomplete")
            self._rest = memoryview(message.get("body", b""))
            self._more = message.get("more_body", False)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class _Exchange:
    """One call of the application, in its thread.

    One message is always held back: what is left at the end is sent by the loop itself, so that
    a response of one piece needs no call from thread to loop.
    """

    def __init__(self, send: Send, *, bodiless: bool) -> None:
        self._send = send
        self._bodiless = bodiless
        self._start: Message | None = None
        self._started = False
        self._held: bytes | None = None

    def run(self, app: Callable[..., Iterable[bytes]], environ: dict[str, Any]) -> list[Message]:
        """Calls the application; gives the messages that are still to be sent."""
        chunks = app(environ, self._start_response)
        try:
            for chunk in chunks:
                if chunk:
                    self._write(chunk)
        finally:
            if (close := getattr(chunks, "close", None)) is not None:
                close()
        if self._start is None and not self._started:
            _fail("the application did not call start_response")
        last: Message = {"type": "http.response.body", "body": self._held or b""}
        return [last] if self._started else [self._start or {}, last]

    def _start_response(
        self, status: str, headers: _Headers, exc_info: _ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        if exc_info is not None:
            try:
                if self._started:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self._start is not None:
            _fail("start_response was called twice")
        code, _, _ = status.partition(" ")
        self._start = {
            "type": "http.response.start",
            "status": int(code),
            "headers": [
                (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers
            ],
        }
        return self._write

    def _write(self, chunk: bytes) -> None:
        if self._start is None:
            _fail("the application gave a body before it called start_response")
        if self._bodiless:
            return
        if self._held is not None:
            if not self._started:
                from_thread.run(_awaited, self._send, self._start)
                self._started = True
            message = {"type": "http.response.body", "body": self._held, "more_body": True}
            from_thread.run(_awaited, self._send, message)
        self._held = bytes(chunk)


def _fail(what: str) -> NoReturn:
    raise RuntimeError(f"WSGI: {what}")
