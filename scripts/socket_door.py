"""A pytest plugin: an application's tests, with TurboAPI under it. See docs/real-projects.md.

    python -m pytest -p socket_door        # with scripts/ on PYTHONPATH

The environment variable DOOR says what is exchanged:

| | |
|---|---|
| fastapi | nothing: the baseline |
| alias | `fastapi` is TurboAPI (`turboapi.as_fastapi()`) |
| socket | FastAPI's applications, each request over a socket to the server of `turboapi run` |
| alias-socket | both |

Over a socket go the requests and WebSockets of Starlette's TestClient (WebSockets need the package
`websockets`) and the requests of `httpx.ASGITransport`; and `uvicorn.run` runs our server.
"""

from __future__ import annotations

import asyncio
import collections
import importlib
import logging
import os
import re
import socket
from typing import Any

DOOR = os.environ.get("DOOR", "fastapi")

if DOOR.startswith("alias"):
    import turboapi

    turboapi.as_fastapi()

counts: collections.Counter[str] = collections.Counter()


def transport_of(httpx: Any) -> Any:
    """Return what takes the place of `httpx.ASGITransport`: a server a request, in the caller's
    loop.
    """
    from turboapi import _core
    from turboapi._fastapi_bridge import native_app
    from turboapi._testclient._server import Watch

    class SocketTransport(httpx.AsyncBaseTransport):  # type: ignore[misc]
        def __init__(
            self,
            app: Any,
            raise_app_exceptions: bool = True,
            root_path: str = "",
            client: tuple[str, int] = ("127.0.0.1", 123),
        ) -> None:
            # The table of routes knows the root_path of the application, not this one.
            self._app = _core.App(app) if root_path else native_app(app)
            self._raises = raise_app_exceptions
            self._root_path = root_path
            self._client = client

        async def handle_async_request(self, request: Any) -> Any:
            """Send it, and wait until the application is done with it."""
            counts["requests of ASGITransport"] += 1
            url = request.url

            def as_asked(scope: Any) -> None:
                scope.update(client=self._client, server=(url.host, url.port), scheme=url.scheme)
                if self._root_path:
                    scope["root_path"] = self._root_path

            watch = Watch(as_asked)
            over = asyncio.Event()
            watch.on_ended = over.set

            def begin(exchange: Any, _address: Any) -> Watch:
                watch.begin(exchange)
                return watch

            selector = _core.Selector()
            selector.attach(asyncio.get_running_loop())
            listening = socket.create_server(("127.0.0.1", 0))
            listening.setblocking(False)
            host, port = listening.getsockname()
            server = _core.Server(
                selector,
                self._app,
                server_header=None,
                date_header=False,
                state={},
                watch=begin,
            )
            server.listen(listening.detach())
            sent = httpx.Request(
                request.method,
                url.copy_with(scheme="http", host=host, port=port),
                headers=request.headers,
                stream=request.stream,
                extensions=request.extensions,
            )
            try:
                async with httpx.AsyncHTTPTransport() as inner:
                    try:
                        response = await inner.handle_async_request(sent)
                        # As they came: the client decodes them.
                        raw = b"".join([piece async for piece in response.stream])
                        await response.aclose()
                    except httpx.TransportError:
                        if not self._raises or watch.error is None:
                            raise
                    if watch.begun:
                        await over.wait()
                if self._raises and watch.error is not None:
                    raise watch.error
            finally:
                server.close()
                selector.close()
            return httpx.Response(
                response.status_code,
                headers=response.headers,
                stream=httpx.ByteStream(raw),
                request=request,
            )

    return SocketTransport


class Told(logging.Handler):
    """Counts what the bridge says about each application."""

    def emit(self, record: logging.LogRecord) -> None:
        """Read one line of the log."""
        text = record.getMessage()
        if found := re.search(r"(\d+) of (\d+) path operations run natively", text):
            counts["path operations, native"] += int(found[1])
            counts["path operations"] += int(found[2])
        for number, reason in re.findall(r"(\d+) for ([^(;]+) \(", text):
            counts[f"not native for {reason}"] += int(number)
        if "Through ASGI, as" in text:
            counts[text] += 1


def uvicorn_run(app: Any, *, host: str = "127.0.0.1", port: int = 8000, **_: Any) -> None:
    """In place of `uvicorn.run`, mostly in a process of its own."""
    from turboapi._serving.run import run

    run(app, host=host, port=port)


if DOOR.endswith("socket"):
    import fastapi.testclient
    import starlette.testclient

    from turboapi._testclient import NativeTestClient

    starlette.testclient.TestClient = NativeTestClient  # type: ignore[misc]
    fastapi.testclient.TestClient = NativeTestClient
    for name in ("httpx", "httpx2", "uvicorn"):
        try:
            module: Any = importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        if name == "uvicorn":
            module.run = uvicorn_run
        else:
            module.ASGITransport = transport_of(module)
    logging.getLogger("turboapi.server").addHandler(Told())
    logging.getLogger("turboapi.server").setLevel(logging.DEBUG)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Tell what went natively."""
    terminalreporter.write_line(f"door: {DOOR} {dict(counts) or ''}")
