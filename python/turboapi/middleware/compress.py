"""Responses packed by gzip, brotli or zstd, whichever the client likes best."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.gzip import GZipMiddleware

from turboapi import _core
from turboapi._compression import (
    MINIMUM_SIZE,
    THREAD_MINIMUM_SIZE,
    TYPES,
    Compression,
    read_codings,
    read_types,
)
from turboapi._compression_threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["CompressMiddleware"]

_DEEPEST = 100  # wrappers round an application


class CompressMiddleware:
    """Packs responses; GZipMiddleware's sibling.

    Args:
        app: the application.
        codings: names, with levels if not the usual ones ("br:5"), by preference; "all": those
            that this build has.
        minimum_size: of a body whose size is known.
        types: media types that are packed: "text/html", "text/*", "+json".
        thread_minimum_size: of a piece that is packed in a thread.

    Raises:
        ValueError: no such coding, level or type.
    """

    def __init__(
        self,
        app: ASGIApp,
        codings: Sequence[str] = ("all",),
        minimum_size: int = MINIMUM_SIZE,
        types: Sequence[str] = TYPES,
        thread_minimum_size: int = THREAD_MINIMUM_SIZE,
    ) -> None:
        self.app = app
        self.compression = Compression(
            read_codings(codings), minimum_size, read_types(types), thread_minimum_size
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; what is no HTTP passes."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        responder = _Responder(self.compression, Headers(scope=scope), send)
        await self.app(scope, receive, responder.send)


def packs_itself(app: Any) -> bool:
    """Return whether an application, or one that it is wrapped round, has middleware that packs."""
    kinds = (GZipMiddleware, CompressMiddleware)
    for _ in range(_DEEPEST):
        listed: Any = getattr(app, "user_middleware", None)
        classes = [getattr(each, "cls", None) for each in listed or ()]
        if isinstance(app, kinds) or any(
            isinstance(each, type) and issubclass(each, kinds) for each in classes
        ):
            return True
        app = getattr(app, "app", None)
        if app is None:
            return False
    return False


class _Responder:
    """One response; src/py/server/pack_filter.c does the same."""

    def __init__(self, compression: Compression, asked: Headers, send: Send) -> None:
        self._compression = compression
        self._asked = asked
        self._send = send
        self._start: Message | None = None
        self._packer: _core.Packer | None = None

    async def send(self, message: Message) -> None:
        """Take a message of the application."""
        kind = message["type"]
        if kind == "http.response.start" and self._may_pack(message):
            self._start = message
        elif kind == "http.response.body" and (self._start or self._packer):
            await self._body(message)
        else:
            if self._start is not None:  # a file by its path
                await self._release()
            await self._send(message)

    def _may_pack(self, start: Message) -> bool:
        status = start["status"]
        headers = Headers(raw=list(start["headers"]))
        if status < 200 or status in (204, 205, 206, 304):
            return False
        if "content-encoding" in headers or "content-range" in headers:
            return False
        if "no-transform" in _words(headers.getlist("cache-control")):
            return False
        media = headers.get("content-type", "").partition(";")[0].strip().lower().encode("latin-1")
        return any(_matches(media, each) for each in self._compression.types)

    async def _release(self) -> None:
        start, self._start = self._start, None
        if start is not None:
            await self._send(start)

    async def _body(self, message: Message) -> None:
        body = message.get("body", b"")
        more = message.get("more_body", False)
        if self._packer is None:
            packer = self._choose(len(body), more)
            if packer is None:
                await self._release()
                await self._send(message)
                return
            self._packer = packer
        packed = await self._pack(self._packer, body, last=not more)
        if self._start is not None:
            self._complete(self._start, None if more else len(packed))
            await self._release()
        await self._send({**message, "body": packed})

    def _choose(self, size: int, more: bool) -> _core.Packer | None:
        """Return what packs the response; None: it stays as it is."""
        assert self._start is not None
        values = [value.encode("latin-1") for value in self._asked.getlist("accept-encoding")]
        codings = dict(self._compression.codings)
        name, plain = _core.choose_coding(values, tuple(codings))
        headers = MutableHeaders(raw=list(self._start["headers"]))
        if not {"accept-encoding", "*"} & set(_words(headers.getlist("vary"))):
            headers.add_vary_header("Accept-Encoding")
        self._start = {**self._start, "headers": headers.raw}
        if more:  # of a stream only that is known
            length = headers.get("content-length", "")
            size = int(length) if length.isdecimal() else sys.maxsize
        small = size < self._compression.minimum_size and (plain or not size)
        return None if small or name == "identity" else _core.Packer(name, codings[name])

    async def _pack(self, packer: _core.Packer, body: bytes, *, last: bool) -> bytes:
        if len(body) < self._compression.thread_minimum_size:
            return packer.pack(body, last)
        packed: list[bytes] = []
        await in_thread(lambda: packed.append(packer.pack(body, last)))
        return packed[0]

    def _complete(self, start: Message, size: int | None) -> None:
        assert self._packer is not None
        headers = MutableHeaders(raw=list(start["headers"]))
        headers["content-encoding"] = self._packer.coding
        del headers["content-length"]
        del headers["accept-ranges"]
        if size is not None:
            headers["content-length"] = str(size)
        tag = headers.get("etag")
        if tag is not None and not tag.startswith("W/"):
            headers["etag"] = f"W/{tag}"
        self._start = {**start, "headers": headers.raw}


def _words(values: list[str]) -> list[str]:
    return [word.strip().lower() for value in values for word in value.split(",")]


def _matches(media: bytes, wanted: bytes) -> bool:
    if wanted.startswith(b"+"):
        return len(media) > len(wanted) and media.endswith(wanted)
    if wanted.endswith(b"/*"):
        return media.startswith(wanted[:-1])
    return media == wanted
