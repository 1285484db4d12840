"""`TestClient` through the other door: every request goes over a socket to the native server.

Chosen by the environment variable TURBOAPI_TESTCLIENT=native. The server runs where Starlette's
client would call the application: in the event loop of the client's portal, so that the lifespan,
the requests and what they leave behind share a loop exactly as with Starlette's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, Self

import anyio
import anyio.from_thread
from starlette import testclient
from starlette.testclient import httpx  # type: ignore[attr-defined]
from starlette.types import Scope

from turboapi import _core
from turboapi._fastapi_bridge import native_app

# How long a request may go on after its response, in seconds (background tasks).
_PATIENCE = 30.0
_error_logger = logging.getLogger("turboapi.error")


class _Errors(logging.Handler):
    """Keeps what escaped from the application, by the loop in which it did."""

    def __init__(self) -> None:
        super().__init__()
        self.caught: dict[int, list[BaseException]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record's exception."""
        found = self.caught.get(threading.get_ident())
        if found is not None and record.exc_info and record.exc_info[1] is not None:
            found.append(record.exc_info[1])


_errors = _Errors()


class _Server:
    """The native server in the loop of a portal."""

    def __init__(self, portal: anyio.from_thread.BlockingPortal, selector: _core.Selector) -> None:
        self.portal = portal
        self.selector = selector
        self.thread = 0
        self.address: tuple[str, int] = ("", 0)
        self.edit: Callable[[Scope], None] = lambda scope: None

    def start(self, app: Any, state: dict[str, Any]) -> None:
        self.portal.call(self._start, app, state)

    async def _start(self, app: Any, state: dict[str, Any]) -> None:
        self.thread = threading.get_ident()
        _errors.caught[self.thread] = []
        self.selector.attach(asyncio.get_running_loop())
        listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        listening.setblocking(False)
        self.address = listening.getsockname()
        self.server = _core.Server(
            self.selector,
            native_app(app),
            server_header=None,
            date_header=False,
            state=state,
            scope_hook=self._scope_made,
        )
        self.server.listen(listening.detach())  # its own from here on

    def _scope_made(self, scope: Scope) -> None:
        self.edit(scope)

    def idle(self) -> bool:
        """Whether the application has nothing more to do for any request."""
        return bool(self.portal.call(self._idle))

    def _idle(self) -> bool:
        return bool(self.server.active == 0 and self.server.tasks == 0)

    def take_errors(self) -> list[BaseException]:
        caught = _errors.caught[self.thread]
        taken = caught[:]
        caught.clear()
        return taken

    def stop(self) -> None:
        self.portal.call(self._stop)

    async def _stop(self) -> None:
        self.server.cancel("the test client was closed")
        for _ in range(100):
            if self._idle():
                break
            await asyncio.sleep(0.001)
        self.server.close()
        _errors.caught.pop(self.thread, None)


class _Body(httpx.SyncByteStream):
    """A response's body; closed when the application is done with the request."""

    def __init__(self, stream: Any, finish: Callable[[], None]) -> None:
        self._stream = stream
        self._finish = finish

    def __iter__(self) -> Iterator[bytes]:
        yield from self._stream

    def close(self) -> None:
        """End the exchange; raises what the application raised."""
        self._stream.close()
        self._finish()


class _Transport(testclient._TestClientTransport):
    """Sends requests over a socket; WebSockets go where `websocket` says."""

    client_of: NativeTestClient

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send it to the server of the client's portal."""
        if (
            request.url.scheme in ("ws", "wss")
            or self.client_of.async_backend["backend"] != "asyncio"
        ):
            return super().handle_request(request)
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(self.client_of._native_server())
            server.edit = self._editor(request)
            inner = stack.enter_context(httpx.HTTPTransport(retries=0))
            host, port = server.address
            url = request.url.copy_with(scheme="http", host=host, port=port)
            sent = httpx.Request(
                request.method, url, headers=request.headers, stream=request.stream,
                extensions=request.extensions,
            )  # fmt: skip
            try:
                response = inner.handle_request(sent)
            except httpx.TransportError:
                self._wait(server)
                self._raise(server)
                raise
            finish = stack.pop_all()
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_Body(response.stream, lambda: self._finish(server, finish)),
            request=request,
        )

    def _editor(self, request: httpx.Request) -> Callable[[Scope], None]:
        url = request.url
        port = url.port or {"http": 80, "https": 443}[url.scheme]

        def edit(scope: Scope) -> None:
            scope["client"] = self.client
            scope["server"] = [url.host, port]
            scope["scheme"] = url.scheme
            if self.root_path:
                scope["root_path"] = self.root_path

        return edit

    def _finish(self, server: _Server, stack: contextlib.ExitStack) -> None:
        with stack:
            self._wait(server)
            self._raise(server)

    def _wait(self, server: _Server) -> None:
        until = time.monotonic() + _PATIENCE
        while not server.idle():
            if time.monotonic() > until:
                raise RuntimeError(f"the application goes on {_PATIENCE} s after its response")
            time.sleep(0.001)

    def _raise(self, server: _Server) -> None:
        errors = server.take_errors()
        if errors and self.raise_server_exceptions:
            raise errors[0]


class NativeTestClient(testclient.TestClient):
    """Starlette's TestClient, with the native server between it and the application."""

    __test__ = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        transport: Any = self._transport
        transport.__class__ = _Transport
        transport.client_of = self
        self._selector: _core.Selector | None = None
        self._server: _Server | None = None
        if self.async_backend["backend"] == "asyncio":
            options = {**self.async_backend["backend_options"], "loop_factory": self._new_loop}
            options.pop("use_uvloop", None)
            self.async_backend["backend_options"] = options
        if _errors not in _error_logger.handlers:
            _error_logger.addHandler(_errors)
            _error_logger.propagate = False

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        self._selector = _core.Selector()
        return asyncio.SelectorEventLoop(self._selector)

    def __enter__(self) -> Self:
        """Start the application."""
        super().__enter__()
        self.exit_stack.callback(self._stop_server)
        return self

    @contextlib.contextmanager
    def _native_server(self) -> Generator[_Server]:
        if self.portal is not None:
            yield self._running_server(self.portal)
            return
        with self._portal_factory() as portal:
            try:
                yield self._running_server(portal)
            finally:
                self._stop_server()

    def _running_server(self, portal: anyio.from_thread.BlockingPortal) -> _Server:
        if self._server is None:
            assert self._selector is not None
            server = _Server(portal, self._selector)
            server.start(self.app, self.app_state)
            self._server = server
        return self._server

    def _stop_server(self) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            server.stop()
