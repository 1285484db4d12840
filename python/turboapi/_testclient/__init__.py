"""`TestClient` through the other door: every request goes over a socket to the native server.

Chosen by the environment variable TURBOAPI_TESTCLIENT: native (HTTP/1.1) or h2 (HTTP/2, but for
WebSockets; a field of the connection is not sent, and a response has no phrase). The server runs
where Starlette's client would call the application: in the event loop of the client's portal, so
that the lifespan, the requests and what they leave behind share a loop exactly as with Starlette's.
What a client can't see (exceptions, the close code of a WebSocket that was never accepted) the
server tells it aside (`_server.Watch`).

With backend="trio" the application is called through ASGI: the native server needs asyncio.
What a socket cannot carry, or a server must not, differs from Starlette's client:

- White space round a header's value is gone; a path is percent-decoded once, not twice.
- A request that HTTP forbids (CONNECT for a path, an invalid Host field) is answered with 400.
- Trailers and early hints are offered, and pass by: httpx shows neither. Streams run ahead of a
  test that does not read them, as far as buffers go.
- A WebSocket's close frame ends it for both: what the application sends after the test's `close()`
  does not arrive. When it returns without closing, `receive()` gives code 1000; Starlette's waits
  forever. Codes that no frame may carry are refused: but `close(1005)` sends none, and
  `close(1006)` drops the connection.

| file | what is in it |
|---|---|
| `_server.py` | the server of a portal, and what it tells of each request |
| `_http.py` | HTTP requests: httpx's own transport, to that server |
| `_websocket.py` | WebSocket sessions: `websockets` on a connection to it |
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Generator
from typing import Any, Self
from weakref import WeakKeyDictionary

from starlette import testclient

from turboapi import _core
from turboapi._testclient._http import Transport
from turboapi._testclient._server import Server


class NativeTestClient(testclient.TestClient):
    """Starlette's TestClient, with the native server between it and the application."""

    __test__ = False
    http2 = False  # requests go over HTTP/2; WebSockets do not

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.selectors: WeakKeyDictionary[asyncio.AbstractEventLoop, _core.Selector] = (
            WeakKeyDictionary()
        )
        self._server: Server | None = None
        self._starting = threading.Lock()
        if self.async_backend["backend"] == "asyncio":
            replaced: Any = self._transport
            self.root_path: str = replaced.root_path
            self._transport = Transport(self, replaced)
            options = dict(self.async_backend["backend_options"])
            # Loops of another kind work, too: they watch the server's selector.
            if options.get("loop_factory") is None and not options.get("use_uvloop"):
                options["loop_factory"] = self._new_loop
            self.async_backend["backend_options"] = options

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        selector = _core.Selector()
        loop = asyncio.SelectorEventLoop(selector)
        self.selectors[loop] = selector
        return loop

    def __enter__(self) -> Self:
        """Start the application."""
        super().__enter__()
        self.exit_stack.callback(self._stop_server)
        return self

    @contextlib.contextmanager
    def serving(self) -> Generator[Server]:
        """Yield the server: that of our portal, or one for this request only."""
        if self.portal is not None:
            with self._starting:
                if self._server is None:
                    self._server = Server(self, self.portal)
            yield self._server
            return
        portal_factory: Callable[[], Any] = self._portal_factory
        with portal_factory() as portal:
            server = Server(self, portal)
            try:
                yield server
            finally:
                server.stop()

    def _stop_server(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            self._transport.close()  # what was not read to its end
            server.stop()


class Http2TestClient(NativeTestClient):
    """The same over HTTP/2; needs the package h2."""

    http2 = True
