"""The native server in the event loop of a test client's portal."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import anyio
import anyio.from_thread
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from turboapi import _core
from turboapi._fastapi_bridge import native_app

if TYPE_CHECKING:
    from turboapi._testclient import NativeTestClient

# A client has left before its response was complete. The server notices, and ends what it streams;
# an application that goes on for more seconds than this is cancelled, as Starlette's client does.
GRACE = 1.0


class Watch:
    """What a test learns of one request besides its response.

    `scope`, `call`, `aside`, `failed` and `ended` are called by the server, in the loop's thread
    (src/py/server/test_observer.c).
    """

    def __init__(self, edit: Callable[[Scope], None]) -> None:
        self.begun = False
        self.over = threading.Event()
        # What has left the application, or else what the server has to say about its end.
        self.error: BaseException | None = None
        self.complaint: str | None = None
        # It ended so without having begun a response.
        self.unanswered = False
        # Messages of the application that its client does not get, by their type.
        self.asides: dict[str, Message] = {}
        self.on_ended: Callable[[], None] = lambda: None
        self._edit = edit
        self._exchange: Any = None
        self._cancel_scope: anyio.CancelScope | None = None

    def begin(self, exchange: Any) -> None:
        """Note that the server starts the request."""
        self._exchange = exchange
        self.begun = True

    def scope(self, scope: Scope) -> None:
        """Put into a new scope what Starlette's client would."""
        self._edit(scope)

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """Return the application for a WebSocket, so that it can be cancelled as Starlette does."""

        async def cancellable(scope: Scope, receive: Receive, send: Send) -> None:
            with anyio.CancelScope() as self._cancel_scope:
                await app(scope, receive, send)

        return cancellable

    def aside(self, message: Message) -> None:
        """Take a message that the client does not get."""
        self.asides[message["type"]] = message

    def failed(self, text: str, error: BaseException | None, answered: bool) -> None:
        """Take what the server would have logged."""
        if self.error is None:
            self.error = error
        self.complaint = text
        self.unanswered = not answered

    def ended(self) -> None:
        """Note that the application has nothing more to do for the request."""
        self._exchange = None
        self.over.set()
        self.on_ended()

    def cancel(self) -> None:
        """Cancel what goes on for the request; in the loop's thread."""
        if self._cancel_scope is not None:
            self._cancel_scope.cancel()
        elif self._exchange is not None:
            self._exchange.cancel("the test client has left")


class Server:
    """The native server in the loop of a portal, on a port of its own."""

    def __init__(self, client: NativeTestClient, portal: anyio.from_thread.BlockingPortal) -> None:
        self.portal = portal
        self.address: tuple[str, int] = ("", 0)
        # Requests that have not begun, by the port from which they come.
        self._expected: dict[int, Watch] = {}
        portal.call(self._start, client)

    async def _start(self, client: NativeTestClient) -> None:
        loop = asyncio.get_running_loop()
        selector = client.selectors.pop(loop, None)
        self._foreign_loop = selector is None
        self._selector = selector or _core.Selector()
        self._selector.attach(loop)
        listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        listening.setblocking(False)
        self.address = listening.getsockname()
        self._server = _core.Server(
            self._selector,
            # The table of routes knows the root_path of the application, not the client's.
            _core.App(client.app) if client.root_path else native_app(client.app),
            server_header=None,
            date_header=False,
            state=client.app_state,
            ws_deflate=False,
            watch=self._watch,
            http2=client.http2,
        )
        self._server.listen(listening.detach())  # its own from here on

    def _watch(self, exchange: Any, address: tuple[str, int] | None) -> Watch | None:
        watch = self._expected.pop(address[1], None) if address is not None else None
        if watch is not None:
            watch.begin(exchange)
        return watch

    @contextlib.contextmanager
    def expecting(self, port: int, watch: Watch) -> Generator[None]:
        """Watch the request that comes from this port, within the block."""
        self._expected[port] = watch
        try:
            yield
        finally:
            self._expected.pop(port, None)

    def wait(self, watch: Watch, *, complete: bool) -> None:
        """Wait until the application is done with a request.

        Args:
            watch: that of the request.
            complete: the client has got all of the response; else it has left.
        """
        if not watch.begun or watch.over.wait(None if complete else GRACE):
            return
        while not watch.over.wait(0.05):
            self.portal.call(watch.cancel)

    def stop(self) -> None:
        """End all that goes on, and close."""
        self.portal.call(self._stop)

    async def _stop(self) -> None:
        self._server.cancel("the test client was closed")
        for _ in range(100):
            if self._server.tasks == 0:
                break
            await asyncio.sleep(0.001)
        self._server.close()
        if self._foreign_loop:
            self._selector.close()
