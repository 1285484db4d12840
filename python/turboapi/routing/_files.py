"""Decide where our server may send a file by its path: `http.response.pathsend`.

A file that is sent by its path is one message without bytes, so nothing that needs to see the bytes
may stand between the response and the server: no middleware of the applications, routers, mounts
and routes on the way, and no application that wraps another. None of them has to declare that,
since each would have to pass on a `send` of its own. So the native server only announces in the
scope, under a name of our own, that it can do it. The offer is made where the `send` that is about
to be used was found to lead to the server's through nothing but functions known to pass everything
on. (A plan's own FileResponse is handled in src/py/server/native_exchange.c, where nothing is in
between.)
"""

import sys
from collections.abc import Callable
from functools import partial
from types import BuiltinMethodType, CodeType, FunctionType
from typing import Any, cast

from starlette import responses, staticfiles
from starlette import routing as starlette_routing
from starlette._exception_handler import wrap_app_handling_exceptions
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.responses import FileResponse
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope, Send

from turboapi import _core
from turboapi._body_limit import AppBodyLimitMiddleware
from turboapi._untouched import is_from
from turboapi.staticfiles import PrecompressedStaticFiles

_PATHSEND = "http.response.pathsend"
# What the native server says.
_NATIVE_PATHSEND = "turboapi.pathsend"
_MOST_WRAPPERS = 64


def _inner_code(function: Any, *names: str) -> CodeType | None:
    """Return the code of a function that is defined inside of another one, however deep."""
    code: Any = getattr(function, "__code__", None)
    for name in names:
        constants = code.co_consts if code is not None else ()
        code = next(
            (each for each in constants if isinstance(each, CodeType) and each.co_name == name),
            None,
        )
    return code  # type: ignore[no-any-return]


# Each is a closure over `send` that looks at the head and passes every message on as it is.
_TRANSPARENT = frozenset(
    {
        _inner_code(ServerErrorMiddleware.__call__, "_send"),
        _inner_code(wrap_app_handling_exceptions, "wrapped_app", "sender"),
        _inner_code(AppBodyLimitMiddleware.__call__, "watch"),
    }
) - {None}
# What decides how a StaticFiles answers; the class of its responses follows from them.
_STATIC_METHODS = ("__call__", "get_response", "file_response")
_STATIC_ATTRIBUTES = vars(StaticFiles()).keys()
_OWN_METHODS = ("lookup_path", "file_response")


_kind: Callable[[Any], Any] = type  # for type checkers, which narrow too much


def _reaches_server(send: Any) -> bool:
    """Return whether the native server gets each message that is given to `send`, and nobody else
    does.
    """
    for _ in range(_MOST_WRAPPERS):
        if type(send) is BuiltinMethodType:
            return type(send.__self__) is _core.Exchange
        kind = _kind(send)
        if kind is partial and getattr(send.func, "__func__", None) is CORSMiddleware.send:
            send = send.keywords.get("send")  # it changes the head only
            continue
        if type(send) is not FunctionType or send.__code__ not in _TRANSPARENT:
            return False
        index = send.__code__.co_freevars.index("send")
        closure = send.__closure__
        assert closure is not None  # there are free variables
        send = closure[index].cell_contents
    return False


def is_static(route: BaseRoute) -> bool:
    """Return whether it is a mount of a `StaticFiles` that answers as Starlette's does."""
    if not isinstance(route, Mount) or not is_from(type(route).handle, starlette_routing):
        return False
    mounted: Any = route.app
    cls = _kind(mounted)
    known: Any = PrecompressedStaticFiles
    if not issubclass(cls, known):
        known = StaticFiles
    return issubclass(cls, known) and all(
        getattr(cls, name) is getattr(known, name) and name not in vars(mounted)
        for name in _STATIC_METHODS
    )


def _guards() -> tuple[tuple[Any, str, Any], ...]:
    """Return what C stands in for, which somebody may replace: (owner, name, value)."""
    owners: dict[Any, tuple[str, ...]] = {
        StaticFiles: (
            *_STATIC_METHODS,
            "get_path",
            "lookup_path",
            "is_not_modified",
            "check_config",
        ),
        PrecompressedStaticFiles: (*_STATIC_METHODS, *_OWN_METHODS),
        FileResponse: ("__init__", "__call__", "init_headers", "set_stat_headers", "charset"),
        staticfiles: ("FileResponse", "NotModifiedResponse", "get_route_path"),
        responses: ("guess_type", "formatdate"),
    }
    return tuple(
        (owner, name, getattr(owner, name)) for owner, names in owners.items() for name in names
    )


_GUARDS = _guards()


def native_static(route: BaseRoute) -> Any:
    """Return a `_core.StaticFiles` for a mount of Starlette's `StaticFiles` or ours, or None."""
    if not isinstance(route, Mount):
        return None
    mounted: Any = route.app
    if _kind(mounted) not in (StaticFiles, PrecompressedStaticFiles):
        return None
    own = cast("dict[str, Any]", vars(mounted))
    codings: Any = own.get("codings", ())
    if (
        own.keys() - {"codings"} != _STATIC_ATTRIBUTES
        or type(codings) is not tuple
        or type(own["all_directories"]) is not list
        or sys.getfilesystemencoding() != "utf-8"
    ):
        return None
    packed: Any = codings  # pyright: ignore[reportUnknownVariableType]
    directories: Any = own["all_directories"]  # pyright: ignore[reportUnknownVariableType]
    try:
        guards = (*_GUARDS, (mounted, "all_directories", directories))
        if packed:
            guards = (*guards, (mounted, "codings", packed))
        return _core.StaticFiles(mounted, directories, guards, packed)
    except (TypeError, ValueError):  # a directory that is no path
        return None


def with_pathsend(scope: Scope, send: Send) -> Scope:
    """Return the scope for what is called next with `send`: it may send files by their path, if
    safe.

    A copy: code that is called with another `send` afterwards must not find the offer.
    """
    extensions = scope.get("extensions")
    if extensions is None or _NATIVE_PATHSEND not in extensions or not _reaches_server(send):
        return scope
    return {**scope, "extensions": {**extensions, _PATHSEND: {}}}
