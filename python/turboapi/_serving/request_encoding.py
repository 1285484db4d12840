"""`--request-encoding`: bodies of requests that have a Content-Encoding.

`pass`, the default, leaves them alone, as uvicorn does: applications may decode them themselves,
as the custom request class in FastAPI's documentation does with gzip. With `refuse` they are
answered 415. With `decode` the application gets the decoded bytes, and no field that tells of the
coding. Only requests that have the field come here; all others go their usual way.
"""

from __future__ import annotations

import zlib
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from starlette.exceptions import HTTPException

from turboapi import _core

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from turboapi.config import Config

# The most that one message has of a decoded body.
_PIECE = 65536
# What the ratio does not bound: little text that repeats itself.
_FREE = 2**20
_GZIP_WINDOW, _ZLIB_WINDOW, _RAW_WINDOW = 31, 15, -15


class _Decoder(Protocol):
    """One stream."""

    def feed(self, data: bytes, /) -> None:
        """Take more of the packed bytes, once `take` gives nothing."""
        ...

    def take(self, most: int, /) -> bytes:
        """Return decoded bytes, as many as there are and no more than that.

        Raises:
            ValueError: it is no such stream.
        """
        ...

    def is_complete(self) -> bool:
        """Return whether the stream has come to its end, and nothing follows."""
        ...


class _Zlib:
    """gzip, of one or more members; or deflate, in zlib's format or bare."""

    def __init__(self, gzip: bool) -> None:
        self._gzip = gzip
        self._left = b""
        self._stream: Any = None

    def feed(self, data: bytes) -> None:
        self._left += data

    def take(self, most: int) -> bytes:
        while self._left or self._stream is not None:
            if self._stream is None:
                if not self._gzip and len(self._left) < 2:
                    return b""  # which of both it is can't be told yet
                self._stream = zlib.decompressobj(self._window())
            stream = self._stream
            try:
                decoded: bytes = stream.decompress(self._left, most)
            except zlib.error as error:
                raise ValueError(str(error)) from None
            self._left = stream.unconsumed_tail
            if stream.eof:
                self._left = stream.unused_data
                if self._left and not self._gzip:
                    raise ValueError("bytes follow the stream")
                self._stream = None
            if decoded:
                return decoded
            if not self._left:
                return b""
        return b""

    def is_complete(self) -> bool:
        return self._stream is None and not self._left

    def _window(self) -> int:
        if self._gzip:
            return _GZIP_WINDOW
        head = int.from_bytes(self._left[:2], "big")
        return _ZLIB_WINDOW if head % 31 == 0 and head >> 8 & 15 == 8 else _RAW_WINDOW


_DECODERS: dict[str, Callable[[], _Decoder]] = {
    "gzip": lambda: _Zlib(gzip=True),
    "deflate": lambda: _Zlib(gzip=False),
    **{name: partial(_core.Unpacker, name) for name in _core.UNPACKED},
}
_ALIASES = {"x-gzip": "gzip"}


class RefusedError(HTTPException):
    """A body that can't be decoded, or is too large then."""


class _Body:
    """A body on its way to the application."""

    def __init__(self, coding: str, receive: Receive, config: Config) -> None:
        self._receive = receive
        self._decoder = _DECODERS[coding]()
        self._coding = coding
        self._most = config.limit_decoded_bytes
        self._ratio = config.limit_decoded_ratio
        self._packed = self._decoded = 0
        self._more = True
        self._given = False
        self._error: RefusedError | None = None

    async def receive(self) -> Message:
        """Return the next message, as `receive` of ASGI."""
        if self._error is not None:
            raise self._error
        if self._given:
            return await self._receive()
        try:
            return await self._next()
        except RefusedError as error:
            self._error = error
            raise

    async def _next(self) -> Message:
        while True:
            decoded = self._take()
            if decoded:
                self._count(len(decoded))
                return {"type": "http.request", "body": decoded, "more_body": True}
            if not self._more:
                if self._packed and not self._decoder.is_complete():
                    raise RefusedError(400, f"The {self._coding} stream of the body is cut off")
                self._given = True
                return {"type": "http.request", "body": b"", "more_body": False}
            message = await self._receive()
            if message["type"] != "http.request":
                self._given = True
                return message
            data = message.get("body", b"")
            self._more = message.get("more_body", False)
            self._packed += len(data)
            self._decoder.feed(data)

    def _take(self) -> bytes:
        try:
            return self._decoder.take(_PIECE)
        except ValueError:
            raise RefusedError(400, f"The body is no {self._coding} stream") from None

    def _count(self, size: int) -> None:
        self._decoded += size
        if self._most and self._decoded > self._most:
            raise RefusedError(413, "The decoded body is too large")
        if self._ratio and self._decoded > _FREE + self._ratio * self._packed:
            raise RefusedError(413, "The body is packed too much")


class _Encoded:
    """The application for requests with a Content-Encoding."""

    def __init__(self, app: ASGIApp, config: Config) -> None:
        self._app = app
        self._config = config
        self._known = tuple(_DECODERS) if config.request_encoding == "decode" else ("identity",)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        values = [value for name, value in scope["headers"] if name == b"content-encoding"]
        words = b",".join(values).decode("latin-1").lower().split(",")
        codings = [_ALIASES.get(word, word) for each in words if (word := each.strip())]
        codings = [each for each in codings if each != "identity"]
        if not codings:
            await self._app(scope, receive, send)
        elif len(codings) > 1 or codings[0] not in self._known:
            field = (b"accept-encoding", ", ".join(self._known).encode())
            await _answer(send, 415, "Unsupported Media Type", field)
        else:
            await self._decode(codings[0], scope, receive, send)

    async def _decode(self, coding: str, scope: Scope, receive: Receive, send: Send) -> None:
        # In place: what the application adds to the scope is for the log, too.
        told = (b"content-encoding", b"content-length")
        scope["headers"] = [each for each in scope["headers"] if each[0] not in told]
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, _Body(coding, receive, self._config).receive, watch)
        except RefusedError as error:
            if started:
                raise
            await _answer(send, error.status_code, error.detail)


async def _answer(send: Send, status: int, text: str, *fields: tuple[bytes, bytes]) -> None:
    body = text.encode()
    head = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        *fields,
    ]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


def encoded(app: Any, config: Config) -> ASGIApp | None:
    """Return what is called for requests with a Content-Encoding; None: the application itself."""
    return None if config.request_encoding == "pass" else _Encoded(app, config)
