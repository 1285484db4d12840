"""Which middleware the native server can stand in for, and with what options.

Middleware of exactly these classes is not called for a request that runs directly. C does to the
response what the middleware would do (src/py/server/filters.h), and leaves a request that the
middleware would answer itself to the ASGI application. C follows the releases of Starlette named
below; under any other release the middleware is called as usual.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from copy import copy
from types import ModuleType
from typing import Any, cast

import anyio.to_thread
import starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware, cors, gzip, httpsredirect, trustedhost
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import Message, Receive, Scope, Send

from turboapi import _core
from turboapi._untouched import is_from
from turboapi.middleware import compress
from turboapi.middleware.compress import CompressMiddleware

_KNOWN_STARLETTE = re.compile(r"1\.10\.\d+")
_KNOWN: dict[Any, tuple[type, ...]] = {
    CORSMiddleware: (CORSMiddleware,),
    GZipMiddleware: (GZipMiddleware, gzip.IdentityResponder, gzip.GZipResponder),
    CompressMiddleware: (CompressMiddleware,),
    HTTPSRedirectMiddleware: (HTTPSRedirectMiddleware,),
    TrustedHostMiddleware: (TrustedHostMiddleware,),
}
_MODULES = {
    module.__name__: module for module in (cors, gzip, compress, httpsredirect, trustedhost)
}
# It needs itsdangerous, which is there when the application has imported the module.
_SESSIONS = "starlette.middleware.sessions"
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_CONTAINERS = (tuple, list, set, frozenset, str)


class _UnknownError(Exception):
    """An option that only the middleware itself can deal with."""


def are_known(middleware: list[Middleware]) -> bool:
    """Return whether all of them are classes that C knows, and nobody has changed those."""
    return not middleware or (
        _KNOWN_STARLETTE.fullmatch(starlette.__version__) is not None
        and all(_is_known(each.cls) for each in middleware)
    )


def _is_known(middleware: Any) -> bool:
    sessions: Any = sys.modules.get(_SESSIONS)
    if sessions is not None and middleware is getattr(sessions, "SessionMiddleware", None):
        return _is_untouched(sessions, (middleware, sessions.Session))
    known = _KNOWN.get(middleware, ())
    return bool(known) and _is_untouched(_MODULES[known[0].__module__], known)


def _is_untouched(module: ModuleType, classes: tuple[Any, ...]) -> bool:
    for cls in classes:
        members = cast("dict[str, Any]", vars(cls))
        for value in members.values():
            function = cast("Any", value.fget if isinstance(value, property) else value)
            function = getattr(function, "__func__", function)
            if callable(function) and not is_from(function, module):
                return False
        if getattr(module, cls.__name__) is not cls:
            return False
    return True


def filters_of(stack: Any, count: int) -> tuple[tuple[Any, ...], ...] | None:
    """Return the filters of `_core.App` for the `count` middleware in `stack`; None: it must be
    called.

    `stack` is what `FastAPI._wrap_middleware` makes, of known middleware only.
    """
    found: list[tuple[Any, ...]] = []
    seen = 0
    try:
        for each in _within(stack):
            make = _maker(each)
            if make is not None:
                seen += 1
                found[:0] = make(each)
    except _UnknownError:
        return None
    return tuple(found) if seen == count and can_be_joined(found) else None


def outer_filters_of(stack: Any) -> tuple[tuple[tuple[Any, ...], ...], Any]:
    """Return the filters for the middleware that C knows at the outside of `stack`, and the rest of
    it.
    """
    found: list[tuple[Any, ...]] = []
    if _KNOWN_STARLETTE.fullmatch(starlette.__version__) is None:
        return (), stack
    while (make := _maker(stack)) is not None and _is_known(type(stack)):
        try:
            more = [*make(stack), *found]
        except _UnknownError:
            break
        if "__call__" in vars(stack) or not can_be_joined(more):
            break
        found, stack = more, stack.app
    return tuple(found), stack


def put_inner_filters(stack: Any) -> None:
    """Have C do what middleware inside of `stack` does, where an attribute `app` leads there.

    Idempotent; what can't be exchanged is called as before.
    """
    if _KNOWN_STARLETTE.fullmatch(starlette.__version__) is None:
        return
    for _ in range(DEEPEST):
        below = getattr(stack, "app", None)
        if below is None or isinstance(below, ExceptionMiddleware):
            return
        known = cast("type[object]", type(below))
        kind = _INNER.get(known)
        if kind is not None and _is_known(known) and may_exchange(stack, below):
            with suppress(_UnknownError):
                stack.app = below = kind(below)
        stack = below


# No application has so many; a stack that leads to itself would.
DEEPEST = 1000


def may_exchange(outer: Any, app: Any) -> bool:
    """Return whether `app` is an attribute that can be set without the class's knowledge."""
    kind = cast("Any", type(outer))
    plain = kind.__setattr__ is object.__setattr__ and not hasattr(kind, "app")
    return plain and getattr(outer, "__dict__", {}).get("app") is app


class _InnerFilter(_core.InnerFilter):
    """A middleware of Starlette's that C stands in for; it has the attributes of that one."""

    @staticmethod
    def _make(original: Any) -> list[tuple[Any, ...]]:
        raise NotImplementedError

    def __init__(self, original: Any) -> None:
        own = cast("dict[str, Any]", vars(original))
        made = type(self)._make(original)
        if len(made) != 1 or callable(own.get("__call__")) or own.keys() & _METHODS:
            raise _UnknownError
        vars(self).update(own)
        self._prepare((made[0],))


# What somebody may have put into an object, to be called instead.
_METHODS = {"send", "simple_response", "preflight_response", "is_allowed_origin"}


class _InnerCORS(_InnerFilter, CORSMiddleware):  # type: ignore[misc]
    @staticmethod
    def _make(original: CORSMiddleware) -> list[tuple[Any, ...]]:
        return _cors(original)

    def _serve(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return CORSMiddleware.__call__(self, scope, receive, send)

    def _send_other(self, message: Message, send: Send, scope: Scope) -> Awaitable[None]:
        return CORSMiddleware.send(self, message, send, Headers(scope=scope))


class _InnerHosts(_InnerFilter, TrustedHostMiddleware):  # type: ignore[misc]
    @staticmethod
    def _make(original: TrustedHostMiddleware) -> list[tuple[Any, ...]]:
        return _hosts(original)

    def _serve(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return TrustedHostMiddleware.__call__(self, scope, receive, send)


class _InnerHTTPS(_InnerFilter, HTTPSRedirectMiddleware):  # type: ignore[misc]
    @staticmethod
    def _make(original: HTTPSRedirectMiddleware) -> list[tuple[Any, ...]]:
        return _https(original)

    def _serve(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return HTTPSRedirectMiddleware.__call__(self, scope, receive, send)


class _Responder(gzip.GZipResponder):
    """Goes on with a response of which C had the beginning, on the stream of that."""

    def __init__(self, pack: Callable[[bytes, bool], bytes], middleware: GZipMiddleware) -> None:
        super().__init__(
            middleware.app,
            middleware.minimum_size,
            thread_minimum_size=middleware.thread_minimum_size,
            exclude_content_types=middleware.exclude_content_types,
        )
        self._pack = pack

    def _compress_body(self, body: bytes, more_body: bool) -> bytes:
        return self._pack(body, more_body)


class _InnerGZip(_InnerFilter, GZipMiddleware):  # type: ignore[misc]
    @staticmethod
    def _make(original: GZipMiddleware) -> list[tuple[Any, ...]]:
        return _gzip(original)

    def _serve(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return GZipMiddleware.__call__(self, scope, receive, send)

    def _take_over(
        self,
        inside: Any,
        send: Send,
        packs: bool,
        initial: Message | None,
        left_alone: bool,
        started: bool,
    ) -> Send:
        """Return what has the other messages of a response; `inside` had those before."""
        responder: gzip.IdentityResponder
        if packs:
            responder = _Responder(inside.pack, self)
        else:
            responder = gzip.IdentityResponder(
                self.app, self.minimum_size, exclude_content_types=self.exclude_content_types
            )
        responder.send = send
        if initial is not None:
            responder.initial_message = initial
        responder.content_encoding_set = left_alone
        responder.started = started
        return responder.send_with_compression


_INNER: dict[type, type[_InnerFilter]] = {
    CORSMiddleware: _InnerCORS,
    GZipMiddleware: _InnerGZip,
    TrustedHostMiddleware: _InnerHosts,
    HTTPSRedirectMiddleware: _InnerHTTPS,
}


def _name_as_theirs() -> None:
    for theirs, ours in _INNER.items():
        ours.__name__ = ours.__qualname__ = theirs.__name__
        ours.__module__ = theirs.__module__


_name_as_theirs()


def _maker(middleware: Any) -> Callable[[Any], list[tuple[Any, ...]]] | None:
    kind = cast("Any", type(middleware))
    known = kind.__module__ == _SESSIONS and kind.__name__ == "SessionMiddleware"
    return _session if known else _MAKERS.get(kind)


def can_be_joined(filters: Iterable[tuple[Any, ...]]) -> bool:
    """Return whether C can apply all of them to one request."""
    kinds = [spec[0] for spec in filters]
    return kinds.count("gzip") + kinds.count("compress") <= 1 and kinds.count("session") <= 1


def _within(stack: Any) -> Iterator[Any]:
    while not isinstance(stack, ExceptionMiddleware):
        yield stack
        stack = stack.app


def _cors(each: CORSMiddleware) -> list[tuple[Any, ...]]:
    for value in each.simple_headers.values():
        if not isinstance(value, str) or not _FIELD_VALUE.fullmatch(value):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise _UnknownError
    origins: Any = None
    if not each.allow_all_origins:
        origins = each.allow_origins
        if type(origins) not in _CONTAINERS:
            raise _UnknownError
    pattern = each.allow_origin_regex
    if pattern is not None and not isinstance(pattern.pattern, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise _UnknownError
    fields = tuple(
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in each.simple_headers.items()
    )
    fullmatch = pattern.fullmatch if pattern is not None else None
    return [("cors", origins, fullmatch, bool(each.allow_credentials), fields)]


def _gzip(each: GZipMiddleware) -> list[tuple[Any, ...]]:
    sizes = (each.minimum_size, each.thread_minimum_size)
    if any(type(size) is not int or not -(2**62) < size < 2**62 for size in sizes):
        raise _UnknownError
    if type(each.compresslevel) is not int or not -1 <= each.compresslevel <= 9:
        raise _UnknownError
    if not all(text.isascii() for text in each.exclude_content_types):
        raise _UnknownError
    if not hasattr(gzip, "_get_gzip_capacity_limiter") or zlib.DEF_MEM_LEVEL != 8:
        raise _UnknownError
    excluded = tuple(text.encode() for text in each.exclude_content_types)
    return [("gzip", sizes[0], each.compresslevel, sizes[1], excluded, _in_thread)]


def _compress(each: CompressMiddleware) -> list[tuple[Any, ...]]:
    return [each.compression.filter()]


async def _in_thread(function: Callable[[], None]) -> None:
    """Call it in a thread, as many at once as the middleware allows itself."""
    limiter = gzip._get_gzip_capacity_limiter()
    await anyio.to_thread.run_sync(function, limiter=limiter)


def _hosts(each: TrustedHostMiddleware) -> list[tuple[Any, ...]]:
    if each.allow_any:
        return []
    return [("hosts", tuple(pattern.encode() for pattern in each.allowed_hosts))]


def _https(_: HTTPSRedirectMiddleware) -> list[tuple[Any, ...]]:
    return [("https",)]


def _session(each: Any) -> list[tuple[Any, ...]]:
    name = each.session_cookie
    if type(name) is not str or not name or not name.isascii():
        raise _UnknownError
    asked = _Session(each)
    session = sys.modules[_SESSIONS].Session
    return [("session", (name.encode(),), session, asked.load, asked.save)]


class _Session:
    """Asks a `SessionMiddleware` what it would do."""

    def __init__(self, middleware: Any) -> None:
        self._middleware = middleware

    def load(self, scope: Scope) -> None:
        """Put the request's session into the scope."""
        self._run(_answer_nothing, scope, _send_nothing)

    def save(self, scope: Scope, vary: list[bytes]) -> tuple[bytes | None, bytes | None]:
        """Return the values of Vary and Set-Cookie for a response that has these of Vary."""
        session = scope["session"]
        fields: dict[bytes, bytes] = {}

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            scope["session"] = session
            headers = [(b"vary", value) for value in vary]
            await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def keep(message: Message) -> None:
            fields.update(message["headers"])

        try:
            self._run(answer, scope, keep)
        finally:
            scope["session"] = session
        return fields.get(b"vary"), fields.get(b"set-cookie")

    def _run(self, app: Any, scope: Scope, send: Send) -> None:
        middleware = copy(self._middleware)
        middleware.app = app
        coro = middleware(scope, _receive_nothing, send)
        try:
            coro.send(None)
        except StopIteration:
            return
        coro.close()
        raise RuntimeError("SessionMiddleware waits for something")


async def _answer_nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """In place of the application, for the sake of the session alone."""


async def _receive_nothing() -> Message:
    raise RuntimeError("SessionMiddleware reads the request")


async def _send_nothing(message: Message) -> None:
    """In place of the server's."""


_MAKERS: dict[type, Callable[[Any], list[tuple[Any, ...]]]] = {
    CORSMiddleware: _cors,
    GZipMiddleware: _gzip,
    CompressMiddleware: _compress,
    HTTPSRedirectMiddleware: _https,
    TrustedHostMiddleware: _hosts,
}
