"""HTTP requests of the native test client."""

from __future__ import annotations

import contextlib
import importlib.util
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from starlette import testclient
from starlette.testclient import httpx  # type: ignore[attr-defined]
from starlette.types import Scope

from turboapi._testclient._server import Server, Watch

if TYPE_CHECKING:
    from turboapi._testclient import NativeTestClient

_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


class _Body(httpx.SyncByteStream):
    """A response's body; at its end it waits for the application."""

    def __init__(self, stream: Any, watch: Watch, finish: Callable[[bool], None]) -> None:
        self._stream = stream
        self._watch = watch
        self._finish: Callable[[bool], None] | None = finish

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._stream
        except httpx.TransportError:
            self._end(complete=False)
            # The application has left it so: with Starlette's client the body simply ends.
            if self._watch.complaint is None:
                raise
        else:
            self._end(complete=True)

    def close(self) -> None:
        """Leave; the application is done with the request when this returns.

        Raises:
            BaseException: what the application raised, if the client is to raise it.
        """
        self._end(complete=False)

    def _end(self, *, complete: bool) -> None:
        finish, self._finish = self._finish, None
        if finish is not None:
            self._stream.close()
            finish(complete)


class Transport(testclient._TestClientTransport):
    """Sends requests over sockets to the server of the client's portal."""

    def __init__(self, client: NativeTestClient, replaced: testclient._TestClientTransport) -> None:
        super().__init__(
            replaced.app,
            replaced.portal_factory,
            replaced.raise_server_exceptions,
            replaced.root_path,
            client=replaced.client,
            app_state=replaced.app_state,
        )
        if client.http2 and importlib.util.find_spec("h2") is None:
            raise RuntimeError(
                'With TURBOAPI_TESTCLIENT=h2 the "h2" package must be installed.\n'
                "You can install it with:\n    $ pip install h2\n"
            )
        self._client = client
        self._open: set[_Body] = set()
        # A connection for each request: by its port the server tells them apart.
        self._http = httpx.HTTPTransport(
            http1=not client.http2,
            http2=client.http2,
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # never used, and quickly made
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        )

    def close(self) -> None:
        """End the requests whose responses were not read to their ends."""
        with contextlib.ExitStack() as stack:
            for each in tuple(self._open):
                stack.callback(each.close)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send it, and give the response as soon as its head is here."""
        if request.url.scheme in ("ws", "wss"):
            self._open_websocket(request)
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(self._client.serving())
            watch = Watch(self._editor(request.url))
            try:
                response = self._send(request, server, watch, stack)
            except httpx.TransportError:
                server.wait(watch, complete=False)
                self._raise_error(watch)
                raise
            if watch.unanswered:
                return self._of_the_server(request, response, server, watch)
            kept = stack.pop_all()
        body = _Body(response.stream, watch, lambda complete: finish(complete))

        def finish(complete: bool) -> None:
            self._open.discard(body)
            with kept:
                server.wait(watch, complete=complete)
                self._raise_error(watch)

        self._open.add(body)
        given = httpx.Response(
            response.status_code, headers=response.headers, stream=body, request=request
        )
        debug = watch.asides.get("http.response.debug")
        if debug is not None:
            info = given.extensions["http.response.debug"] = debug["info"]
            for name in ("template", "context"):
                if name in info:
                    setattr(given, name, info[name])
        return given

    def _open_websocket(self, request: httpx.Request) -> NoReturn:
        try:
            # lazy: it needs the package websockets
            from turboapi._testclient._websocket import WebSocketSession
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "websockets":
                raise
            raise RuntimeError(
                'With TURBOAPI_TESTCLIENT=native the "websockets" package must be installed to '
                "test WebSockets.\nYou can install it with:\n    $ pip install websockets\n"
            ) from None
        try:
            super().handle_request(request)
        except testclient._Upgrade as upgrade:
            scope = upgrade.session.scope
        else:
            raise RuntimeError(f"Starlette's client takes {request.url} for no WebSocket")
        session = WebSocketSession(self._client, request, scope, self._editor(request.url))
        raise testclient._Upgrade(session)

    def _send(
        self, request: httpx.Request, server: Server, watch: Watch, stack: contextlib.ExitStack
    ) -> httpx.Response:
        also_trace = request.extensions.get("trace")

        def trace(event: str, info: Mapping[str, Any]) -> None:
            if event == "connection.connect_tcp.complete":
                port = info["return_value"].get_extra_info("client_addr")[1]
                stack.enter_context(server.expecting(port, watch))
            if also_trace is not None:
                also_trace(event, info)

        # Starlette's client heeds no timeouts.
        extensions = {k: v for k, v in request.extensions.items() if k != "timeout"}
        extensions["trace"] = trace
        host, port = server.address
        sent = httpx.Request(
            request.method,
            request.url.copy_with(scheme="http", host=host, port=port),
            # White space round a value is no part of it (RFC 9110, 5.5): our server drops it, but
            # httpx refuses to send it.
            headers=[(name, value.strip(b" \t")) for name, value in request.headers.raw],
            stream=request.stream,
            extensions=extensions,
        )
        return self._http.handle_request(sent)

    def _of_the_server(
        self, request: httpx.Request, response: httpx.Response, server: Server, watch: Watch
    ) -> httpx.Response:
        """Return the server's own response to a request that the application did not answer."""
        content = response.read()
        response.close()
        server.wait(watch, complete=True)
        self._raise_error(watch)
        if self.raise_server_exceptions:
            raise AssertionError("TestClient did not receive any response.")
        return httpx.Response(
            response.status_code, headers=response.headers, content=content, request=request
        )

    def _raise_error(self, watch: Watch) -> None:
        if self.raise_server_exceptions and watch.error is not None:
            raise watch.error

    def _editor(self, url: httpx.URL) -> Callable[[Scope], None]:
        port = _DEFAULT_PORTS[url.scheme] if url.port is None else url.port

        def edit(scope: Scope) -> None:
            scope["client"] = self.client
            scope["server"] = [url.raw_host.decode("ascii"), port]
            scope["scheme"] = url.scheme
            if self.root_path:
                scope["root_path"] = self.root_path
            if scope["type"] == "http":
                scope.setdefault("extensions", {})["http.response.debug"] = {}

        return edit
