"""Which middleware of Starlette the native server can stand in for, and with what options.

Middleware of exactly these classes is not called for a request that runs directly. C does to the
response what the middleware would do (src/py/server/filters.h), and leaves a request that the
middleware would answer itself to the ASGI application. C follows the releases of Starlette named
below; under any other release the middleware is called as usual.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import anyio.to_thread
import starlette
from starlette.middleware import Middleware, cors, gzip, httpsredirect, trustedhost
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from turboapi._untouched import is_from

_KNOWN_STARLETTE = re.compile(r"1\.10\.\d+")
_KNOWN: dict[Any, tuple[type, ...]] = {
    CORSMiddleware: (CORSMiddleware,),
    GZipMiddleware: (GZipMiddleware, gzip.IdentityResponder, gzip.GZipResponder),
    HTTPSRedirectMiddleware: (HTTPSRedirectMiddleware,),
    TrustedHostMiddleware: (TrustedHostMiddleware,),
}
_MODULES = {module.__name__: module for module in (cors, gzip, httpsredirect, trustedhost)}
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_CONTAINERS = (tuple, list, set, frozenset, str)


class _UnknownError(Exception):
    """An option that only the middleware itself can deal with."""


def are_known(middleware: list[Middleware]) -> bool:
    """Return whether all of them are classes that C knows, and nobody has changed those."""
    return not middleware or (
        _KNOWN_STARLETTE.fullmatch(starlette.__version__) is not None
        and all(each.cls in _KNOWN and _is_untouched(each.cls) for each in middleware)
    )


def _is_untouched(middleware: Any) -> bool:
    for cls in _KNOWN[middleware]:
        module = _MODULES[cls.__module__]
        for value in vars(cls).values():
            function = value.fget if isinstance(value, property) else value
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
            if type(each) in _KNOWN:
                seen += 1
                found[:0] = _MAKERS[type(each)](each)
    except _UnknownError:
        return None
    if seen != count or sum(spec[0] == "gzip" for spec in found) > 1:
        return None
    return tuple(found)


def _within(stack: Any) -> Iterator[Any]:
    while type(stack) is not ExceptionMiddleware:
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


_MAKERS: dict[type, Callable[[Any], list[tuple[Any, ...]]]] = {
    CORSMiddleware: _cors,
    GZipMiddleware: _gzip,
    HTTPSRedirectMiddleware: _https,
    TrustedHostMiddleware: _hosts,
}
