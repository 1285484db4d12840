"""The port that sends clients from http to https (`redirect_http`)."""

from __future__ import annotations

import errno
import re
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from turboapi import _core
from turboapi._serving.sockets import BindError, owner_of_port

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from turboapi.config import Config

# A name, an IPv4 address, or an IPv6 address in brackets; then maybe a port.
_HOST = re.compile(r"([A-Za-z0-9._~%!$&'()*+,;=-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")


def check(config: Config) -> None:
    """Raise BindError if the port is taken: by anybody, also a server that would share it."""
    bind(config, shared=False).close()


def bind(config: Config, *, shared: bool = True) -> socket.socket:
    """Return a socket for the port, which does not listen yet; the caller closes it.

    Each worker has one of its own: the kernel deals out the connections.

    Raises:
        BindError: it is taken, or not allowed.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        bound.bind((config.host, config.redirect_http or 0))
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE and not shared:
            raise BindError(
                f"Port {config.redirect_http} on {config.host} is in use"
                f"{owner_of_port(config.redirect_http or 0)}. Stop what uses it, or choose "
                "another with --redirect-http (TURBOAPI_REDIRECT_HTTP)."
            ) from None
        raise BindError(
            f"Can't listen on port {config.redirect_http} of {config.host} (--redirect-http, "
            f"TURBOAPI_REDIRECT_HTTP): {error.strerror or error}."
        ) from None
    return bound


def application(port: int) -> Callable[[Any, Any, Any], Awaitable[None]]:
    """Return the ASGI application that answers with the same URL at https and `port`."""

    async def redirect(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        match = _HOST.fullmatch(host)
        if match is None:
            await _answer(send, 400, [], b"The request names no host.")
            return
        path = scope["raw_path"] or quote(scope["path"]).encode()
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        place = match[1] if port == 443 else f"{match[1]}:{port}"
        location = b"https://" + place.encode("latin-1") + path + query
        # 308: with the same method and body (RFC 9110, 15.4.9).
        await _answer(send, 308, [(b"location", location)], b"")

    return redirect


async def _answer(send: Any, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    headers = [*headers, (b"content-length", str(len(body)).encode())]
    if body:
        headers.append((b"content-type", b"text/plain; charset=utf-8"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def serve(
    selector: _core.Selector, config: Config, bound: socket.socket, port: int
) -> _core.Server:
    """Serve the redirects on `bound`, which becomes the server's; the caller closes the server."""
    bound.listen(config.backlog)
    server = _core.Server(
        selector,
        _core.App(application(port)),
        limits=config.http_limits(),
        server_header="turboapi" if config.server_header else None,
        date_header=config.date_header,
    )
    server.listen(bound.detach(), False)
    return server
