"""The `Response` that endpoints get for headers, cookies and the status: Starlette's, quicker."""

import re
from datetime import datetime
from http.cookies import Morsel
from typing import Literal

from starlette import responses
from starlette.datastructures import MutableHeaders
from starlette.responses import Response

from turboapi._untouched import is_from

_INIT, _RENDER = Response.__init__, Response.render
_HEADERS, _SET_COOKIE = Response.init_headers, Response.set_cookie
_PRISTINE = all(is_from(each, responses) for each in (_INIT, _RENDER, _HEADERS, _SET_COOKIE))

# What http.cookies writes as it is; anything else it quotes or refuses.
_is_plain = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~:]+").fullmatch
_is_plain_path = re.compile(r"[A-Za-z0-9\-._~/]+").fullmatch
_SAME_SITE = frozenset({"lax", "strict", "none"})
_RESERVED = frozenset(name.lower() for name in Morsel._reserved)  # type: ignore[attr-defined]


class EngineResponse(Response):
    """A response that writes simple cookies itself."""

    def set_cookie(
        self,
        key: str,
        value: str = "",
        max_age: int | None = None,
        expires: datetime | str | int | None = None,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = False,
        httponly: bool = False,
        samesite: Literal["lax", "strict", "none"] | None = "lax",
        partitioned: bool = False,
    ) -> None:
        """Append a Set-Cookie field, as http.cookies would write it."""
        if (
            expires is not None
            or domain is not None
            or partitioned
            or (max_age is not None and type(max_age) is not int)
            or (path is not None and path != "/" and not _is_plain_path(path))
            or (samesite is not None and samesite not in _SAME_SITE)
            or type(key) is not str
            or type(value) is not str
            or not _is_plain(key)
            or not _is_plain(value)
            or key.lower() in _RESERVED
            or Response.set_cookie is not _SET_COOKIE
        ):
            super().set_cookie(
                key, value, max_age, expires, path, domain, secure, httponly, samesite, partitioned
            )
            return
        text = f"{key}={value}"
        if httponly:
            text += "; HttpOnly"
        if max_age is not None:
            text += f"; Max-Age={max_age}"
        if path is not None:
            text += f"; Path={path}"
        if samesite is not None:
            text += f"; SameSite={samesite}"
        if secure:
            text += "; Secure"
        self.raw_headers.append((b"set-cookie", text.encode("latin-1")))


# Its name is in what applications print and log.
EngineResponse.__name__ = EngineResponse.__qualname__ = Response.__name__
EngineResponse.__module__ = Response.__module__


def new_response() -> Response:
    """Return what a parameter of type Response gets: only its headers and status count."""
    if (
        _PRISTINE
        and Response.__init__ is _INIT
        and Response.init_headers is _HEADERS
        and Response.render is _RENDER
    ):
        # What __init__ would do, but for the fields that describe the body.
        response: Response = EngineResponse.__new__(EngineResponse)
        response.status_code = None  # type: ignore[assignment]
        response.background = None
        response.body = b""
        # The framework takes the fields of `headers`, whatever `raw_headers` becomes.
        response._headers = headers = MutableHeaders.__new__(MutableHeaders)
        response.raw_headers = headers._list = []
        return response
    response = EngineResponse()
    del response.headers["content-length"]
    response.status_code = None  # type: ignore[assignment]
    return response
