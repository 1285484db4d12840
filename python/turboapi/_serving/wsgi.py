"""A WSGI application (PEP 3333) as an ASGI application.

Each request runs in a thread. A piece of the body is sent when the application gives it, and the
application goes on when the connection has taken it; a body that is there as a whole, in a list or
tuple, goes out without a hand-over between threads. A request body that arrived whole costs none
either; a longer one is read piece by piece, as the application asks for it.

A client's disconnect is noticed at the next chunk. Then nothing more is taken from the application,
and `close()` is called, as at every other end.
"""

from __future__ import annotations

import http
import io
import logging
import os
import stat
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio import from_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from starlette.types import Message, Receive, Scope, Send

    _ExcInfo = tuple[type[BaseException], BaseException, TracebackType]
    # Of an application, which may have its types wrong.
    _Headers = list[tuple[Any, Any]]

# What CGI calls without HTTP_ in front.
_UNPREFIXED = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}
_READ_BUFFER = 64 * 1024
# Regular files are read in blocks of at least this size.
_FILE_BLOCK = 128 * 1024
# Of the connection, which is the server's (PEP 3333); `connection: close` is heard, though.
_HOP_BY_HOP = frozenset(("keep-alive", "te", "trailer", "transfer-encoding", "upgrade"))

_logger = logging.getLogger("turboapi.error")


class ClientGoneError(OSError):
    """The client closed the connection while the application was reading or writing."""


class WSGIAdapter:
    """Serves a WSGI application; give it to any ASGI server.

    Args:
        app: called with (environ, start_response).
        threads: how many requests run at once in each event loop, more wait; None: anyio's own
            limit of threads holds, which others share.
        multiprocess: told to the application, whether other processes serve it too.
    """

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        *,
        threads: int | None = 40,
        multiprocess: bool = False,
    ) -> None:
        self.app = app
        self._threads = threads
        self._multiprocess = multiprocess
        self._limiter: anyio.lowlevel.RunVar[anyio.CapacityLimiter] = anyio.lowlevel.RunVar(
            "turboapi_wsgi_limiter"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer HTTP requests; WSGI knows neither lifespan nor WebSockets."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        body = _Body(receive)
        # A client that waits for `100 Continue` gets it when the application wants the body.
        if not any(name == b"expect" for name, _ in scope["headers"]) and not await body.fetch():
            return
        environ = make_environ(scope, body.stream(), self._multiprocess)
        environ["wsgi.multithread"] = self._threads != 1
        exchange = Exchange(send, body, is_head=scope["method"] == "HEAD")
        try:
            await anyio.to_thread.run_sync(
                exchange.run, self.app, environ, limiter=self._limiter_here()
            )
        except ClientGoneError:
            if not body.gone:  # of another request, then
                raise
            return
        finally:
            # The thread of a request that was cancelled ends at its next piece.
            body.gone = True
        await exchange.finish()
        self._done(exchange)

    def _done(self, exchange: Exchange) -> None:
        """Do nothing, or what a subclass does, when the response is complete."""

    def _limiter_here(self) -> anyio.CapacityLimiter | None:
        """Return the limiter of this event loop: they may not be shared."""
        if self._threads is None:
            return None
        try:
            return self._limiter.get()
        except LookupError:
            limiter = anyio.CapacityLimiter(self._threads)
            self._limiter.set(limiter)
            return limiter


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


def make_environ(scope: Scope, body: io.BufferedIOBase, multiprocess: bool) -> dict[str, Any]:
    """Return the environment of a request (PEP 3333, "environ Variables")."""
    root: str = scope.get("root_path", "")
    path: str = scope["path"]
    if path == root or path.startswith(root.rstrip("/") + "/"):
        path = path[len(root) :]
    server = scope.get("server") or ("localhost", None)
    client = scope.get("client")
    query = scope["query_string"].decode("latin-1")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": _native(root),
        "PATH_INFO": _native(path),
        "QUERY_STRING": query,
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1] or 80),
        "SERVER_PROTOCOL": f"HTTP/{scope.get('http_version', '1.1')}",
        "SERVER_SOFTWARE": "turboapi",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": body,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": multiprocess,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
    }
    if raw_path := scope.get("raw_path"):
        # What the client wrote, as other servers call it.
        target = raw_path.decode("latin-1") + (f"?{query}" if query else "")
        environ["REQUEST_URI"] = environ["RAW_URI"] = target
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


class FileWrapper:
    """`wsgi.file_wrapper`: the pieces of a file, which is closed with it.

    Where the response has a Content-Length, no more than that is sent of the file.
    """

    def __init__(self, filelike: Any, blksize: int = 8192) -> None:
        self.filelike = filelike
        self.blksize = max(blksize, _FILE_BLOCK) if _is_regular(filelike) else blksize
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        data: bytes = self.filelike.read(self.blksize)
        if not data:
            raise StopIteration
        return data


def _is_regular(filelike: Any) -> bool:
    """Return whether more can be read at once, without waiting."""
    try:
        return stat.S_ISREG(os.fstat(filelike.fileno()).st_mode)
    except Exception:  # whatever an object that only looks like a file raises
        return False


class _Body:
    """The request's messages, and whether the client is there; used in the event loop."""

    def __init__(self, receive: Receive) -> None:
        self.gone = False
        self.more = True
        self._receive = receive
        self._waiting: list[bytes] = []

    async def fetch(self) -> bool:
        """Await another message; False when it tells that the client has disconnected."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.gone = True
            self.more = False
            return False
        self.more = message.get("more_body", False)
        if body := message.get("body", b""):
            self._waiting.append(body)
        return True

    def stream(self) -> io.BufferedIOBase:
        """Return `wsgi.input`."""
        if self.more:
            return io.BufferedReader(_BodyReader(self), _READ_BUFFER)
        return io.BytesIO(b"".join(self._waiting))

    async def next(self) -> bytes:
        """Return the next piece, b"" at the end."""
        if not self._waiting and self.more:
            await self.fetch()
        if self.gone:
            raise ClientGoneError("the client has gone, its request is incomplete")
        return self._waiting.pop(0) if self._waiting else b""

    async def look(self) -> None:
        """Find out, without waiting, whether the client has disconnected."""
        if self.more and self._waiting:
            return  # what comes first is the rest of the body, which the application did not want
        with anyio.CancelScope() as scope:
            scope.cancel()
            await self.fetch()


class _BodyReader(io.RawIOBase):
    """The request body, read in the application's thread from the connection's loop."""

    def __init__(self, body: _Body) -> None:
        self._body = body
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill what it can without waiting twice; 0 at the end of the body."""
        while not self._rest:
            self._rest = memoryview(from_thread.run(self._body.next))
            if not self._rest and not self._body.more:
                return 0
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class Exchange:
    """One call of the application, in its thread."""

    def __init__(self, send: Send, body: _Body, *, is_head: bool) -> None:
        self.exc_info: _ExcInfo | None = None  # of the error that the response tells
        self._send = send
        self._body = body
        self._is_head = is_head
        self._bodiless = is_head  # nothing of the body is sent
        self._start: Message | None = None
        self._sent_start = False
        self._left: int | None = None  # bytes of the Content-Length that are to come
        self._overrun = False  # there were more
        self._held: bytes | None = None  # a whole body, or its rest, which `finish` sends
        self._complete = False

    def run(self, app: Callable[..., Iterable[bytes]], environ: dict[str, Any]) -> None:
        """Call the application and send what it gives; `finish` sends the rest."""
        chunks = app(environ, self._start_response)
        if type(chunks) in (list, tuple):
            self._take_whole(chunks)
            return
        close = getattr(chunks, "close", None)
        try:
            self._take_pieces(chunks)
            self._check_end()
            if close is not None and not self._complete:
                # What it does in there is not what the client has to wait for.
                from_thread.run(self.finish)
        finally:
            if close is not None:
                close()

    def _take_whole(self, chunks: Iterable[bytes]) -> None:
        try:
            body = b"".join(chunks)
        except TypeError as error:
            raise TypeError(f"WSGI: pieces of the body must be bytes: {error}") from None
        if self._start is None:
            self._fail_start()
        if not self._complete:
            self._held = self._cut(body)
            self._check_end()

    def _take_pieces(self, chunks: Iterable[bytes]) -> None:
        if isinstance(chunks, (str, bytes, bytearray)) or not hasattr(chunks, "__iter__"):
            kind = type(chunks).__name__
            raise TypeError(f"WSGI: the application must return an iterable of bytes, not {kind}")
        is_file = isinstance(chunks, FileWrapper)
        for chunk in chunks:
            if not chunk:
                continue
            if is_file and self._left is not None:
                chunk = chunk[: self._left]
            self._write(chunk)
            # Of a response to HEAD the head is all that is wanted; what goes beyond the
            # Content-Length can't be sent, and there may be no end to it.
            if self._bodiless or self._overrun or (is_file and self._left == 0):
                break

    def _start_response(
        self, status: str, headers: _Headers, exc_info: _ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        if exc_info is not None:
            try:
                if self._sent_start:
                    raise exc_info[1].with_traceback(exc_info[2])
                self.exc_info = exc_info
            finally:
                exc_info = None
        elif self._start is not None:
            raise RuntimeError("WSGI: start_response was called twice")
        code, reason = _parse_status(status)
        fields: list[tuple[bytes, bytes]] = []
        self._left = None
        for name, value in headers:
            if not isinstance(name, str) or not isinstance(value, str):
                raise TypeError(f"WSGI: header fields must be pairs of str, not {(name, value)!r}")
            name = name.lower()
            if name in _HOP_BY_HOP:
                continue
            if name == "content-length":
                self._left = _parse_length(value)
            fields.append((name.encode("latin-1"), value.encode("latin-1")))
        self._start = {"type": "http.response.start", "status": code, "headers": fields}
        if reason is not None:
            self._start["reason"] = reason  # ours sends it; to other servers it says nothing
        self._bodiless = self._is_head or code in (204, 304)
        return self._write

    def _write(self, data: Any) -> None:
        if self._start is None:
            self._fail_start()
        if not isinstance(data, bytes):
            if not isinstance(data, (bytearray, memoryview)):
                kind = type(data).__name__
                raise TypeError(f"WSGI: pieces of the body must be bytes, not {kind}")
            data = bytes(data)  # pyright: ignore[reportUnknownArgumentType]
        if self._bodiless or not (data := self._cut(data)):
            return
        last = self._left == 0
        self._hand_over(data, more=not last)
        self._complete = last

    def _cut(self, data: bytes) -> bytes:
        """As much of it as the Content-Length allows."""
        if self._left is None or self._bodiless:
            return data
        if len(data) > self._left:
            if not self._overrun:
                _logger.error("WSGI: the body is longer than its Content-Length, and was cut")
            self._overrun = True
            data = data[: self._left]
        self._left -= len(data)
        return data

    def _check_end(self) -> None:
        if self._start is None:
            self._fail_start()
        if self._left and not self._bodiless:
            raise RuntimeError(f"WSGI: the body is {self._left} bytes short of its Content-Length")

    def _fail_start(self) -> NoReturn:
        raise RuntimeError("WSGI: start_response must be called before there is a body or its end")

    def _hand_over(self, data: bytes, *, more: bool) -> None:
        """Send a piece and wait until it was taken."""
        if not self._body.gone:
            from_thread.run(self._transmit, data, more)
        if self._body.gone:
            raise ClientGoneError("the client has gone")

    async def _transmit(self, data: bytes, more: bool) -> None:
        if self._sent_start:
            await self._body.look()
            if self._body.gone:
                return
        try:
            await self._send_start()
            await self._send({"type": "http.response.body", "body": data, "more_body": more})
        except OSError:  # how a server may say that the client has gone
            self._body.gone = True

    async def _send_start(self) -> None:
        if not self._sent_start:
            assert self._start is not None
            await self._send(self._start)
            self._sent_start = True

    async def finish(self) -> None:
        """Send what is left of the response, if anything; in the event loop."""
        if self._complete:
            return
        self._complete = True
        body = self._held or b""
        try:
            await self._send_start()
            if self._is_head and self._held is None:
                # A GET may have a body, of a length that nobody knows.
                await self._send({"type": "http.response.body", "body": b"", "more_body": True})
            elif self._bodiless and not self._is_head:
                body = b""
            await self._send({"type": "http.response.body", "body": body})
        except OSError:
            self._body.gone = True


def _parse_status(status: str) -> tuple[int, bytes | None]:
    """Return the code, and the reason if it is not the usual one."""
    code, separator, reason = status.partition(" ")
    if len(code) != 3 or not (code.isascii() and code.isdigit()):
        raise ValueError(f"WSGI: a status is three digits, a space and a reason, not {status!r}")
    number = int(code)
    if not separator or not reason:
        return number, None
    try:
        usual = http.HTTPStatus(number).phrase
    except ValueError:
        usual = ""
    return number, None if reason == usual else reason.encode("latin-1")


def _parse_length(value: str) -> int:
    text = value.strip()
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"WSGI: {value!r} is no Content-Length")
    return int(text)
